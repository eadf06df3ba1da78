"""Wheels of what is installed, so that an image of the gateway can be built without any package index."""

from __future__ import annotations

import tomllib
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OF_THE_INSTALLER = {"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"}


def pack_wheels(folder: Path) -> None:
    """Everything that installing the project with its extra `all` asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: set[tuple[str, str]] = set()
    for requirement in (*project["build-system"]["requires"], *project["project"]["dependencies"]):
        find(Requirement(requirement), found)
    find_extra("all", project["project"], found)
    for name in {name for name, _ in found}:
        pack(distribution(name), folder)


def find_extra(extra: str, project: dict[str, Any], found: set[tuple[str, str]]) -> None:
    for requirement in map(Requirement, project["optional-dependencies"][extra]):
        if requirement.name == project["name"]:
            for other in requirement.extras:
                find_extra(other, project, found)
        else:
            find(requirement, found)


def find(requirement: Requirement, found: set[tuple[str, str]], asked_by: str = "") -> None:
    """Add what it names, and what that needs: names with each of their extras, "" for none."""
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": asked_by}):
        return
    for extra in ("", *requirement.extras):
        if (requirement.name, extra) not in found:
            found.add((requirement.name, extra))
            for each in distribution(requirement.name).requires or ():
                find(Requirement(each), found, extra)


def pack(installed: Distribution, folder: Path) -> None:
    """The wheel that it was installed from, but for the compiled files and the checksums."""
    *_, tag = [line for line in (installed.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    name = canonicalize_name(installed.metadata["Name"]).replace("-", "_")
    files = [
        file
        for file in installed.files or ()
        if file.parts[0] != ".." and file.suffix != ".pyc" and file.name not in OF_THE_INSTALLER
    ]
    about = next(file.parent for file in files if file.name == "METADATA")
    with ZipFile(folder / f"{name}-{installed.version}-{tag.removeprefix('Tag: ')}.whl", "w") as wheel:
        for file in files:
            wheel.write(str(file.locate()), str(file))
        wheel.writestr(f"{about}/RECORD", "".join(f"{file},,\n" for file in files))
