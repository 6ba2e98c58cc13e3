"""The calls that are played: each inbound, at a pair of its own, with a start and an end, so that each event must
bring exactly one message to Cention.

Owns the events' bytes and their order. An end follows its start after a number of other events, as in life, and not at
once: so the two messages of a call are two turns of its lane and not one.
"""

from collections.abc import Iterator
from typing import NamedTuple

from bridge.runtime.clock import now_ms, rfc3339

PAIRS_FROM = 100_000


class Step(NamedTuple):
    """One event: the start or the end of a call, by the call's number."""

    call: int
    ended: bool


def steps(calls: int, active: int) -> Iterator[Step]:
    """The events of `calls` calls, of which about `active` are active at a time, once so many have started."""
    for call in range(calls):
        yield Step(call, False)
        if call >= active:
            yield Step(call - active, True)
    for call in range(max(0, calls - active), calls):
        yield Step(call, True)


class Writer:
    """Writes events as JSON.

    Args:
        run: what the call ids of this run begin with; two runs on one Redis need two.
        first: added to a call's number to make its pair, so that runs can keep to different agents.
        agents: how many there are, who take calls in turn; 0: each call has its own.
    """

    def __init__(self, run: str, first: int = 0, agents: int = 0) -> None:
        self._run, self._first, self._agents = run, first, agents
        self._at = rfc3339(now_ms())

    def call_id(self, call: int) -> str:
        return f"{self._run}-{call}"

    def event(self, step: Step) -> bytes:
        """The event's JSON. Its numbers are kept free for fiction: a hundred of each, so readings come from a cache."""
        call_id, agent = self.call_id(step.call), step.call % self._agents if self._agents else step.call
        pair = PAIRS_FROM + self._first + agent
        if step.ended:
            return (
                f'{{"eventId":"{call_id}-2","type":"call.ended","occurredAt":"{self._at}","callId":"{call_id}",'
                f'"deviceId":{pair},"extensionId":{pair},"cause":"normal","endedBy":"caller"}}'
            ).encode()
        number = step.call % 95
        return (
            f'{{"eventId":"{call_id}-1","type":"call.started","occurredAt":"{self._at}","callId":"{call_id}",'
            f'"deviceId":{pair},"extensionId":{pair},"direction":"inbound","calledNumber":"+468465004{number:02}",'
            f'"callingNumber":"+467017406{number + 5:02}","callingName":"Caller {number}",'
            f'"queueName":"Support","queueNumber":"100"}}'
        ).encode()
