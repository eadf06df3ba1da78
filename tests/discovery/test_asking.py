"""Finding an engine by trying."""

from __future__ import annotations

import asyncio
import json

import pytest
from answering import Answers, http, pages, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_call import get
from solar import Backend, Router
from solar.discovery.asking import Asked, Asker
from solar.discovery.engines import ENGINES, default_port, questions
from solar.discovery.sighting import Address
from solar.testing import FakeBackend
from solar.testing.control import KINDS


async def ask(url: str, **more: object) -> Asked:
    async with Asker() as asker:
        return await asker.ask(url, **more)  # type: ignore[arg-type]


async def ask_server(answers: Answers, **more: object) -> Asked:
    async with serving(answers) as url:
        return await ask(url, **more)


# --- engines


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_engine_is_told_by_asking_it(kind: str, named: bool) -> None:
    async with FakeBackend(["a", "b"], kind=kind) as fake:
        told = await ask(fake.url, named=named)
        assert (told.answered, told.type, told.models, told.failed) == (True, kind, ("a", "b"), None)
        assert told.outcome == f"{'OpenAI-compatible' if kind == 'generic' else kind}, with a, b"


@pytest.mark.parametrize("hint", ["vllm", "llamacpp", "tgi"])
async def test_what_an_engine_says_counts_more_than_what_is_said_of_it(hint: str) -> None:
    async with FakeBackend(["m"], kind="ollama") as fake:
        assert (await ask(fake.url, hint=hint)).type == "ollama"


async def test_an_engine_that_tells_its_type_in_its_list_is_asked_no_more() -> None:
    async with FakeBackend(["m"], kind="vllm") as fake:
        await ask(fake.url)
        assert [asked.path for asked in fake.requests] == ["/health", "/v1/models"]


async def test_a_server_whose_models_name_no_owner_is_none_of_those_that_always_do() -> None:
    told = await ask_server(pages(v1_models=http({"data": [{"id": "m"}]}), version=http({"version": "1"})))
    assert (told.answered, told.type) == (True, "generic")


async def test_a_model_of_ones_own_in_ollama_does_not_hide_what_it_is() -> None:
    listed = {"data": [{"id": "x", "owned_by": "somebody"}, {"id": "y", "owned_by": "else"}]}
    assert (await ask_server(pages(v1_models=http(listed), api_version=http({"version": "0.12"})))).type == "ollama"


async def test_koboldcpp_is_no_ollama_and_no_llama_server_though_it_has_their_pages() -> None:
    listed = http({"data": [{"id": "koboldcpp/x", "owned_by": "koboldcpp"}]})
    told = await ask_server(
        pages(v1_models=listed, props=http({"default_generation_settings": {}}), api_version=http({"version": "0.7"}))
    )
    assert (told.answered, told.type) == (True, "generic")


@pytest.mark.parametrize("data", [[], None])
async def test_an_engine_without_a_model_is_an_engine(data: list[object] | None) -> None:
    empty = pages(v1_models=http({"object": "list", "data": data}), api_version=http({"version": "0.12"}))
    told = await ask_server(empty, named=False)
    assert (told.answered, told.type, told.outcome) == (True, "ollama", "ollama, with no model yet")


async def test_one_that_loads_has_answered() -> None:
    loading = http({"error": {"message": "Loading model", "code": 503}}, 503)
    for named in (True, False):
        told = await ask_server(lambda _: loading, named=named)
        assert (told.answered, told.outcome, told.type) == (True, "it answers 503: loading", None)


async def test_one_that_loads_and_lists_tells_what_it_is() -> None:
    async with FakeBackend(["m"], kind="llamacpp", loading=True) as fake:
        told = await ask(fake.url)
        assert (told.answered, told.type, told.models) == (True, "llamacpp", ("m",))


async def test_one_that_wants_a_key_has_answered_and_says_so() -> None:
    async with FakeBackend(["m"], kind="vllm", api_key="right") as fake:
        assert (await ask(fake.url))[:2] == (True, "it wants a key (401)")
        assert (await ask(fake.url, api_key="wrong"))[:2] == (True, "it refuses the key (401)")
        assert (await ask(fake.url)).locked
        told = await ask(fake.url, api_key="right")
        assert (told.models, told.locked) == (("m",), False)


async def test_an_engine_that_hangs_up_on_pages_that_it_does_not_have_is_found() -> None:
    listed = http({"data": [{"id": "m"}]})
    told = await ask_server(lambda path: listed if path == "/v1/models" else None)
    assert (told.answered, told.type, told.models) == (True, "generic", ("m",))


