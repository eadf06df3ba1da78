"""What is refused, with which status, and in which words: always the wire's own envelope, never a guess."""

import asyncio

import pytest

from asgi_call import CHAT, call, get, post, routed
from solar import Backend, Router, Timeouts
from solar.testing import FakeBackend, faults

EVERY_WIRE = [CHAT, "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/audio/speech", "/tokenize"]


def form(*parts: tuple[str, bytes], boundary: bytes = b"bound") -> bytes:
    """A multipart body. A part whose name ends in `!` is a file."""
    lines = []
    for name, value in parts:
        disposition = b'form-data; name="%b"' % name.rstrip("!").encode()
        if name.endswith("!"):
            disposition += b'; filename="a.wav"\r\nContent-Type: audio/wav'
        lines.append(b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (boundary, disposition, value))
    return b"".join(lines) + b"--%b--\r\n" % boundary


FORM = [("content-type", "multipart/form-data; boundary=bound")]
SOUND = b"RIFF\x00\xff--boun\r\n--bou" + bytes(range(256)) * 4000  # a megabyte, with what almost is a boundary


# --- bodies that are no request


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   \n",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"model":"m"}{"model":"m"}',
        b'{"model":"m",}',
        b'\xef\xbb\xbf{"model":"m"}',
        b'{"model":"m","x":NaN}',
        b'{"model":"m","x":Infinity}',
        b'{"model":"m","x":"\xff\xfe"}',
        b'{"model":"m","x":"\xed\xa0\x80"}',
        '{"model":"m"}'.encode("utf-16"),
        b'{"model":"m","model":"n"}',
        b'{"model":"m","model":"m"}',
        b'{"model":"m","mod\\u0065l":"n"}',
        b'{"\\u006dodel":"n","model":"m"}',
        b'{"model":"m","stream":true,"stream":false}',
        b'{"model":"m","stream":"true"}',
        b'{"model":1}',
        b'{"model":["m"]}',
        b'{"model":{"id":"m"}}',
        b'{"model":true}',
        b'{"model":"m\\nx"}',
        b'{"model":"m\\u0000"}',
        b'{"model":"' + b"m" * 1_000_000 + b'"}',
        b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    ],
    ids=range(29),
)
async def test_a_body_that_can_be_read_in_two_ways_or_none_is_a_400(body: bytes) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        reply = await post(router, body)
        assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
        assert len(reply.error["message"]) < 1000
        assert reply["content-type"] == "application/json"
        assert not fake.inference
        assert router._running is not None
        assert router._running.relay.buffered == 0


@pytest.mark.parametrize("path", EVERY_WIRE)
async def test_a_request_without_a_model_is_a_400_that_says_so(path: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        reply = await post(router, b'{"messages":[]}', path)
        assert (reply.status, reply.error["param"]) == (400, "model")
        assert "/v1/models" in reply.error["message"]


async def test_two_fields_named_model_deep_inside_are_nobodys_business() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        body = b'{"tools":[{"model":"a","model":"b"}],"model":"m"}'
        assert (await post(router, body)).status == 200
        assert fake.inference[-1].body == body


@pytest.mark.parametrize("query", ["a=b c", "a\r\nX-Evil: 1", "a\tb", "a=\x00", "a=\u00fc"])
async def test_a_query_that_could_end_its_line_is_refused(query: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        asked = len(fake.requests)
        for reply in (await post(router, query=query), await get(router, "/v1/models/other", query=query)):
            assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
        assert len(fake.requests) == asked


# --- forms


@pytest.mark.parametrize("path", ["/v1/audio/transcriptions", "/v1/audio/translations", "/v1/images/edits"])
@pytest.mark.parametrize("order", ["before", "after"])
async def test_a_forms_model_is_found_before_and_after_its_file(path: str, order: str) -> None:
    parts = [("model", b"m"), ("file!", SOUND), ("language", b"en")]
    body = form(*(parts if order == "before" else reversed(parts)))
    async with FakeBackend(["m"]) as fake, FakeBackend(["n"]) as other, routed(fake, other) as router:
        assert (await post(router, body, path, headers=FORM)).status == 200
        assert fake.inference[-1].body == body
        assert not other.inference


@pytest.mark.parametrize("order", ["before", "after"])
async def test_an_alias_is_replaced_inside_a_form_and_nothing_else_is(order: str) -> None:
    parts = [("model", b"whisper"), ("file!", SOUND + b"whisper"), ("prompt", b"whisper")]
    body = form(*(parts if order == "before" else reversed(parts)))
    async with FakeBackend(["whisper-large-v3"]) as fake:
        async with Router([Backend("one", fake.url, aliases={"whisper": "whisper-large-v3"})]) as router:
            assert (await post(router, body, "/v1/audio/transcriptions", headers=FORM)).status == 200
        head = b'name="model"\r\n\r\nwhisper'
        assert body.count(head) == 1
        assert fake.inference[-1].body == body.replace(head, head + b"-large-v3")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", form(("model", b"m"))),  # no boundary
        ("multipart/form-data; boundary=", form(("model", b"m"))),
        ("multipart/form-data; boundary=other", form(("model", b"m"))),
        ("multipart/form-data; boundary=bound", b""),
        ("multipart/form-data; boundary=bound", b"no form at all"),
        ("multipart/form-data; boundary=bound", form(("model", b"m"))[:-12]),  # cut
        ("multipart/form-data; boundary=bound", form(("model", b"m"), ("model", b"n"))),
        ("multipart/form-data; boundary=bound", form(("model", b"m\nn"))),
        ("multipart/form-data; boundary=bound", form(("model", b"\xff"))),
    ],
    ids=range(9),
)
async def test_a_form_that_cannot_be_read_is_a_400(kind: str, body: bytes) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        reply = await post(router, body, "/v1/audio/transcriptions", headers=[("content-type", kind)])
        assert (reply.status, reply.error["type"]) == (400, "invalid_request_error")
        assert not fake.inference


