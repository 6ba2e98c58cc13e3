"""Callbacks without a store: their ids, what is told of them, what is forwarded, how it is signed, what viewers see."""

import base64
import json
import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from bridge.admin.callback_views import callback_step, callback_view, document_view
from bridge.callbacks import id_of, told_of
from bridge.calls.effects import EffectKind
from bridge.calls.events import Pair
from bridge.cention.documents import read_callback
from bridge.delivery.callbacks import forwarded
from bridge.delivery.forward import signed
from bridge.intake.callbacks import CallbackSecrets
from bridge.runtime.clock import now_ms
from bridge.runtime.web import Problem
from bridge.store.callbacks import Job, KeptCallback, job_of, lane_of, parse_job
from bridge.store.keys import SHARDS, shard_of
from tests.integration.cention_support import sample

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
DOCUMENT: dict[str, Any] = {name: value for name, value in sample("callback_answer_errand").items() if name != "meta"}
TOLD = told_of(read_callback(orjson.dumps(DOCUMENT)))
PERSONAL = ["david.liew@test.se", "David Liew", "Creating test errand via API", "sadadad", "Befund_Liew"]


def kept(document: dict[str, Any] | None = None, **more: Any) -> KeptCallback:
    text = orjson.dumps(DOCUMENT if document is None else document).decode()
    return KeptCallback(
        **{
            "callback_id": "cb-1",
            "received_at": 1_795_514_400_000,
            "call": (Pair(1000, 1001), "c:1"),
            "told": TOLD,
            "document": text,
            **more,
        }
    )


# Ids


