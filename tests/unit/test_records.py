"""What Redis holds comes back equal, is small, and is readable to an older and a newer version."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.calls.effects import Effect, EffectKind, effect_id
from bridge.calls.events import FACT_NAMES, Direction, Facts, Pair
from bridge.calls.state import Call, CallState
from bridge.store.keys import SHARDS, Keys, member, parse_member, shard_of
from bridge.store.packing import as_read, pack, unpack
from bridge.store.records import (
    call_from_dict,
    call_to_dict,
    dump_call,
    dump_effect,
    dump_entry,
    dump_pair,
    load_call,
    load_effect,
    load_pair,
)

keys = st.integers(0, 2**53 - 1)
pairs = st.builds(Pair, keys, keys)
text = st.text(st.characters(codec="utf-8"), max_size=20)
told = st.none() | text
times = st.integers(0, 2**48)
facts = st.builds(
    Facts,
    direction=st.none() | st.sampled_from(Direction),
    **{name: told for name in FACT_NAMES if name != "direction"},
)
calls = st.builds(
    Call,
    call_id=text,
    pair=pairs,
    state=st.sampled_from(CallState),
    facts=facts,
    resume=st.sampled_from([CallState.STARTED, CallState.ANSWERED, CallState.HELD]),
    started_at=times,
    updated_at=times,
    sequence=st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
    told=st.integers(0, 1000),
    has_errand=st.booleans(),
    link_told=told,
    pass_to=st.none() | pairs,
)
effects = st.builds(
    Effect,
    effect_id=text,
    kind=st.sampled_from(EffectKind),
    call_id=text,
    pair=pairs,
    at=times,
    facts=facts,
    started_at=times,
    reason=st.sampled_from(["event", "swept", "orphan", "late_link"]),
    target=st.none() | pairs,
    after=st.none() | text,
)


@given(calls)
def test_a_call_comes_back_equal(call: Call) -> None:
    assert load_call(as_read(dump_call(call)), call.call_id, call.pair) == call
    assert call_from_dict(call_to_dict(call), call.call_id, call.pair) == call


@given(st.dictionaries(text, calls, max_size=3), text.filter(lambda version: version.isalnum()))
def test_a_pairs_calls_come_back_equal(held: dict[str, Call], version: str) -> None:
    calls = {call_id: call_to_dict(call) for call_id, call in held.items()}
    value = as_read(dump_pair(version, calls))
    assert load_pair(value) == (version, orjson.loads(orjson.dumps(calls)))
    assert (" " in value) == bool(calls), "the scripts tell by it whether the pair has calls"


def test_a_pair_that_nothing_is_known_of_has_no_version_and_no_calls() -> None:
    assert load_pair("") == ("", {})


@given(st.binary(max_size=3000))
def test_what_is_packed_comes_back(raw: bytes) -> None:
    assert unpack(as_read(pack(raw))) == raw


@pytest.mark.parametrize(
    "packed",
    [
        "",
        "{}",
        "\x01abc",
        "\x02",
        "\x02not packed at all",
        as_read(b"\x02\xe0" + (2**62).to_bytes(8, "little") + b"\1\0\0"),
    ],
)
def test_what_was_not_packed_here_is_an_error(packed: str) -> None:
    with pytest.raises(ValueError, match="packed"):
        unpack(packed)


def test_what_calls_leave_behind_is_packed_small() -> None:
    told = {
        "eventId": "3f1c-77",
        "type": "call.started",
        "occurredAt": "2026-11-24T10:00:00.000Z",
        "callId": "c-20261124-881",
        "deviceId": 1000,
        "extensionId": 1001,
        "direction": "inbound",
        "calledNumber": "+46846500401",
        "callingNumber": "+46701740605",
        "queueName": "Support",
        "queueNumber": "1",
    }
    entry = {
        "at": "2026-11-24T10:00:01.123Z",
        "eventId": told["eventId"],
        "type": told["type"],
        "occurredAt": told["occurredAt"],
        "from": "unseen",
        "to": "started",
        "effects": ["av-7c6d71a36519edd823ce9a5b-open_errand-0"],
        "event": orjson.dumps(told).decode(),
    }
    assert len(dump_entry(entry)) < len(orjson.dumps(entry)) / 3


@given(effects)
def test_an_effect_comes_back_equal(effect: Effect) -> None:
    assert load_effect(dump_effect(effect)) == effect
    assert load_effect(dump_effect(effect).decode()) == effect


@given(calls, effects)
def test_what_is_not_told_takes_no_room(call: Call, effect: Effect) -> None:
    for told in (call_to_dict(call), orjson.loads(dump_effect(effect))):
        assert None not in _values(told)


def _values(value: Any) -> list[Any]:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if parts is None else [leaf for part in parts for leaf in _values(part)]


@given(calls, effects)
def test_members_of_a_newer_version_are_passed_over(call: Call, effect: Effect) -> None:
    newer = call_to_dict(call) | {"mood": "calm"}
    newer["facts"]["mood"] = "calm"
    assert call_from_dict(newer, call.call_id, call.pair) == call
    told = orjson.loads(dump_effect(effect)) | {"mood": "calm"}
    told["facts"]["mood"] = "calm"
    assert load_effect(orjson.dumps(told)) == effect


@pytest.mark.parametrize("raw", ["", "null", "{}", '{"id": "x", "kind": "sing"}', "[1]"])
def test_what_is_no_effect_is_an_error_that_can_be_caught(raw: str) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        load_effect(raw)


@given(pairs, text)
def test_a_calls_name_in_the_indexes_can_be_read_back(pair: Pair, call_id: str) -> None:
    assert parse_member(member(pair, call_id)) == (pair, call_id)
    assert Pair.parse(str(pair)) == pair


@given(pairs, text)
def test_every_key_of_a_pair_carries_its_shards_hash_tag(pair: Pair, word: str) -> None:
    names, shard = Keys("p"), shard_of(pair)
    assert 0 <= shard < SHARDS
    tagged = f"p:{{{shard}}}:"
    for key in (
        names.pair(pair),
        names.ended(pair, word),
        names.seen(pair, word),
        names.timeline(pair, word),
        names.lane(pair),
        names.delivery(shard, word),
        names.of_shard(shard, "lanes"),
    ):
        assert key.startswith(tagged)
    assert names.writable()[shard].startswith(tagged)
    assert not any(key.startswith(tagged) for key in (names.index(word), names.rejections()))


def test_the_shard_of_a_pair_is_part_of_the_data_and_stays() -> None:
    assert [shard_of(Pair(1000, 1000)), shard_of(Pair(0, 0)), shard_of(Pair(2**53 - 1, 1))] == [1, 7, 8]


@given(pairs, text, st.sampled_from(EffectKind), st.integers(0, 99))
def test_an_effects_id_is_its_own_and_says_nothing_of_the_call(
    pair: Pair, call_id: str, kind: EffectKind, ordinal: int
) -> None:
    given = effect_id(pair, call_id, kind, ordinal)
    assert given == effect_id(pair, call_id, kind, ordinal)
    others = {
        effect_id(pair, call_id, kind, ordinal + 1),
        effect_id(pair, call_id + "x", kind, ordinal),
        effect_id(Pair(pair.device_id, pair.extension_id + 1), call_id, kind, ordinal),
    }
    assert given not in others
    assert len(others) == 3
    assert given.isascii()
    assert len(given) < 64
