"""Answers that are odd or hostile on the wire: the client gets a whole answer, one clear error, or a cut that shows."""

import pytest
from frontwire import CHAT, SMALL, STREAM, Wants, asked, books_closed, chat, ends, head, stays_open
from gateways import Serves, reply

from solar.testing import FakeBackend, faults

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
TWO = b'data: {"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

# What a backend says before it closes, and what a client gets: the status and the body.
RELAYED = {
    "a length": (OK, 200, b"ok"),
    "chunks": (CHUNKED + b"2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
    "chunks of a byte with extensions": (CHUNKED + b"1;a=b\r\no\r\n1\r\nk\r\n0\r\n\r\n", 200, b"ok"),
    "trailers": (CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\n\r\n", 200, b"ok"),
    "the end of the connection": (b"HTTP/1.1 200 OK\r\n\r\nok", 200, b"ok"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nok", 200, b"ok"),
    "a stream that the end of the connection ends": (EVENTS + b"\r\n" + TWO, 200, TWO),
    "a stream with a length": (EVENTS + b"Content-Length: %d\r\n\r\n" % len(TWO) + TWO, 200, TWO),
    "nothing in it": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
    "204 with a body": (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", 304, b""),
    "204 with chunks": (b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 204, b""),
    "early hints before it": (b"HTTP/1.1 103 Early\r\nLink: x\r\nX-Sum: 1\r\n\r\n" + OK, 200, b"ok"),
    "100 before it": (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, b"ok"),
    "a second answer behind it": (OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", 200, b"ok"),
    "a blank line behind it": (OK + b"\r\n", 200, b"ok"),
    "garbage behind it": (OK + b"evil", 200, b"ok"),
    "garbage behind its chunks": (CHUNKED + b"2\r\nok\r\n0\r\n\r\nevil", 200, b"ok"),
    "its own connection's headers": (b"HTTP/1.1 200 OK\r\nConnection: close, X-Sum\r\nX-Sum: 1\r\n\r\nok", 200, b"ok"),
    "an unknown status": (OK.replace(b"200 OK", b"299 Odd"), 299, b"ok"),
    "a status beyond the table": (OK.replace(b"200 OK", b"799 Odd"), 799, b"ok"),
    "a redirect": (OK.replace(b"200 OK", b"302 Found\r\nLocation: http://elsewhere/"), 302, b"ok"),
    "a reason with 8-bit bytes": (OK.replace(b"OK", b"\xe4\xf6"), 200, b"ok"),
}  # fmt: skip

# What could be read in two ways, or not at all: one error of our own.
UNREADABLE = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "bare LFs": OK.replace(b"\r\n", b"\n"),
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "two lengths": OK.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n"),
    "a length and chunks": OK.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a negative length": OK.replace(b": 2", b": -2"),
    "a length of 5,000 digits": OK.replace(b": 2", b": " + b"9" * 5000),
    "gzip, chunked": CHUNKED.replace(b"chunked", b"gzip, chunked"),
    "a NUL in a header": OK.replace(b"\r\n\r\n", b"\r\nX: a\0b\r\n\r\n"),
    "a folded header": OK.replace(b"\r\n\r\n", b"\r\nX: a\r\n b\r\n\r\n"),
    "a header of 70,000 bytes": OK.replace(b"\r\n\r\n", b"\r\nX: " + b"h" * 70_000 + b"\r\n\r\n"),
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello",
    "100 and no more": b"HTTP/1.1 100 Continue\r\n\r\n",
    "17 times 100": b"HTTP/1.1 100 Continue\r\n\r\n" * 17 + OK,
    "no bytes of its body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    "no chunk of its body": CHUNKED,
    "a chunk size that is none": CHUNKED + b"zz\r\n",
}  # fmt: skip

# What breaks behind its first byte: the client sees that it is not whole.
CUT = {
    "fewer bytes than its length": OK.replace(b": 2", b": 20"),
    "no last chunk": CHUNKED + b"2\r\nok\r\n",
    "a chunk with more than its size": CHUNKED + b"2\r\nokX\r\n0\r\n\r\n",
    "a chunk size beyond 64 bits": CHUNKED + b"2\r\nok\r\n" + b"f" * 17 + b"\r\n",
    "chunks without an end of the stream": EVENTS + b"Transfer-Encoding: chunked\r\n\r\na\r\ndata: {}\n\n\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", RELAYED)
async def test_a_valid_answer_is_relayed_whole_and_nothing_behind_it(front: Serves, name: str) -> None:
    said, status, body = RELAYED[name]
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.garbage(said))
        wire.writer.write(chat(body=STREAM))
        got = await reply(wire)
        assert (got.status, got.body, got.whole) == (status, body, True)
        assert not {"x-sum", "set-cookie", "link", "connection"} & got.headers.keys()
        wire.writer.write(chat())
        Wants(200).judge(await reply(wire))
        await stays_open(wire)
        assert asked(fake) == [("POST", CHAT, STREAM), ("POST", CHAT, SMALL)]
        await books_closed(gw)


@pytest.mark.parametrize("name", UNREADABLE)
async def test_what_could_be_read_in_two_ways_becomes_one_error(front: Serves, name: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.garbage(UNREADABLE[name]))
        wire.writer.write(chat())
        Wants(502, "upstream_failed").judge(await reply(wire))
        wire.writer.write(chat())
        Wants(200).judge(await reply(wire))
        await stays_open(wire)
        assert asked(fake) == [("POST", CHAT, SMALL)] * 2
        await books_closed(gw)


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("name", CUT)
async def test_what_breaks_in_its_middle_does_not_look_whole(front: Serves, name: str, version: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        fake.script(faults.garbage(CUT[name]))
        wire.writer.write(chat(body=STREAM, version=version) + head("GET /health HTTP/1.1"))
        got = await reply(wire)
        assert (got.status, got.whole) == (200, False)
        assert await ends(wire) == b""
        assert asked(fake) == [("POST", CHAT, STREAM)]
        assert (await gw.booked()).end == "broken"
        await books_closed(gw)
