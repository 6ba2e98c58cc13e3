"""The Makefile's promises to a newcomer, checked without a network: its help, its messages, and when it installs."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")


def make(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # A make above this one (`make test`) would hand its own flags down.
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *arguments], cwd=directory, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with what set-up looks at."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_make_alone_lists_every_target(checkout: Path) -> None:
    [targets] = re.findall(r"^\.PHONY: (.*)$", (checkout / "Makefile").read_text(), re.MULTILINE)
    shown = make(checkout)
    assert shown.returncode == 0
    assert re.findall(r"^  make ([a-z]+) +\S", shown.stdout, re.MULTILINE) == targets.split()


def test_an_old_python_is_named_with_the_way_out(checkout: Path) -> None:
    pretend = "import sys; sys.version_info = (3, 10, 9); exec(sys.argv[2])"
    old = executable(
        checkout / "old python",
        f"""test "$1" = --version && echo Python 3.10.9 || exec '{sys.executable}' -c '{pretend}' "$@" """,
    )
    refused = make(checkout, "setup", f"PYTHON={old}")
    assert refused.returncode != 0
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "3.10.9" in refused.stderr
    assert "PYTHON=" in refused.stderr
    assert not (checkout / ".venv").exists()


def test_a_missing_python_is_named_with_the_way_out(checkout: Path) -> None:
    refused = make(checkout, "setup", "PYTHON=python-of-nowhere")
    assert refused.returncode != 0
    assert "There is no python-of-nowhere here" in refused.stderr


def test_it_installs_once_and_again_when_the_project_file_changes(checkout: Path) -> None:
    pip = executable(checkout / ".venv/bin/python", 'echo "$@" >> "$0.calls"')
    calls = pip.with_name("python.calls")

    def installs() -> int:
        lines = calls.read_text().splitlines() if calls.exists() else []
        return sum(line.startswith("-m pip install") for line in lines)

    for expected in (1, 1):
        assert make(checkout, "setup").returncode == 0
        assert installs() == expected
    newer = (checkout / ".venv/.installed").stat().st_mtime + 10
    os.utime(checkout / "pyproject.toml", (newer, newer))
    assert make(checkout, "setup").returncode == 0
    assert installs() == 2


def test_an_install_that_fails_is_done_again(checkout: Path) -> None:
    executable(checkout / ".venv/bin/python", 'case "$*" in *install*) exit 1;; esac')
    assert make(checkout, "setup").returncode != 0
    assert not (checkout / ".venv/.installed").exists()


def test_arguments_reach_the_demo_and_its_exit_code_comes_back(checkout: Path) -> None:
    executable(checkout / ".venv/bin/python", ":")
    executable(checkout / ".venv/bin/aventa-bridge", 'echo "$@"; exit 3')
    ran = make(checkout, "run", "ARGS=--rate 5")
    assert ran.stdout.splitlines()[-1] == "demo --rate 5"
    assert ran.returncode != 0


def test_clean_leaves_the_calls(checkout: Path) -> None:
    kept = checkout / "data/redis/appendonly.aof"
    kept.parent.mkdir(parents=True)
    kept.touch()
    (checkout / ".venv").mkdir()
    (checkout / "bridge/__pycache__").mkdir(parents=True)
    assert make(checkout, "clean").returncode == 0
    assert kept.exists()
    assert not (checkout / ".venv").exists()
    assert not (checkout / "bridge/__pycache__").exists()
