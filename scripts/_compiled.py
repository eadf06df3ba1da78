"""The compiled Solar, as its wheel installs it, and the tests that run against it: nobody installs an editable one."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from _environment import PYTHON, ROOT

FOLDER = ROOT / ".cache" / "compiled"
SITE = FOLDER / "site"
STAMP = FOLDER / "state"  # of what it was built
NONE_CHOSEN = 5  # pytest's exit code where no test fits its arguments
# All that a request passes through, and the two doors that `solar serve` opens for it.
TESTS = (
    "tests/test_compiled.py",
    "tests/test_sse.py",
    "tests/core",
    "tests/edge",
    "tests/edges",
    "tests/behaviour",
    "tests/cli/test_tls_doors.py",
)


def run(pytest_arguments: list[str]) -> int:
    """The exit code of these tests, or of those that the arguments name."""
    provide()
    named = any(Path(ROOT, word.partition("::")[0]).exists() for word in pytest_arguments)
    print("\n== pytest, compiled", flush=True)
    command = [PYTHON, "-m", "pytest", "--compiled", *pytest_arguments, *(() if named else TESTS)]
    code = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(SITE)}).returncode
    return 0 if code == NONE_CHOSEN and not named else code  # `-k docker`: nothing of that is compiled


def provide() -> None:
    """Build the wheel and install it, apart from all else. What is there stays until its sources change."""
    state = _fingerprint()
    if STAMP.exists() and STAMP.read_text() == state:
        return
    print("\n== the wheel, compiled: about two minutes", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    _pip("wheel", "--no-build-isolation", "--wheel-dir", FOLDER, ROOT, environment={"SOLAR_COMPILE": "1"})
    _pip("install", "--no-index", "--target", SITE, *FOLDER.glob("*.whl"))
    STAMP.write_text(state)


def _pip(verb: str, *arguments: str | Path, environment: dict[str, str] | None = None) -> None:
    command = [PYTHON, "-m", "pip", "--disable-pip-version-check", verb, "--quiet", "--no-deps", *arguments]
    if subprocess.run(command, env={**os.environ, **(environment or {})}).returncode != 0:
        raise SystemExit(f"`pip {verb}` of the compiled Solar failed: its own words stand above.")


def _fingerprint() -> str:
    """All that the wheel depends on."""
    version = subprocess.run([PYTHON, "-VV"], capture_output=True, check=True).stdout
    told = hashlib.sha256(version)
    sources = (path for path in ROOT.glob("src/solar/**/*") if path.is_file() and path.suffix != ".pyc")
    others = ("pyproject.toml", "scripts/_compile.py", "requirements/test.txt", "README.md", "LICENSE")
    for path in [*sorted(sources), *(ROOT / name for name in others)]:
        told.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return told.hexdigest()


if __name__ == "__main__":
    provide()
