"""Looking an errand up against the sandbox: what is found, what is left as it was, and what it may cost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from bridge.calls.effects import EffectKind, effect_id
from bridge.calls.events import Pair
from bridge.cention.client import CentionClient
from bridge.cention.documents import Message, NewErrand
from bridge.cention.sandbox import Sandbox
from bridge.delivery.lookup import Lookup
from tests.e2e.support import eventually
from tests.fakes.logs import captured
from tests.integration.cention_support import cention, web_server

TOKEN, DATA_TOKEN = "may-create-errands", "may-read-errand-data"
REPORTS_MAX = 5


def reference(number: int) -> str:
    return effect_id(Pair(1000, number), "c", EffectKind.OPEN_ERRAND, 0)


class World:
    """A sandbox, a client, and a look-up between them."""

    def __init__(self, sandbox: Sandbox, client: CentionClient, time_s: float) -> None:
        self.sandbox, self.client = sandbox, client
        self.registry = CollectorRegistry()
        self.token = DATA_TOKEN
        self.requests = 0
        self.lookup = self.another(time_s)

    def another(self, time_s: float = 20.0) -> Lookup:
        """A look-up with a memory of its own, as another replica has one."""
        self.registry = CollectorRegistry()
        results = Counter("lookups", "Look-ups.", ["result"], registry=self.registry)
        return Lookup(
            self.client,
            lambda: self.token,
            reports_max=REPORTS_MAX,
            time_s=time_s,
            results=results,
            asked=self.count,
        )

    def count(self, number: int) -> None:
        self.requests += number

    def results(self) -> dict[str, int]:
        samples = [sample for metric in self.registry.collect() for sample in metric.samples]
        return {s.labels["result"]: int(s.value) for s in samples if s.name == "lookups_total"}

    async def create(self, *numbers: int, **message: Any) -> list[int]:
        """Errands of other calls, or with `message` of one's own; returns their ids."""
        for number in numbers:
            told = {"subject": "Call", "body": f"Reference: {reference(number)}\n", **message}
            await self.client.new_errand(NewErrand(msg=Message(message_id=f"m-{number}", **told)), TOKEN)
        return [errand.errand_id for errand in self.sandbox.errands[: len(numbers)]][::-1]


@asynccontextmanager
async def world(time_s: float = 20.0) -> AsyncIterator[World]:
    sandbox = Sandbox(tokens={TOKEN: ["create_errand"], DATA_TOKEN: ["errand_data"]})
    async with cention(await sandbox.start()) as client:
        made = World(sandbox, client, time_s)
        yield made
        await made.lookup.drain(20)
    await sandbox.stop()


async def test_an_errand_is_found_by_its_reference_and_every_flag_is_as_it_was() -> None:
    async with world() as it:
        ids = await it.create(1, 2, 3)
        assert await it.lookup.find(reference(2)) == str(ids[1])
        await eventually(lambda: sorted(it.sandbox.dirty) == ids, "all are marked as changed again")
        assert it.sandbox.counts["reports"] == 2, "the newest first, and no more than needed"
        assert it.results() == {"found": 1}
        assert it.requests == 1 + 2 + 1


@pytest.mark.parametrize(
    "message",
    [
        {"subject": f"Call {reference(1)}", "body": "plain"},
        {"subject": "Call", "body": f"a < b & c\nReference: {reference(1)}"},
        {"subject": "Call", "body": "", "html_body": f"<p>Reference:&nbsp;{reference(1)}</p>"},
    ],
    ids=["subject", "text", "html"],
)
async def test_the_reference_may_stand_in_subject_or_body(message: dict[str, str]) -> None:
    async with world() as it:
        (errand_id,) = await it.create(1, **message)
        assert await it.lookup.find(reference(1)) == str(errand_id)


async def test_what_was_never_created_is_absent_and_costs_no_flag() -> None:
    async with world() as it:
        ids = await it.create(1, 2, 3)
        assert await it.lookup.find(reference(9)) is None
        assert sorted(it.sandbox.dirty) == ids
        assert it.results() == {"absent": 1}


async def test_an_empty_list_costs_one_request() -> None:
    async with world() as it:
        assert await it.lookup.find(reference(1)) is None
        assert it.requests == 1


async def test_a_longer_number_is_another_reference() -> None:
    async with world() as it:
        await it.create(1, body=f"Reference: {reference(1)}7")
        assert await it.lookup.find(reference(1)) is None


async def test_no_report_is_read_twice_and_no_more_than_the_bound_at_once() -> None:
    async with world() as it:
        ids = await it.create(*range(REPORTS_MAX + 2))
        assert await it.lookup.find(reference(0)) is None, "beyond the bound"
        assert it.sandbox.counts["reports"] == REPORTS_MAX
        assert await it.lookup.find(reference(0)) == str(ids[0]), "the next look-up reads on where it ended"
        assert it.sandbox.counts["reports"] == REPORTS_MAX + 2
        for number in range(REPORTS_MAX + 2):
            assert await it.lookup.find(reference(number)) == str(ids[number])
        assert it.sandbox.counts["reports"] == REPORTS_MAX + 2
        assert sorted(it.sandbox.dirty) == ids