async def test_a_backend_is_asked_where_its_settings_say_with_its_key() -> None:
    async with FakeBackend(["m"], kind="vllm", api_key="k", base_path="/llm") as fake, Asker() as asker:
        backend = Backend("a", fake.url.removesuffix("/llm"), api_key="k", base_path="/llm/v1")
        assert (await asker.ask_backend(backend)).models == ("m",)


# --- what is no engine


@pytest.mark.parametrize("keys", [(), ("k",)])
async def test_a_gateway_is_no_engine(keys: tuple[str, ...]) -> None:
    async with FakeBackend(["m"]) as fake, Router([Backend("a", fake.url)], api_keys=keys) as router:
        said = {path: await get(router, path) for path in ("/health", "/v1/models")}
    told = await ask_server(lambda path: http(said[path].body, said[path].status), named=False)
    assert (told.answered, told.outcome, told.failed) == (False, "a Solar gateway, and no engine", "foreign")


@pytest.mark.parametrize("service", ["solar-control", "solar-host"])
async def test_the_first_coordinator_and_its_agents_are_no_engines(service: str) -> None:
    listed = http({"data": [{"id": "m"}]})
    told = await ask_server(pages(health=http({"status": "healthy", "service": service}), v1_models=listed))
    assert told.failed == "foreign"


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        (pages(), "no engine that we know: /v1/models answered 404"),
        (lambda _: http(b"<html>a single page</html>"), "no engine that we know: /v1/models answered 200"),
        (lambda _: http({"version": "24.0"}), "no engine that we know: /v1/models answered 200"),
        (lambda _: http({"data": []}, 500), "no engine that we know: /v1/models answered 500"),
        (pages(v1_models=http({"data": []})), "no engine that we know: /v1/models lists nothing"),
        (lambda _: http(b"", 401), "it wants a key (401), and does not say what it is"),
        (lambda _: http(b"we are closed", 503), "no engine that we know: /v1/models answered 503"),
        (lambda _: b"SSH-2.0-OpenSSH\r\n", "it did not answer in HTTP/1.1"),
    ],
)
async def test_a_server_must_prove_to_be_an_engine_where_nobody_says_so(answers: Answers, outcome: str) -> None:
    told = await ask_server(answers, named=False)
    assert (told.answered, told.outcome, told.failed) == (False, outcome, "foreign")


async def test_a_page_with_a_version_proves_an_engine_only_where_that_is_expected() -> None:
    version = pages(api_version=http({"version": "0.1"}))
    assert not (await ask_server(version)).answered
    assert (await ask_server(version, hint="ollama")).outcome == "ollama; it lists no models"


async def test_names_of_models_that_nobody_can_read_are_left_out() -> None:
    ids = ["good", "", "a\nb", "\x1b[31m", "x" * 600, 7, None, {}]
    told = await ask_server(pages(v1_models=http({"data": [{"id": one} for one in ids]})))
    assert told.models == ("good",)


# --- what does not answer


async def test_what_does_not_answer_is_told_in_one_word() -> None:
    async with FakeBackend() as gone:
        pass
    assert (await ask(gone.url))[:5] == (False, "nothing listens there", None, (), "refused")
    assert (await ask("http://no-such-host.invalid:1")).failed in ("unknown name", "unreachable")  # without a resolver
    assert (await ask("ftp://x")).failed == "unreachable"
    assert (await ask("http://x:99999")).failed == "unreachable"
    assert (await ask_server(lambda _: None)).failed == "cut"
    assert (await ask_server(lambda _: b"\x00\x01")).failed == "foreign"


async def test_who_is_silent_is_not_asked_page_after_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.discovery.asking.ASK_SECONDS", 0.05)
    async with FakeBackend() as fake:
        fake.freeze()
        told = await ask(fake.url)
        assert (told.answered, told.failed) == (False, "silent")
        fake.thaw()
        await fake.wait_for(lambda: fake.open == 0)
        assert len(fake.requests) <= 1


async def test_a_slow_server_is_not_asked_until_all_pages_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.discovery.asking.ASK_SECONDS", 0.4)
    asked: list[str] = []

    def answers(path: str) -> bytes:
        asked.append(path)
        return http({"data": []}) if path == "/v1/models" else http(None, 404)

    async with serving(answers, lambda path: 0 if path in ("/health", "/v1/models") else 0.25) as url:
        told = await ask(url)
    assert (told.answered, told.type) == (True, None)
    assert len(asked) < 2 + len(ENGINES)


