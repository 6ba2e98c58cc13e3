"""The targets, and what the kept results say of each. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.speed.results import Result

Results = Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class Target:
    """One target.

    Attributes:
        figure: what is measured.
        wanted: the target, in words.
        measured: reads the figure off the results; raises KeyError where it was not measured.
        met: whether that is good enough.
        unit: behind the figure.
    """

    figure: str
    wanted: str
    measured: Callable[[Results], float]
    met: Callable[[float], bool]
    unit: str = ""

    def cells(self, results: Results) -> tuple[str, str, str, str]:
        try:
            found = self.measured(results)
        except (KeyError, IndexError):
            return self.figure, self.wanted, "not measured", ""
        shown = f"{found:,.0f}" if found >= 100 else f"{found:.2f}"
        return self.figure, self.wanted, f"{shown}{self.unit}", "yes" if self.met(found) else "**no**"


def _case(results: Results, batch: bool) -> Result:
    told = results["throughput"]
    name = "events a request" if batch else f"bridge, {told['settings']['connections'][0]} connections"
    case: Result = next(case for key, case in told["cases"].items() if name in key and key.startswith("bridge"))
    return case


def _latency(results: Results, place: str, percent: str) -> float:
    told = results["latency"]
    ratio: float = told["cases"][f"bridge, {told['rates'][0]:g}/s"]["ratio"][place][percent]["median"]
    return ratio


def _growth(results: Results, name: str) -> float:
    ratio: float = results["growth"]["least_to_most"][name]
    return ratio


def _replicas(results: Results, case: str, worth: str) -> float:
    two = next(row for row in results["replicas"]["rows"] if row["number"] == 2)
    median: float = two[case][worth]["median"]
    return median


def _decision(results: Results) -> float:
    steps = results["parts"]["steps_us"]
    slowest: float = max(took["median"] for name, took in steps.items() if name.startswith("event to decision"))
    return slowest


TARGETS = (
    Target("throughput, the whole job, to the bare relay", "1.0; at least 0.8",
           lambda results: _case(results, False)["ratio"]["median"], lambda value: value >= 0.8),
    Target("the same in batches (NDJSON), to the relay's single events", "at least 1.5",
           lambda results: _case(results, True)["ratio"]["median"], lambda value: value >= 1.5),
    Target("from an event to Cention at 1,000 events a second, p50, to the bare relay", "at most 2.0",
           lambda results: _latency(results, "whole", "p50"), lambda value: value <= 2),
    Target("the same, p99", "at most 2.0",
           lambda results: _latency(results, "whole", "p99"), lambda value: value <= 2),
    Target("throughput to the Node-RED flow's", "at least 2",
           lambda results: results["peers"]["peers"]["Node-RED"]["bridge_to_it"]["median"], lambda value: value >= 2),
    Target("throughput with the least active calls to that with the most", "at most 1.2",
           lambda results: _growth(results, "delivered_per_s"), lambda value: value <= 1.2),
    Target("p99 to the 202 with the most active calls to that with the least", "at most 1.2",
           lambda results: _growth(results, "accept_p99_ms"), lambda value: value <= 1.2),
    Target("Redis' memory an active call, with the most of them", "at most 1,500 bytes",
           lambda results: results["growth"]["sizes"][-1]["bytes_per_call"], lambda value: value <= 1500, " bytes"),
    Target("2 replicas as so many, by CPU time an event, each event to any of them", "at least 1.7",
           lambda results: _replicas(results, "any", "as_so_many"), lambda value: value >= 1.7),
    Target("the same, the machine's share left out", "at least 1.7",
           lambda results: _replicas(results, "any", "as_so_many_to_strangers"), lambda value: value >= 1.7),
    Target("the same, an agent's events to one of them", "at least 1.7",
           lambda results: _replicas(results, "kept", "as_so_many_to_strangers"), lambda value: value >= 1.7),
    Target("event to decision, cached numbers (the greater of start and end)", "at most 60 µs",
           _decision, lambda value: value <= 60, " µs"),
    Target("start to ready, Redis there", "at most 0.8 s",
           lambda results: results["parts"]["start"]["ready_s"]["median"], lambda value: value <= 0.8, " s"),
    Target("memory when ready", "at most 90 MB",
           lambda results: results["parts"]["start"]["memory_mb"]["median"], lambda value: value <= 90, " MB"),
)  # fmt: skip
