"""Files of answers, fetched by a running bridge from real servers: the sandbox, and a Cention that misbehaves."""

import base64
from pathlib import Path

import pytest
from aiohttp import web

from bridge.cention.sandbox import AnswerGiven, AttachedFile
from bridge.store.callbacks import CallbackRetention, CallbackStore
from bridge.store.connection import Connection
from bridge.store.embedded import EmbeddedRedis
from bridge.store.keys import CallbackKeys, Keys
from bridge.store.records import load_entry
from tests.e2e.support import eventually, inbound, post
from tests.integration.callback_support import (
    FETCHING,
    SECRET,
    TOKEN,
    at,
    attachment,
    cention,
    desk,
    document,
    file_answer,
    on_disk,
)


async def test_the_files_of_an_answer_are_fetched_and_shown(redis: EmbeddedRedis, tmp_path: Path) -> None:
    async with desk(tmp_path, redis, **FETCHING) as it:
        errand = await it.call("c-1")
        sandbox = it.service.sandbox
        assert sandbox is not None

        def file(name: str, content: bytes) -> AttachedFile:
            return AttachedFile(name=name, content_type="text/plain", content=base64.b64encode(content).decode())

        answer = AnswerGiven(
            text="Dear Ann", attachments=(file("one.txt", b"1"), file("two.txt", b"")), images=(file("logo.png", b"3"),)
        )
        answered = await sandbox.answer(errand, answer)
        assert answered is not None
        assert answered.callback is not None
        assert answered.callback.status == 200, "the sandbox of a bridge knows where that takes callbacks"
        (listed,) = await it.settled("delivered", "delivered", "delivered")
        folder = str(errand)
        assert on_disk(tmp_path) == {
            f"{folder}/attachment-788_one.txt": b"1",
            f"{folder}/attachment-789_two.txt": b"",
            f"{folder}/image-12_logo.png": b"3",
        }
        (entry,) = await it.timeline("c-1", "callback")
        assert [file["id"] for file in entry["files"]] == ["12", "788", "789"]
        assert entry["files"][1] == {
            "type": "c3_response_attachments",
            "id": "788",
            "name": "one.txt",
            "contentType": "text/plain",
            "size": 1,
            "path": f"{folder}/attachment-788_one.txt",
        }
        assert len(entry["files"]) == entry["fileCount"] == len(listed["files"]) == 3
        attempts = [each for each in await it.timeline("c-1", "attempt") if each["effect"] == "fetch_file"]
        assert [attempt["reason"] for attempt in attempts] == ["callback"] * 3
        assert it.metric("bridge_callback_attempts_total", kind="fetch_file", outcome="delivered") == 3
        assert it.metric("bridge_delivery_attempts_total", kind="fetch_file", outcome="delivered") == 0
        # The same answer once more fetches nothing.
        arrivals = sandbox.counts
        assert (await it.come({**answered.callback.document, "meta": {"api_secret": SECRET}}))[1][
            "result"
        ] == "duplicate"
        assert sandbox.counts == arrivals


