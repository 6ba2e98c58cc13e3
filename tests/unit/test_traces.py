"""The traces through the pure core."""

from pathlib import Path

import orjson
import pytest

from bridge.calls.effects import Effect, EffectKind
from bridge.calls.events import CallEvent, Direction, EventKind
from bridge.calls.state import InboundEnd, Policy
from bridge.intake.wire import Translator
from tests.memory import Memory
from tests.story import TRACES, Step, Trace, read

NOW_MS = 1_795_500_000_000
WORDS = {
    EffectKind.OPEN_ERRAND: "open",
    EffectKind.END_SESSION: "end-session",
    EffectKind.CLOSE_ERRAND: "close",
    EffectKind.END_OUTBOUND_CALL: "end-obcall",
}


class Replay:
    """A trace's steps through the core."""

    def __init__(self, trace: Trace) -> None:
        self.memory = Memory(
            Policy(
                frozenset(Direction(word) for word in trace.policy.get("open_errand_for", Direction)),
                InboundEnd(trace.policy.get("inbound_end", "end_session")),
            )
        )
        self.translate = Translator(
            default_region=None,
            opens=self.memory.policy.open_errand_for,
            clock_ahead_s_max=86_400,
            clock_behind_s_max=86_400,
            now_ms=lambda: NOW_MS,
        )

    def step(self, step: Step) -> list[Effect]:
        if step.expire is not None:
            pair, call_id = step.expire
            return self.memory.take(CallEvent("expired", EventKind.EXPIRED, NOW_MS, call_id, pair))
        event = self.translate(step.event, orjson.dumps(step.event).decode())
        assert isinstance(event, CallEvent), event
        return self.memory.take(event)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_a_trace_tells_cention_what_it_says(path: Path) -> None:
    trace = read(path)
    replay = Replay(trace)
    ids: list[str] = []
    for step in trace.steps:
        effects = [effect for effect in replay.step(step) if effect.kind is not EffectKind.HAND_OVER]
        told = [f"{e.pair.device_id}/{e.pair.extension_id} {WORDS[e.kind]} {e.call_id}" for e in effects]
        assert told == list(step.tells), step
        ids += [effect.effect_id for effect in effects]
    assert len(ids) == len(set(ids)), "an effect's id is its own"
    active = {
        f"{pair.device_id}/{pair.extension_id}": [f"{call.call_id} {call.state.value}" for call in calls]
        for pair in replay.memory.calls
        if (calls := replay.memory.active(pair))
    }
    assert active == trace.active


def test_a_swept_call_is_marked_as_swept() -> None:
    trace = read(next(path for path in TRACES if path.stem == "sweep"))
    replay = Replay(trace)
    reasons = [[effect.reason for effect in replay.step(step)] for step in trace.steps]
    assert reasons == [["event"], ["event"], ["swept"], ["swept"]]


def test_the_link_goes_with_the_end() -> None:
    trace = read(next(path for path in TRACES if path.stem == "link_before_the_end"))
    replay = Replay(trace)
    links = [[effect.facts.link for effect in replay.step(step)] for step in trace.steps]
    assert links == [[None], [], ["https://recordings.example/1"]]
