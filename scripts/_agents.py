"""Original agents for the tests, each in an environment of its own: what they need does not go with what we need."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _environment import PYTHON, ROOT

FOLDER = ROOT / ".cache" / "agents"
ABSENT = "absent"  # a file in an agent's folder: why the agent is not there, for the tests that skip
UV_PYTHON = "3.13"


@dataclass(frozen=True, slots=True)
class Agent:
    """One release of solar-host, pinned in requirements/agent-NAME.txt."""

    name: str
    oldest: tuple[int, int]  # Python that runs it

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def requirements(self) -> Path:
        return ROOT / f"requirements/agent-{self.name}.txt"


AGENTS = (Agent("0.1", (3, 11)), Agent("3.8", (3, 12)))


def provide() -> None:
    """Install the agents. One that no Python here can run, and none can be fetched for, is left out, and says why."""
    installing = []
    for agent in AGENTS:
        python = find_python(agent.oldest) or fetch_python(agent)
        if python is None or _stamp(agent).exists():
            continue
        print(f"Installing the agent solar-host {agent.name} (about 20 MB)", flush=True)
        installing.append((agent, _install(agent, python)))
    for agent, pip in installing:  # side by side
        if pip.wait() != 0:
            _leave_out(agent, "pip could not install it: its own words stand above")
            continue
        _stamp(agent).touch()


def _install(agent: Agent, python: Path) -> subprocess.Popen[bytes]:
    shutil.rmtree(agent.folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", "--without-pip", agent.folder], check=True)
    return subprocess.Popen([*_pip(agent.folder), "-r", f"{agent.requirements}"])


def _pip(folder: Path) -> list[str]:
    """Our pip, which installs into the environment in `folder`."""
    into = ["--python", f"{folder / 'bin/python'}"]
    quiet = ["--disable-pip-version-check", "--quiet", "--no-input"]
    return [f"{PYTHON}", "-m", "pip", *into, "install", *quiet, "--no-compile", "--require-hashes"]


def _stamp(agent: Agent) -> Path:
    """Its presence says that the agent was installed from these requirements, and not moved since."""
    told = hashlib.sha256(str(agent.folder).encode() + agent.requirements.read_bytes())
    return agent.folder / told.hexdigest()


def _leave_out(agent: Agent, why: str) -> None:
    print(f"No agent solar-host {agent.name}: {why}", flush=True)
    shutil.rmtree(agent.folder, ignore_errors=True)
    agent.folder.mkdir(parents=True)
    (agent.folder / ABSENT).write_text(why)


def find_python(oldest: tuple[int, int]) -> Path | None:
    """A Python of this machine, no older than `oldest`, that makes environments."""
    check = f"import sys, venv; sys.exit(sys.version_info < {oldest})"
    for found in _pythons():
        # Asked, since a name on PATH may be a version manager's stand-in.
        if subprocess.run([found, "-c", check], capture_output=True).returncode == 0:
            return found
    return None


def _pythons() -> Iterator[Path]:
    yield PYTHON
    for name in ("python3.12", "python3.13", "python3.14", "python3"):
        if found := shutil.which(name):
            yield Path(found)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for folder in (pyenv / "versions", Path.home() / ".local/share/uv/python", FOLDER / "pythons"):
        yield from sorted(folder.glob("*3.1[2-9]*/bin/python3"))


def fetch_python(agent: Agent) -> Path | None:
    """By uv, which fetches one from where its makers publish them: not every machine reaches that."""
    print(f"No Python {agent.oldest[0]}.{agent.oldest[1]} or newer here: uv is asked for {UV_PYTHON}", flush=True)
    uv = FOLDER / "uv"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", uv], check=True)
    subprocess.run([*_pip(uv), "-r", f"{ROOT / 'requirements/uv.txt'}"], check=True)
    fetch = [f"{uv / 'bin/uv'}", "python", "install", "--no-config", "--install-dir", f"{FOLDER / 'pythons'}"]
    ran = subprocess.run([*fetch, UV_PYTHON], stderr=subprocess.PIPE, text=True)
    if ran.returncode == 0:
        return find_python(agent.oldest)
    said = [line.strip() for line in ran.stderr.splitlines()]  # what failed first, and why last
    oldest = ".".join(map(str, agent.oldest))
    _leave_out(agent, f"it needs Python {oldest} or newer, and uv could fetch none: {'; '.join(said[:1] + said[-1:])}")
    return None
