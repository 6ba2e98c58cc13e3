"""What a run ran on: versions, machine and load. Told with every result, since a figure means little without."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.runtime.clock import now_ms, rfc3339

PACKAGES = ("aiohttp", "redis", "hiredis", "uvloop", "orjson", "pydantic", "phonenumberslite", "structlog")


def load_average() -> tuple[float, float, float]:
    return os.getloadavg()


def surroundings() -> dict[str, Any]:
    """All of it, as JSON."""
    return {
        "at": rfc3339(now_ms()),
        "bridge": __version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "machine": {"cores": os.cpu_count(), "processor": _processor(), "system": platform.platform()},
        "load_average": [round(value, 2) for value in load_average()],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
