"""Who watches a router hears of each request as it goes; nobody who asks is served differently for it."""

from __future__ import annotations

import asyncio

import pytest
from gateways import DEADLINE, fakes

from raw_wire import CHAT
from solar.testing import faults

pytestmark = pytest.mark.doors("uvicorn")


def watch(gw) -> list[tuple[str, str, str]]:
    """What the hooks are told: which of them, of which request, of which backend."""
    heard: list[tuple[str, str, str]] = []
    gw.router.on_start = lambda record: heard.append(("start", record.model, record.backend))
    gw.router.on_routed = lambda record: heard.append(("routed", record.model, record.backend))
    gw.router.on_reroute = lambda record, left: heard.append(("reroute", left.outcome, left.backend))
    return heard


async def test_a_request_is_told_of_while_it_goes(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        heard = watch(gw)
        a.script(faults.status(503))
        assert (await gw.ask(CHAT)).status == 200
        assert heard == [("start", "m", ""), ("routed", "m", "a"), ("reroute", "busy", "a"), ("routed", "m", "b")]
        record = await gw.booked()
        assert [(one.backend, one.outcome) for one in record.tries] == [("a", "busy")]
        assert [(one.backend, one.why_not) for one in record.considered] == [("b", None), ("a", "tried")]


async def test_what_is_refused_at_once_does_not_start(gateway):
    async with fakes(1) as (a,), gateway(a) as gw:
        heard = watch(gw)
        assert (await gw.ask({"model": 5})).status == 400
        assert (heard, (await gw.booked()).status) == ([], 400)


async def test_a_hook_that_raises_harms_no_request(gateway):
    def raises(*_: object) -> None:
        raise ValueError("no use")

    async with fakes(2) as (a, b), gateway(a, b) as gw:
        router = gw.router
        router.on_start = router.on_routed = router.on_reroute = router.on_record = raises
        a.script(faults.status(503))
        assert (await gw.ask(CHAT)).status == 200
        async with asyncio.timeout(DEADLINE):
            await router._running.relay.drained()


# --- what is explained is what happens


async def test_a_request_goes_where_it_was_said_to_go(gateway):
    async with fakes(3) as (a, b, c), gateway(a, b, c) as gw:
        for _ in range(4):
            said = gw.router.explain("m").taken
            got = await gw.ask(CHAT)
            assert got.headers["x-solar-backend"] == said.backend


async def test_a_request_is_refused_as_it_was_said_to_be(gateway):
    async with fakes(1) as (a,), gateway(a) as gw:
        for payload, path in (
            (CHAT | {"model": "other"}, "/v1/chat/completions"),
            (CHAT, "/v1/nothing"),
            ({}, "/v1/embeddings"),
        ):
            said = gw.router.explain(payload.get("model", ""), path=path)
            assert (await gw.ask(payload, path)).status == said.status
