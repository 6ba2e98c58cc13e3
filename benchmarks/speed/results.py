"""The results that are kept, and how figures are read back from them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks.faults.processes import ROOT
from benchmarks.speed.figures import Spread

RESULTS = ROOT / "benchmarks" / "results"
QUESTIONS = ("throughput", "latency", "peers", "growth", "replicas", "parts", "profile")

Result = Mapping[str, Any]


def read(folder: Path = RESULTS) -> dict[str, Result]:
    """The kept result of each question that has one."""
    return {
        question: orjson.loads(path.read_bytes())
        for question in QUESTIONS
        if (path := folder / f"{question}.json").exists()
    }


def spread_of(kept: Mapping[str, float]) -> Spread:
    return Spread(kept["median"], kept["least"], kept["greatest"])


def text(kept: Mapping[str, float] | None, digits: int = 2) -> str:
    """A kept spread as a cell: empty where there is none."""
    return "" if kept is None else spread_of(kept).text(digits)


def markdown(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table, its first column words and the others numbers."""
    marks = ["---", *("---:" for _ in head[1:])]
    lines = [head, tuple(marks), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def around(result: Result) -> str:
    """What a result was measured on, in one line."""
    told = result["surroundings"]
    packages = ", ".join(f"{name} {version}" for name, version in told["packages"].items())
    load = " ".join(map(str, told["load_average"]))
    return (
        f"Bridge {told['bridge']}, Python {told['python']}, {packages}; {told['machine']['cores']} cores of"
        f" {told['machine']['processor']}; {told['at'][:10]}; load average before it: {load}."
    )
