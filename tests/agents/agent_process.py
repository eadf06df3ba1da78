"""An original agent as a process, and the llama-servers that it starts, which may outlive it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
from llama_server import HOST, Engine, free_port

AGENTS = Path(__file__).parents[2] / ".cache/agents"  # scripts/test --all puts them there
LONG = 60.0  # seconds that nothing is waited for in vain for longer
POLL = 0.02  # seconds between two looks at a condition
LAST_LINES = 40


@dataclass(frozen=True, slots=True)
class Release:
    """One version of the agent, in an environment of its own."""

    version: str

    @property
    def folder(self) -> Path:
        return AGENTS / self.version.rpartition(".")[0]

    @property
    def program(self) -> Path:
        return self.folder / "bin/solar-host"

    def why_not(self) -> str | None:
        """Why it cannot run here; None if it can."""
        if self.program.exists():
            return None
        told = self.folder / "absent"
        why = told.read_text() if told.exists() else "scripts/test --all brings it"
        return f"no agent solar-host {self.version} here: {why}"


class RealAgent:
    """One agent with its own key, ports and folder. It has no instances, and it is stopped when it is made."""

    def __init__(self, release: Release, folder: Path, engine: Engine, control_url: str = "") -> None:
        self.release = release
        self.folder = folder
        self.key = f"key-of-an-agent-{uuid4().hex}"
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.log = folder / "agent.log"
        self._model = engine.model
        self._control_url = control_url  # of the coordinator that it opens a link to
        self._first_port = free_port()  # of its instances; it takes what is free from there
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()
        self._pids = folder / "pids"
        self._pids.touch()
        self._llama_server(engine.binary)

    def __repr__(self) -> str:
        state = f"pid {self.process.pid}" if self.process else "stopped"
        return f"<RealAgent {self.release.version} {self.url}, {state}>"

    def _llama_server(self, binary: Path) -> None:
        """What it finds on PATH: the engine, without a look for graphics cards, that notes its pid first."""
        script = self.folder / "bin/llama-server"
        script.parent.mkdir()
        script.write_text(f'#!/bin/sh\necho $$ >>{self._pids}\nexec {binary} --device none "$@"\n')
        script.chmod(0o755)

    def start(self) -> None:
        """Returns at once; it answers a while later."""
        assert self.process is None, self
        settings = {
            "API_KEY": self.key,
            "HOST": HOST,
            "PORT": f"{self.port}",
            "CONFIG_FILE": f"{self.folder / 'config.json'}",
            "LOG_DIR": f"{self.folder / 'logs'}",
            "MODELS_DIR": f"{self.folder / 'models'}",
            "START_PORT": f"{self._first_port}",
            "SOLAR_CONTROL_URL": self._control_url,
            "HOST_NAME": self.release.version,
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SOLAR_", "PYTHON", "COV"))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.release.program],
                cwd=self.folder,
                env=kept | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> None:
        until(self._answers, lambda: f"{self!r}\n{self.tail()}")

    def _answers(self) -> bool:
        assert self.process is not None, self
        assert self.process.poll() is None, f"it ended by itself\n{self.tail()}"
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).status_code == httpx.codes.OK
        return False

    def kill(self) -> None:
        """kill -9 of the agent alone: its instances live on."""
        assert self.process is not None, self
        self.process.kill()
        self.process.wait()
        self.process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """SIGSTOP: the kernel goes on accepting for it, and nothing answers."""
        assert self.process is not None, self
        self.process.send_signal(signal.SIGSTOP)
        process = psutil.Process(self.process.pid)
        until(lambda: process.status() == psutil.STATUS_STOPPED)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def config(self, alias: str) -> dict[str, Any]:
        """What it needs to know of an instance with the model."""
        return {
            "backend_type": "llamacpp",
            "model": f"{self._model}",
            "alias": alias,
            "threads": 1,
            "n_gpu_layers": 0,
            "ctx_size": 4096,
            "temp": 0.0,
            "host": HOST,
        }

    def engines(self) -> list[psutil.Process]:
        """The llama-servers that were started here and still live."""
        return [process for pid in self._pids.read_text().split() for process in _living(int(pid))]

    def kill_engine(self) -> None:
        """kill -9 of its one instance. Returns when its sockets are closed."""
        (engine,) = self.engines()
        words = engine.cmdline()
        port = int(words[words.index("--port") + 1])
        engine.kill()
        until(lambda: is_refused(port))

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        for engine in self.engines():
            with contextlib.suppress(psutil.NoSuchProcess):
                engine.kill()

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def _living(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        if process.name() == "llama-server" and process.status() != psutil.STATUS_ZOMBIE:
            return [process]
    return []


def is_refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((HOST, port)) == errno.ECONNREFUSED


def until(holds: Callable[[], object], told: Callable[[], str] = lambda: "", within: float = LONG) -> None:
    """Wait until a condition holds; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within:g} s: {told()}"
        time.sleep(POLL)
