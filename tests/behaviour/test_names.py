"""Which backend a model's name leads to, and what becomes of the name in the body."""

from typing import Any

import pytest
from gateways import until

from asgi_call import CHAT, call, get, post, routed
from solar import Backend, Router
from solar.testing import FakeBackend


def asking(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}]}


async def test_an_alias_is_replaced_in_the_raw_bytes_and_nothing_else_is() -> None:
    body = b' {"x":[ "model" ,"mine"],\n "model" :\t"mine" , "y":"mine","n":1.0,"z":"\\u00e9"} '
    async with FakeBackend(["vendor/real-8b"]) as fake:
        async with Router([Backend("one", fake.url, aliases={"mine": "vendor/real-8b"})]) as router:
            assert (await post(router, body)).status == 200
        assert fake.inference[-1].body == body.replace(b'\t"mine" ', b'\t"vendor/real-8b" ')
        assert fake.inference[-1].header("content-length") == str(len(fake.inference[-1].body))


async def test_an_alias_is_found_however_json_spells_it() -> None:
    async with FakeBackend(["real"]) as fake:
        async with Router([Backend("one", fake.url, aliases={"mine": "real"})]) as router:
            assert (await post(router, b'{"mod\\u0065l":"m\\u0069ne"}')).status == 200
        assert fake.inference[-1].body == b'{"mod\\u0065l":"real"}'


async def test_a_name_that_json_must_escape_is_spliced_in_as_json() -> None:
    real = 'odd"name\\é'
    async with FakeBackend([real]) as fake:
        async with Router([Backend("one", fake.url, aliases={"mine": real})]) as router:
            assert (await post(router, asking("mine"))).status == 200
        assert fake.inference[-1].payload["model"] == real


async def test_each_backend_has_its_own_name_for_an_alias() -> None:
    async with FakeBackend(["a-real"]) as one, FakeBackend(["b-real"]) as two:
        backends = [Backend("one", one.url, aliases={"x": "a-real"}), Backend("two", two.url, aliases={"x": "b-real"})]
        async with Router(backends) as router:
            for _ in range(4):
                assert (await post(router, asking("x"))).status == 200
        assert [r.payload["model"] for r in one.inference] == ["a-real", "a-real"]
        assert [r.payload["model"] for r in two.inference] == ["b-real", "b-real"]


async def test_an_alias_is_listed_among_the_models() -> None:
    async with (
        FakeBackend(["real"]) as fake,
        Router([Backend("one", fake.url, aliases={"mine": "real"})]) as router,
    ):
        assert [model["id"] for model in (await get(router, "/v1/models")).json["data"]] == ["mine", "real"]
        assert (await get(router, "/v1/models/mine")).json["id"] == "mine"


@pytest.mark.parametrize(("has", "asked"), [("x:latest", "x"), ("x", "x:latest"), ("x:latest", "x:latest"), ("x", "x")])
async def test_a_name_equals_itself_with_ollamas_latest(has: str, asked: str) -> None:
    async with FakeBackend([has]) as fake, routed(fake) as router:
        assert (await post(router, asking(asked))).status == 200
        assert fake.inference[-1].payload["model"] == has
        assert (await get(router, f"/v1/models/{asked}")).json["id"] == has


async def test_a_name_with_and_without_latest_is_one_model_on_two_backends() -> None:
    async with FakeBackend(["x:latest"], kind="ollama") as one, FakeBackend(["x"]) as two, routed(one, two) as router:
        for _ in range(4):
            assert (await post(router, asking("x"))).status == 200
        assert (len(one.inference), len(two.inference)) == (2, 2)
        assert len((await get(router, "/v1/models")).json["data"]) == 1


