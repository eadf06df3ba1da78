"""The router inside other programs: started, mounted, fed, asked, and stopped."""

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from gateways import until
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

import solar
from asgi_call import CHAT, Call, call, get, lifespan, post, routed
from solar import (
    Backend,
    InvalidBackend,
    InvalidSettings,
    Router,
)
from solar.testing import FakeBackend, faults

# --- mounted


async def home(request: Any) -> PlainTextResponse:
    return PlainTextResponse("home")


@pytest.mark.parametrize("prefix", ["/", "/llm", "/a/b"])
async def test_it_works_mounted_in_starlette(prefix: str) -> None:
    async with FakeBackend(["m"]) as fake:
        router = Router([Backend("one", fake.url)])
        app = Starlette(routes=[Route("/home", home), Mount(prefix, router)], lifespan=router.lifespan)
        below = prefix.rstrip("/")
        async with lifespan(app):
            assert (await post(app, path=below + CHAT)).status == 200
            assert (await post(app, path=below + "/chat/completions/")).status == 200
            assert (await get(app, below + "/v1/models")).json["data"][0]["id"] == "m"
            assert (await get(app, "/home")).body == b"home"
            assert (await get(app, below + "/nowhere")).error["code"] == "unknown_path"
        assert {recorded.target for recorded in fake.inference} == {CHAT}


@pytest.mark.parametrize("prefix", ["/llm", ""])
async def test_it_works_mounted_in_fastapi(prefix: str) -> None:
    async with FakeBackend(["m"]) as fake:
        router = Router([Backend("one", fake.url)])
        app = FastAPI(lifespan=router.lifespan)
        app.mount(prefix, router)
        async with lifespan(app):
            assert (await post(app, path=prefix + CHAT)).status == 200
            assert (await post(app, path=prefix + "/v1/messages", payload=b"{")).json["type"] == "error"


async def test_it_is_an_application_of_its_own() -> None:
    async with FakeBackend(["m"]) as fake:
        router = Router([Backend("one", fake.url)])
        async with lifespan(router):
            assert (await post(router)).status == 200
        with pytest.raises(RuntimeError):
            await post(router)


async def test_a_server_may_stand_below_a_prefix_that_it_strips_or_not() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        assert (await post(router, path="/llm" + CHAT, root_path="/llm")).status == 200
        assert (await post(router, path=CHAT, root_path="/llm")).status == 200
        assert (await post(router, path="/llmx" + CHAT, root_path="/llm")).status == 404


async def test_a_router_that_was_not_started_says_how_to_start_it() -> None:
    router = Router([Backend("one", "http://127.0.0.1:9")])
    with pytest.raises(RuntimeError, match=r"lifespan=router\.lifespan"):
        await post(router)


async def test_a_websocket_is_turned_away() -> None:
    said: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        said.append(message["type"])

    async with Router() as router:
        await router({"type": "websocket", "path": "/v1/responses", "headers": []}, receive, send)
    assert said == ["websocket.close"]


# --- started and stopped


async def test_it_starts_and_stops_twice() -> None:
    async with FakeBackend(["m"]) as fake:
        router = Router([Backend("one", fake.url)])
        for _ in range(2):
            async with router:
                await router.start()  # again: nothing happens
                assert (await post(router)).status == 200
            await router.stop()
        assert len(fake.inference) == 2


async def test_a_dead_backend_does_not_delay_the_start() -> None:
    async with FakeBackend(["m"]) as fake, FakeBackend(["n"]) as frozen:
        frozen.freeze()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with routed(fake, frozen) as router:
            assert loop.time() - begun < 2
            assert (await post(router)).status == 200


async def test_a_backend_that_hangs_delays_no_request_and_no_list() -> None:
    async with (
        FakeBackend(["m"]) as fake,
        FakeBackend(["n"]) as other,
        routed(fake, other, health_check_interval=0.05) as router,
    ):
        asked = len(other.requests)
        await other.wait_for(lambda: len(other.requests) > asked)  # it is asked again and again
        other.freeze()
        async with asyncio.timeout(0.5):
            for _ in range(20):
                assert (await post(router)).status == 200
                assert len((await get(router, "/v1/models")).json["data"]) == 2