async def test_only_the_configured_cention_is_asked_and_by_type_and_id_alone(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    asked: list[str] = []
    tokens: list[str] = []
    stranger: list[str] = []
    async with (
        cention(lambda path: web.Response(), stranger) as elsewhere,
        cention(lambda path: file_answer("a.txt", b"x"), asked, tokens) as base_url,
        at(tmp_path, redis, base_url) as it,
    ):
        link = f"{elsewhere}/capi/json/c3_response_attachments/1"
        included = [
            {"type": "c3_response_attachments", "id": "1", "links": {"self": {"href": link}}},
            {"type": "c3_response_attachments", "id": "2", "links": {"self": link, "related": link}},
            {"type": "c3_response_attachments", "id": "../../../evil", "links": {"self": link}},
            {"type": "c3_response_attachments", "id": "3?x=y", "attributes": {"url": link}},
            {"type": link, "id": "4"},
            {"type": "c3_area_archives", "id": 5, "links": {"self": "file:///etc/passwd"}},
            {"type": "c3_errand_reports", "id": "6", "links": {"self": link}},
        ]
        assert (await it.come(document(9, included=included, links={"self": link})))[0] == 200
        await it.settled("delivered", "delivered", "delivered")
    base = "/s/demo/capi/json"
    assert sorted(asked) == [
        f"{base}/c3_area_archives/5",
        f"{base}/c3_response_attachments/1",
        f"{base}/c3_response_attachments/2",
    ]
    assert set(tokens) == {f"Bearer {TOKEN}"}
    assert stranger == []


@pytest.mark.parametrize(
    "name", ["../../../../tmp/x", "/etc/passwd", "..", "", None, ".ssh/authorized_keys", "a\0b", "x" * 3000, "ä/ö\\ü"]
)
async def test_a_files_name_leads_nowhere(redis: EmbeddedRedis, tmp_path: Path, name: str | None) -> None:
    async with cention(lambda _: file_answer(name, b"x"), []) as url, at(tmp_path, redis, url) as it:
        before = {path for path in tmp_path.rglob("*") if "redis" not in str(path)}
        await it.come(document(9, attachment(1)))
        ((listed,),) = [await it.settled("delivered")]
        (path,) = on_disk(tmp_path)
        assert path.startswith("9/attachment-1_")
        assert listed["files"][0]["path"] == path
        new = {path for path in tmp_path.rglob("*") if "redis" not in str(path)} - before
        assert all(path.is_relative_to(tmp_path / "files") for path in new)


async def test_what_cannot_be_had_is_parked_and_the_rest_goes_on(redis: EmbeddedRedis, tmp_path: Path) -> None:
    answers = {
        "1": lambda: web.Response(status=404, body=b'{"errors": [{"title": "Not Found"}]}'),
        "2": lambda: file_answer("large.bin", b"x" * 2000),
        "3": lambda: file_answer("odd.bin", "no base64!"),
        "4": lambda: file_answer("none.bin", None),
        "5": lambda: web.Response(body=b'{"data": null}', content_type="application/vnd.api+json"),
        "6": lambda: file_answer("good.bin", b"x" * 1000),
    }
    async with (
        cention(lambda path: answers[path[-1]](), []) as url,
        at(tmp_path, redis, url, callback__file_bytes_max=1000) as it,
    ):
        await it.come(document(9, *map(attachment, range(1, 7))))
        (listed,) = await it.settled(*["parked"] * 5, "delivered")
        reasons = [file.get("reason", "") for file in listed["files"]]
        assert reasons[0] == "Not Found"
        assert "larger than 1000 bytes" in reasons[1]
        assert "no base64" in reasons[2]
        assert "no content" in reasons[3]
        assert reasons[5] == ""
        assert on_disk(tmp_path) == {"9/attachment-6_good.bin": b"x" * 1000}
        parked = 5
        await eventually(lambda: it.metric("bridge_callback_parked") == parked, "the gauge")
        assert it.metric("bridge_deliveries_parked") == 0


async def test_a_cention_that_is_away_is_asked_again(redis: EmbeddedRedis, tmp_path: Path) -> None:
    statuses = [503, 500, 429]

    def answer(_path: str) -> web.Response:
        return web.Response(status=statuses.pop()) if statuses else file_answer("a.txt", b"x")

    async with cention(answer, []) as url, at(tmp_path, redis, url) as it:
        await it.come(document(9, attachment(1)))
        (listed,) = await it.settled("delivered")
        assert listed["files"][0]["attempts"] == 4


async def test_a_file_that_was_stored_is_not_asked_for_again_when_its_reader_took_it(
    redis: EmbeddedRedis, tmp_path: Path
) -> None:
    """As after a kill between the note that it is stored and the settle."""
    asked: list[str] = []
    async with cention(lambda _: web.Response(status=503), asked) as url, at(tmp_path, redis, url) as it:
        _, answer = await it.come(document(9, attachment(1)))
        await eventually(lambda: len(asked) >= 1, "an attempt")
        connection = Connection(redis.url, timeout_s=5)
        retention = CallbackRetention(1000, 1000, 16)
        store = CallbackStore(connection, Keys("aventa"), CallbackKeys("aventa"), retention)
        place = await store.find(answer["callbackId"], 9)
        await store.keep_file(place.shard, answer["callbackId"], "c3_response_attachments-1", {"size": 7})
        (listed,) = await it.settled("delivered")
        assert listed["files"][0]["size"] == 7
        (timelines,) = await connection.run(("KEYS", "aventa:callback:*:timeline:*"))
        (entries,) = await connection.run(*(("LRANGE", timeline, 0, -1) for timeline in timelines))
        assert load_entry(entries[-1])["found"] is True
        await connection.close()


async def test_a_refused_token_waits_and_no_agent_for_it(redis: EmbeddedRedis, tmp_path: Path) -> None:
    def answer(path: str) -> web.Response:
        return web.Response(status=401) if "attachments" in path else web.Response(status=204)

    asked: list[str] = []
    async with cention(answer, asked) as url, at(tmp_path, redis, url) as it:
        await it.come(document(9, attachment(1), attachment(2)))
        await it.come(document(10, attachment(3)))
        await eventually(lambda: it.metric("bridge_callback_tokens_refused") == 1, "it is known")
        await eventually(lambda: it.metric("bridge_callback_held_total", what="token") >= 1, "others wait untried")
        # Each lane may have tried before the first answer came; from then on it is one in a minute.
        assert sum("attachments" in path for path in asked) <= 2
        assert it.metric("bridge_cention_tokens_refused") == 0
        assert await post(it.http, it.service.intake_url, inbound("c-1", (1, 1))) == 202
        await eventually(lambda: sum("new_errands" in path for path in asked) == 1, "agents' messages go on")
        assert [file["state"] for each in await it.callbacks() for file in each["files"]] == ["waiting"] * 3


async def test_a_full_directory_waits_for_room(redis: EmbeddedRedis, tmp_path: Path) -> None:
    def answer(path: str) -> web.Response:
        return file_answer("a.bin", b"x" * 700_000)

    async with cention(answer, []) as url, at(tmp_path, redis, url, callback__dir_bytes_max=2**20) as it:
        await it.come(document(9, attachment(1), attachment(2)))
        (listed,) = await it.settled("delivered", "waiting")

        async def said() -> bool:
            (listed,) = await it.callbacks()
            return "no room below callback.dir" in listed["files"][1].get("reason", "")

        await eventually(said, "what it waits for")
        assert len(on_disk(tmp_path)) == 1
        (tmp_path / "files" / listed["files"][0]["path"]).unlink()
        await it.settled("delivered", "delivered")
        assert list(on_disk(tmp_path)) == ["9/attachment-2_a.bin"]


async def test_a_disk_that_refuses_is_said(redis: EmbeddedRedis, tmp_path: Path) -> None:
    (tmp_path / "files").write_text("in the way")
    async with cention(lambda _: file_answer("a", b"x"), []) as url, at(tmp_path, redis, url) as it:
        await it.come(document(9, attachment(1)))

        async def said() -> bool:
            (listed,) = await it.callbacks()
            return "cannot be stored below callback.dir" in listed["files"][0].get("reason", "")

        await eventually(said, "what is wrong")
        (tmp_path / "files").unlink()
        await it.settled("delivered")
