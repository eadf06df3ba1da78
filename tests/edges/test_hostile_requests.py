"""Requests that are odd or hostile on the wire, each judged at the client and at a recording backend."""

import pytest
from frontwire import (
    CHAT,
    SMALL,
    Wants,
    asked,
    books_closed,
    chat,
    chunks,
    ends,
    head,
    sees_only_what_it_may,
    stays_open,
)
from gateways import Serves, reply

from solar.testing import FakeBackend

OK = Wants(200)
BAD = Wants(400, "invalid_http")
TARGET = Wants(400, "")
NOWHERE = Wants(404, "unknown_path")
TOO_LARGE = Wants(431, "head_too_large")
WHOLE = b"d\r\n" + SMALL + b"\r\n0\r\n\r\n"  # SMALL in one chunk
POST = f"POST {CHAT} HTTP/1.1"

# --- asked of a backend, exactly once, with exactly this body; and the connection stays

PASSED = {
    "a length": chat(),
    "a length with leading zeros": head(POST, "Content-Length: 00013") + SMALL,
    "a length with blanks around it": head(POST, "Content-Length:   13 \t ") + SMALL,
    "a header name in capitals": head(POST, "CONTENT-LENGTH: 13") + SMALL,
    "a header without a value": chat("X-Empty:", "X-Blank:   "),
    "a header with 8-bit bytes": chat("X-Name: büro"),
    "a header with a tab inside": chat("X-Tab: a\tb"),
    "a host with a port": head(POST, "Content-Length: 13", host="localhost:8000") + SMALL,
    "a host that is an IPv6 address": head(POST, "Content-Length: 13", host="[::1]:8000") + SMALL,
    "a host with blanks behind it": head(POST, "Content-Length: 13", host="localhost  ") + SMALL,
    "a host with an underscore": head(POST, "Content-Length: 13", host="my_box") + SMALL,
    "one chunk": chunks(WHOLE),
    "a chunk a byte": chunks(b"".join(b"1\r\n%c\r\n" % byte for byte in SMALL) + b"0\r\n\r\n"),
    "a chunk size in capitals": chunks(b"D\r\n" + SMALL + b"\r\n0\r\n\r\n"),
    "a chunk size with leading zeros": chunks(b"0000000d\r\n" + SMALL + b"\r\n000\r\n\r\n"),
    "a chunk extension": chunks(b'd;name=value;other="a b"\r\n' + SMALL + b"\r\n0;last\r\n\r\n"),
    "a chunk extension of 60,000 bytes": chunks(b"d;x=" + b"y" * 60_000 + b"\r\n" + SMALL + b"\r\n0\r\n\r\n"),
    "chunked in capitals": head(POST, "Transfer-Encoding: CHUNKED") + WHOLE,
    "chunked with blanks around it": head(POST, "Transfer-Encoding:   chunked  ") + WHOLE,
    "a trailer": chunks(WHOLE[:-2] + b"X-Sum: 1\r\n\r\n", "Trailer: X-Sum"),
    "a trailer that asks for an upgrade": chunks(WHOLE[:-2] + b"Upgrade: x\r\nConnection: upgrade\r\n\r\n"),
    "a trailer with a key": chunks(WHOLE[:-2] + b"Authorization: Bearer k\r\n\r\n"),
    "blank lines before the request": b"\r\n\r\n" + chat(),
    "blank lines behind the request": chat() + b"\r\n\r\n",
    "two blanks behind the method": chat().replace(b"POST ", b"POST  "),
    "keep-alive in HTTP/1.0": chat("Connection: keep-alive", version="1.0"),
    "connection names other headers": chat("Connection: X-Foo, keep-alive", "X-Foo: 1"),
    "an upgrade to websocket": chat("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: x"),
    "an upgrade to h2c": chat("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"),
    "an upgrade with a chunked body": chunks(WHOLE, "Upgrade: websocket", "Connection: Upgrade"),
    "an upgrade in HTTP/1.0": chat("Connection: keep-alive, upgrade", "Upgrade: websocket", version="1.0"),
    "an upgrade that the connection does not name": chat("Upgrade: websocket"),
    "255 headers": chat(*(f"X-{n}: {n}" for n in range(253))),
    "60,000 bytes of head": chat(*(f"X-{n}: {'y' * 990}" for n in range(60))),
    "a path without the version": chat(path="/chat/completions"),
    "a path with doubled slashes": chat(path="//v1//chat//completions"),
    "a path with a slash at its end": chat(path=CHAT + "/"),
    "a path with the version twice": chat(path="/v1" + CHAT),
    "a path with a percent-encoded letter": chat(path="/v1/ch%61t/completions"),
    "a path with a percent-encoded slash": chat(path="/v1%2Fchat%2fcompletions"),
    "an expectation in HTTP/1.0 is not met": chat("Expect: 100-continue", "Connection: keep-alive", version="1.0"),
}