@pytest.mark.parametrize(
    ("fallback", "models", "asked", "served"),
    [
        ("off", ["qwen3:8b"], "qwen3", None),
        ("off", ["qwen3:8b"], "qwen3:8b", "qwen3:8b"),
        ("unique", ["qwen3:8b"], "qwen3", "qwen3:8b"),
        ("unique", ["qwen3-8b"], "qwen3", "qwen3-8b"),
        ("unique", ["qwen3@q4"], "qwen3", "qwen3@q4"),
        ("unique", ["qwen/qwen3"], "qwen", "qwen/qwen3"),
        ("unique", ["qwen3:8b"], "qwen3:", "qwen3:8b"),
        ("unique", ["qwen3:8b"], "qwen", None),  # no boundary after it
        ("unique", ["qwen3.5"], "qwen3", None),
        ("unique", ["qwen3:8b", "qwen3:4b"], "qwen3", None),  # two match
        ("unique", ["qwen3:8b", "llama:8b"], "qwen3", "qwen3:8b"),
        ("unique", ["qwen3:8b", "qwen3"], "qwen3", "qwen3"),  # exact comes first
        ("first", ["qwen3:8b", "qwen3:4b"], "qwen3", "qwen3:4b"),
        ("first", ["qwen3:8b"], "qw", "qwen3:8b"),
        ("first", ["qwen3:8b"], "other", None),
    ],
)
async def test_a_shortened_name_leads_where_the_prefix_fallback_says(
    fallback: str, models: list[str], asked: str, served: str | None
) -> None:
    async with FakeBackend(models) as fake, routed(fake, prefix_fallback=fallback) as router:
        reply = await post(router, asking(asked))
        assert reply.status == (200 if served else 404)
        assert [r.payload["model"] for r in fake.inference] == ([served] if served else [])


@pytest.mark.parametrize("fallback", ["off", "unique", "first"])
@pytest.mark.parametrize("body", [b'{"model":""}', b'{"model":null}', b'{"messages":[]}'])
async def test_an_empty_name_never_matches_anything(fallback: str, body: bytes) -> None:
    async with FakeBackend(["only"]) as fake, routed(fake, prefix_fallback=fallback) as router:
        reply = await post(router, body)
        assert (reply.status, reply.error["param"]) == (400, "model")
        assert not fake.inference


async def test_one_model_on_two_backends_is_unique() -> None:
    async with (
        FakeBackend(["m:8b"]) as one,
        FakeBackend(["m:8b"]) as two,
        routed(one, two, prefix_fallback="unique") as router,
    ):
        assert (await post(router)).status == 200


async def test_an_unknown_model_is_not_found() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        reply = await post(router, asking("other"))
        assert reply.status == 404
        assert (reply.error["code"], reply.error["param"]) == ("model_not_found", "model")
        assert "'other'" in reply.error["message"]
        assert not fake.inference


# --- the default backend


@pytest.mark.parametrize("body", [b'{"model":"unheard-of", "x" :1}', b' {"x" :1}', b'{"model":"","x":1}'])
async def test_the_default_backend_gets_what_nobody_has_untouched(body: bytes) -> None:
    async with FakeBackend(["m"]) as one, FakeBackend(["n"]) as two, routed(one, two, default_backend="two") as router:
        reply = await post(router, body, query="a=b&c=%20")
        assert (reply.status, reply["x-solar-backend"]) == (200, "two")
        assert not one.inference
        assert (two.inference[-1].target, two.inference[-1].body) == (CHAT + "?a=b&c=%20", body)


async def test_the_default_backend_gets_only_what_nobody_else_has() -> None:
    async with FakeBackend(["m"]) as one, FakeBackend(["n"]) as two, routed(one, two, default_backend="two") as router:
        assert (await post(router))["x-solar-backend"] == "one"


async def test_the_default_backend_gets_forms_without_a_model_untouched() -> None:
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n\x00\xff\r\n--b--\r\n'
    kind = "multipart/form-data; boundary=b"
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        reply = await post(router, form, "/v1/audio/transcriptions", headers=[("content-type", kind)])
        assert reply.status == 200
        assert (fake.inference[-1].body, fake.inference[-1].header("content-type")) == (form, kind)


@pytest.mark.parametrize("name", ["unheard-of", "org/unheard-of", "unheard:8b"])
async def test_the_default_backend_is_asked_about_unknown_models(name: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        reply = await get(router, f"/v1/models/{name}", query="a=b")
        assert (reply.status, reply["x-solar-backend"]) == (404, "one")
        assert reply.json["error"]["message"] == f"The model `{name}` does not exist."
        assert fake.requests[-1].target == f"/v1/models/{name}?a=b"


async def test_a_known_models_facts_are_answered_without_the_default_backend() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        asked = len(fake.requests)
        assert (await get(router, "/v1/models/m")).json["id"] == "m"
        assert len(fake.requests) == asked


async def test_a_head_of_an_unknown_model_gets_no_body_from_the_default_backend() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, default_backend="one") as router:
        reply = await call(router, "HEAD", "/v1/models/unheard-of")
        assert (reply.status, reply.body) == (404, b"")


