"""Puts peers where they can be run from: npm packages and a Python environment in a cache folder, made on demand.

PostgreSQL is the system's: it is looked for, never installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# Node-RED 5 needs Node.js 22.
NODE_PACKAGES = ("node-red@4", "node-red-contrib-redis@1")
PYTHON_PACKAGES = (
    "faststream[redis]>=0.7,<0.8", "procrastinate>=3.10,<4", "psycopg[binary]>=3.2", "aiohttp>=3.11", "orjson>=3.10",
    "structlog>=24.4",
)  # fmt: skip
_TIME_S = 600


class CannotInstall(Exception):
    """A peer cannot be had here; the text says why, for people."""


def cache() -> Path:
    """Where they go: `BENCHMARKS_CACHE`, or a folder in the user's cache."""
    if given := os.environ.get("BENCHMARKS_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aventa-bridge-benchmarks"


def node_red() -> Path:
    """The folder that holds `node_modules`, with Node-RED in it.

    Raises:
        CannotInstall: there is no npm, or it fails.
    """
    folder = cache() / "node-red"
    done = folder / "installed"
    if not _is_done(done, NODE_PACKAGES):
        npm = shutil.which("npm")
        if npm is None or shutil.which("node") is None:
            raise CannotInstall("there is no node and npm here")
        folder.mkdir(parents=True, exist_ok=True)
        _run([npm, "install", "--no-audit", "--no-fund", "--prefix", str(folder), *NODE_PACKAGES])
        done.write_text("\n".join(NODE_PACKAGES))
    return folder


def python() -> Path:
    """An interpreter with the Python peers.

    Raises:
        CannotInstall: pip fails.
    """
    folder = cache() / "python"
    interpreter, done = folder / "bin" / "python", folder / "installed"
    if not _is_done(done, PYTHON_PACKAGES):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON_PACKAGES])
        done.write_text("\n".join(PYTHON_PACKAGES))
    return interpreter


def postgres() -> Path:
    """The folder of the newest PostgreSQL's programs.

    Raises:
        CannotInstall: there is none.
    """
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        raise CannotInstall("there is no PostgreSQL server here (apt install postgresql)")
    return found[-1].parent


def versions(interpreter: Path, *packages: str) -> str:
    """`name version` of each Python package, as installed, in one line."""
    code = "import sys; from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in sys.argv[1:]))"
    return subprocess.run(
        [interpreter, "-c", code, *packages], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def _is_done(marker: Path, packages: tuple[str, ...]) -> bool:
    return marker.exists() and marker.read_text() == "\n".join(packages)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=_TIME_S, check=True)
    except subprocess.CalledProcessError as error:
        raise CannotInstall(f"{Path(command[0]).name} failed: {error.stderr[-500:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(f"{Path(command[0]).name} failed: {error}") from error