def shuffled(document: dict[str, Any], seed: int) -> bytes:
    """The same document with its unordered parts in another order."""
    chance = random.Random(seed)

    def again(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            names = list(value)
            chance.shuffle(names)
            return {each: again(value[each], each) for each in names}
        if isinstance(value, list):
            items = [again(item) for item in value]
            if name in ("included", "data"):
                chance.shuffle(items)
            return items
        return value

    return orjson.dumps(again(document))


@given(st.integers())
def test_a_callback_is_the_same_in_whatever_order_it_comes(seed: int) -> None:
    assert id_of(shuffled(DOCUMENT, seed)) == id_of(orjson.dumps(DOCUMENT))


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return [leaf for name, inner in items for leaf in leaves(inner, (*path, name))]
    return [path]


@pytest.mark.parametrize("path", leaves(DOCUMENT), ids=str)
def test_a_callback_that_differs_anywhere_is_another(path: tuple[Any, ...]) -> None:
    document = orjson.loads(orjson.dumps(DOCUMENT))
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = "something else"
    assert id_of(orjson.dumps(document)) != id_of(orjson.dumps(DOCUMENT))


@pytest.mark.parametrize(
    "odd",
    [
        {"data": {"type": "x", "id": "1"}},
        {"data": {"type": "x", "id": "1", "relationships": None}, "included": None, "meta": None},
        {"data": {"type": "x", "id": 1, "relationships": {"errand": None, "other": {"data": None}}}, "included": []},
        {"data": {"type": "x", "id": "1", "attributes": {"event": 10**30}}},
        {"data": {"type": "x", "id": "1", "attributes": {"event": "1"}}},
        {
            "data": {"type": "x", "id": "1"},
            "included": [{"type": "c3_answer_errands", "id": "7", "attributes": {"answer": 10**30}}],
        },
    ],
)
def test_an_odd_callback_has_an_id_and_something_is_told_of_it(odd: dict[str, Any]) -> None:
    callback = read_callback(json.dumps(odd).encode())
    assert id_of(callback.to_json()).startswith("cb-")
    told = told_of(callback)
    assert (told["subject"], told["to"]) == (None, [])
    assert told["event"] is None
    orjson.dumps(told)


def test_what_is_told_of_the_sample() -> None:
    assert TOLD == {
        "event": 1,
        "errandId": "2256",
        "service": "Form",
        "subject": "Creating test errand via API",
        "to": ["david.liew@test.se"],
        "files": 4,
    }


# Lanes and jobs


@given(st.integers(0, 10**19 - 1), st.integers(0, SHARDS - 1), st.integers(0, 3))
def test_lanes_of_a_number_lie_in_the_shard_and_differ(number: int, shard: int, place: int) -> None:
    lanes = [lane_of(number, shard, each) for each in range(place + 1)]
    assert {shard_of(lane) for lane in lanes} == {shard}
    assert len(set(lanes)) == place + 1


@pytest.mark.parametrize("name", ["", "c3_response_attachments-789"])
@pytest.mark.parametrize("kind", [EffectKind.FETCH_FILE, EffectKind.FORWARD_CALLBACK])
def test_a_jobs_id_holds_the_callbacks(kind: EffectKind, name: str) -> None:
    job = job_of(kind, "cb-0123456789abcdef01234567", Pair(1, 2), (Pair(3, 4), "c:1"), name)
    assert parse_job(job) == ("cb-0123456789abcdef01234567", name)
    assert job.call_id == "3:4:c:1"


# What is forwarded


def test_what_is_forwarded_is_the_document_and_its_call() -> None:
    body = orjson.loads(forwarded(kept()))
    bridge = body.pop("meta")["bridge"]
    assert body == DOCUMENT
    assert bridge == {
        "callbackId": "cb-1",
        "receivedAt": "2026-11-24T10:00:00.000Z",
        "event": 1,
        "errandId": "2256",
        "call": {"callId": "c:1", "deviceId": 1000, "extensionId": 1001},
    }


def test_other_members_of_meta_are_kept_and_integers_stay_exact() -> None:
    document = {**DOCUMENT, "meta": {"tenant": 7}}
    text = orjson.dumps(document).decode().replace('"tenant":7', '"tenant":123456789012345678901')
    body = forwarded(KeptCallback("cb-1", 0, None, TOLD, document=text))
    assert b'"tenant":123456789012345678901' in body
    assert orjson.loads(body)["meta"]["bridge"]["call"] is None
    assert forwarded(kept({**DOCUMENT, "meta": None}))


def test_a_signature_is_what_standard_webhooks_verifies() -> None:
    body = forwarded(kept())
    headers = signed("cb-1", now_ms() // 1000, body, [OTHER, SECRET])
    assert headers["webhook-id"] == "cb-1"
    for secret in (SECRET, OTHER):  # the receiver may know either
        Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body + b" ", headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(body, {**headers, "webhook-id": "cb-2"})


# Secrets


@pytest.mark.parametrize("meta", [None, {}, {"api_secret": None}, {"api_secret": 123456}, {"api_secret": "12345"}, []])
def test_a_callback_without_a_fitting_secret_is_refused(meta: Any) -> None:
    with pytest.raises(Problem) as refused:
        CallbackSecrets(["123456", "older"]).check({"meta": meta})
    assert (refused.value.status, refused.value.code) == (401, "bad_secret")
    assert "123456" not in refused.value.detail


@pytest.mark.parametrize("document", [None, 7, [], "123456"])
def test_what_is_no_object_carries_no_secret(document: Any) -> None:
    with pytest.raises(Problem):
        CallbackSecrets(["123456"]).check(document)


def test_secrets_are_changed_and_never_taken_away() -> None:
    secrets = CallbackSecrets(["one", "two"])
    for accepted in ("one", "two"):
        secrets.check({"meta": {"api_secret": accepted}})
    assert not secrets.replace([])
    assert not secrets.replace(["one", "two"])
    assert secrets.replace(["three"])
    with pytest.raises(Problem):
        secrets.check({"meta": {"api_secret": "one"}})
    CallbackSecrets([]).check({"meta": {"api_secret": "any"}})  # none is asked for
    CallbackSecrets(["geheim mit Ä"]).check({"meta": {"api_secret": "geheim mit Ä"}})


# Views


def views(*, masked: bool) -> list[dict[str, Any]]:
    stored = {
        "type": "c3_response_attachments",
        "id": "789",
        "name": "Befund_Liew.pdf",
        "contentType": "application/pdf",
        "size": 7,
        "path": "2256/attachment-789_Befund_Liew.pdf",
    }
    jobs = (
        Job("cb-1-fetch_file-c3_response_attachments-789", "delivered", 1),
        Job("cb-1-fetch_file-c3_response_attachments-788", "parked", 3, "Not Found"),
        Job("cb-1-forward_callback", "waiting", 2, "the receiver answered 503"),
    )
    files = {"c3_response_attachments-789": stored}
    one = kept(files=files, jobs=jobs)
    where = {"at": "2026-11-24T10:00:00.000Z", "deviceId": 1000, "extensionId": 1001}
    return [
        callback_view(one, masked=masked),
        document_view(one, masked=masked),
        callback_step(where, {"at": where["at"], "callback": "cb-1", **TOLD}, files, masked=masked),
    ]


def test_an_operator_sees_all_and_the_text_only_where_it_was_asked_for() -> None:
    listed, alone, step = views(masked=False)
    assert alone == {**listed, "document": DOCUMENT}
    assert "sadadad" not in str(listed)
    assert "sadadad" not in str(step)
    assert (step["subject"], step["to"]) == ("Creating test errand via API", ["david.liew@test.se"])
    assert listed["files"] == [
        {
            "state": "delivered",
            "attempts": 1,
            "type": "c3_response_attachments",
            "id": "789",
            "size": 7,
            "name": "Befund_Liew.pdf",
            "contentType": "application/pdf",
            "path": "2256/attachment-789_Befund_Liew.pdf",
        },
        {
            "state": "parked",
            "attempts": 3,
            "reason": "Not Found",
            "type": "c3_response_attachments",
            "id": "788",
        },
    ]
    assert listed["forward"] == {"state": "waiting", "attempts": 2, "reason": "the receiver answered 503"}


def test_a_viewer_sees_nothing_personal() -> None:
    for view in views(masked=True):
        text = orjson.dumps(view).decode()
        assert [word for word in PERSONAL if word in text] == []
        assert "document" not in view
        assert (view["subject"], view["to"], view["errandId"]) == ("***", ["***"], "2256")
