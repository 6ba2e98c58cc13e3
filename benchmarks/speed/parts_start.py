"""What a start of the service costs: to the `ready` line with Redis there, for imports, and memory then."""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.faults.processes import ROOT, Fleet
from benchmarks.speed.children import memory_mb
from benchmarks.speed.figures import spread
from benchmarks.speed.subjects import bridge_settings
from bridge.store.embedded import EmbeddedRedis

_LINE = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| ( *)(\S+)")
_LISTED_MS = 5.0
_NOBODY = 9  # the discard port: nothing is sent to Cention here


async def start_parts(starts: int) -> dict[str, Any]:
    """Each as a spread of so many starts, after one that does not count."""
    ready, memory, plain, imports = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        directory = Path(name)
        async with EmbeddedRedis(directory / "redis") as server:
            fleet = Fleet(directory, lambda slot: bridge_settings(directory, slot, server.url, _NOBODY))
            try:
                for number in range(starts + 1):
                    began = perf_counter()
                    running = await fleet.start(0)
                    took = perf_counter() - began
                    if number:
                        ready.append(took)
                        memory.append(memory_mb(running.pid))
                    await fleet.stop()
            finally:
                await fleet.stop()
    for _ in range(starts):
        plain.append(await _python("pass"))
        imports.append(await _python("import bridge.app"))
    return {
        "ready_s": spread(ready),
        "memory_mb": spread(memory),
        "import_s": spread([whole - empty for whole, empty in zip(imports, plain, strict=True)]),
        "python_s": spread(plain),
        "imports_ms": await _imports(),
    }


async def _python(code: str) -> float:
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=ROOT)
    await process.wait()
    return perf_counter() - began


async def _imports() -> dict[str, float]:
    """The packages of others whose import, with what they import first, takes longest: name to ms."""
    command = ("-X", "importtime", "-c", "import bridge.app")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    _, said = await process.communicate()
    found: dict[str, float] = {}
    for line in _LINE.finditer(said.decode()):
        package, took_ms = line[4].partition(".")[0], int(line[2]) / 1000
        if package != "bridge" and took_ms >= _LISTED_MS:
            found[package] = max(found.get(package, 0.0), took_ms)
    return dict(sorted(found.items(), key=lambda each: -each[1]))