# --- refused, or answered here: no backend hears of it

OPEN, CLOSED = "stays open", "closes"
REFUSED: dict[str, tuple[bytes, Wants, str]] = {
    # framing
    "no length and no chunks: an empty body": (head(POST), TARGET, OPEN),
    "a length and chunks": (chunks(WHOLE, "Content-Length: 13"), BAD, CLOSED),
    "chunks and a length": (head(POST, "Content-Length: 5", "Transfer-Encoding: chunked") + WHOLE, BAD, CLOSED),
    "two lengths that are equal": (chat("Content-Length: 13"), BAD, CLOSED),
    "two lengths that differ": (chat("Content-Length: 5"), BAD, CLOSED),
    "two lengths in one header": (head(POST, "Content-Length: 13, 13") + SMALL, BAD, CLOSED),
    "a length with a plus": (head(POST, "Content-Length: +13") + SMALL, BAD, CLOSED),
    "a length with a minus": (head(POST, "Content-Length: -13") + SMALL, BAD, CLOSED),
    "a length with a blank inside": (head(POST, "Content-Length: 1 3") + SMALL, BAD, CLOSED),
    "a length with an underscore": (head(POST, "Content-Length: 1_3") + SMALL, BAD, CLOSED),
    "a length in hex": (head(POST, "Content-Length: 0xd") + SMALL, BAD, CLOSED),
    "a length that is empty": (head(POST, "Content-Length:") + SMALL, BAD, CLOSED),
    "a length that is no number": (head(POST, "Content-Length: many") + SMALL, BAD, CLOSED),
    "a length of a petabyte": (head(POST, f"Content-Length: {10**15}"), Wants(413, "body_too_large"), CLOSED),
    "a length of 19 digits": (head(POST, f"Content-Length: {10**18}"), Wants(413, "body_too_large"), CLOSED),
    "a length of 20 digits": (head(POST, f"Content-Length: {10**19}"), BAD, CLOSED),
    "a length beyond 64 bits": (head(POST, f"Content-Length: {10**25}"), BAD, CLOSED),
    "a length behind 30 zeros": (head(POST, f"Content-Length: {10**15:045d}"), BAD, CLOSED),
    "gzip": (head(POST, "Transfer-Encoding: gzip") + WHOLE, Wants(501, "invalid_http"), CLOSED),
    "gzip, chunked": (head(POST, "Transfer-Encoding: gzip, chunked") + WHOLE, Wants(501, "invalid_http"), CLOSED),
    "identity": (head(POST, "Transfer-Encoding: identity") + WHOLE, Wants(501, "invalid_http"), CLOSED),
    "chunked, gzip": (head(POST, "Transfer-Encoding: chunked, gzip") + WHOLE, BAD, CLOSED),
    "chunked;x": (head(POST, "Transfer-Encoding: chunked;x") + WHOLE, Wants(501, "invalid_http"), CLOSED),
    "xchunked": (head(POST, "Transfer-Encoding: xchunked") + WHOLE, Wants(501, "invalid_http"), CLOSED),
    "chunked twice": (chunks(WHOLE, "Transfer-Encoding: chunked"), BAD, CLOSED),
    "chunked, chunked": (head(POST, "Transfer-Encoding: chunked, chunked") + WHOLE, BAD, CLOSED),
    "chunked with a vertical tab": (head(POST, "Transfer-Encoding: \x0bchunked") + WHOLE, BAD, CLOSED),
    "an empty encoding": (head(POST, "Transfer-Encoding:") + WHOLE, BAD, CLOSED),
    "chunked in HTTP/1.0": (
        head(f"POST {CHAT} HTTP/1.0", "Transfer-Encoding: chunked") + WHOLE,
        Wants(501, "invalid_http"),
        CLOSED,
    ),
    "a chunk size that is none": (chunks(b"x\r\n" + SMALL), BAD, CLOSED),
    "a chunk size with 0x": (chunks(b"0xd\r\n" + SMALL + b"\r\n0\r\n\r\n"), BAD, CLOSED),
    "a chunk size with a minus": (chunks(b"-d\r\n" + SMALL + b"\r\n0\r\n\r\n"), BAD, CLOSED),
    "a chunk size with a blank before it": (chunks(b" d\r\n" + SMALL + b"\r\n0\r\n\r\n"), BAD, CLOSED),
    "a chunk size beyond 64 bits": (chunks(b"f" * 17 + b"\r\n" + SMALL), BAD, CLOSED),
    "a chunk size line that ends in LF": (chunks(b"d\n" + SMALL + b"\r\n0\r\n\r\n"), BAD, CLOSED),
    "a chunk with more than its size": (chunks(b"d\r\n" + SMALL + b"X\r\n0\r\n\r\n"), BAD, CLOSED),
    "a chunk that ends in LF": (chunks(b"d\r\n" + SMALL + b"\n0\r\n\r\n"), BAD, CLOSED),
    "an empty chunk size": (chunks(b"\r\n" + SMALL + b"\r\n0\r\n\r\n"), BAD, CLOSED),
    "a chunk extension with a bare CR": (chunks(b"d;x=\ry\r\n" + SMALL + b"\r\n0\r\n\r\n"), BAD, CLOSED),
    "a trailer with a length": (chunks(WHOLE[:-2] + b"Content-Length: 5\r\n\r\n"), BAD, CLOSED),
    "a trailer with an encoding": (chunks(WHOLE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"), BAD, CLOSED),
    "a trailer without a colon": (chunks(WHOLE[:-2] + b"nocolon\r\n\r\n"), BAD, CLOSED),
    # heads
    "a header without a colon": (chat("nocolon"), BAD, CLOSED),
    "a header without a name": (chat(": value"), BAD, CLOSED),
    "a blank before the colon": (chat("X-Name : value"), BAD, CLOSED),
    "a blank before the name": (head(POST, " X-Name: value"), BAD, CLOSED),
    "a folded line": (chat("X-Name: a\r\n b"), BAD, CLOSED),
    "a folded line with a tab": (chat("X-Name: a\r\n\tb"), BAD, CLOSED),
    "a NUL in a value": (chat("X-Name: a\0b"), BAD, CLOSED),
    "a NUL in a name": (chat("X-Na\0me: b"), BAD, CLOSED),
    "a control byte in a value": (chat("X-Name: a\x01b"), BAD, CLOSED),
    "a DEL in a value": (chat("X-Name: a\x7fb"), BAD, CLOSED),
    "an 8-bit byte in a name": (chat("X-Nämé: b"), BAD, CLOSED),
    "a bare CR in a value": (chat("X-Name: a\rX-Other: b"), BAD, CLOSED),
    "a bare LF behind a value": (chat("X-Name: a\nX-Other: b"), BAD, CLOSED),
    "bare LFs everywhere": (chat().replace(b"\r\n", b"\n"), BAD, CLOSED),
    "bare CRs everywhere": (chat().replace(b"\r\n", b"\r"), BAD, CLOSED),
    "257 headers": (chat(*(f"X-{n}: {n}" for n in range(255))), TOO_LARGE, CLOSED),
    "3,000 headers": (chat(*(f"X-{n}: {n}" for n in range(3000))), TOO_LARGE, CLOSED),
    "a header of 70,000 bytes": (chat("X-Name: " + "y" * 70_000), TOO_LARGE, CLOSED),
    "a header name of 70,000 bytes": (chat("y" * 70_000 + ": 1"), TOO_LARGE, CLOSED),
    "a trailer of 200,000 bytes": (chunks(WHOLE[:-2] + b"X-Sum: " + b"y" * 800_000), TOO_LARGE, CLOSED),
    "a chunk extension of 800,000 bytes": (chunks(b"d;x=" + b"y" * 800_000), TOO_LARGE, CLOSED),
    # hosts
    "no host": (head(POST, "Content-Length: 13", host=None) + SMALL, BAD, CLOSED),
    "two hosts": (chat("Host: localhost"), BAD, CLOSED),
    "an empty host": (head(POST, "Content-Length: 13", host="") + SMALL, BAD, CLOSED),
    "a host with a blank": (head(POST, "Content-Length: 13", host="a b") + SMALL, BAD, CLOSED),
    "a host with a comma": (head(POST, "Content-Length: 13", host="a,b") + SMALL, BAD, CLOSED),
    "a host with a slash": (head(POST, "Content-Length: 13", host="a/b") + SMALL, BAD, CLOSED),
    "a host with a user": (head(POST, "Content-Length: 13", host="u@a") + SMALL, BAD, CLOSED),
    "a host with a query": (head(POST, "Content-Length: 13", host="a?b") + SMALL, BAD, CLOSED),
    "a host with a port that is none": (head(POST, "Content-Length: 13", host="a:b") + SMALL, BAD, CLOSED),
    "a host with two ports": (head(POST, "Content-Length: 13", host="a:1:2") + SMALL, BAD, CLOSED),
    "a host with 8-bit bytes": (head(POST, "Content-Length: 13", host="büro") + SMALL, BAD, CLOSED),
    # versions
    "HTTP/0.9 without a version": (b"GET /health\r\n\r\n", Wants(505), CLOSED),
    "HTTP/0.9": (b"GET /health HTTP/0.9\r\n\r\n", Wants(505), CLOSED),
    "HTTP/1.0 without a host": (b"GET /health HTTP/1.0\r\n\r\n", OK, CLOSED),
    "HTTP/1.0 that stays": (head("GET /health HTTP/1.0", "Connection: keep-alive"), OK, OPEN),
    "HTTP/1.2": (head(f"POST {CHAT} HTTP/1.2", "Content-Length: 13") + SMALL, BAD, CLOSED),
    "HTTP/2.0": (head(f"POST {CHAT} HTTP/2.0", "Content-Length: 13") + SMALL, Wants(505), CLOSED),
    "HTTP/11.1": (head("GET /health HTTP/11.1"), BAD, CLOSED),
    "http/1.1 in small letters": (head("GET /health http/1.1"), BAD, CLOSED),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0", BAD, CLOSED),
    "a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300, BAD, CLOSED),
    "no HTTP at all": (b"hello\r\n", BAD, CLOSED),
    # targets
    "an absolute target": (head("GET http://localhost/health HTTP/1.1"), TARGET, CLOSED),
    "an authority as target": (head("GET localhost:80 HTTP/1.1"), BAD, CLOSED),
    "a target without a slash": (head("GET health HTTP/1.1"), BAD, CLOSED),
    "an asterisk": (head("OPTIONS * HTTP/1.1"), TARGET, CLOSED),
    "an asterisk with GET": (head("GET * HTTP/1.1"), TARGET, CLOSED),
    "a fragment": (chat(path=CHAT + "#a"), TARGET, CLOSED),
    "a fragment in the query": (chat(path=CHAT + "?a=b#c"), TARGET, CLOSED),
    "an 8-bit byte in the target": (chat(path="/v1/ch\xe4t"), BAD, CLOSED),
    "an 8-bit byte in the query": (chat(path=CHAT + "?a=\xe4"), BAD, CLOSED),
    "a control byte in the target": (chat(path=CHAT + "\x01"), BAD, CLOSED),
    "a NUL in the target": (chat(path=CHAT + "\0"), BAD, CLOSED),
    "a tab in the target": (chat(path=CHAT + "\tx"), BAD, CLOSED),
    "a blank in the target": (chat(path=CHAT + " x"), BAD, CLOSED),
    "a dot segment": (chat(path="/v1/./chat/completions"), NOWHERE, OPEN),
    "two dots": (chat(path="/v1/../slots"), NOWHERE, OPEN),
    "two dots, percent-encoded": (chat(path="/v1/%2e%2e/slots"), NOWHERE, OPEN),
    "two dots behind an encoded slash": (chat(path="/v1/chat%2F..%2Fcompletions"), NOWHERE, OPEN),
    "parameters": (chat(path=CHAT + ";x=1"), NOWHERE, OPEN),
    "a backslash": (chat(path="/v1\\chat\\completions"), NOWHERE, OPEN),
    "%00": (chat(path=CHAT + "%00"), NOWHERE, OPEN),
    "%0d%0a": (chat(path=CHAT + "%0d%0aX-Evil:%201"), NOWHERE, OPEN),
    "%23": (chat(path=CHAT + "%23a"), NOWHERE, OPEN),
    "%252F is decoded once": (chat(path="/v1%252Fchat/completions"), NOWHERE, OPEN),
    "a percent sign alone": (chat(path=CHAT + "%"), TARGET, CLOSED),
    "a percent sign before one digit": (chat(path=CHAT + "%2"), TARGET, CLOSED),
    "a percent sign before no digits": (chat(path=CHAT + "?a=%zz"), TARGET, CLOSED),
    "a slash in overlong UTF-8": (chat(path="/v1%c0%afchat/completions"), NOWHERE, OPEN),
    "bytes that are no UTF-8": (chat(path="/%ff%fe"), NOWHERE, OPEN),
    "an engine's own path": (head("GET /slots HTTP/1.1"), NOWHERE, OPEN),
    "the root": (head("GET / HTTP/1.1"), NOWHERE, OPEN),
    "a target of 60,000 bytes": (chat(path="/" + "a" * 60_000), NOWHERE, OPEN),
    "a target of 70,000 bytes": (chat(path="/" + "a" * 70_000), TOO_LARGE, CLOSED),
    "a query of 300,000 bytes": (chat(path=CHAT + "?" + "a" * 300_000), TOO_LARGE, CLOSED),
    # methods
    "GET of an inference": (head(f"GET {CHAT} HTTP/1.1"), Wants(405, "method_not_allowed"), OPEN),
    "GET with a body": (head("GET /health HTTP/1.1", "Content-Length: 13") + SMALL, OK, OPEN),
    "GET with chunks": (head("GET /health HTTP/1.1", "Transfer-Encoding: chunked") + WHOLE, OK, CLOSED),
    "POST of a page": (chat(path="/health"), Wants(405, "method_not_allowed"), OPEN),
    "PUT": (chat().replace(b"POST", b"PUT"), Wants(405, "method_not_allowed"), OPEN),
    "TRACE": (head("TRACE /health HTTP/1.1"), Wants(405, "method_not_allowed"), OPEN),
    "a method that llhttp knows": (head(f"PURGE {CHAT} HTTP/1.1"), Wants(405, "method_not_allowed"), OPEN),
    "a method that nobody knows": (chat().replace(b"POST", b"BREW"), BAD, CLOSED),
    "a method in small letters": (chat().replace(b"POST", b"post"), BAD, CLOSED),
    "CONNECT": (head("CONNECT localhost:443 HTTP/1.1") + b"\x16\x03\x01", Wants(405, "method_not_allowed"), CLOSED),
    "OPTIONS": (head(f"OPTIONS {CHAT} HTTP/1.1"), Wants(204), OPEN),
    "GET that asks for an upgrade": (
        head("GET /health HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"),
        OK,
        OPEN,
    ),
    "an upgrade on an unknown path": (
        head("GET /ws HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade"),
        NOWHERE,
        OPEN,
    ),
    "an upgrade of a refused encoding": (
        head(POST, "Upgrade: h2c", "Connection: Upgrade", "Transfer-Encoding: gzip") + WHOLE,
        Wants(501, "invalid_http"),
        CLOSED,
    ),
    "an unknown expectation": (chat("Expect: the-unexpected"), Wants(417), CLOSED),
    "close": (head("GET /health HTTP/1.1", "Connection: close"), OK, CLOSED),
    "Close, in capitals and among others": (head("GET /health HTTP/1.1", "Connection: x, CLOSE"), OK, CLOSED),
    "close and keep-alive": (head("GET /health HTTP/1.1", "Connection: close", "Connection: keep-alive"), OK, CLOSED),
    "something behind the last request": (head("GET /health HTTP/1.1", "Connection: close") + chat(), OK, CLOSED),
    # bodies that cannot be read: the request was correct HTTP, and the connection stays
    "a body that is no JSON": (chat(body=b"hello"), TARGET, OPEN),
    "an empty body": (chat(body=b""), TARGET, OPEN),
    "two authorizations": (
        chat("Authorization: Bearer a", "Authorization: Bearer b"),
        Wants(400, "ambiguous_authorization"),
        OPEN,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PASSED)
async def test_what_is_correct_is_asked_of_a_backend_once(front: Serves, name: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(PASSED[name])
        Wants(200).judge(await reply(wire))
        await stays_open(wire)
        assert asked(fake) == [("POST", CHAT, SMALL)]
        sees_only_what_it_may(fake)
        await books_closed(gw)


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_not_correct_is_refused_and_no_backend_hears_of_it(front: Serves, name: str) -> None:
    sent, wants, end = REFUSED[name]
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(sent)
        got = await reply(wire)
        wants.judge(got)
        assert (got.headers.get("connection") == "close") == (end == CLOSED)
        if end == OPEN:
            await stays_open(wire)
        else:
            assert await ends(wire) == b""
        assert asked(fake) == []
        await books_closed(gw)


@pytest.mark.parametrize("name", ["a trailer with a key", "one chunk", "a length"])
async def test_a_key_counts_only_in_the_head(front: Serves, name: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        wire.writer.write(PASSED[name])
        Wants(401, "invalid_api_key").judge(await reply(wire))
        assert asked(fake) == []
        await books_closed(gw)


async def test_a_trailer_does_not_reach_the_next_request(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        with_key = chunks(WHOLE[:-2] + b"Authorization: Bearer k\r\n\r\n", "X-API-Key: k")
        wire.writer.write(with_key + chat())
        assert [(await reply(wire)).status, (await reply(wire)).status] == [200, 401]
        assert asked(fake) == [("POST", CHAT, SMALL)]


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/metrics", CHAT, "/nowhere", "/v1/models/none"])
async def test_head_is_answered_as_get_is_but_for_the_body(front: Serves, path: str) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(f"HEAD {path} HTTP/1.1"))
        first = (await wire.head()).split()[1]
        wire.writer.write(head(f"GET {path} HTTP/1.1"))
        assert str((await reply(wire)).status) == first
        await stays_open(wire)
        assert asked(fake) == []


async def test_a_head_in_pieces_is_one_head(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        for byte in PASSED["a trailer"]:
            wire.writer.write(bytes([byte]))
            await wire.writer.drain()
        Wants(200).judge(await reply(wire))
        await stays_open(wire)
        assert asked(fake) == [("POST", CHAT, SMALL)]


async def test_a_large_head_is_refused_before_its_end(front: Serves) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(POST)[:-2])
        for number in range(70):
            wire.writer.write(f"X-{number}: {'y' * 1000}\r\n".encode())
            await wire.writer.drain()
        TOO_LARGE.judge(await reply(wire))
        assert await ends(wire) == b""


@pytest.mark.parametrize("sent", [chat(), chunks(WHOLE)], ids=["length", "chunks"])
async def test_a_request_that_is_cut_anywhere_is_never_forwarded(front: Serves, sent: bytes) -> None:
    async with FakeBackend(["m"]) as fake, front(fake) as gw:
        for end in range(len(sent)):
            async with gw.connect() as wire:
                wire.writer.write(sent[:end])
                wire.writer.write_eof()
                assert await ends(wire) == b""
        assert asked(fake) == []
        await books_closed(gw)
        cut_in_body = len(sent) - sent.index(b"\r\n\r\n") - 4
        assert [(record.status, record.end) for record in gw.records] == [(499, "client_gone")] * cut_in_body
