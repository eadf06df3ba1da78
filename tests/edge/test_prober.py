"""What a look at a backend finds, and what becomes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from exchange_bench import Bench, Call, Transport

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.core.member import Member
from solar.edge.probe import Finding, may_be_woken, probe, try_inference
from solar.edge.prober import Prober
from solar.edge.tasks import Tasks
from solar.edge.upstream import FreshUpstream, HttpUpstream
from solar.testing import FakeBackend, faults
from solar.testing.control import KINDS

LOG = logging.getLogger("solar.test")


@asynccontextmanager
async def fresh() -> AsyncIterator[FreshUpstream]:
    tasks = Tasks(LOG)
    upstream = HttpUpstream(tasks)
    yield FreshUpstream(upstream)
    await tasks.stop()
    await upstream.close()


async def found(url: str, kind: str = "auto", *, seconds: float = 2.0, **facts: Any) -> Finding:
    async with fresh() as upstream:
        return await probe(upstream, Backend("a", url, **facts), kind, seconds=seconds)


# --- one look


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_engine_is_healthy_and_tells_its_models(kind: str) -> None:
    async with FakeBackend(["m", "n"], kind=kind) as fake:
        for asked_as in ("auto", kind):
            finding = await found(fake.url, asked_as)
            assert finding.state == "healthy"
            assert [model.id for model in finding.models or ()] == ["m", "n"]


@pytest.mark.parametrize("kind", ["llamacpp", "vllm", "ollama", "lmstudio", "sglang"])
async def test_an_engine_is_known_by_whom_its_models_belong_to(kind: str) -> None:
    async with FakeBackend(["m"], kind=kind) as fake:
        assert (await found(fake.url)).type == kind


async def test_llama_server_and_vllm_tell_size_and_context() -> None:
    async with FakeBackend(["m"], kind="llamacpp", meta={"m": {"n_params": 7_000_000_000, "n_ctx": 8192}}) as fake:
        (model,) = (await found(fake.url)).models or ()
        assert (model.size, model.context, model.facts["owned_by"]) == (7.0, 8192, "llamacpp")
    async with FakeBackend(["m"], kind="vllm") as fake:
        (model,) = (await found(fake.url)).models or ()
        assert (model.size, model.context) == (None, 4096)


async def test_ollama_tells_sizes_in_its_own_list() -> None:
    async with FakeBackend(["llama:latest", "q"], kind="ollama", meta={"q": {"parameter_size": "70B"}}) as fake:
        models = (await found(fake.url)).models or ()
        assert [(model.id, model.size) for model in models] == [("llama:latest", 1.2), ("q", 70.0)]
        assert {r.path for r in fake.requests} == {"/health", "/v1/models", "/api/tags", "/api/ps"}


async def test_a_probe_loads_no_model_and_is_no_inference() -> None:
    for kind in KINDS:
        async with FakeBackend(["m"], kind=kind) as fake:
            await found(fake.url, kind)
            assert fake.inference == []


async def test_a_backend_that_loads_says_what_it_will_have() -> None:
    async with FakeBackend(["m"], kind="llamacpp", loading=True) as fake:
        finding = await found(fake.url)
        assert (finding.state, [model.id for model in finding.models or ()]) == ("loading", ["m"])


@pytest.mark.parametrize(("key", "hint"), [(None, "it wants a key: set api_key"), ("wrong", "its api_key is wrong")])
@pytest.mark.parametrize("kind", ["vllm", "llamacpp"])
async def test_a_401_says_what_to_set(kind: str, key: str | None, hint: str) -> None:
    async with FakeBackend(["m"], kind=kind, api_key="right") as fake:
        finding = await found(fake.url, api_key=key)
        assert finding.state == "failed"
        assert finding.reason.endswith(f"answered 401: {hint}")
        assert (await found(fake.url, api_key="right")).state == "healthy"


async def test_a_guarded_page_tells_whether_the_key_is_right() -> None:
    listed = (200, b'{"data":[{"id":"m","owned_by":"llamacpp"}]}')
    for kind in ("auto", "llamacpp"):
        finding = await probe(Says(models=listed, props=(401, b"")), Backend("a", "http://a"), kind, seconds=1.0)
        assert finding.reason == "/props answered 401: it wants a key: set api_key"


async def test_nobody_there_is_refused_and_silence_times_out() -> None:
    async with FakeBackend(["m"]) as fake:
        fake.freeze()
        finding = await found(fake.url, seconds=0.05)
        assert (finding.state, finding.timed_out, finding.refused) == ("failed", True, False)
        fake.thaw()
        fake.stop_listening()
        finding = await found(fake.url)
        assert (finding.state, finding.timed_out, finding.refused) == ("failed", False, True)


class Says(Transport):
    """Answers each path with a status and a body."""

    def __init__(self, **pages: tuple[int, bytes]) -> None:
        super().__init__()
        self.pages = {"health": (200, b""), "models": (200, b'{"data":[]}'), **pages}
        self.answers = self.page

    def page(self, call: Call) -> None:
        status, body = self.pages.get(call.request.target.rpartition(b"/")[2].decode(), (404, b""))
        call.answer(status, body=body)


@pytest.mark.parametrize(
    ("pages", "state", "reason"),
    [
        ({"models": (200, b"<html>")}, "failed", "/v1/models did not answer in JSON"),
        ({"models": (200, b"[" * 100_000)}, "failed", "/v1/models did not answer in JSON"),
        ({"models": (200, b'{"models":[]}')}, "failed", "/v1/models has no list `data`"),
        ({"models": (200, b"3")}, "failed", "/v1/models has no list `data`"),
        ({"models": (500, b"")}, "failed", "/v1/models answered 500"),
        ({"models": (503, b"")}, "failed", "its health endpoint answered 503"),
        ({"models": (503, b'{"error":"Loading model"}')}, "loading", "it answers 503: loading"),
        ({"health": (500, b"")}, "failed", "/health answered 500"),
        ({"health": (503, b"")}, "failed", "its health endpoint answered 503"),
        ({"health": (501, b"")}, "healthy", ""),
        ({"health": (404, b"")}, "healthy", ""),
        ({"models": (200, b'{"data":null}')}, "healthy", ""),
        ({"models": (200, b"null")}, "failed", "/v1/models has no list `data`"),
        ({"health": (503, b"STARTING"), "models": (404, b"")}, "loading", "it answers 503: loading"),
        ({"models": (200, b"x" * 5_000_000)}, "failed", "its answer is larger than 4 MiB"),
    ],
)
async def test_what_it_answers_is_told_in_words(pages: dict[str, Any], state: str, reason: str) -> None:
    finding = await probe(Says(**pages), Backend("a", "http://a"), "auto", seconds=1.0)
    assert (finding.state, finding.reason) == (state, reason)


async def test_a_404_says_what_to_set_unless_the_models_are_known() -> None:
    lost = Says(models=(404, b""))
    finding = await probe(lost, Backend("a", "http://a"), "auto", seconds=1.0)
    assert finding.reason == "/v1/models answered 404; if its API stands under another path, set base_path"
    assert (await probe(lost, Backend("a", "http://a", models=("m",)), "auto", seconds=1.0)).state == "healthy"
    async with FakeBackend(["m"], base_path="/api") as fake:
        assert (await found(fake.url)).state == "healthy"


async def test_models_that_nobody_could_ask_for_are_left_out() -> None:
    listed = b'{"data":[{"id":"ok"},{"id":""},{"id":7},{"id":"a\\nb"},{},3,{"id":"' + b"x" * 600 + b'"}]}'
    finding = await probe(Says(models=(200, listed)), Backend("a", "http://a"), "auto", seconds=1.0)
    assert [model.id for model in finding.models or ()] == ["ok"]


@pytest.mark.parametrize("number", [b"-1", b"true", b'"7"', b"null", b"0", b"1" + b"0" * 400, b"1e300"])
async def test_numbers_that_make_no_sense_are_unknown(number: bytes) -> None:
    listed = b'{"data":[{"id":"m","max_model_len":%b,"meta":{"n_params":%b}}]}' % (number, number)
    finding = await probe(Says(models=(200, listed)), Backend("a", "http://a"), "auto", seconds=1.0)
    (model,) = finding.models or ()
    assert (model.size, model.context) == (None, None)


@pytest.mark.parametrize("tags", [(404, b""), (200, b"<html>"), (200, b'{"models":[{"name":"m","details":null}]}')])
async def test_ollama_without_its_own_list_is_healthy_all_the_same(tags: tuple[int, bytes]) -> None:
    listed = (200, b'{"data":[{"id":"m","owned_by":"library"}]}')
    finding = await probe(Says(models=listed, tags=tags), Backend("a", "http://a"), "auto", seconds=1.0)
    assert (finding.state, finding.models and finding.models[0].size) == ("healthy", None)


async def test_a_token_is_asked_of_nobody_who_loads_models_or_costs_money() -> None:
    assert may_be_woken(Backend("a", "http://a"), "llamacpp")
    assert not may_be_woken(Backend("a", "http://a"), "ollama")
    assert not may_be_woken(Backend("a", "https://a"), "generic")


async def test_any_answer_to_one_token_is_a_sign_of_life() -> None:
    async with FakeBackend(["m"]) as fake, fresh() as upstream:
        backend = Backend("a", fake.url)
        assert await try_inference(upstream, backend, "m", seconds=1.0)
        fake.script(faults.status(500), faults.silent())
        assert await try_inference(upstream, backend, "m", seconds=1.0)
        assert not await try_inference(upstream, backend, "m", seconds=0.05)
        assert fake.inference[0].payload["max_tokens"] == 1


# --- when to look, and what becomes of it


class Looks:
    """A prober over a transport that tests play by hand."""

    def __init__(self, *backends: Backend) -> None:
        self.transport = Says()
        self.bench = Bench(*backends)
        self.tasks = Tasks(LOG)
        self.prober = Prober(self.bench.relay, self.tasks, self.transport, LOG)
        self.prober.jitter = lambda: 0.5

    def member(self, name: str = "a") -> Member:
        return self.bench.member(name)

    async def look(self) -> None:
        """Everyone who is due is asked, and heard."""
        self.prober.tick(self.bench.clock())
        await self.prober.all_asked(5.0)
        await asyncio.sleep(0)

    def refuse(self) -> None:
        self.transport.answers = lambda call: call.failed(Outcome.REFUSED, "nobody listens")

    def time_out(self) -> None:
        self.transport.answers = lambda call: call.failed(Outcome.TIMEOUT, "no answer")


A = Backend("a", "http://a")
LISTED = Backend("a", "http://a", models=("m",))


async def test_each_is_asked_when_it_is_due_and_once_at_a_time() -> None:
    looks = Looks(A)
    looks.transport.answers = None
    looks.prober.tick(0.0)
    looks.prober.tick(0.0)
    await asyncio.sleep(0)
    assert len(looks.transport.calls) == 1
    await looks.tasks.stop()


async def test_a_healthy_one_is_asked_again_after_its_interval() -> None:
    looks = Looks(A)
    await looks.look()
    assert looks.member().health.state == "healthy"
    asked = len(looks.transport.calls)
    looks.bench.clock.advance(29.0)
    await looks.look()
    assert len(looks.transport.calls) == asked
    looks.bench.clock.advance(2.0)
    await looks.look()
    assert len(looks.transport.calls) > asked


async def test_its_models_can_be_asked_for_as_soon_as_it_told_them() -> None:
    looks = Looks(A)
    looks.transport.pages["models"] = (200, b'{"data":[{"id":"m","owned_by":"vllm"}]}')
    await looks.look()
    assert looks.bench.roster.resolve("m") is not None
    assert looks.member().type == "vllm"


async def test_a_type_that_was_set_is_not_overruled() -> None:
    looks = Looks(Backend("a", "http://a", type="generic"))
    looks.transport.pages["models"] = (200, b'{"data":[{"id":"m","owned_by":"vllm"}]}')
    await looks.look()
    assert looks.member().type == "generic"


async def test_who_waits_hears_when_a_model_has_loaded() -> None:
    looks = Looks(Backend("a", "http://a", models=("m",), max_in_flight=1))
    looks.bench.ask()
    looks.bench.ask()
    looks.member().load.in_flight -= 1
    await looks.look()
    assert len(looks.bench.calls) == 2
    looks.member().load.in_flight += 1


async def test_what_is_found_of_one_that_has_left_counts_for_nobody() -> None:
    looks = Looks(A)
    leaving = looks.member()
    looks.refuse()
    looks.prober.tick(0.0)
    looks.bench.roster.sources.drop("static", "a")
    looks.bench.roster.sync()
    await looks.prober.all_asked(5.0)
    await asyncio.sleep(0)
    assert leaving.health.state == "unknown"
    assert not looks.prober._asking


async def test_what_is_found_with_an_old_key_counts_for_nobody() -> None:
    looks = Looks(A)
    looks.transport.answers = None
    looks.prober.tick(looks.bench.clock())
    await asyncio.sleep(0)
    looks.bench.roster.sources.claim(Backend("a", "http://a", api_key="new"))
    looks.bench.roster.sync()
    looks.transport.calls[0].failed(Outcome.REFUSED)
    await looks.prober.all_asked(5.0)
    await asyncio.sleep(0)
    assert (looks.member().health.state, looks.member().health.due(looks.bench.clock())) == ("unknown", True)


async def test_a_refused_connection_is_down_at_once_and_asked_again_soon(caplog: pytest.LogCaptureFixture) -> None:
    looks = Looks(A)
    await looks.look()
    looks.refuse()
    looks.bench.clock.advance(40.0)
    await looks.look()
    assert [(line.levelname, "nobody listens" in line.message) for line in caplog.records] == [("WARNING", True)]
    assert (looks.member().health.state, looks.member().health.reason) == ("down", "nobody listens")
    assert looks.member().health.due(looks.bench.clock() + 0.3)


async def test_one_that_loads_is_asked_again_soon_and_serves_once_it_has_loaded() -> None:
    looks = Looks(LISTED)
    looks.transport.pages["health"] = (503, b"Loading model")
    await looks.look()
    assert looks.member().why_not(looks.bench.clock()) == "loading"
    looks.transport.pages["health"] = (200, b"")
    looks.bench.clock.advance(0.3)
    await looks.look()
    assert looks.member().why_not(looks.bench.clock()) is None


async def test_a_backend_may_be_probed_through_its_own_transport() -> None:
    own = Says()
    looks = Looks(Backend("a", "http://a", upstream=own))
    await looks.look()
    assert (looks.member().health.state, len(looks.transport.calls)) == ("healthy", 0)


def stream_on(looks: Looks, silent: float) -> None:
    """A stream that has begun, then nothing for a while."""
    looks.bench.ask(stream=True)
    looks.bench.calls[-1].stream(b"data: 1\n\n")
    looks.bench.clock.advance(silent)
    looks.member().stall.check(looks.bench.clock())


async def test_a_probe_that_times_out_while_answers_move_says_nothing() -> None:
    looks = Looks(LISTED)
    await looks.look()
    looks.time_out()
    looks.bench.clock.advance(40.0)
    stream_on(looks, silent=1.0)
    for _ in range(5):
        looks.member().health.next_at = 0.0
        await looks.look()
    assert (looks.member().health.state, looks.member().stall.grade) == ("healthy", "moving")


async def test_a_suspect_whose_control_endpoint_is_dead_has_stalled() -> None:
    looks = Looks(LISTED)
    looks.time_out()
    stream_on(looks, silent=3.0)
    await looks.look()
    assert looks.member().stall.stalled_reason == "its control endpoint is dead: no answer"
    assert looks.bench.records[0].code == "upstream_stalled"


async def test_an_engine_that_always_answers_has_stalled_when_it_does_not() -> None:
    for kind, stalled in (("vllm", True), ("generic", False)):
        looks = Looks(Backend("a", "http://a", models=("m",), type=kind))
        await looks.look()
        looks.time_out()
        looks.bench.ask()
        for _ in range(2):
            looks.bench.clock.advance(40.0)
            await looks.look()
        assert (looks.member().health.state, looks.member().stall.stalled) == ("down", stalled)


async def test_a_stalled_engine_is_back_only_when_it_makes_a_token() -> None:
    looks = Looks(LISTED)
    await looks.look()
    stream_on(looks, silent=3.0)
    looks.member().stall.evidence("proof")
    looks.transport.pages["completions"] = (200, b"{}")
    dead = looks.transport.page

    def no_tokens(call: Call) -> None:
        call.failed(Outcome.TIMEOUT) if call.request.method == b"POST" else dead(call)

    looks.transport.answers = no_tokens
    looks.bench.clock.advance(40.0)
    await looks.look()
    assert (looks.member().stall.stalled, looks.member().health.state) == (True, "healthy")
    assert looks.member().health.due(looks.bench.clock() + 0.3)
    looks.transport.answers = dead
    looks.bench.clock.advance(1.0)
    await looks.look()
    assert looks.member().stall.grade == "moving"


async def test_a_stalled_engine_that_may_not_be_woken_is_back_with_its_first_answer() -> None:
    looks = Looks(Backend("a", "https://a", models=("m",)))
    stream_on(looks, silent=3.0)
    looks.member().stall.evidence("proof")
    await looks.look()
    assert looks.member().stall.grade == "moving"
    assert all(call.request.method == b"GET" for call in looks.transport.calls)


async def test_waiting_for_nobody_takes_no_time() -> None:
    looks = Looks()
    await looks.prober.all_asked(5.0)
