"""Compiles what each request passes through, when a wheel is built: docs/decisions/0011-compiled.md says why.

mypyc makes C of the very modules that would else be interpreted; both do the same. SOLAR_COMPILE=0 builds a wheel
without, SOLAR_COMPILE=1 insists. If neither is said, a C compiler decides: where there is none, nothing is compiled.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NEEDS = [
    "mypy[mypyc]==2.4.1",
    "httptools>=0.6.4",
    "msgspec>=0.19",
    "prometheus-client>=0.21",
]  # types, for the last three

MODULES = {
    ".": "sse",
    "core": (
        "attempts backend breaker catalog dialects health load member openai queue record rest roster select stall"
    ),
    "edge": (
        "answering answers asgi attempt choosing connection exchange exposition frontdoor hall heads incoming metrics "
        "outbox reader reception relay reply request requestlog transport upstream"
    ),
}


def wanted() -> bool:
    """Whether to compile here."""
    said = os.environ.get("SOLAR_COMPILE", "")
    if said not in ("", "0", "1"):
        raise SystemExit(f"SOLAR_COMPILE is 1 (compile), 0 (do not) or not set; it is {said!r}")
    if said:
        return said == "1"
    header = Path(sysconfig.get_path("include"), "Python.h")
    return sys.implementation.name == "cpython" and shutil.which(_compiler()) is not None and header.exists()


def _compiler() -> str:
    named = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return str(named).split()[0]


class Compile(BuildHookInterface[Any]):
    """What hatchling calls."""

    def dependencies(self) -> list[str]:
        """What the build needs, beside hatchling."""
        return NEEDS if self.target_name == "wheel" and wanted() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules to the wheel; to an editable one none, as its sources change."""
        if version == "editable" or not wanted():
            return
        self.app.display_info("Compiling what a request passes through: about a minute. SOLAR_COMPILE=0 leaves it out.")
        self._built = tempfile.TemporaryDirectory(prefix="solar-compiled-")
        for library in compiled(Path(self.root, "src"), Path(self._built.name)):
            build_data["force_include"][str(library)] = str(library.relative_to(self._built.name))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """The wheel is there."""
        if hasattr(self, "_built"):
            self._built.cleanup()


def compiled(source: Path, room: Path) -> list[Path]:
    """Compile the modules below `source`; the libraries, below `room` as in the package."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    paths = [str(Path("solar", folder, f"{name}.py")) for folder, names in MODULES.items() for name in names.split()]
    before = Path.cwd()
    os.chdir(source)  # modules are named by their paths
    try:
        with tempfile.TemporaryDirectory(prefix="solar-c-") as work:
            extensions = mypycify(["--config-file=", *paths], opt_level="3", debug_level="0", target_dir=work)
            command = Distribution({"name": "solar", "ext_modules": extensions}).get_command_obj("build_ext")
            command.build_lib, command.build_temp = str(room), work
            command.ensure_finalized()
            command.run()
    finally:
        os.chdir(before)
    return sorted(path for path in room.rglob("*") if path.suffix in (".so", ".pyd"))