# --- the envelope


async def test_an_anthropic_client_reads_its_own_kind_of_error() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, api_keys=["k"]) as router:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            refused = await post(router, b"{", path)
            assert (refused.status, refused.json["type"]) == (401, "error")
            assert refused.json["error"]["type"] == "authentication_error"
            assert refused.json["request_id"] == refused["x-request-id"]
            unknown = await post(router, {"model": "other"}, path, headers=[("x-api-key", "k")])
            assert (unknown.status, unknown.json["error"]["type"]) == (404, "not_found_error")
            wrong = await call(router, "GET", path, headers=[("x-api-key", "k")])
            assert (wrong.status, wrong.json["type"]) == (405, "error")


async def test_nobody_there_is_a_503_that_says_when_to_come_back() -> None:
    async with FakeBackend(["m"]) as fake:
        fake.stop_listening()
        async with Router([Backend("one", fake.url, models=("m",))]) as router:
            reply = await post(router)
            assert (reply.status, reply.error["code"]) == (503, "no_backend_available")
            assert int(reply["retry-after"] or 0) >= 1
            assert (await post(router, path="/v1/messages")).json["error"]["type"] == "overloaded_error"


async def test_a_full_queue_is_a_429_that_says_when_to_come_back() -> None:
    async with FakeBackend(["m"]) as fake:
        fake.script(faults.silent())
        backend = Backend("one", fake.url, models=("m",), max_in_flight=1)
        async with Router([backend], queue_limit=0) as router:
            first = asyncio.get_running_loop().create_task(post(router))
            await fake.wait_for(lambda: fake.in_flight == 1)
            reply = await post(router)
            assert (reply.status, reply.error["type"], reply.error["code"]) == (429, "rate_limit_error", "queue_full")
            assert int(reply["retry-after"] or 0) >= 1
            fake.die()
            assert (await first).status in (502, 503)


async def test_a_backends_silence_is_a_504() -> None:
    async with FakeBackend(["m"]) as fake:
        fake.always(faults.silent())
        backend = Backend("one", fake.url, models=("m",), timeouts=Timeouts(first_byte=0.1))
        async with Router([backend]) as router:
            reply = await post(router)
            assert (reply.status, reply.error["code"]) == (504, "upstream_timeout")


@pytest.mark.parametrize("text", [b"\x00\xffSSH-2.0\r\n\r\n", b"HTTP/2.0 200 OK\r\n\r\n"])
async def test_a_backend_that_speaks_no_http_is_a_502(text: bytes) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        fake.always(faults.garbage(text=text))
        reply = await post(router)
        assert (reply.status, reply.error["type"]) == (502, "server_error")


# --- request ids


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/health", None, 200),
        ("GET", "/health/ready", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/v1/models", None, 200),
        ("GET", "/v1/models/other", None, 404),
        ("HEAD", "/v1/models", None, 200),
        ("OPTIONS", CHAT, None, 204),
        ("GET", CHAT, None, 405),
        ("GET", "/nowhere", None, 404),
        ("POST", CHAT, b'{"model":"m"}', 200),
        ("POST", CHAT, b"{", 400),
        ("POST", CHAT, b'{"model":"other"}', 404),
    ],
)
async def test_every_answer_has_a_request_id(method: str, path: str, body: bytes | None, status: int) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        made = await call(router, method, path, body)
        assert made.status == status
        assert (made["x-request-id"] or "").startswith("req_")
        kept = await call(router, method, path, body, headers=[("x-request-id", "mine-7")])
        assert kept["x-request-id"] == "mine-7"


@pytest.mark.parametrize(
    "given", ["", " ", "two words", "a\tb", "a\r\nx-evil: 1", "\x00", "é".encode(), b"\xff", "x" * 201]
)
async def test_a_request_id_that_nobody_can_use_is_replaced(given: str | bytes) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        reply = await post(router, headers=[("x-request-id", given)])
        assert (reply["x-request-id"] or "").startswith("req_")
        assert fake.inference[-1].header("x-request-id") == reply["x-request-id"]


async def test_the_backend_sees_the_same_request_id_and_its_own_one_does_not_reach_the_client() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        fake.script(faults.status(200, headers=(("X-Request-Id", "theirs"),)))
        reply = await post(router, headers=[("x-request-id", "mine-7")])
        assert reply["x-request-id"] == "mine-7"
        assert fake.inference[-1].all_headers("x-request-id") == ["mine-7"]


async def test_request_ids_differ() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        assert len({(await get(router, "/health"))["x-request-id"] for _ in range(50)}) == 50