async def test_look_ups_side_by_side_do_not_hide_errands_from_each_other() -> None:
    async with world() as it:
        ids = await it.create(1, 2, 3, 4)
        found = await asyncio.gather(*(it.lookup.find(reference(number)) for number in (1, 2, 3, 4)))
        assert found == [str(i) for i in ids]
        assert sorted(it.sandbox.dirty) == ids


async def test_another_replica_finds_what_this_one_has_read() -> None:
    async with world() as it:
        ids = await it.create(1, 2)
        assert await it.lookup.find(reference(1)) == str(ids[0])
        assert await it.another().find(reference(2)) == str(ids[1])


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_may_not_read_is_not_tried_again_until_it_changes(status: int) -> None:
    async with world() as it:
        await it.create(1)
        it.token = "wrong" if status == 401 else TOKEN
        assert await it.lookup.find(reference(1)) is None
        assert await it.lookup.find(reference(1)) is None
        assert (it.results(), it.requests) == ({"refused": 2}, 1)
        it.token = DATA_TOKEN
        assert await it.lookup.find(reference(1)) is not None


@pytest.mark.parametrize(
    "rule",
    [
        {"endpoint": "c3_dirty_errand_list", "method": "GET", "status": 503},
        {"endpoint": "c3_dirty_errand_list", "method": "GET", "reset": "after"},
        {"endpoint": "c3_errand_reports", "status": 500},
        {"endpoint": "c3_errand_reports", "reset": "after"},
        {"endpoint": "c3_errand_reports", "status": 200, "body": "no JSON"},
    ],
    ids=str,
)
async def test_a_look_up_that_fails_finds_nothing_and_puts_back_what_it_touched(rule: dict[str, Any]) -> None:
    async with world() as it:
        ids = await it.create(1, 2)
        it.sandbox.set_faults([rule])
        assert await it.lookup.find(reference(1)) is None
        assert it.results() == {"unavailable": 1}
        it.sandbox.set_faults([])
        await eventually(lambda: sorted(it.sandbox.dirty) == ids, "the flags")
        assert await it.lookup.find(reference(1)) == str(ids[0])


async def test_an_errand_that_was_deleted_meanwhile_is_passed_over_and_not_marked() -> None:
    marked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            marked.append((await request.json())["data"]["attributes"]["errands"])
            return web.Response(status=204)
        attributes: Any = {"errands": [33, 34]}
        if request.path.endswith("/34"):
            return web.json_response({"errors": [{"title": "Not Found"}]}, status=404)
        if request.path.endswith("/33"):
            attributes = {"basic": {"data": {"subject": reference(1), "body": None}}}
        return web.json_response({"data": {"type": "any", "id": "0", "attributes": attributes}})

    async with web_server(answer) as url, cention(f"{url}/s/demo") as client:
        assert await World(Sandbox(), client, 20).lookup.find(reference(1)) == "33"
    assert marked == [[33]]


async def test_a_look_up_ends_in_its_time_and_what_it_touched_is_put_back_all_the_same() -> None:
    async with world(time_s=0.3) as it:
        ids = await it.create(1, 2)
        it.sandbox.set_faults([{"endpoint": "c3_errand_reports", "reset": "after", "delay_s": 0.0, "times": 1},
                               {"endpoint": "c3_errand_reports", "delay_s": 3600}])  # fmt: skip
        assert await it.lookup.find(reference(1)) is None
        assert it.results() == {"unavailable": 1}
        await eventually(lambda: sorted(it.sandbox.dirty) == ids, "the flags")


async def test_marking_is_tried_until_it_succeeds() -> None:
    async with world() as it:
        ids = await it.create(1, 2)
        it.sandbox.set_faults([{"endpoint": "c3_dirty_errand_list", "method": "POST", "status": 503, "times": 1}])
        finding = asyncio.create_task(it.lookup.find(reference(1)))
        await eventually(lambda: it.sandbox.faults[0]["hits"] == 1, "the marking that fails")
        assert it.sandbox.dirty == []
        await eventually(lambda: sorted(it.sandbox.dirty) == ids, "the marking that succeeds")
        assert await finding == str(ids[0])


async def test_nothing_but_ids_is_logged() -> None:
    with captured() as lines:
        async with world() as it:
            await it.create(1, name="Åsa Öberg", sender="46701740605", body="secret of 46701740605")
            it.sandbox.set_faults([{"endpoint": "c3_errand_reports", "status": 503, "times": 1}])
            for _ in range(2):
                await it.lookup.find(reference(1))
    assert "errand looked up" in lines.text
    assert not any(word in lines.text for word in ("46701740605", "Öberg", "secret", DATA_TOKEN))
