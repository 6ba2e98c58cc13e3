"""Who calls whom in the made-up calls: people, queues, and numbers in the spellings that exchanges send.

Every number is from the ranges that are kept free for fiction: +46 70 174 06 05 to 99 and +46 8 465 004 00 to 99.
Knows nothing of how a call goes.

Source: contract section 1 (the members of an event, "Accepted on input"); Cention notes, "Numbers".
"""

import random
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from bridge.calls.events import Pair

Number = tuple[str, str, str, str]
"""A Swedish number without its country code, in the groups that people write it in."""


class Queue(NamedTuple):
    """A queue of the exchange and the line that callers reach it at."""

    name: str
    number: str
    line: Number


QUEUES = (
    Queue("EHS", "123", ("8", "465", "004", "00")),
    Queue("Rådgivning", "200", ("8", "465", "004", "01")),
    Queue("Tidbokning", "201", ("8", "465", "004", "02")),
    Queue("Växel", "100", ("8", "465", "004", "03")),
)

_GIVEN = (
    "Alva",
    "Astrid",
    "Björn",
    "Ebba",
    "Folke",
    "Göran",
    "Håkan",
    "Jörgen",
    "Kerstin",
    "Maja",
    "Pär",
    "Saga",
    "Åke",
)
_FAMILY = ("Andersson", "Bergström", "Dahl", "Ek", "Forsberg", "Grönlund", "Håkansson", "Lindqvist", "Öberg", "Åberg")
_REASONS = ("boka om tid", "avboka tid", "fråga om recept", "fråga om remiss", "faktura")
_COMMENTS = ("ringer tillbaka efter lunch", "vill ha besked per sms", "talar helst engelska", "andra samtalet i dag")


def direct_line(agent: Pair) -> Number:
    """The line that reaches `agent` without a queue; forty of them, shared where there are more agents."""
    return ("8", "465", "004", f"{10 + agent.extension_id % 40:02}")


def spelt(rng: random.Random, number: Number) -> str:
    """`number` in one of the spellings that the bridge accepts."""
    digits = "".join(number)
    return rng.choice(
        (
            f"+46{digits}",
            f"+46{digits}",
            f"0046{digits}",
            f"46{digits}",
            "+46 {} {} {} {}".format(*number),
            "+46 {}-{} {} {}".format(*number),
            "0046 {} {} {} {}".format(*number),
            f"tel:+46{digits}",
            "tel:+46-{}-{}-{}-{}".format(*number),
            f"sip:+46{digits}@pbx.example",
            f"sip:+46{digits}@pbx.example;user=phone",
        )
    )


def inbound_facts(rng: random.Random, today: datetime, *, withheld: bool) -> dict[str, Any]:
    """What the exchange tells of a call from outside: queue, caller (or none of the ways to withhold one), and more.

    `today` dates the caller's appointment, where there is one.
    """
    queue = rng.choice(QUEUES)
    facts: dict[str, Any] = {
        "calledNumber": spelt(rng, queue.line),
        "queueName": queue.name,
        "queueNumber": queue.number,
    }
    if withheld:
        facts |= rng.choice(({}, {"callingNumber": None, "callingName": None}, {"callingNumber": "anonymous"}))
    else:
        facts["callingNumber"] = spelt(rng, _outsider(rng))
        if rng.random() < 0.7:
            facts["callingName"] = f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)}"
    if rng.random() < 0.4:
        facts["cuid"] = f"K-{rng.randrange(10_000, 100_000)}"
    if rng.random() < 0.1:
        facts |= {"pagingNumber": str(rng.randrange(10_000, 100_000)), "pagingName": "Vårdcentral Ek"}
    if rng.random() < 0.3:
        facts["extraData"] = {"callReason": rng.choice(_REASONS), "comment": rng.choice(_COMMENTS)}
        if rng.random() < 0.5:
            booked = today + timedelta(days=rng.randrange(1, 30))
            facts["extraData"]["appointmentTimestamp"] = str(int(booked.timestamp()))
    return facts


def outbound_facts(rng: random.Random, agent: Pair, to: Number | None) -> dict[str, Any]:
    """What the exchange tells of a call that `agent` dials: to somebody outside, or `to` a colleague."""
    facts = {"calledNumber": spelt(rng, to or _outsider(rng))}
    if rng.random() < 0.5:
        facts["callingNumber"] = spelt(rng, direct_line(agent))
    return facts


def _outsider(rng: random.Random) -> Number:
    if rng.random() < 0.8:
        return ("70", "174", "06", f"{rng.randrange(5, 100):02}")
    return ("8", "465", "004", f"{rng.randrange(50, 100):02}")
