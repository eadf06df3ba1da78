"""Every endpoint reaches its backend at the right path, and neither way is a byte changed."""

import pytest

from asgi_call import CHAT, call, get, post, routed
from solar import Backend, Router
from solar.testing import FakeBackend, faults

VERSIONED = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/messages",
    "/messages/count_tokens",
    "/rerank",
    "/classify",
    "/moderations",
    "/audio/transcriptions",
    "/audio/translations",
    "/audio/speech",
    "/images/generations",
    "/images/edits",
    "/images/variations",
]
AT_THE_ROOT = ["/tokenize", "/detokenize"]

# Unknown fields, odd spacing, nulls, escapes and letters of several bytes: a parser would tidy all of it up.
ODD = (
    '  {"top_k" : 40,\n\t"chat_template_kwargs":{"enable_thinking":false}, "stop":"\\u0041\\n", "n":1.0e0,"x":null,\r\n'
    '"model":"m","messages":[{"role":"user","content":null},{"role":"user","content":"Grüße, 世界 \U0001f600"}],'
    '"input":[ ],"min_p":0.050,"logit_bias":{"1":0.5} }\n'
).encode()


@pytest.mark.parametrize("path", VERSIONED)
async def test_an_endpoint_is_asked_under_v1_with_the_same_bytes(path: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        reply = await post(router, ODD, "/v1" + path)
        assert reply.status == 200
        assert fake.inference[-1].target == "/v1" + path
        assert fake.inference[-1].body == ODD


@pytest.mark.parametrize("path", AT_THE_ROOT)
@pytest.mark.parametrize("asked", ["", "/v1"])
async def test_tokenizing_is_asked_at_the_root_with_the_same_bytes(path: str, asked: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        assert (await post(router, ODD, asked + path)).status == 200
        assert fake.inference[-1].target == path
        assert fake.inference[-1].body == ODD


@pytest.mark.parametrize("status", [200, 201, 400, 404, 418, 422])
async def test_an_answer_comes_back_with_its_bytes_status_and_headers(status: int) -> None:
    said = '{ "reasoning_content" : "\\u00e9 é 世界" , "x":null,"n":1.50 }\n'.encode()
    headers = (("X-Engine", "seven"), ("OpenAI-Processing-Ms", "12"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"))
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        fake.script(faults.status(status, body=said, headers=headers))
        reply = await post(router)
        assert (reply.status, reply.body) == (status, said)
        assert reply["content-type"] == "application/json"
        assert reply["content-length"] == str(len(said))
        assert (reply["x-engine"], reply["openai-processing-ms"]) == ("seven", "12")
        assert reply.all("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize("path", [*VERSIONED, *AT_THE_ROOT])
@pytest.mark.parametrize("spelling", ["{}", "{}/", "/v1{}/", "/v1/v1{}", "/v1/{}", "//v1//{}//"])
async def test_a_path_may_be_spelled_loosely_and_is_never_redirected(path: str, spelling: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        assert (await post(router, ODD, spelling.format(path))).status == 200
        assert fake.inference[-1].target == ("" if path in AT_THE_ROOT else "/v1") + path


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/reranking", "/v1/reranking"])
async def test_reranking_has_four_spellings_and_one_target(path: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        assert (await post(router, {"model": "m", "query": "q", "documents": ["a", "b"]}, path)).status == 200
        assert fake.inference[-1].target == "/v1/rerank"


async def test_a_query_string_passes_as_it_came() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        await post(router, query="api-version=2024-10-21&x=%2F+%20&flag")
        assert fake.inference[-1].target == CHAT + "?api-version=2024-10-21&x=%2F+%20&flag"


@pytest.mark.parametrize(
    ("tail", "base_path", "chat", "tokenize"),
    [
        ("", None, "/v1/chat/completions", "/tokenize"),
        ("/", None, "/v1/chat/completions", "/tokenize"),
        ("/v1", None, "/v1/chat/completions", "/tokenize"),
        ("/v1/", None, "/v1/chat/completions", "/tokenize"),
        ("", "/api/v3", "/api/v3/chat/completions", "/tokenize"),
        ("", "", "/chat/completions", "/tokenize"),
    ],
)
async def test_a_backends_url_may_end_in_v1_or_not(tail: str, base_path: str, chat: str, tokenize: str) -> None:
    async with FakeBackend(["m"]) as fake:
        async with Router([Backend("one", fake.url + tail, base_path=base_path, models=("m",))]) as router:
            await post(router)
            await post(router, {"model": "m", "content": "a b"}, "/tokenize")
        asked = [recorded.target for recorded in fake.requests if recorded.method == "POST"]
        assert asked == [chat, tokenize]


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
async def test_a_path_in_a_backends_url_stands_before_everything(tail: str) -> None:
    async with FakeBackend(["m"], base_path="/api") as fake, Router([Backend("one", fake.url + tail)]) as router:
        await post(router)
        await post(router, {"model": "m", "content": "a b"}, "/tokenize")
        assert [recorded.target for recorded in fake.inference] == ["/api/v1/chat/completions", "/api/tokenize"]
        assert {r.target for r in fake.requests if not r.inference} == {"/api/health", "/api/v1/models"}


async def test_a_backend_may_stand_at_an_ipv6_address() -> None:
    async with FakeBackend(["m"], host="::1") as fake, routed(fake) as router:
        assert (await post(router)).status == 200
        assert fake.inference[-1].header("host") == f"[::1]:{fake.port}"


@pytest.mark.parametrize(
    ("url", "port", "authority"),
    [
        ("http://gpu-box", 80, "gpu-box"),
        ("https://api.example", 443, "api.example"),
        ("gpu-box", 80, "gpu-box"),
        ("http://[fd00::7]", 80, "[fd00::7]"),
        ("http://gpu-box:8080/v1", 8080, "gpu-box:8080"),
    ],
)
def test_a_url_without_a_port_means_the_schemes_own(url: str, port: int, authority: str) -> None:
    origin = Backend("one", url).origin
    assert (origin.port, origin.authority) == (port, authority)


async def test_a_get_of_an_inference_path_is_refused_and_never_forwarded() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        reply = await get(router, CHAT)
        assert (reply.status, reply["allow"]) == (405, "POST, OPTIONS")
        assert reply.error["code"] == "method_not_allowed"
        assert not fake.inference


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/health", "/health/ready", "/metrics"])
async def test_pages_are_only_read(method: str, path: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        reply = await call(router, method, path, b"{}")
        assert (reply.status, reply["allow"]) == (405, "GET, HEAD, OPTIONS")
        assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/m", "/health", "/health/ready", "/metrics"])
async def test_head_tells_what_get_would_and_sends_no_body(path: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        asked, told = await get(router, path), await call(router, "HEAD", path)
        assert (told.status, told.body) == (200, b"")
        assert told["content-type"] == asked["content-type"]
        assert int(told["content-length"] or 0) > 0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v2/chat/completions",
        "/v1/chat",
        "/v1/chat/completions/x",
        "/v1/../admin",
        "/v1/./chat/completions",
        "/v1/chat;a=b/completions",
        "/v1/chat%00/completions",
        "/v1/ch\u00e4t",
        "/v1/chat/completions%23x",
        "/v1/chat/completions%3Fx",
        "/v1\\chat\\completions",
        "/slots",
        "/admin/backends",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
async def test_only_known_paths_are_ever_sent_upstream(method: str, path: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        probed = len(fake.requests)
        reply = await call(router, method, path, ODD)
        assert reply.status == 404
        assert method == "HEAD" or reply.error["code"] == "unknown_path"
        assert len(fake.requests) == probed
