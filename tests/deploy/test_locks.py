"""The exact versions the image is made of: complete, hashed, within what pyproject.toml asks for, and installable."""

import asyncio
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.test_image import ROOT, stages

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WANTED = {
    "requirements.lock": PROJECT["project"]["dependencies"],
    "build.lock": PROJECT["build-system"]["requires"],
}


def locked(name: str) -> dict[str, tuple[Requirement, set[str]]]:
    """The lock's requirements by name, each with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "deploy" / name).read_text(), flags=re.MULTILINE)
    found: dict[str, tuple[Requirement, set[str]]] = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        told, *hashes = line.split(" --hash=")
        requirement = Requirement(told.strip())
        found[canonicalize_name(requirement.name)] = (requirement, {each.strip() for each in hashes})
    return found


def same(one: Marker | None, other: Marker | None) -> bool:
    """Whether both hold in the same environments, as far as these files name any."""
    environments = [
        {"sys_platform": system, "platform_machine": machine, "python_version": v, "python_full_version": f"{v}.5"}
        for system in ("linux", "darwin", "win32")
        for machine in ("x86_64", "aarch64")
        for v in ("3.11", "3.12", "3.13", "3.14")
    ]
    return all((one is None or one.evaluate(e)) == (other is None or other.evaluate(e)) for e in environments)


@pytest.mark.parametrize("name", WANTED)
def test_it_satisfies_what_the_project_asks_for(name: str) -> None:
    found = locked(name)
    for text in WANTED[name]:
        wanted = Requirement(text)
        requirement, _ = found[canonicalize_name(wanted.name)]
        (pin,) = requirement.specifier
        assert wanted.specifier.contains(pin.version), text
        assert same(wanted.marker, requirement.marker), text


@pytest.mark.parametrize("name", WANTED)
def test_it_pins_every_file_by_its_hash_and_names_no_address(name: str) -> None:
    for requirement, hashes in locked(name).values():
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert requirement.url is None
        assert hashes
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), requirement
    assert not re.search(r"://|index|find-links", (ROOT / "deploy" / name).read_text())


def test_it_was_made_as_the_documentation_tells() -> None:
    heading = re.findall(r'see docs/deploy.md, "(.*)"', (ROOT / "deploy" / "requirements.lock").read_text())
    assert heading == re.findall(r"^### (Renewing the locks)$", (ROOT / "docs" / "deploy.md").read_text(), re.MULTILINE)


@pytest.mark.ci
async def test_the_images_steps_lead_from_the_locks_to_the_command(tmp_path: Path) -> None:
    """The build stage's own COPY and RUN, in a folder: an incomplete lock, or a wrong hash, ends here."""
    source, place = tmp_path / "src", tmp_path / "opt"
    source.mkdir()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    async def run(command: str) -> str:
        process = await asyncio.create_subprocess_shell(
            command, cwd=source, env={**os.environ, "PATH": path},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    for name, arguments in stages()[1]:
        if name == "COPY":
            *files, target = arguments.split()
            for file in files:
                if (ROOT / file).is_dir():  # its content, as COPY has it
                    shutil.copytree(ROOT / file, source / target)
                else:
                    shutil.copy(ROOT / file, source / target)
        elif name == "RUN":
            await run(arguments.replace("/opt/", f"{place}/"))
    assert PROJECT["project"]["name"] in await run(f"{place}/venv/bin/aventa-bridge --help")
    installed = await run(f"{sys.executable} -m pip --python {place}/venv/bin/python freeze")
    pins = [Requirement(line) for line in installed.splitlines() if "==" in line]
    wrong = [
        pin for pin in pins if locked("requirements.lock")[canonicalize_name(pin.name)][0].specifier != pin.specifier
    ]
    assert wrong == []
    assert len(pins) > 20
