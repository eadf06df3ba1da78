"""What a server decides before the router sees it. Whatever it lets in, a backend gets one plain request or none.

The three servers differ in what they refuse; `solar serve` will be stricter than each of them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from doors import SERVERS
from gateways import fakes

from raw_wire import CHAT, STREAM
from solar.testing import faults

BODY = json.dumps(CHAT).encode()
TARGET = b"POST /v1/chat/completions HTTP/1.1\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)

# What is sent, and the status that it gets: docs/api.md quotes this table.
REQUESTS = {
    "Content-Length and chunks": (
        TARGET + b"Host: x\r\n" + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"\r\n",
        {"uvicorn": 400, "hypercorn": 200, "granian": 200},
    ),
    "two lengths": (
        TARGET + b"Host: x\r\n" + LENGTH + b"Content-Length: 3\r\n\r\n" + BODY,
        {"uvicorn": 400, "hypercorn": 400, "granian": 400},
    ),
    "bare line feeds": (
        (TARGET + b"Host: x\r\n" + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
        {"uvicorn": 400, "hypercorn": 200, "granian": 200},
    ),
    "a folded header": (
        TARGET + b"Host: x\r\nX-A: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY,
        {"uvicorn": 400, "hypercorn": 200, "granian": 400},
    ),
    "no Host": (TARGET + LENGTH + b"\r\n" + BODY, {"uvicorn": 200, "hypercorn": 400, "granian": 200}),
    "two Hosts": (
        TARGET + b"Host: x\r\nHost: y\r\n" + LENGTH + b"\r\n" + BODY,
        {"uvicorn": 200, "hypercorn": 400, "granian": 200},
    ),
    "a header of 100 KB": (
        TARGET + b"Host: x\r\nX-A: " + b"a" * 100_000 + b"\r\n" + LENGTH + b"\r\n" + BODY,
        {"uvicorn": 200, "hypercorn": 431, "granian": 200},
    ),
    "1000 headers": (
        TARGET + b"Host: x\r\n" + b"X-A: b\r\n" * 1000 + LENGTH + b"\r\n" + BODY,
        {"uvicorn": 200, "hypercorn": 200, "granian": 431},
    ),
    "trailers": (
        TARGET + b"Host: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS + b"Authorization: Bearer k\r\n\r\n",
        {"uvicorn": 200, "hypercorn": 200, "granian": 200},
    ),
    "an upgrade to WebSocket": (
        TARGET + b"Host: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + LENGTH + b"\r\n" + BODY,
        {"uvicorn": 500, "hypercorn": 200, "granian": 200},
    ),
    "an upgrade to HTTP/2": (
        TARGET + b"Host: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n" + LENGTH + b"\r\n" + BODY,
        {"uvicorn": 500, "hypercorn": 200, "granian": 200},
    ),
    "no HTTP at all": (b"\x00\x01nonsense\r\n\r\n", {"uvicorn": 400, "hypercorn": 400, "granian": 400}),
}


def test_the_documents_say_what_each_server_does():
    page = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
    for name, (_, expected) in REQUESTS.items():
        assert f"| {name} | {' | '.join(str(expected[door]) for door in SERVERS)} |" in page, name


@pytest.mark.doors(*SERVERS, only=True)
@pytest.mark.parametrize("name", REQUESTS)
async def test_a_backend_gets_one_plain_request_or_none(gateway, door, name):
    raw, expected = REQUESTS[name]
    async with fakes(1) as (fake,), gateway(fake) as gw, gw.connect() as wire:
        wire.writer.write(raw)
        answer, _ = await wire.rest()
        assert int(answer[9:12]) == expected[door]
        assert answer.count(b"HTTP/1.1 ") <= 1
        seen = [(recorded.body, recorded.all_headers("host")) for recorded in fake.inference]
        assert seen == [(BODY, [fake.url[7:]])] * (expected[door] == 200)
        for recorded in fake.inference:
            names = {header.lower() for header, _ in recorded.headers}
            assert not names & {b"transfer-encoding", b"upgrade", b"x-a", b"authorization"}
            assert recorded.all_headers("content-length") == [str(len(BODY))]


# The servers stop reading once a second request waits, so they cannot see the end of the connection. uvicorn tells only
# the newest request of a connection that its client left: there the first one runs to its end for nobody.
@pytest.mark.doors("hypercorn", "granian")
async def test_a_client_that_left_behind_a_second_request_is_noticed_at_a_later_write(gateway):
    async with fakes(1) as (fake,), gateway(fake, keepalive_seconds=0.01) as gw:
        fake.script(faults.stall_after(2))
        async with gw.connect() as wire:
            wire.ask(STREAM)
            await wire.head()
            await wire.reader.readuntil(b": keep-alive\n\n")
            wire.ask(STREAM)
        await fake.wait_for(lambda: fake.inference[0].cancelled)
        assert len(fake.inference) == 1
