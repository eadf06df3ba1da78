"""What a real server makes of requests that are odd on the wire: under each of the three."""

import asyncio
import json

import pytest
from doors import serve
from gateways import Serves, reply

from solar import Backend, Router
from solar.testing import FakeBackend, Fault, faults

CHAT = "/v1/chat/completions"
BODY = b'{"model":"m","x":"' + bytes(range(0x20, 0x7F)).replace(b'"', b"").replace(b"\\", b"") * 100 + b'"}'
STREAM = b'{"model":"m","stream":true}'


def head(line: str, *fields: str) -> bytes:
    return "\r\n".join((line, "Host: localhost", *fields, "", "")).encode("latin-1")


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


# --- bodies


@pytest.mark.parametrize("size", [1, 100, 10_000])
async def test_a_chunked_body_arrives_as_it_was_sent(gateway: Serves, size: int) -> None:
    body = BODY if size > 1 else b'{"model":"m"}'
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(f"POST {CHAT} HTTP/1.1", "Transfer-Encoding: chunked"))
        wire.writer.write(chunked(body, size) + b"0\r\n\r\n")
        assert (await reply(wire)).status == 200
        assert fake.inference[-1].body == body
        assert fake.inference[-1].all_headers("content-length") == [str(len(body))]
        assert fake.inference[-1].all_headers("transfer-encoding") == []


async def test_a_large_body_arrives_as_it_was_sent(gateway: Serves) -> None:
    body = b'{"model":"m","x":"' + b"0123456789" * 800_000 + b'"}'
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(f"POST {CHAT} HTTP/1.1", f"Content-Length: {len(body)}") + body)
        assert (await reply(wire)).status == 200
        assert fake.inference[-1].body == body


@pytest.mark.parametrize("framing", ["length", "chunked", "chunked without its last chunk"])
async def test_a_body_that_was_cut_off_on_the_wire_is_never_forwarded(gateway: Serves, framing: str) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        async with gw.connect() as wire:
            if framing == "length":
                wire.writer.write(head(f"POST {CHAT} HTTP/1.1", "Content-Length: 14") + b'{"model":"m"}')
            else:
                whole = chunked(b'{"model":"m"}', 100)
                sent = whole if framing.endswith("last chunk") else whole[:-4]
                wire.writer.write(head(f"POST {CHAT} HTTP/1.1", "Transfer-Encoding: chunked") + sent)
            await wire.writer.drain()
        record = await gw.booked()
        assert (record.status, record.end) == (499, "client_gone")
        assert not fake.inference


@pytest.mark.doors("uvicorn", "granian")  # hypercorn asks for the body before the application wants it
async def test_a_body_that_waits_to_be_asked_for_does_not_come_where_it_is_refused(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        wire.writer.write(head(f"POST {CHAT} HTTP/1.1", "Content-Length: 13", "Expect: 100-continue"))
        refused = await reply(wire)
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (401, "invalid_api_key")
        assert not fake.inference


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake, api_keys=["k"]) as gw, gw.connect() as wire:
        fields = ("Content-Length: 13", "Expect: 100-continue", "X-API-Key: k")
        wire.writer.write(head(f"POST {CHAT} HTTP/1.1", *fields))
        assert (await wire.head()).startswith("HTTP/1.1 100 ")
        wire.writer.write(b'{"model":"m"}')
        assert (await reply(wire)).status == 200
        assert fake.inference[-1].all_headers("expect") == []


# --- HTTP/1.0


@pytest.mark.doors("uvicorn", "hypercorn", "granian", only=True)  # the front door ends such an answer by closing
@pytest.mark.parametrize("body", [b'{"model":"m"}', STREAM])
async def test_an_http10_client_gets_a_length_and_no_chunks(gateway: Serves, body: bytes) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(f"POST {CHAT} HTTP/1.0", f"Content-Length: {len(body)}") + body)
        got = await reply(wire)
        assert (got.status, got.whole) == (200, True)
        assert "transfer-encoding" not in got.headers
        assert got.headers["content-length"] == str(len(got.body))
        assert (await wire.rest())[0] == b""
        assert got.body.endswith(b"data: [DONE]\n\n" if body == STREAM else b"}")


