"""`python -m benchmarks.speed.profiled FILE ARGUMENT...`: `aventa-bridge` with these arguments, sampled as it works.

Every few ms of CPU time, the stack is looked at: which package's code runs, and which function of the bridge's it runs
for. That costs little, unlike counting every call, and so changes little of what it shows. Written to FILE at the end.
"""

import atexit
import re
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

import orjson

EVERY_S = 0.002
_THEIRS = re.compile(r"/site-packages/([^/.]+)")
_PYTHONS = re.compile(r"/lib/python3\.\d+/([^/.]+)")


class Sampler:
    """Counts samples, by package and by function of the bridge's."""

    def __init__(self) -> None:
        self.packages: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()

    def look(self, _number: int, frame: FrameType | None) -> None:
        if frame is None:
            return
        outer: FrameType | None = frame
        while outer is not None and package_of(outer.f_code.co_filename) != "bridge":
            outer = outer.f_back
        if outer is not None and outer.f_code.co_name == "<module>":
            return  # an import: it starts yet
        self.packages[package_of(frame.f_code.co_filename)] += 1
        module = "" if outer is None else outer.f_globals.get("__name__", "")
        if outer is None or module.startswith(("bridge.cli", "bridge.runtime.loop")):  # that is what runs the loop
            self.functions["none: the loop, and what servers and clients do for themselves"] += 1
        else:
            self.functions[f"{module}.{outer.f_code.co_qualname}"] += 1


def package_of(file: str) -> str:
    """`bridge`, `aiohttp`, `asyncio`, `redis`, ... of a source file's path; `other` for what has none."""
    if "/bridge/" in file and "site-packages" not in file:
        return "bridge"
    found = _THEIRS.search(file) or _PYTHONS.search(file)
    return found[1] if found else "other"


def main() -> None:
    file, sys.argv[1:] = Path(sys.argv[1]), sys.argv[2:]
    sampler = Sampler()

    def write() -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        file.write_bytes(orjson.dumps({"packages": sampler.packages, "functions": sampler.functions}))

    atexit.register(write)
    signal.signal(signal.SIGPROF, sampler.look)
    from bridge.cli import main as bridge

    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    bridge(prog_name="aventa-bridge")


if __name__ == "__main__":
    main()