# --- what is listed


async def test_the_list_of_models_is_merged_and_complete() -> None:
    async with FakeBackend(["b", "a"]) as one, FakeBackend(["c", "a"]) as two, routed(one, two) as router:
        reply = await get(router, "/v1/models")
        assert reply["content-type"] == "application/json"
        listed = reply.json
        assert listed["object"] == "list"
        assert [model["id"] for model in listed["data"]] == ["a", "b", "c"]
        for model in listed["data"]:
            assert model["object"] == "model"
            assert type(model["created"]) is int
            assert isinstance(model["owned_by"], str)
            assert model["created_at"].endswith("Z")


async def test_facts_that_a_backend_tells_of_a_model_survive() -> None:
    facts = {"max_model_len": 8192, "capabilities": ["vision"], "über": None, "pricing": {"in": 0.1}}
    async with FakeBackend(["m"], kind="vllm", meta={"m": facts}) as fake, routed(fake) as router:
        for model in ((await get(router, "/v1/models")).json["data"][0], (await get(router, "/v1/models/m")).json):
            assert model | facts == model
            assert model["owned_by"] == "vllm"


async def test_a_listed_model_is_complete_whatever_its_backend_says() -> None:
    odd = {"created": "yesterday", "owned_by": 7, "object": None, "extra": [1.5, None]}
    async with FakeBackend(["m"], meta={"m": odd}) as fake, routed(fake) as router:
        model = (await get(router, "/v1/models")).json["data"][0]
        assert (model["id"], model["object"], model["extra"]) == ("m", "model", [1.5, None])
        assert type(model["created"]) is int
        assert isinstance(model["owned_by"], str)


async def test_an_empty_list_is_a_list() -> None:
    async with Router() as router:
        assert (await get(router, "/v1/models")).json == {"object": "list", "data": []}


async def test_a_model_that_loads_is_still_listed() -> None:
    async with (
        FakeBackend(["m"], loading=True) as fake,
        Router([Backend("one", fake.url, models=("m",))]) as router,
    ):
        assert router.backends[0].state == "loading"
        assert [model["id"] for model in (await get(router, "/v1/models")).json["data"]] == ["m"]


async def test_a_model_that_only_dead_backends_have_is_not_listed() -> None:
    async with FakeBackend(["a"]) as one, FakeBackend(["b"]) as two:
        two.stop_listening()
        backends = [Backend("one", one.url, models=("a",)), Backend("two", two.url, models=("b",))]
        async with Router(backends) as router:
            await until(lambda: router.backends[1].state == "down")
            assert [model["id"] for model in (await get(router, "/v1/models")).json["data"]] == ["a"]


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "gpt-oss:20b", "hf.co/org/model:Q4_K_M", "a b+c"])
@pytest.mark.parametrize("quoted", ["", "/:", "+"])
async def test_a_model_is_found_by_its_id_encoded_or_not(name: str, quoted: str) -> None:
    path = name.replace(" ", "%20")
    for character in quoted:
        path = path.replace(character, f"%{ord(character):02X}")
    async with FakeBackend([name]) as fake, routed(fake) as router:
        for prefix in ("/v1/models/", "/models/"):
            reply = await get(router, prefix + path)
            assert (reply.status, reply.json["id"]) == (200, name)


async def test_an_unknown_model_id_is_not_found() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        reply = await get(router, "/v1/models/org/other")
        assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


async def test_everything_that_is_listed_routes() -> None:
    async with (
        FakeBackend(["m", "org/n:8b"]) as fake,
        Router([Backend("one", fake.url, aliases={"x": "m"}, models=("extra",))]) as router,
    ):
        for model in (await get(router, "/v1/models")).json["data"]:
            assert (await post(router, asking(model["id"]))).status == 200
