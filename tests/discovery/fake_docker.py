"""A Docker API that breaks on command: for what a real engine cannot be told to do."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiohttp import web

VERSION = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux"}
INFO = {"ID": "X", "Name": socket.gethostname(), "OperatingSystem": "Debian", "SecurityOptions": ["name=seccomp"]}


class FakeDocker:
    """Listens on a socket of its own, or with `tls` on a port. Its containers publish a port of this machine each.

    async with FakeDocker() as docker:
        docker.run("llm", fake.port)
        ...  # ask docker.url
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.folder = Path(tempfile.mkdtemp(prefix="dk"))
        self.socket = self.folder / "s"
        self.url = f"unix://{self.socket}"
        self.containers: dict[str, dict[str, Any]] = {}
        self.inspected: list[str] = []  # names
        self.answers: dict[str, web.Response] = {}  # by path: instead of the truth
        self.slow: dict[str, asyncio.Event] = {}  # by name: who is described once this is set
        self.streams: list[asyncio.Queue[bytes | None]] = []
        self.written: dict[str, list[str]] = {}  # by name: lines with their times
        self.asked_for: list[Mapping[str, str]] = []  # of each log
        self._followers: dict[str, list[asyncio.Queue[bytes | None]]] = {}
        self._runner: web.AppRunner | None = None
        self._started = 0

    async def __aenter__(self) -> FakeDocker:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        shutil.rmtree(self.folder)

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, shutdown_timeout=1.0)
        await self._runner.setup()
        if self._tls is None:
            await web.UnixSite(self._runner, str(self.socket)).start()
        else:
            await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
            self.url = f"tcp://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        self.end()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.socket.unlink(missing_ok=True)

    # --- what happens there

    def run(
        self,
        name: str,
        port: int,
        *,
        also: Sequence[int] = (),
        image: str = "ollama/ollama:latest",
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Start a container whose port 11434 is published as `port`, and `also` as others; its id."""
        self._started += 1
        container = f"{self._started:x}".rjust(64, "c")
        self.containers[container] = {
            "Id": container,
            "Name": f"/{name}",
            "State": {"Status": "running", "Running": True, "Paused": False},
            "HostConfig": {"NetworkMode": "default"},
            "Config": {"Image": image, "Labels": dict(labels or {}), "ExposedPorts": {"11434/tcp": {}}},
            "NetworkSettings": {
                "Ports": {"11434/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(one)} for one in (port, *also)]},
                "Networks": {},
            },
        }
        self.tell("start", container)
        return container

    def end_of(self, container: str, *actions: str) -> None:
        """It is gone, as with `docker run --rm`."""
        del self.containers[container]
        for action in actions:
            self.tell(action, container)

    def state(self, container: str, status: str, action: str) -> None:
        """ "paused", by "pause"."""
        self.containers[container]["State"] = {
            "Status": status,
            "Running": status in ("running", "paused"),
            "Paused": status == "paused",
        }
        self.tell(action, container)

    def tell(self, action: str, container: str) -> None:
        event = {"Type": "container", "Action": action, "Actor": {"ID": container, "Attributes": {}}, "time": 1}
        self.say(json.dumps(event).encode() + b"\n")

    def write(self, name: str, text: str, at: str) -> None:
        """The container of that name writes a line, at a time as Docker tells it."""
        self.written.setdefault(name, []).append(f"{at} {text}\n")
        for follower in self._followers.get(name, ()):
            follower.put_nowait(self.written[name][-1].encode())

    def silence(self, name: str) -> None:
        """End what follows its log, as if it had stopped."""
        for follower in self._followers.get(name, ()):
            follower.put_nowait(None)

    def say(self, line: bytes) -> None:
        for stream in self.streams:
            stream.put_nowait(line)

    def end(self) -> None:
        """Close the streams of events."""
        for stream in self.streams:
            stream.put_nowait(None)

    # --- what is asked

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix("/v1.41").strip("/")
        if path in self.answers:
            given = self.answers[path]
            return web.Response(status=given.status, body=given.body, content_type=given.content_type)
        match path.split("/"):
            case ["version"]:
                return web.json_response(VERSION)
            case ["info"]:
                return web.json_response(INFO)
            case ["events"]:
                return await self._events(request)
            case ["containers", "json"]:
                return web.json_response(
                    [{"Id": one, "State": page["State"]["Status"]} for one, page in self.containers.items()]
                )
            case ["containers", container, "json"]:
                return await self._inspect(container)
            case ["containers", container, "logs"]:
                return await self._log(request, container)
        return web.json_response({"message": "page not found"}, status=404)

    async def _inspect(self, container: str) -> web.Response:
        named = {page["Name"].strip("/"): page for page in self.containers.values()}
        page = self.containers.get(container, named.get(container))
        if page is None:
            return web.json_response({"message": f"No such container: {container}"}, status=404)
        name = page["Name"].strip("/")
        self.inspected.append(name)
        if name in self.slow:
            await self.slow[name].wait()
        return web.json_response(page)

    async def _log(self, request: web.Request, name: str) -> web.StreamResponse:
        self.asked_for.append(request.query)
        lines = self.written.get(name, [])
        if (since := request.query.get("since")) is not None:
            lines = [line for line in lines if line[:30] >= _time(since)]
        elif request.query["tail"] != "all":
            lines = lines[-int(request.query["tail"]) :]
        response = web.StreamResponse()
        told: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._followers.setdefault(name, []).append(told)
        for line in lines:
            told.put_nowait(line.encode())
        try:
            await response.prepare(request)
            while (line_ := await told.get()) is not None:
                await response.write(b"\1\0\0\0" + len(line_).to_bytes(4, "big") + line_)
        finally:
            self._followers[name].remove(told)
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.streams.append(lines)
        try:
            await response.prepare(request)
            while (line := await lines.get()) is not None:
                await response.write(line)
        finally:
            self.streams.remove(lines)
        return response


def _time(since: str) -> str:
    """Seconds and nanoseconds as Docker writes a time."""
    seconds, _, nanoseconds = since.partition(".")
    return f"{datetime.fromtimestamp(int(seconds), UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:>09}Z"