@pytest.mark.doors("uvicorn", "hypercorn", "granian", only=True)  # the front door ends such an answer by closing
async def test_an_http10_client_is_told_that_a_stream_broke(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        fake.script(faults.fin_after(2))
        wire.writer.write(head(f"POST {CHAT} HTTP/1.0", f"Content-Length: {len(STREAM)}") + STREAM)
        got = await reply(wire)
        assert (got.status, got.whole) == (502, True)
        assert json.loads(got.body)["error"]["code"]


@pytest.mark.doors("uvicorn", "hypercorn", "granian", only=True)  # the front door ends such an answer by closing
async def test_an_http10_client_may_have_a_large_answer_of_known_length(
    gateway: Serves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solar.edge.asgi.HTTP10_ANSWER", 1000)
    for body, status in ((b'{"model":"m"}', 200), (STREAM, 502)):  # the stream's length is not known before its end
        async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
            fake.script(faults.big(1_000_000))
            fields = (f"Content-Length: {len(body)}", "X-Request-ID: mine")
            wire.writer.write(head(f"POST {CHAT} HTTP/1.0", *fields) + body)
            got = await reply(wire)
            assert (got.status, got.whole, got.headers["x-request-id"]) == (status, True, "mine")
            assert status != 200 or len(got.body) > 1_000_000
            await fake.wait_for(lambda fake=fake: fake.in_flight == 0)


@pytest.mark.doors("front")
@pytest.mark.parametrize("fault", [None, faults.fin_after(2)])
async def test_an_http10_client_of_the_front_door_gets_its_stream_as_it_comes(
    gateway: Serves, fault: Fault | None
) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        fake.script(fault)
        wire.writer.write(head(f"POST {CHAT} HTTP/1.0", f"Content-Length: {len(STREAM)}") + STREAM)
        answer = (await wire.rest())[0]
        assert b"transfer-encoding" not in answer
        assert b"content-length" not in answer
        assert answer.endswith(b"data: [DONE]\n\n") == (fault is None)
        assert (b"upstream_cut" in answer) == (fault is not None)


# --- heads and targets


async def test_two_authorizations_that_differ_are_refused_on_the_wire(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        got = await gw.ask({"model": "m"}, head="Authorization: Bearer a\r\nAuthorization: Bearer b\r\n")
        assert got.status == 400
        assert not fake.inference


@pytest.mark.parametrize(
    "target", ["/v1/models/org/name:8b", "/v1/models/org%2Fname%3A8b", "//v1//models//org/name:8b"]
)
async def test_a_models_id_survives_the_server(gateway: Serves, target: str) -> None:
    async with FakeBackend(["org/name:8b"]) as fake, gateway(fake) as gw:
        got = await gw.ask(None, target)
        assert (got.status, json.loads(got.body)["id"]) == (200, "org/name:8b")


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../slots",
        "/v1/%2e%2e/slots",
        "/slots",
        "/v1/chat/completions;x=1",
        "/v1/chat/completions%00",
        "/%ff",
        "/v1/",
    ],
)
async def test_an_unknown_target_is_a_404_and_never_sent_upstream(gateway: Serves, target: str) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake, default_backend="a") as gw:
        probed = len(fake.requests)
        got = await gw.ask({"model": "m"}, target)
        assert (got.status, json.loads(got.body)["error"]["code"]) == (404, "unknown_path")
        assert not [r for r in fake.requests[probed:] if r.path not in ("/health", "/v1/models")]


@pytest.mark.parametrize(
    "line", ["OPTIONS * HTTP/1.1", "GET http://other/v1/models HTTP/1.1", "GET v1/models HTTP/1.1"]
)
async def test_other_forms_of_a_target_are_no_server_error(gateway: Serves, line: str) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(line, "Connection: close"))
        got, _ = await wire.rest()
        assert got == b"" or int(got.split()[1]) in (200, 400, 404)
        assert not fake.inference


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/metrics", CHAT, "/nowhere"])
async def test_nothing_follows_the_answer_to_head(gateway: Serves, path: str) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        wire.writer.write(head(f"HEAD {path} HTTP/1.1"))
        assert (await wire.head()).split()[1] in ("200", "404", "405")
        wire.writer.write(head("GET /health HTTP/1.1"))  # on the same connection: it must begin with this answer
        assert (await reply(wire)).status == 200


async def test_every_answer_on_the_wire_has_one_request_id_and_one_length(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        for payload, path in ((None, "/health"), ({"model": "m"}, CHAT), ({"model": "n"}, CHAT), (None, "/nowhere")):
            wire.ask(payload, path, "X-Request-ID: mine\r\n")
            text = await wire.head()
            assert text.lower().count("x-request-id: mine\r\n") == 1
            assert text.lower().count("content-length:") == 1
            length = int(text.lower().partition("content-length:")[2].split()[0])
            await wire.reader.readexactly(length)


async def test_the_body_of_a_refused_request_is_not_taken_for_the_next_one(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake, api_keys=["k"], max_body=1000) as gw, gw.connect() as wire:
        smuggled = head("POST /v1/embeddings HTTP/1.1", "X-API-Key: k", "Content-Length: 13") + b'{"model":"m"}'
        for body, status in ((smuggled, 401), (smuggled.ljust(1001), 413)):
            fields = (f"Content-Length: {len(body)}", "X-API-Key: " + ("k" if status == 413 else ""))
            wire.writer.write(head(f"POST {CHAT} HTTP/1.1", *fields) + body)
            got = await reply(wire)
            assert got.status == status
            if got.headers.get("connection") == "close" or wire.reader.at_eof():
                break
            wire.ask(None, "/health", "")
            assert (await reply(wire)).status == 200
        assert not fake.inference


async def test_answers_to_pipelined_requests_come_in_their_order(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, gw.connect() as wire:
        fake.script(faults.delay(0.05))
        for name in ("first", "second", "third"):
            wire.ask({"model": "m"}, head=f"X-Request-ID: {name}\r\n")
        for name in ("first", "second", "third"):
            assert (await reply(wire)).headers["x-request-id"] == name


async def test_a_backends_name_need_not_be_ascii(gateway: Serves) -> None:
    async with FakeBackend(["m"]) as fake, gateway(Backend("büro-世", fake.url, models=("m",))) as gw:
        got = await gw.ask({"model": "m"})
        assert (got.status, got.headers["x-solar-backend"].encode("latin-1").decode()) == (200, "büro-世")
        assert "büro-世" in (await gw.ask(None, "/metrics")).body.decode()


@pytest.mark.doors("uvicorn")
async def test_a_solar_behind_a_solar_says_each_thing_once(door: str) -> None:
    async with FakeBackend(["m"]) as fake, serve(Router([Backend("engine", fake.url)]), door) as inner:
        async with serve(Router([Backend("inner", inner)]), door) as outer:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(outer.rpartition(":")[2]))
            writer.write(head(f"POST {CHAT} HTTP/1.1", "Connection: close", f"Content-Length: {len(STREAM)}") + STREAM)
            told = (await reader.read()).decode()
            writer.close()
        assert told.lower().count("x-solar-backend: inner\r\n") == 1
        assert told.lower().count("x-solar-") == 3
        assert told.lower().count("x-request-id:") == 1
        assert "data: [DONE]\n\n" in told
