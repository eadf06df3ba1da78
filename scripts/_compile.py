"""Compiles what each request passes through, when a wheel is built: docs/decisions/0011-compiled.md says why.

mypyc makes C of the very modules that would else be interpreted; both do the same. SOLAR_COMPILE=0 builds a wheel
without, SOLAR_COMPILE=1 insists. If neither is said, it is tried whether C can be compiled here; if not, nothing is.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# The last three for their types. All as they were tried: a newer one is none the less what an installed Solar may use.
NEEDS = ["mypy[mypyc]==2.4.1", "setuptools==84.2.1", "httptools==0.9.0", "msgspec==0.22.0", "prometheus-client==0.26.0"]

# What the compiled modules import need not be compiled, nor be there: packages of extras are imported where it is.
MYPY = ["--config-file=", "--follow-imports=silent", f"--cache-dir={os.devnull}"]

MODULES = {
    ".": "sse",
    "core": "attempts breaker catalog dialects health load member openai queue record rest roster select stall",
    "edge": (
        "answering answers attempt choosing connection exchange exposition frontdoor hall heads incoming lines "
        "metrics outbox reader reception relay reply request requestlog shortcut upstream"
    ),
}


def left_out() -> str:
    """Why nothing is compiled here; "" if it is. Ends the build where that was insisted on and cannot be."""
    said = os.environ.get("SOLAR_COMPILE", "")
    if said not in ("", "0", "1"):
        sys.exit(f"SOLAR_COMPILE is 1 (compile), 0 (do not) or not set; it is {said!r}.")
    if said == "0":
        return "SOLAR_COMPILE=0"
    lacking = _lacking()
    if said and lacking:
        sys.exit(f"SOLAR_COMPILE=1 insists, and Solar cannot be compiled here: {lacking}")
    return lacking


def _lacking() -> str:
    """What is missing. It is tried: a compiler may be one by its name only, or have no headers."""
    if sys.implementation.name != "cpython":
        return "mypyc makes C for CPython only."
    compiler = _compiler()
    if shutil.which(compiler[0]) is None:
        return f"there is no C compiler {compiler[0]} on PATH. Install one, or name another: CC=gcc."
    with tempfile.TemporaryDirectory(prefix="solar-c-") as room:
        source = Path(room, "tried.c")
        source.write_text("#include <Python.h>\n", encoding="utf-8")
        command = [*compiler, f"-I{sysconfig.get_path('include')}", "-c", str(source), "-o", f"{source}.o"]
        ran = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ran.returncode == 0:
        return ""
    reason = ran.stderr.strip() or f"it ends with status {ran.returncode}"
    return f"{shlex.join(compiler)} fails on a file that includes Python.h. Are Python's headers installed?\n{reason}"


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def _give_up(reason: str) -> NoReturn:
    sys.exit(f"Solar could not be compiled: {reason}\nSOLAR_COMPILE=0 installs it interpreted: the same, but slower.")


class Compile(BuildHookInterface[Any]):
    """What hatchling calls."""

    def dependencies(self) -> list[str]:
        """What the build needs, beside hatchling."""
        return NEEDS if self.target_name == "wheel" and not left_out() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the compiled modules to the wheel; to an editable one none, as its sources change."""
        if version == "editable":
            return
        if why := left_out():
            self.app.display_info(f"Not compiled: {why}")
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
    try:
        from mypyc.build import mypycify
        from setuptools import Distribution, errors
    except ImportError as error:  # without build isolation
        _give_up(f"{error}. It takes {', '.join(NEEDS)}.")

    paths = [str(Path("solar", folder, f"{name}.py")) for folder, names in MODULES.items() for name in names.split()]
    before = Path.cwd()
    os.chdir(source)  # modules are named by their paths
    try:
        with tempfile.TemporaryDirectory(prefix="solar-c-") as work:
            extensions = mypycify([*MYPY, *paths], opt_level="3", debug_level="0", target_dir=work)
            for extension in extensions:  # mypyc has -Werror, and other compilers warn of other things
                extension.extra_compile_args.append("-Wno-error")
            command = Distribution({"name": "solar", "ext_modules": extensions}).get_command_obj("build_ext")
            command.build_lib, command.build_temp = str(room), work
            command.ensure_finalized()
            command.run()
    except SystemExit:  # as mypyc ends
        _give_up("mypyc refuses the sources, as it says above.")
    except (errors.CCompilerError, errors.BaseError):  # the error's own text is the whole command
        _give_up(f"{shlex.join(_compiler())} failed, as it says above.")
    finally:
        os.chdir(before)
    return sorted(path for path in room.rglob("*") if path.suffix in (".so", ".pyd"))
