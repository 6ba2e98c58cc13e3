"""`parts`: what the single steps cost, in µs, and what a start of the service does, in seconds and MB.

Steps without Redis are timed in this process with default settings; those with Redis against a redis-server of their
own with the default fsync; starts are processes. See `parts_redis` and `parts_start` for the last two.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from benchmarks.speed.events import Step, Writer
from benchmarks.speed.figures import Spread
from benchmarks.speed.output import begin, console, finish, json_option, run, table
from benchmarks.speed.parts_redis import redis_parts
from benchmarks.speed.parts_start import start_parts
from benchmarks.speed.timing import SAMPLES, timed
from bridge import parts as made_of
from bridge.calls.decide import Decision, decide
from bridge.calls.effects import Effect
from bridge.calls.events import CallEvent
from bridge.calls.numbers import read_caller, read_dialled, to_msisdn
from bridge.cention.answer import Answer, outcome_of
from bridge.cention.documents import NEW_ERRANDS, request_body
from bridge.intake import batch
from bridge.settings import Settings
from bridge.store.records import dump_call, dump_effect, load_call, load_effect

SUM = "event to decision"
_NUMBER = "+46701740605"


def _as_read(stored: bytes) -> str:
    """What was written, as the connection gives it back."""
    return stored.decode("utf-8", "surrogateescape")


class Sample:
    """One call's two events, and what the bridge makes of them."""

    def __init__(self) -> None:
        settings = Settings()
        self.translate = made_of.translator(settings, {})
        self.policy, self.renderer = made_of.policy(settings), made_of.renderer(settings)
        writer = Writer("parts")
        self.start_json, self.end_json = writer.event(Step(0, False)), writer.event(Step(0, True))
        self.start, self.end = self.read(self.start_json), self.read(self.end_json)
        self.started = decide({}, self.start, self.policy)
        self.stored = _as_read(dump_call(self.started.call))
        self.opens: Effect = self.started.effects[0]
        self.stored_effect = _as_read(dump_effect(self.opens))

    def read(self, raw: bytes) -> CallEvent:
        """The event of a body, as the intake reads it."""
        outcome = batch.one(batch.parse(raw), raw, self.translate)
        assert isinstance(outcome, CallEvent), outcome
        return outcome

    def load(self) -> Any:
        return load_call(self.stored, self.start.call_id, self.start.pair)

    def started_from_json(self) -> Decision:
        return decide({}, self.read(self.start_json), self.policy)

    def ended_from_json(self) -> Decision:
        event = self.read(self.end_json)
        return decide({event.call_id: self.load()}, event, self.policy)

    def rendered(self) -> bytes:
        return request_body(NEW_ERRANDS, self.renderer.new_errand(self.opens, end_session=False))


def pure_parts() -> dict[str, Callable[[], object]]:
    """The steps that need neither Redis nor a process, by name."""
    it = Sample()
    start_value, start_text = orjson.loads(it.start_json), it.start_json.decode()
    end_value, end_text = orjson.loads(it.end_json), it.end_json.decode()
    # The extension is no part of the number, but makes the text another one, that no cache knows.
    texts = (f"tel:{_NUMBER};ext={number}" for number in itertools.count())
    body = it.rendered()
    answer = Answer(201, {"Content-Type": "application/json"}, b'{"data":{"type":"c3_new_errands","id":"7"}}', True)
    loaded = {it.start.call_id: it.load()}
    return {
        "parse JSON, start": lambda: batch.parse(it.start_json),
        "validate a start, numbers cached": lambda: it.translate(start_value, start_text),
        "validate an end": lambda: it.translate(end_value, end_text),
        "number to MSISDN, cold": lambda: to_msisdn(next(texts), None),
        "number to MSISDN, cached": lambda: to_msisdn(_NUMBER, None),
        "number of a caller, cold": lambda: read_caller(next(texts), None),
        "number as dialled, cold": lambda: read_dialled(next(texts)),
        "decide a start": lambda: decide({}, it.start, it.policy),
        "decide an end": lambda: decide(loaded, it.end, it.policy),
        "read a stored call": it.load,
        "write a call": lambda: dump_call(it.started.call),
        "write an effect": lambda: dump_effect(it.opens),
        "read an effect": lambda: load_effect(it.stored_effect),
        "render a document": it.rendered,
        "understand the answer": lambda: outcome_of(answer, sent=body, token="t", creates=True),
        f"{SUM}, start": it.started_from_json,
        f"{SUM}, end (with reading the call)": it.ended_from_json,
    }


def measured(parts: Mapping[str, Callable[[], object]], samples: int) -> dict[str, Spread]:
    return {name: timed(work, samples=samples) for name, work in parts.items()}


@click.command()
@click.option("--samples", type=click.IntRange(3), default=SAMPLES, help="Of each step.")
@click.option("--calls", type=click.IntRange(64), default=2000, help="For the steps with Redis.")
@click.option("--starts", type=click.IntRange(1), default=7, help="Of the service.")
@json_option
def parts(file: Path | None, samples: int, calls: int, starts: int) -> None:
    """Single steps in µs; start, imports and memory of the service."""
    result = begin("parts", {"samples": samples, "calls": calls, "starts": starts})
    steps = measured(pure_parts(), samples)
    shown = table("step", "µs")
    for name, took in steps.items():
        shown.add_row(name, took.text(1))
    console.print(shown)
    with_redis = run(redis_parts(calls))
    shown = table("with Redis", "µs a call, one after the other", "µs a call, 64 at a time", "of it Redis' CPU")
    for name, told in with_redis.items():
        shown.add_row(name, *(told[how].text(0) if how in told else "" for how in ("alone", "together", "redis")))
    console.print(shown)
    started = run(start_parts(starts))
    shown = table("the service", "")
    for name, value, unit in (
        ("start to ready, Redis there", started["ready_s"], "s"),
        ("import of bridge.app, after Python's own start", started["import_s"], "s"),
        ("memory at ready", started["memory_mb"], "MB"),
    ):
        shown.add_row(name, f"{value.text(2)} {unit}")
    for name, own_ms in list(started["imports_ms"].items())[:8]:
        shown.add_row(f"  of which import {name}", f"{own_ms:.0f} ms")
    console.print(shown)
    finish(file, {**result, "steps_us": steps, "redis_us": with_redis, "start": started})
