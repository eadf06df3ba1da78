"""Who comes in: keys in three headers, hosts and origins where there is no key, and browsers from elsewhere."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from asgi_call import CHAT, Call, Reply, call, get, post, routed
from solar import Backend, InvalidSettings, Router
from solar.testing import FakeBackend, faults

KEYS = ["first-key", "My API Key", "clé"]
Pairs = list[tuple[str, str | bytes]]


@pytest_asyncio.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    async with FakeBackend(["m"]) as fake:
        yield fake


@pytest_asyncio.fixture
async def guarded(fake: FakeBackend) -> AsyncIterator[Router]:
    async with routed(fake, api_keys=KEYS) as router:
        yield router


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "Bearer first-key")],
        [("authorization", "bearer first-key")],
        [("authorization", "Bearer   first-key ")],
        [("authorization", "Bearer My API Key")],
        [("authorization", "Bearer clé".encode())],
        [("x-api-key", "first-key")],
        [("x-api-key", "My API Key")],
        [("api-key", "first-key")],
        [("authorization", "Bearer "), ("x-api-key", "first-key")],
        [("authorization", ""), ("api-key", "first-key")],
        [("authorization", "Bearer first-key"), ("x-api-key", "")],
        [("authorization", "Bearer sk-dummy"), ("x-api-key", "first-key")],
        [("authorization", "Bearer first-key"), ("x-api-key", "wrong")],
        [("authorization", "Basic dXNlcjpwYXNz"), ("api-key", "first-key")],
        [("x-api-key", "wrong"), ("x-api-key", "first-key")],
        [("authorization", "Bearer first-key"), ("authorization", "Bearer first-key")],
    ],
)
async def test_any_right_credential_admits_whatever_stands_beside_it(guarded: Router, headers: Pairs) -> None:
    assert (await post(guarded, headers=headers)).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "first-key")],
        [("authorization", "Basic first-key")],
        [("authorization", "Bearer first-key-and-more")],
        [("authorization", "Bearer first")],
        [("authorization", "Bearer FIRST-KEY")],
        [("authorization", "Bearer My API")],
        [("authorization", b"Bearer \xff\xfe")],
        [("authorization", "Bearer schlüssel".encode())],
        [("x-api-key", b"\x00\xff")],
        [("x-api-key", "")],
        [("api-key", "wrong"), ("x-api-key", "wrong"), ("authorization", "Bearer wrong")],
        [("cookie", "api-key=first-key"), ("x-auth", "first-key")],
    ],
)
async def test_no_right_credential_is_a_401(guarded: Router, fake: FakeBackend, headers: Pairs) -> None:
    reply = await post(guarded, headers=headers)
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert reply.error["type"] == "authentication_error"
    assert reply["www-authenticate"] == "Bearer"
    assert not fake.inference


async def test_two_authorizations_that_differ_are_never_guessed_between(guarded: Router, fake: FakeBackend) -> None:
    two = [("authorization", "Bearer first-key"), ("authorization", "Bearer other")]
    for headers in (two, two[::-1]):
        reply = await post(guarded, headers=headers)
        assert (reply.status, reply.error["code"]) == (400, "ambiguous_authorization")
    assert not fake.inference


async def test_two_authorizations_that_differ_are_refused_without_any_key_too(fake: FakeBackend) -> None:
    async with routed(fake) as router:
        headers = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
        assert (await post(router, headers=headers)).status == 400


async def test_the_key_is_checked_before_the_body_is_read(guarded: Router) -> None:
    request = Call(guarded, "POST", CHAT, headers=[("content-length", "1000")])
    assert (await request.answered()).status == 401  # nothing of the body was sent
    assert not request.asked_for_body.is_set()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/v1/health", 200),
        ("GET", "/health/ready", 200),
        ("OPTIONS", CHAT, 204),
        ("GET", "/metrics", 401),
        ("GET", "/v1/models", 401),
        ("GET", "/v1/models/m", 401),
        ("GET", CHAT, 401),
        ("GET", "/nowhere", 401),
        ("POST", "/nowhere", 401),
        ("GET", "//health//ready/..", 401),
        ("POST", "/v1/messages", 401),
        ("POST", "/tokenize", 401),
    ],
)
async def test_everything_needs_the_key_but_health_and_preflight(
    guarded: Router, method: str, path: str, status: int
) -> None:
    assert (await call(guarded, method, path)).status == status


async def test_without_keys_any_credential_is_welcome(fake: FakeBackend) -> None:
    async with routed(fake) as router:
        assert (await post(router)).status == 200
        assert (await post(router, headers=[("authorization", "Bearer sk-dummy")])).status == 200


@pytest.mark.parametrize("key", ["", " ", "key ", " key", "a\nb", "\x00"])
def test_a_key_that_nobody_can_present_is_refused_rather_than_ignored(key: str) -> None:
    with pytest.raises(InvalidSettings, match="API key") as refused:
        Router(api_keys=["good", key])
    assert "good" not in str(refused.value)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/tokenize"])
async def test_a_clients_key_never_reaches_a_backend(guarded: Router, fake: FakeBackend, path: str) -> None:
    headers = [("authorization", "Bearer first-key"), ("x-api-key", "first-key"), ("api-key", "first-key")]
    assert (await post(guarded, path=path, headers=[*headers, ("cookie", "k=first-key")])).status == 200
    assert b"first-key" not in fake.inference[-1].head


async def test_a_backend_gets_its_own_key(fake: FakeBackend) -> None:
    fake.api_key = "backends own"
    backend = Backend("one", fake.url, api_key="backends own")
    async with Router([backend], api_keys=["first-key"]) as router:
        assert router.backends[0].state == "healthy"
        assert (await post(router, headers=[("x-api-key", "first-key")])).status == 200
        assert fake.inference[-1].all_headers("authorization") == ["Bearer backends own"]
        assert fake.inference[-1].all_headers("x-api-key") == []
        assert (await post(router, path="/v1/messages", headers=[("x-api-key", "first-key")])).status == 200
        assert fake.inference[-1].all_headers("x-api-key") == ["backends own"]


async def test_no_key_is_ever_shown(fake: FakeBackend) -> None:
    async with Router([Backend("one", fake.url, api_key="backends-own")], api_keys=["first-key"]) as router:
        shown = f"{router!r} {router.backends!r} {router.backends[0]!r} {router._admission!r}"
        for path in ("/v1/models", "/health", "/metrics", "/nowhere"):
            shown += (await get(router, path, headers=[("x-api-key", "first-key")])).body.decode()
        shown += (await get(router, "/v1/models", headers=[("x-api-key", "a-wrong-one")])).body.decode()
        assert not any(secret in shown for secret in ("backends-own", "first-key", "a-wrong-one"))


# --- without a key, only the hosts that are allowed


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("host", "localhost")], 200),
        ([("host", "LOCALHOST:8000")], 200),
        ([("host", "127.0.0.1:8000")], 200),
        ([("host", "[::1]:8000")], 200),
        ([("host", "localhost"), ("origin", "http://localhost:3000")], 200),
        ([("host", "evil.example")], 403),
        ([("host", "localhost.evil.example")], 403),
        ([("host", "evil.example:127.0.0.1")], 403),
        ([("host", "user@evil.example")], 403),
        ([("host", "")], 403),
        ([("host", "[::1")], 403),
        ([("host", "localhost"), ("origin", "https://evil.example")], 403),
        ([("host", "localhost"), ("origin", "https://localhost.evil.example")], 403),
        ([("host", "localhost"), ("origin", "null")], 403),
    ],
)
async def test_a_foreign_host_or_origin_is_refused_where_hosts_are_listed(
    fake: FakeBackend, headers: Pairs, status: int
) -> None:
    async with routed(fake, allowed_hosts=["localhost", "127.0.0.1", "::1"]) as router:
        health = await call(router, "GET", "/health", headers=headers)
        assert health.status == 200  # as without a key: who looks after us may not know our name
        for path in (CHAT, "/v1/models", "/metrics"):
            reply = await call(router, "POST" if path == CHAT else "GET", path, b'{"model":"m"}', headers=headers)
            assert reply.status == status
            assert status == 200 or reply.error["code"] == "foreign_host"
            assert status == 200 or "add this one to its allowed_hosts" in reply.error["message"]


# --- browsers


def cors(reply: Reply) -> dict[str, Any]:
    return {name.decode(): value.decode() for name, value in reply.headers if name.startswith(b"access-control-")}


PREFLIGHT: Pairs = [
    ("origin", "https://app.example"),
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "authorization,content-type,x-stainless-os"),
]


@pytest.mark.parametrize("path", [CHAT, "/chat/completions/", "/v1/models", "/v1/models/m", "/v1/messages"])
async def test_a_preflight_needs_no_key_and_allows_what_it_asks_for(guarded: Router, path: str) -> None:
    reply = await call(guarded, "OPTIONS", path, headers=PREFLIGHT)
    assert (reply.status, reply.body) == (204, b"")
    told = cors(reply)
    assert told["access-control-allow-origin"] == "*"
    assert told["access-control-allow-headers"] == "authorization,content-type,x-stainless-os"
    assert ("GET" if "models" in path else "POST") in told["access-control-allow-methods"]


async def test_a_plain_options_tells_the_methods(guarded: Router) -> None:
    reply = await call(guarded, "OPTIONS", CHAT)
    assert (reply.status, reply["allow"], cors(reply)) == (204, "POST, OPTIONS", {})
    assert (await call(guarded, "OPTIONS", "/v1/models"))["allow"] == "GET, HEAD, OPTIONS"


async def test_options_of_an_unknown_path_is_a_404(guarded: Router) -> None:
    assert (await call(guarded, "OPTIONS", "/nowhere", headers=PREFLIGHT)).status == 404


@pytest.mark.parametrize(("body", "key", "status"), [(b"{}", "wrong", 401), (b"{", "first-key", 400)])
async def test_a_browser_may_read_errors_too(guarded: Router, body: bytes, key: str, status: int) -> None:
    reply = await post(guarded, body, headers=[("origin", "https://app.example"), ("x-api-key", key)])
    assert (reply.status, reply["access-control-allow-origin"]) == (status, "*")
    assert "x-request-id" in (reply["access-control-expose-headers"] or "")


async def test_a_backends_own_cors_headers_do_not_double_ours(fake: FakeBackend) -> None:
    theirs = (
        ("Access-Control-Allow-Origin", "http://other"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Origin"),
    )
    async with routed(fake) as router:
        fake.always(faults.status(200, headers=theirs))
        reply = await post(router, headers=[("origin", "https://app.example")])
        assert reply.all("access-control-allow-origin") == ["*"]
        assert reply["access-control-allow-credentials"] is None
        assert cors(await post(router)) == {}


async def test_only_the_origins_that_are_listed_are_answered(fake: FakeBackend) -> None:
    async with routed(fake, cors_origins=["https://app.example", "http://localhost:3000/"]) as router:
        for origin in ("https://app.example", "http://localhost:3000"):
            reply = await post(router, headers=[("origin", origin)])
            assert (reply["access-control-allow-origin"], reply["vary"]) == (origin, "origin")
            assert (await call(router, "OPTIONS", CHAT, headers=[("origin", origin)])).status == 204
        for origin in ("https://evil.example", "http://app.example", "https://app.example.evil"):
            reply = await post(router, headers=[("origin", origin)])
            assert (cors(reply), reply["vary"]) == ({}, "origin")
            assert cors(await call(router, "OPTIONS", CHAT, headers=[("origin", origin)])) == {}


async def test_no_origin_is_ever_answered_where_none_is_listed(fake: FakeBackend) -> None:
    async with routed(fake, cors_origins=()) as router:
        assert cors(await post(router, headers=[("origin", "https://app.example")])) == {}


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/metrics", "/nowhere"])
async def test_pages_that_are_no_api_are_not_for_browsers_elsewhere(fake: FakeBackend, path: str) -> None:
    async with routed(fake) as router:
        for method in ("GET", "OPTIONS"):
            assert cors(await call(router, method, path, headers=PREFLIGHT)) == {}
