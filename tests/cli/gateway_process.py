"""`solar serve` as a process."""

import http.client
import json
import os
import queue
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

WITHIN = 15.0  # seconds; a machine under load takes its time
TLS = Path(__file__).resolve().parents[1] / "tls"
# A server's certificate that signs itself, and one with a chain below a root; each with its key.
SERVER = ("--tls-cert", str(TLS / "server.pem"), "--tls-key", str(TLS / "server.key"))


def trusting(*names: str) -> ssl.SSLContext:
    """What a client knows that trusts these certificates of ours, and no others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in names:
        context.load_verify_locations(TLS / name)
    return context


def clean_environment() -> dict[str, str]:
    """This process's environment without anything that Solar would read, or that changes how Python writes."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SOLAR_") and name not in ("API_KEY", "HOST", "PORT", "PYTHONUNBUFFERED")
    }


class Gateway:
    """A `solar serve` of its own, in a directory of its own."""

    def __init__(self, directory: Path, *flags: str, env: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.lines: list[str] = []
        self._coming: queue.Queue[str] = queue.Queue()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "solar", "serve", *flags],
            cwd=directory,
            env={**clean_environment(), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(line)
        self._coming.put("")

    def says(self, words: str) -> str:
        """Wait for a line that holds `words`."""
        deadline = time.monotonic() + WITHIN
        while True:
            try:
                line = self._coming.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {words!r} within {WITHIN:g} s in: {''.join(self.lines)}") from None
            if not line:
                raise AssertionError(f"it ended without {words!r}: {''.join(self.lines)}")
            self.lines.append(line)
            if words in line:
                return line

    @property
    def url(self) -> str:
        """Where it says that it listens."""
        if not hasattr(self, "_url"):
            self._url = self.says("listening url=").partition("url=")[2].split()[0]
        return self._url

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def connection(self, trusted: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
        """A connection of one's own."""
        scheme, _, place = self.url.partition("://")
        if scheme == "http":
            return http.client.HTTPConnection(place, timeout=WITHIN)
        return http.client.HTTPSConnection(place, timeout=WITHIN, context=trusted or trusting("server.pem"))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, Any]:
        """The status and the JSON of its answer."""
        with closing(self.connection()) as connection:
            connection.request("GET", path, headers=dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, json.load(answer)

    def models(self) -> list[str]:
        return sorted(model["id"] for model in self.get("/v1/models")[1]["data"])

    def stop(self, number: int = signal.SIGINT) -> int:
        """Tell it to stop; returns its exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        status = self.process.wait(WITHIN)
        self._reader.join(WITHIN)
        while not self._coming.empty():
            self.lines.append(self._coming.get())
        return status

    @property
    def said(self) -> str:
        return "".join(self.lines)


def until(condition: Callable[[], object]) -> None:
    """Return once `condition()` is true."""
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline, f"not so within {WITHIN:g} s"
        time.sleep(0.02)


@contextmanager
def gateways(directory: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts `solar serve` with the given flags, in `directory`; ends what it started."""
    started: list[Gateway] = []

    def start(*flags: str, env: Mapping[str, str] | None = None) -> Gateway:
        started.append(Gateway(directory, *flags, env=env))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.ended()
        assert one.process.stdout is not None
        one.process.stdout.close()