# --- several addresses


async def test_the_first_address_in_order_that_answers_is_kept_and_the_others_are_known() -> None:
    async with FakeBackend(["m"], kind="ollama") as fake, Asker() as asker:
        dead, one, two = (Address(url, "why") for url in ("http://127.0.0.1:9", fake.url, fake.url + "/v1"))
        settled = await asker.settle([dead, one, two])
        assert settled.address == one
        assert settled.others == (two.url,)
        assert [tried.answered for tried in settled.tried] == [False, True, True]


async def test_another_engine_at_one_of_the_addresses_is_not_taken_for_the_same() -> None:
    async with FakeBackend(["m"], kind="ollama") as one, FakeBackend(["m"], kind="vllm") as other, Asker() as asker:
        settled = await asker.settle([Address(one.url, "why"), Address(other.url, "why")])
        assert (settled.address, settled.others) == (Address(one.url, "why"), ())


async def test_a_key_is_shown_to_nobody_but_the_address_that_is_kept() -> None:
    locked = FakeBackend(["m"], api_key="sk-1")
    async with locked as one, FakeBackend(["m"], api_key="sk-2") as other, FakeBackend(["m"]) as dead, Asker() as asker:
        await dead.stop()
        addresses = [Address(fake.url, "why") for fake in (dead, one, other)]
        settled = await asker.settle(addresses, api_key="sk-1")
        assert (settled.address, settled.asked and settled.asked.models) == (addresses[1], ("m",))
        assert any(b"authorization" in dict(asked.headers) for asked in one.requests)
        assert not any(b"authorization" in dict(asked.headers) for asked in other.requests)


async def test_where_nobody_answers_nothing_is_settled() -> None:
    async with Asker() as asker:
        settled = await asker.settle([Address("http://127.0.0.1:9", "why")])
        assert (settled.address, settled.asked, settled.others) == (None, None, ())
        assert [tried.failed for tried in settled.tried] == ["refused"]
        assert (await asker.settle([])).tried == ()


# --- anything at all

words = st.sampled_from(
    ["id", "data", "object", "list", "owned_by", "version", "models", "backends_total", "error", ""]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words | st.text(max_size=5)
shapes = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4))
bodies = shapes.map(lambda shape: json.dumps(shape).encode()) | st.binary(max_size=40) | st.just(b"[" * 100_000)
hosts = st.sampled_from(["127.0.0.1", "[::1]", "127.0.0.1]", "a b", "", "é", "127.0.0.1%", "[::1%lo]", "\x00"])
answers = st.builds(http, bodies, st.sampled_from([200, 200, 200, 204, 301, 401, 404, 500, 503])) | st.binary(
    max_size=60
)


@settings(deadline=None, max_examples=60)
@given(st.lists(answers, min_size=1, max_size=4), st.booleans(), st.sampled_from(["auto", "vllm", "nonsense"]))
def test_no_answer_whatsoever_makes_asking_raise(said: list[bytes], named: bool, hint: str) -> None:
    told = asyncio.run(ask_server(lambda path: said[len(path) % len(said)], named=named, hint=hint))
    assert told.answered == (told.failed is None)
    assert told.outcome


@settings(deadline=None, max_examples=40)
@given(
    st.text(max_size=30) | st.builds("http://{}:{}/{}".format, st.text(max_size=9), st.integers(), st.text(max_size=5))
)
def test_no_url_whatsoever_makes_asking_raise(url: str) -> None:
    told = asyncio.run(ask(url))
    assert not told.answered
    assert told.outcome


# --- the table of engines


def test_every_engine_is_asked_where_nothing_is_known() -> None:
    assert {engine.type for engine in questions("auto", None)} == set(ENGINES)


def test_what_it_is_said_to_be_is_asked_first() -> None:
    assert questions("vllm", None)[0].type == "vllm"
    assert questions("nonsense", None) == questions("auto", None)


def test_an_owner_that_no_engine_writes_rules_out_those_that_always_write_theirs() -> None:
    assert {engine.type for engine in questions("vllm", ("somebody",))} == {"tgi", "localai", "ollama"}


def test_an_unknown_type_has_a_port_too() -> None:
    assert (default_port("ollama"), default_port("generic")) == (11434, 8080)
