"""Ratings, and walking the dirty list, over real HTTP: what is read and not dealt with is on the list again."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web

from bridge.cention.client import CentionClient
from bridge.cention.documents import ErrandReport
from bridge.cention.outcome import Delivered, Failure, Fetched, Outcome, Rejected, TryLater, Unauthorised, Unknown
from bridge.cention.sandbox import Sandbox
from bridge.cention.walk import DirtyWalk, WalkFailed
from tests.integration.cention_support import ERRAND, SAMPLES, TOKEN, cention, web_server

DATA_TOKEN = "may-read-errand-data"
FIRST = 511055


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    made = Sandbox(tokens={TOKEN: ["create_errand"], DATA_TOKEN: ["errand_data"]})
    yield made
    await made.stop()


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[CentionClient]:
    async with cention(await sandbox.start()) as made:
        for _ in range(3):
            await made.new_errand(ERRAND, TOKEN)
        assert sandbox.dirty == [FIRST, FIRST + 1, FIRST + 2]
        yield made


class Trouble(Exception):
    """What a consumer runs into."""


async def deal_with(changed: DirtyWalk, dealing: Callable[[int], object]) -> None:
    """Walks, and lets `dealing` deal with each errand."""
    async with changed:
        async for errand_id, _ in changed:
            dealing(errand_id)


def fail(_errand_id: int) -> None:
    raise Trouble


async def test_what_is_dealt_with_is_off_the_list(client: CentionClient, sandbox: Sandbox) -> None:
    async with client.walk_dirty(DATA_TOKEN) as changed:
        seen = [(errand_id, report.errand.subject) async for errand_id, report in changed]
    assert seen == [(FIRST, "Call"), (FIRST + 1, "Call"), (FIRST + 2, "Call")]
    assert (sandbox.dirty, sandbox.counts["reports"]) == ([], 3)
    assert (changed.skipped, changed.unmarked) == ({}, ())


async def test_what_failed_is_on_the_list_again_and_not_walked_twice(client: CentionClient, sandbox: Sandbox) -> None:
    async with client.walk_dirty(DATA_TOKEN, fields=["c3_id"]) as changed:
        async for errand_id, report in changed:
            assert report.model_fields_set == {"c3_id"}
            if errand_id != FIRST + 1:
                changed.again(errand_id)
    assert sorted(sandbox.dirty) == [FIRST, FIRST + 2]
    assert sandbox.counts["reports"] == 3


async def test_what_failed_is_marked_before_the_next_one_is_read(client: CentionClient, sandbox: Sandbox) -> None:
    async with client.walk_dirty(DATA_TOKEN) as changed:
        async for errand_id, _ in changed:
            if errand_id == FIRST:
                changed.again(errand_id)
            if errand_id == FIRST + 1:
                assert FIRST in sandbox.dirty


async def test_what_is_in_hand_when_the_consumer_fails_is_marked(client: CentionClient, sandbox: Sandbox) -> None:
    def deal(errand_id: int) -> None:
        if errand_id == FIRST + 1:
            raise Trouble

    with pytest.raises(Trouble):
        await deal_with(client.walk_dirty(DATA_TOKEN), deal)
    assert sandbox.dirty == [FIRST + 2, FIRST + 1]


async def test_what_is_in_hand_when_the_consumer_is_cancelled_is_marked(
    client: CentionClient, sandbox: Sandbox
) -> None:
    in_hand = asyncio.Event()

    async def consume() -> None:
        async with client.walk_dirty(DATA_TOKEN) as changed:
            async for _ in changed:
                in_hand.set()
                await asyncio.Event().wait()

    task = asyncio.create_task(consume())
    await in_hand.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(sandbox.dirty) == [FIRST, FIRST + 1, FIRST + 2]


async def test_a_consumer_that_has_enough_leaves_the_rest_on_the_list(client: CentionClient, sandbox: Sandbox) -> None:
    async with client.walk_dirty(DATA_TOKEN) as changed:
        async for _ in changed:
            break
    assert sandbox.dirty == [FIRST + 1, FIRST + 2]


async def test_a_walk_outside_of_its_block_is_refused(client: CentionClient, sandbox: Sandbox) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        async for _ in client.walk_dirty(DATA_TOKEN):
            pass
    assert sandbox.counts["reports"] == 0


async def test_a_report_that_is_refused_is_left_out_and_not_marked(client: CentionClient, sandbox: Sandbox) -> None:
    sandbox.set_faults([{"endpoint": "c3_errand_reports", "status": 404, "times": 1}])
    async with client.walk_dirty(DATA_TOKEN) as changed:
        seen = [errand_id async for errand_id, _ in changed]
    assert seen == [FIRST + 1, FIRST + 2]
    assert {errand_id: failure.status for errand_id, failure in changed.skipped.items()} == {FIRST: 404}
    assert sandbox.dirty == [FIRST]  # its flag was never cleared


async def test_a_report_that_cannot_be_read_is_left_out_and_marked() -> None:
    marked: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        if request.method == "POST":
            marked.append((await request.json())["data"]["attributes"]["errands"])
            return web.json_response({"data": None}, status=201)
        if "c3_dirty_errand_list" in request.path:
            return web.json_response({"data": {"attributes": {"errands": [1, 2, 2, 1]}}})
        attributes: dict[str, Any] = {"basic": []} if request.path.endswith("/1") else {}
        return web.json_response({"data": {"attributes": attributes}})

    async with web_server(answer) as url, cention(f"{url}/s/demo") as client, client.walk_dirty(DATA_TOKEN) as changed:
        assert [errand_id async for errand_id, _ in changed] == [2]
        assert marked == [[1]]
    assert list(changed.skipped) == [1]
    assert marked == [[1]]


@pytest.mark.parametrize(
    ("rule", "kind", "dirty"),
    [
        ({"status": 503}, TryLater, [FIRST + 1, FIRST + 2]),
        ({"status": 401}, Unauthorised, [FIRST + 1, FIRST + 2]),
        ({"reset": "midway"}, Unknown, [FIRST + 2, FIRST + 1]),
    ],
    ids=str,
)
async def test_a_walk_that_cannot_go_on_says_why(
    client: CentionClient, sandbox: Sandbox, rule: dict[str, Any], kind: type[Failure], dirty: list[int]
) -> None:
    def deal(_errand_id: int) -> None:
        sandbox.set_faults([{**rule, "endpoint": "c3_errand_reports"}])

    with pytest.raises(WalkFailed) as caught:
        await deal_with(client.walk_dirty(DATA_TOKEN), deal)
    assert isinstance(caught.value.failure, kind)
    assert caught.value.unmarked == ()
    assert sandbox.dirty == dirty


async def test_a_list_that_cannot_be_read_is_a_failed_walk(client: CentionClient) -> None:
    with pytest.raises(WalkFailed) as caught:
        await deal_with(client.walk_dirty("unknown"), fail)
    assert isinstance(caught.value.failure, Unauthorised)


class Script:
    """Endpoints that answer as they are told; marks fail as often as `failures` has it."""

    def __init__(self, failures: Sequence[Outcome]) -> None:
        self.failures, self.marks = list(failures), list[tuple[int, ...]]()

    async def dirty(self) -> Fetched[tuple[int, ...]] | Failure:
        return Fetched((1, 2))

    async def report(self, _errand_id: int) -> Fetched[ErrandReport] | Failure:
        return Fetched(ErrandReport())

    async def mark(self, errand_ids: Sequence[int]) -> Outcome:
        self.marks.append(tuple(errand_ids))
        return self.failures.pop(0) if self.failures else Delivered(201)

    def walk(self) -> DirtyWalk:
        return DirtyWalk(self.dirty, self.report, self.mark, mark_again_s=(0.0, 0.0))


async def test_what_was_never_given_is_not_marked() -> None:
    class Gone(Script):
        async def report(self, errand_id: int) -> Fetched[ErrandReport] | Failure:
            return Rejected(404, "gone") if errand_id == 1 else await super().report(errand_id)

    script = Gone([])
    async with script.walk() as changed:
        assert [errand_id async for errand_id, _ in changed] == [2]
    assert (script.marks, changed.skipped) == ([], {1: Rejected(404, "gone")})


async def test_what_is_being_read_when_the_walk_is_cancelled_is_marked() -> None:
    class Hanging(Script):
        reading = asyncio.Event()

        async def report(self, errand_id: int) -> Fetched[ErrandReport] | Failure:
            if errand_id == 2:
                self.reading.set()
                await asyncio.Event().wait()
            return await super().report(errand_id)

    script = Hanging([TryLater("down")])
    changed = script.walk()
    task = asyncio.create_task(deal_with(changed, lambda _: None))
    await script.reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (script.marks, changed.unmarked) == ([(2,)], (2,))  # once, without waiting: whoever cancels is in a hurry


async def test_marking_is_tried_again_when_the_walk_ends() -> None:
    script = Script([Unknown("lost"), TryLater("down", 503)])
    async with script.walk() as changed:
        async for errand_id, _ in changed:
            changed.again(errand_id)
    assert script.marks == [(1,), (1, 2), (1, 2)]
    assert changed.unmarked == ()


@pytest.mark.parametrize(
    ("failure", "tries"),
    [(TryLater("down"), 4), (Unknown("lost"), 4), (Rejected(406, "no"), 2), (Unauthorised(401, "no"), 2)],
    ids=str,
)
async def test_what_could_not_be_marked_is_told(failure: Failure, tries: int) -> None:
    script = Script([failure] * 10)
    changed = script.walk()
    with pytest.raises(WalkFailed) as caught:
        await deal_with(changed, changed.again)
    assert (caught.value.failure, caught.value.unmarked) == (failure, (1, 2))
    assert len(script.marks) == tries


async def test_a_consumers_own_exception_is_never_replaced() -> None:
    changed = Script([TryLater("down")] * 10).walk()
    with pytest.raises(Trouble) as caught:
        await deal_with(changed, fail)
    assert changed.unmarked == (1,)
    assert "1 errands could not be marked" in caught.value.__notes__[0]


async def test_ratings(client: CentionClient) -> None:
    read = await client.dirty_facebook_ratings(DATA_TOKEN)
    assert isinstance(read, Fetched)
    assert read.value == ("3", "4")
    rating = await client.facebook_rating(read.value[0], DATA_TOKEN)
    assert isinstance(rating, Fetched)
    assert (rating.value.c3_id, rating.value.said.rating, rating.value.said.reviewer_name) == (3, 5, "Alva Lindqvist")
    assert await client.dirty_facebook_ratings(DATA_TOKEN) == Fetched(("4",))
    refused = Unauthorised(403, "Forbidden: the token does not carry the claim errand_data")
    assert await client.dirty_facebook_ratings(TOKEN) == refused
    assert await client.facebook_rating(3, TOKEN) == refused
    absent = await client.facebook_rating(99, DATA_TOKEN)
    assert isinstance(absent, Rejected)
    with pytest.raises(ValueError, match="an id is"):
        await client.facebook_rating("../c3_libraries", DATA_TOKEN)


async def test_ratings_over_the_wire() -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(f"{request.method} {request.raw_path}")
        name = "dirty_facebook_ratings" if "dirty" in request.path else "facebook_rating"
        body = (SAMPLES / f"{name}.response.json").read_bytes()
        return web.Response(body=body, content_type="application/vnd.api+json")

    async with web_server(answer) as url, cention(f"{url}/s/demo") as client:
        assert await client.dirty_facebook_ratings(DATA_TOKEN) == Fetched(("3", "4"))
        rating = await client.facebook_rating(3, DATA_TOKEN)
    assert isinstance(rating, Fetched)
    assert rating.value.said.reviewer_id == 2117249628
    assert seen == [
        "GET /s/demo/capi/json/c3_dirty_facebook_ratings",
        "GET /s/demo/capi/json/c3_facebook_ratings/3",
    ]


@pytest.mark.parametrize("body", ['{"data": null}', '{"data": []}', "{}"])
async def test_no_rating_has_changed(client: CentionClient, sandbox: Sandbox, body: str) -> None:
    sandbox.set_faults([{"status": 200, "body": body}])
    assert await client.dirty_facebook_ratings(DATA_TOKEN) == Fetched(())
