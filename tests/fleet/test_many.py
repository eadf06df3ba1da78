"""Fifty hosts with ten instances each: one costs what it costs alone, and an ill one costs the others nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from fleets import ASKED, running, stored, until, view

from solar import Router
from solar.control.app import allow_files
from solar.control.fleet import Fleet
from solar.control.fleet.hosts import Pace
from solar.core.backend import Backend
from solar.core.decision import Pick
from solar.core.roster import Roster, RosterOptions
from solar.store import Host
from solar.testing import FakeAgent

HOSTS, EACH = 50, 10
LONG = 30.0  # seconds that nothing is waited for in vain for longer
EVERYWHERE = "everywhere:7b"  # the model that each host has


@asynccontextmanager
async def many(tmp_path: Path, pace: Pace = ASKED) -> AsyncIterator[tuple[list[FakeAgent], Fleet]]:
    allow_files(8192)
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(FakeAgent("v2")) for _ in range(HOSTS)]
        store = await stack.enter_async_context(stored(tmp_path))
        for number, agent in enumerate(agents):
            for alias in (EVERYWHERE, *(f"only-{number}-{one}:7b" for one in range(1, EACH))):
                await agent.add(alias)
            await store.put_host(Host(f"h{number}", f"h{number}", agent.url, agent.api_key, number))
        fleet = await stack.enter_async_context(running(store, pace))
        await fleet.refresh_all()
        yield agents, fleet


@asynccontextmanager
async def routed(fleet: Fleet, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with Router(discoverers=[fleet.discoverer], **options) as router:
        assert len(router.backends) == HOSTS * EACH
        transport = httpx.ASGITransport(router)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield client


async def chat(client: httpx.AsyncClient, model: str = EVERYWHERE) -> httpx.Response:
    return await client.post("/v1/chat/completions", json={"model": model, "messages": []})


async def asked(agent: FakeAgent) -> None:
    """Returns once it was asked something that it has not answered."""
    await agent.wait_for(lambda: any(not request.finished for request in agent.requests), LONG)


async def test_all_hosts_are_asked_at_once(tmp_path: Path) -> None:
    async with many(tmp_path) as (agents, fleet):
        for agent in agents:
            agent.lifecycle.free.clear()  # it takes requests, and answers none
        refreshed = asyncio.get_running_loop().create_task(fleet.refresh_all())
        await asyncio.gather(*(asked(agent) for agent in agents))
        for agent in agents:
            agent.lifecycle.free.set()
        assert [host.status for host in await refreshed] == ["online"] * HOSTS


async def test_a_hung_host_holds_up_no_refresh_and_no_request(tmp_path: Path) -> None:
    async with many(tmp_path) as (agents, fleet), routed(fleet) as client:
        hung = agents[7]
        hung.lifecycle.free.clear()
        refreshed = asyncio.get_running_loop().create_task(fleet.refresh_all())
        await asked(hung)
        others = [host for host in fleet.hosts() if host.id != "h7"]
        assert {(await fleet.refresh(host.id)).status for host in others} == {"online"}
        assert {(await chat(client)).status_code for _ in range(HOSTS)} == {200}
        assert (await chat(client, "only-7-1:7b")).status_code == 200  # its agent hangs, its engines do not
        assert len((await client.get("/v1/models")).json()["data"]) == 1 + HOSTS * (EACH - 1)
        assert not refreshed.done()
        hung.lifecycle.free.set()
        assert [host.status for host in await refreshed] == ["online"] * HOSTS


async def test_the_instances_of_a_dead_host_leave_the_models_and_return_by_themselves(tmp_path: Path) -> None:
    pace = Pace(instances=0.2, health=1, longest=0.5)
    async with many(tmp_path, pace) as (agents, fleet), routed(fleet, health_check_interval=1.0) as client:

        async def listed() -> int:
            models = (await client.get("/v1/models")).json()["data"]
            return sum(model["id"].startswith("only-7-") for model in models)

        async def becomes(number: int) -> None:
            async with asyncio.timeout(LONG):
                while await listed() != number:  # noqa: ASYNC110  # nobody tells that a probe was made
                    await asyncio.sleep(0.02)

        assert await listed() == EACH - 1
        await agents[7].die(instances_live=False)
        await until(fleet, lambda: view(fleet, "h7").status == "offline", LONG)
        await becomes(0)
        assert {(await chat(client)).status_code for _ in range(HOSTS)} == {200}
        assert (await chat(client, "only-7-1:7b")).status_code == 503  # it is known, and gone for now
        await agents[7].revive()
        await becomes(EACH - 1)
        assert (await chat(client, "only-7-1:7b")).status_code == 200


def calls_of_a_choice(backends: int) -> int:
    """How many calls it takes to choose one of ten candidates among so many backends."""
    roster = Roster(RosterOptions())
    for number in range(backends):
        models = ("m:7b",) if number < 10 else (f"other-{number}:7b",)
        roster.sources.claim(Backend(f"b{number}", f"http://h{number % HOSTS}:{3500 + number}", models=models))
    roster.sync()
    calls = 0

    def count(frame: FrameType, event: str, called: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        route = roster.resolve("m:7b")
        assert route is not None
        choice = roster.select(route, set(), None, 0.0)
        assert isinstance(choice, Pick)
        roster.picked(choice.candidate)
        choice.candidate.member.load.take(choice.candidate.size).give_back()
        roster.freed(choice.candidate.member)
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("backends", [50, HOSTS * EACH])
def test_a_choice_among_ten_costs_the_same_in_a_fleet_of_any_size(backends: int) -> None:
    assert calls_of_a_choice(backends) == calls_of_a_choice(10)