async def test_a_backend_that_is_known_to_be_down_costs_nothing() -> None:
    async with FakeBackend(["m"]) as fake, FakeBackend(["m"]) as dead, routed(fake, dead) as router:
        dead.die()
        assert {(await post(router))["x-solar-attempts"] for _ in range(2)} == {"1", "2"}  # one of them finds out
        await until(lambda: router.backends[1].state == "down")
        for _ in range(10):
            assert (await post(router))["x-solar-attempts"] == "1"


async def test_stopping_lets_what_is_in_flight_finish_and_takes_nothing_new() -> None:
    async with FakeBackend(["m"]) as fake:
        router = Router([Backend("one", fake.url)])
        await router.start()
        fake.script(faults.stall_after(1))
        request = Call(router, "POST", CHAT, headers=[])
        request.send(b'{"model":"m","stream":true}')
        await fake.wait_for(lambda: fake.in_flight == 1 and fake.inference[0].events == 1)
        stopping = asyncio.get_running_loop().create_task(router.stop())
        await asyncio.sleep(0)
        late = await post(router)
        assert (late.status, late.error["code"]) == (503, "shutdown")
        fake.release()
        reply = await request.answered()
        await stopping
        assert reply.body.endswith(b"data: [DONE]\n\n")
        await fake.wait_for(lambda: fake.open == 0)


# --- what it shows of itself


