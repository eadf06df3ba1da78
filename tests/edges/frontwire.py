"""What a client says to the front door, byte for byte, and how the two sides of it are judged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

from gateways import DEADLINE, Gateway, Reply, reply, until

from raw_wire import Wire
from solar.edge.frontdoor import FrontDoor
from solar.edge.hall import Hall
from solar.testing import FakeBackend

CHAT = "/v1/chat/completions"
SMALL = b'{"model":"m"}'  # 13 bytes
STREAM = b'{"model":"m","stream":true}'
PROBED = ("/health", "/v1/models", "/models", "/props", "/version", "/api/version", "/api/tags", "/api/ps", "/slots")


def head(line: str, *fields: str, host: str | None = "localhost") -> bytes:
    """A request's line and headers; `Host` is among them unless it is None."""
    named = [] if host is None else [f"Host: {host}"]
    return "\r\n".join((line, *named, *fields, "", "")).encode("latin-1")


def chat(*fields: str, body: bytes = SMALL, version: str = "1.1", path: str = CHAT) -> bytes:
    """A whole and correct request, with more headers."""
    return head(f"POST {path} HTTP/{version}", f"Content-Length: {len(body)}", *fields) + body


def chunks(framed: bytes, *fields: str) -> bytes:
    """A request whose body is framed in chunks, as given."""
    return head(f"POST {CHAT} HTTP/1.1", "Transfer-Encoding: chunked", *fields) + framed


HEALTH = head("GET /health HTTP/1.1")
LAST = head("GET /health HTTP/1.1", "Connection: close")


@dataclass(frozen=True)
class Wants:
    """What an answer has to be."""

    status: int
    code: str | None = None  # of the error; "" where there is an error without one

    def judge(self, got: Reply, *, bodiless: bool = False) -> None:
        assert got.status == self.status, got
        assert got.whole
        assert got.headers["x-request-id"]
        if self.status >= 400 and not bodiless:
            assert got.headers["content-type"] == "application/json"
            error = json.loads(got.body)["error"]
            assert error.keys() >= {"message", "type", "param", "code"}
            assert error["message"]
            if self.code is not None:
                assert (error["code"] or "") == self.code


async def ends(wire: Wire) -> bytes:
    """What still comes up to the end of the connection; a reset is an end too."""
    try:
        async with asyncio.timeout(DEADLINE):
            return await wire.reader.read()
    except ConnectionResetError:
        return b""


async def stays_open(wire: Wire) -> None:
    """The connection takes another request, and answers that and nothing else."""
    wire.writer.write(LAST)
    got = await reply(wire)
    assert got.status == 200, got
    assert json.loads(got.body)["status"] == "ok"
    assert await ends(wire) == b""


def asked(fake: FakeBackend) -> list[tuple[str, str, bytes]]:
    """What a backend was asked beside probes."""
    return [(r.method, r.target, r.body) for r in fake.requests if r.method != "GET" or r.path not in PROBED]


def sees_only_what_it_may(fake: FakeBackend) -> None:
    """No header of the client's connection, and none that is a secret, reached the backend."""
    allowed = {"host", "content-length", "accept-encoding", "x-request-id", "user-agent", "content-type", "accept"}
    for recorded in fake.inference:
        names = [name.decode("latin-1").lower() for name, _ in recorded.headers]
        assert len(names) == len(set(names))
        assert set(names) <= allowed
        assert recorded.complete


async def books_closed(gw: Gateway) -> None:
    """Nothing is in flight, nothing is counted, nothing is kept."""
    running = gw.router._running
    assert running is not None
    relay = running.relay
    await until(lambda: not relay.open and not relay.buffered and not gw.in_flight)


def doors(gw: Gateway) -> set[FrontDoor]:
    """The connections that the front door has, as they change."""
    running = gw.router._running
    assert running is not None
    hall = next(owner for tick in running.relay.on_tick if isinstance(owner := getattr(tick, "__self__", None), Hall))
    return hall._state.connections


async def the_door(gw: Gateway) -> FrontDoor:
    """The one connection that it has."""
    running = gw.router._running
    assert running is not None
    await until(lambda: running.relay.on_tick and len(doors(gw)) == 1)
    return next(iter(doors(gw)))
