"""Which headers pass, in either direction, and what we add to them."""

import gzip
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from asgi_call import CHAT, get, post, routed
from solar import Backend, Router
from solar.testing import FakeBackend, faults

STREAM = b'{"model":"m","stream":true,"messages":[]}'


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    async with FakeBackend(["m"]) as fake:
        yield fake


@pytest_asyncio.fixture
async def router(fake: FakeBackend) -> AsyncIterator[Router]:
    async with routed(fake) as router:
        yield router


PASSED = [
    ("accept", "text/event-stream"),
    ("accept-language", "de"),
    ("anthropic-beta", "context-1m-2025-08-07,files-api-2025-04-14"),
    ("anthropic-version", "2023-06-01"),
    ("baggage", "a=1"),
    ("idempotency-key", "idem-1"),
    ("openai-beta", "assistants=v2"),
    ("openai-organization", "org"),
    ("openai-project", "proj"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "a=b"),
    ("user-agent", "OpenAI/Python 2.0"),
    ("x-session-id", "s1"),
]
HELD_BACK = [
    ("authorization", "Bearer secret"),
    ("x-api-key", "secret"),
    ("api-key", "secret"),
    ("cookie", "a=1"),
    ("connection", "keep-alive, x-named"),
    ("x-named", "1"),
    ("keep-alive", "timeout=5"),
    ("te", "trailers"),
    ("trailer", "x"),
    ("upgrade", "websocket"),
    ("proxy-authorization", "Basic x"),
    ("proxy-connection", "keep-alive"),
    ("expect", "100-continue"),
    ("accept-encoding", "gzip, br, zstd"),
    ("forwarded", "for=1.2.3.4"),
    ("x-forwarded-for", "1.2.3.4"),
    ("origin", "https://app.example"),
    ("referer", "https://app.example"),
    ("x-solar-backend", "forged"),
    ("content-encoding", "identity"),
    ("x-unheard-of", "1"),
]


async def test_a_backend_sees_only_the_headers_on_the_list(router: Router, fake: FakeBackend) -> None:
    await post(router, headers=[*PASSED, *HELD_BACK, ("host", "public.example"), ("x-request-id", "r1")])
    seen = [(name.decode().lower(), value.decode()) for name, value in fake.inference[-1].headers]
    body = len(fake.inference[-1].body)
    ours = [("accept-encoding", "identity"), ("x-request-id", "r1"), ("content-length", f"{body}")]
    ours += [("host", f"127.0.0.1:{fake.port}"), ("content-type", "application/json")]
    assert sorted(seen) == sorted([*PASSED, *ours])


async def test_headers_on_the_list_pass_as_often_as_they_came(router: Router, fake: FakeBackend) -> None:
    await post(router, headers=[("anthropic-beta", "a"), ("anthropic-beta", "b")])
    assert fake.inference[-1].all_headers("anthropic-beta") == ["a", "b"]


async def test_a_spliced_body_has_its_own_length(fake: FakeBackend) -> None:
    async with Router([Backend("one", fake.url, aliases={"x": "a-much-longer-name"})]) as router:
        assert (await post(router, b'{"model":"x"}')).status == 200
        assert fake.inference[-1].all_headers("content-length") == [str(len('{"model":"a-much-longer-name"}'))]


async def test_what_belongs_to_the_backends_connection_stays_there(router: Router, fake: FakeBackend) -> None:
    theirs = (
        ("Connection", "keep-alive, X-Named"),
        ("X-Named", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("Trailer", "X-Trailer"),
        ("Upgrade", "h2c"),
        ("TE", "trailers"),
        ("Server", "engine/1"),
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("X-Kept", "1"),
    )
    fake.script(faults.status(200, headers=theirs))
    reply = await post(router)
    names = {name.decode() for name, _ in reply.headers}
    assert not names & {name.lower() for name, _ in theirs[:-1]}
    assert reply["x-kept"] == "1"


async def test_a_compressed_answer_is_relayed_as_it_is(router: Router, fake: FakeBackend) -> None:
    fake.script(faults.gzip())
    reply = await post(router)
    assert reply["content-encoding"] == "gzip"
    assert reply["content-length"] == str(len(reply.body))
    assert b"chat.completion" in gzip.decompress(reply.body)


async def test_a_backends_answer_keeps_its_content_type_whatever_stream_said(router: Router, fake: FakeBackend) -> None:
    fake.script(faults.bare_json_for_stream(), faults.other_stream())
    assert (await post(router, STREAM))["content-type"] == "application/json"
    assert (await post(router, path="/v1/audio/speech"))["content-type"] == "text/event-stream"


async def test_a_stream_tells_proxies_not_to_hold_it_back(router: Router, fake: FakeBackend) -> None:
    reply = await post(router, STREAM)
    assert reply["content-type"] == "text/event-stream"
    assert (reply["cache-control"], reply["x-accel-buffering"]) == ("no-cache", "no")
    assert reply["content-length"] is None
    assert (await post(router))["x-accel-buffering"] is None


async def test_an_answer_says_which_way_it_took(router: Router) -> None:
    for body in (b'{"model":"m"}', STREAM):
        reply = await post(router, body)
        assert (reply["x-solar-backend"], reply["x-solar-attempts"]) == ("one", "1")
        assert 0 < float(reply["x-solar-overhead-ms"] or -1) < 1000


async def test_an_answer_after_a_retry_counts_both_attempts(fake: FakeBackend) -> None:
    async with FakeBackend(["m"]) as other, routed(fake, other) as router:
        fake.script(faults.status(503))
        reply = await post(router)
        assert (reply.status, reply["x-solar-backend"], reply["x-solar-attempts"]) == (200, "two", "2")


@pytest.mark.parametrize("name", ["X-Solar-Backend", "X-Solar-Attempts", "X-Solar-Overhead-Ms"])
async def test_a_backends_words_about_a_way_do_not_pass_for_ours(router: Router, fake: FakeBackend, name: str) -> None:
    fake.script(faults.status(200, headers=((name, "theirs"),)))
    assert "theirs" not in (await post(router)).all(name.lower())


@pytest.mark.parametrize("status", [400, 429, 500, 503])
@pytest.mark.parametrize("retry_after", ["7", "Wed, 21 Oct 2099 07:28:00 GMT"])
async def test_a_backends_retry_after_is_kept(router: Router, fake: FakeBackend, status: int, retry_after: str) -> None:
    fake.script(faults.status(status, retry_after=retry_after))
    reply = await post(router)
    assert (reply.status, reply["retry-after"]) == (status, retry_after)
    assert reply["x-should-retry"] is None


async def test_an_answer_of_an_http10_backend_is_whole(router: Router, fake: FakeBackend) -> None:
    fake.script(faults.http10(), faults.close_delimited())
    for _ in range(2):
        assert (await post(router)).json["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_without_content_has_no_body_and_no_length(router: Router, fake: FakeBackend) -> None:
    fake.script(faults.no_content())
    reply = await post(router)
    assert (reply.status, reply.body, reply["content-length"]) == (204, b"", None)


async def test_a_1xx_answers_headers_are_not_the_answers(router: Router, fake: FakeBackend) -> None:
    fake.script(faults.informational(103))
    reply = await post(router)
    assert (reply.status, reply["x-interim"]) == (200, None)


async def test_no_head_of_ours_carries_two_lengths(router: Router) -> None:
    for reply in (await post(router), await get(router, "/v1/models"), await get(router, CHAT)):
        assert reply["content-length"] == str(len(reply.body))
