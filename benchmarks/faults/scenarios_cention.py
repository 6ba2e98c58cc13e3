"""Scenarios in which Cention, or the way to it, fails. Each lasts longer than an attempt and ends by itself."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

from benchmarks.faults.proxy import Fault, Kind
from benchmarks.faults.scenario import Scenario
from benchmarks.faults.world import World
from bridge.runtime.clock import monotonic, now

_WORDS = "queueNumber is not one of this area"
_PAGE = "<html><head><title>Bad gateway</title></head><body>nginx</body></html>"


async def _link(world: World, fault: Fault, seconds: float = 2.5) -> None:
    await world.failing([world.cention], fault, seconds)


async def _answers(world: World, rules: Sequence[Mapping[str, Any]], seconds: float = 2.5) -> None:
    with world.disturbance():
        world.sandbox.set_faults(rules)
        await world.lapse(seconds)
        hits = sum(rule["hits"] for rule in world.sandbox.faults)
        world.sandbox.set_faults([])
    world.result.figures["refused"] = hits
    world.claim(f"Cention refused requests ({hits})", hits > 0)


async def cention_refused(world: World) -> None:
    await _link(world, Fault(Kind.REFUSE))


async def cention_reset_before(world: World) -> None:
    await _link(world, Fault(Kind.RESET_BEFORE, probability=0.6))


async def cention_reset_after(world: World) -> None:
    await _link(world, Fault(Kind.RESET_AFTER, probability=0.4))


async def cention_cut_midway(world: World) -> None:
    await _link(world, Fault(Kind.CUT_MIDWAY, probability=0.5))


async def cention_black_hole(world: World) -> None:
    await _link(world, Fault(Kind.BLACK_HOLE))


async def cention_held_up(world: World) -> None:
    await _link(world, Fault(Kind.HOLD))


async def cention_slow_body(world: World) -> None:
    # An answer has some 350 bytes: in time at the first pace, well beyond an attempt's time at the second.
    await _link(world, Fault(Kind.DRIP, delay_s=0.001), 1.5)
    await _link(world, Fault(Kind.DRIP, probability=0.5, delay_s=0.02), 2.5)


async def cention_5xx(world: World) -> None:
    await _answers(world, [{"status": status, "probability": 0.2} for status in (500, 501, 502, 503, 504)])


async def cention_429_retry_after(world: World) -> None:
    await _answers(world, [{"status": 429, "headers": {"Retry-After": "1"}, "probability": 0.5}])


async def cention_503_retry_after_date(world: World) -> None:
    hits = 0
    with world.disturbance():
        for _ in range(5):
            at = format_datetime(now() + timedelta(seconds=2), usegmt=True)
            world.sandbox.set_faults([{"status": 503, "headers": {"Retry-After": at}, "probability": 0.5}])
            await world.lapse(0.5)
            hits += sum(rule["hits"] for rule in world.sandbox.faults)
        world.sandbox.set_faults([])
        await world.lapse(2.0)  # so long it asked to be left alone
    world.result.figures["refused"] = hits
    world.claim(f"Cention refused requests ({hits})", hits > 0)


async def cention_unauthorised_then_ok(world: World) -> None:
    await _answers(world, [{"status": 401, "probability": 0.7}, {"status": 403}], 1.5)
    world.claim("nothing is parked while the token is refused", not await world.outbox.parked())


async def cention_token_changed(world: World) -> None:
    with world.disturbance():
        await world.lapse(1.0)
        world.claim("nothing is delivered and nothing parked with the old token",
                    not world.sandbox.arrivals and not await world.outbox.parked())  # fmt: skip
        new = world.directory / "token.new"
        new.write_text("new-token")
        new.replace(world.directory / "token")  # at once, as a mounted secret changes
        began = monotonic()
        await world.until(lambda: bool(world.sandbox.arrivals), "a delivery with the new token")
    world.result.figures["went on after the change of the token, s"] = round(monotonic() - began, 1)


async def cention_rejects(world: World) -> None:
    document = f'{{"errors": [{{"status": "406", "detail": "{_WORDS}"}}]}}'
    await _answers(
        world,
        [{"status": 406, "body": document, "probability": 0.2}, {"status": 404, "body": document, "probability": 0.1}],
    )
    parked = await world.outbox.parked()
    said = sum(_WORDS in reason for reason in parked.values())
    world.claim(f"what was refused is parked with Cention's words ({said} of {len(parked)})", 0 < said == len(parked))


async def cention_html_error(world: World) -> None:
    page = {"body": _PAGE, "content_type": "text/html; charset=utf-8"}
    await _answers(world, [{"status": 502, "probability": 0.4, **page}, {"status": 200, "probability": 0.4, **page}])


async def cention_redirect(world: World) -> None:
    visits = 0

    def visited(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        writer.close()

    trap = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with trap:
        elsewhere = f"http://127.0.0.1:{trap.sockets[0].getsockname()[1]}/s/demo/capi/json/c3_new_errands"
        there = {"headers": {"Location": elsewhere}, "probability": 0.3}
        await _answers(world, [{"status": status, **there} for status in (302, 307, 308)])
        world.claim(f"no request and no token went where the redirects led ({visits} did)", visits == 0)


SCENARIOS = (
    Scenario("cention_refused", "Cention refuses connections, and open ones are reset.", cention_refused),
    Scenario("cention_reset_before", "Requests are reset before Cention has them.", cention_reset_before),
    Scenario("cention_reset_after", "Cention does the work, and the answer is cut off.", cention_reset_after),
    Scenario("cention_cut_midway", "Cention does the work, and the answer ends in its middle.", cention_cut_midway),
    Scenario("cention_black_hole", "Requests and answers vanish, and no connection ends.", cention_black_hole),
    Scenario("cention_held_up", "Requests are held up, and reach Cention long after they were given up.",
             cention_held_up),
    Scenario("cention_slow_body", "Answers come byte by byte, some too slowly for an attempt.", cention_slow_body),
    Scenario("cention_5xx", "Cention answers 500 to 504.", cention_5xx),
    Scenario("cention_429_retry_after", "Cention answers 429 with Retry-After in seconds.", cention_429_retry_after),
    Scenario("cention_503_retry_after_date", "Cention answers 503 with Retry-After as a date.",
             cention_503_retry_after_date),
    Scenario("cention_unauthorised_then_ok", "Cention answers 401 and 403 for a while.", cention_unauthorised_then_ok,
             bridges=1, patience_s=90),
    Scenario("cention_token_changed", "Cention refuses the token until another one is put into its secret file.",
             cention_token_changed, bridges=1, tokens=frozenset(["new-token"]), files={"token": "old-token"},
             settings={"cention__token": None, "cention__token_file": "{world}/token"}),
    Scenario("cention_rejects", "Cention answers 406 and 404: parked with its words, the lane goes on.",
             cention_rejects, may_park=True),
    Scenario("cention_html_error", "A web page answers in Cention's place, with 502 and with 200.",
             cention_html_error),
    Scenario("cention_redirect", "Cention redirects to another host, which must not see a request.", cention_redirect),
)  # fmt: skip