async def test_it_tells_which_backends_it_has_and_how_they_are() -> None:
    async with FakeBackend(["m"], kind="vllm") as fake, FakeBackend(["n"], loading=True) as loads:
        dead = Backend("dead", "http://127.0.0.1:9", models=("x",))
        async with Router([Backend("one", fake.url), Backend("two", loads.url), dead]) as router:
            await until(lambda: router.backends[2].state == "down")
            one, two, three = router.backends
            assert (one.backend.id, one.state, one.type, one.in_flight) == ("one", "healthy", "vllm", 0)
            assert [model.id for model in one.models] == ["m"]
            assert two.state == "loading"
            assert "loading" in two.reason
            assert three.state == "down"
            assert "no connection to 127.0.0.1:9" in three.reason
            assert repr(router) == "<Router 3 backends (1 available), 0 in flight>"


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"prefix_fallback": "maybe"}, "'off', 'unique' or 'first'"),
        ({"health_check_interval": 0}, "above 0"),
        ({"api_keys": "secret"}, "list of keys"),
        ({"session_affinity": ["cookie"]}, "header, user, prompt_cache_key"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_at_once(kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidSettings, match=says):
        Router(**kwargs)


def test_two_backends_of_one_name_are_refused_at_once() -> None:
    with pytest.raises(InvalidBackend, match="'one'"):
        Router([Backend("one", "http://a"), Backend("one", "http://b")])


def test_every_public_name_is_there() -> None:
    assert sorted(solar.__all__) == list(solar.__all__)
    assert all(hasattr(solar, name) for name in solar.__all__)


# --- backends that come and go


async def test_a_backend_is_added_and_removed_at_run_time() -> None:
    async with FakeBackend(["m"]) as fake, Router() as router:
        assert (await post(router)).status == 404
        await router.add_backend(Backend("one", fake.url))
        assert (await post(router)).status == 200
        await router.remove_backend("one")
        assert (await post(router)).status == 404
        assert router.backends == ()
        await fake.wait_for(lambda: fake.open == 0)


async def test_a_backend_added_before_the_start_is_there_after_it() -> None:
    async with FakeBackend(["m"]) as fake:
        router = Router()
        await router.add_backend(Backend("one", fake.url))
        async with router:
            assert (await post(router)).status == 200


async def test_a_backend_added_again_has_its_new_facts() -> None:
    async with FakeBackend(["m"]) as fake, FakeBackend(["n"]) as other, routed(fake) as router:
        await router.add_backend(Backend("one", fake.url, aliases={"x": "m"}))
        assert (await post(router, b'{"model":"x"}')).status == 200
        await router.add_backend(Backend("one", other.url))
        assert (await post(router, b'{"model":"n"}')).status == 200
        assert (await post(router)).status == 404


async def test_removing_a_backend_that_is_not_there_says_which_ones_are() -> None:
    async with Router([Backend("one", "http://127.0.0.1:9")]) as router:
        with pytest.raises(InvalidBackend, match="'two'; there are: one"):
            await router.remove_backend("two")


async def test_replacing_a_sources_backends_keeps_those_that_did_not_change() -> None:
    async with FakeBackend(["m"]) as fake, FakeBackend(["n"]) as other, Router() as router:
        kept, gone, new = Backend("kept", fake.url), Backend("gone", "http://127.0.0.1:9"), Backend("new", other.url)
        router.replace_backends("file", [replace(kept, source="file"), replace(gone, source="file")])
        await router.add_backend(Backend("by-hand", "http://127.0.0.1:10", source="api"))
        await until(lambda: any(status.state == "healthy" for status in router.backends))
        assert (await post(router)).status == 200
        router.replace_backends("file", [replace(kept, source="file"), replace(new, source="file")])
        assert sorted(status.backend.id for status in router.backends) == ["by-hand", "kept", "new"]
        assert next(status.state for status in router.backends if status.backend.id == "kept") == "healthy"
        assert (await post(router)).status == 200
        assert len({recorded.connection for recorded in fake.inference}) == 1


async def test_a_removed_backend_finishes_what_it_has() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        fake.script(faults.stall_after(1))
        request = Call(router, "POST", CHAT)
        request.send(b'{"model":"m","stream":true}')
        await fake.wait_for(lambda: fake.in_flight == 1 and fake.inference[0].events == 1)
        await router.remove_backend("one")
        assert (await post(router)).status == 404
        fake.release()
        assert (await request.answered()).body.endswith(b"data: [DONE]\n\n")


# --- health, as others ask for it


async def test_health_is_ok_only_while_a_backend_is_healthy() -> None:
    async with FakeBackend(["m"]) as fake, FakeBackend(["n"], loading=True) as loads, routed(fake, loads) as router:
        reply = await get(router, "/health")
        assert reply.json == {"status": "ok", "backends_total": 2, "backends_healthy": 1, "models_available": 2}
        assert (await get(router, "/health/ready")).status == 200
    async with routed(loads) as router:
        reply = await get(router, "/health")
        assert (reply.status, reply.json["status"], reply.json["backends_healthy"]) == (200, "degraded", 0)


async def test_it_is_ready_once_a_backend_is() -> None:
    async with FakeBackend(["m"], loading=True) as fake, routed(fake) as router:
        reply = await get(router, "/health/ready")
        assert (reply.status, reply["retry-after"]) == (503, "1")
        fake.loading = False
        await until(lambda: router.backends[0].state == "healthy")
        assert (await get(router, "/health/ready")).status == 200
        assert (await post(router)).status == 200


async def test_a_router_without_backends_is_degraded_and_answers() -> None:
    async with Router() as router:
        assert (await get(router, "/health")).json["status"] == "degraded"
        assert (await get(router, "/health/ready")).status == 503
        assert (await call(router, "HEAD", "/health")).status == 200


async def test_a_logger_of_ones_own_gets_every_line() -> None:
    lines: list[str] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.Logger("mine", logging.INFO)  # noqa: LOG001  a registered one has pytest's handlers too
    logger.addHandler(Keeps())
    async with FakeBackend(["m"]) as fake, routed(fake, logger=logger) as router:
        await post(router, headers=[("x-request-id", "r1")])
    assert sum("request id=r1" in line for line in lines) == 1
