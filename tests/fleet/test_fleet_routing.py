"""Running instances are backends: a router that follows the fleet answers through them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fleets import QUICK, fleet_in, host_of, running, stored, until

from solar import Router
from solar.control.fleet import Fleet
from solar.control.records import Places
from solar.core.backend import Backend
from solar.discovery.base import BackendsListed
from solar.store import Host
from solar.testing import FakeAgent
from solar.testing.agents.shapes import DialectName
from solar.wire.hosts import HostPatch, NewHost

ASK = {"model": "llama:8b", "messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def asking(fleet: Fleet) -> AsyncIterator[tuple[Router, httpx.AsyncClient]]:
    async with Router(discoverers=[fleet.discoverer]) as router:
        transport = httpx.ASGITransport(router)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            yield router, client


async def backends(fleet: Fleet) -> tuple[Backend, ...]:
    async for change in fleet.discoverer.watch():
        assert isinstance(change, BackendsListed)
        return change.backends
    raise AssertionError("it ended")


@pytest.mark.parametrize(
    "agent",
    [FakeAgent("v1"), FakeAgent("v2"), FakeAgent("fork", version="0.1.3"), FakeAgent("fork")],
    ids=["v1", "v2", "0.1.3", "3.8.3"],
)
async def test_a_router_answers_chat_through_an_instance_with_its_own_key(tmp_path: Path, agent: FakeAgent) -> None:
    async with agent, fleet_in(tmp_path) as fleet:
        instance = await agent.add("llama:8b")
        host = await fleet.add(host_of(agent))
        async with asking(fleet) as (_, client):
            answer = await client.post("/v1/chat/completions", json=ASK)
            assert answer.status_code == 200
            assert answer.headers["x-solar-backend"] == f"{host.id}/{instance.id}"
        assert instance.engine is not None
        key = "key-of-llama:8b" if agent.dialect == "v1" else "host-key"
        assert instance.engine.inference[-1].header("authorization") == f"Bearer {key}"


@pytest.mark.parametrize("dialect", ["v1", "v2", "fork"])
async def test_only_what_runs_is_a_backend_and_hosts_share_nothing(tmp_path: Path, dialect: DialectName) -> None:
    async with FakeAgent(dialect) as one, FakeAgent(dialect) as two, fleet_in(tmp_path) as fleet:
        for agent, alias, start in ((one, "a", True), (one, "b", True), (one, "c", False), (two, "a", True)):
            await agent.add(alias, start=start)
        first, second = [await fleet.add(host_of(agent, f"{n}")) for n, agent in enumerate((one, two))]
        listed = await backends(fleet)
        assert [backend.host for backend in listed] == [first.id, first.id, second.id]
        assert [backend.models for backend in listed] == [("a",), ("b",), ("a",)]
        assert {backend.source for backend in listed} == {"fleet"}


async def test_a_host_lends_its_weight_to_its_instances(tmp_path: Path) -> None:
    async with FakeAgent() as agent, stored(tmp_path) as store:
        await agent.add("llama:8b")
        await store.put_host(Host("h", "h", agent.url, "host-key", 1, {"weight": 2}))
        async with running(store) as fleet:
            await fleet.refresh("h")
            assert [backend.weight for backend in await backends(fleet)] == [2.0]


async def test_a_host_s_weight_is_told_changed_and_kept(tmp_path: Path) -> None:
    async with FakeAgent() as agent, stored(tmp_path) as store:
        await agent.add("llama:8b")
        async with running(store) as fleet:
            host = await fleet.add(NewHost("a", agent.url, "host-key", 2))
            assert [backend.weight for backend in await backends(fleet)] == [2.0]
            assert (await fleet.patch(host.id, HostPatch(weight=0.5))).as_json.weight == 0.5
            assert [backend.weight for backend in await backends(fleet)] == [0.5]
            assert (await fleet.patch(host.id, HostPatch(name="b"))).weight == 0.5
        assert [kept.settings for kept in await store.hosts()] == [{"weight": 0.5}]


async def test_records_call_a_host_as_it_is_called_now(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        places = Places()
        fleet.on_change.append(places.changed)
        one = await agent.add("llama:8b")
        host = await fleet.add(host_of(agent, "a"))
        await fleet.patch(host.id, HostPatch(name="b"))
        place = places.of(f"{host.id}/{one.id}")
        assert (place.host_name, place.instance_id) == ("b", one.id)


async def test_each_change_of_what_runs_is_listed_and_nothing_else(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        changes = fleet.discoverer.watch()

        async def listed() -> list[str]:
            change = await anext(changes)
            assert isinstance(change, BackendsListed)
            return [f"{backend.models[0]} at {backend.origin.port}" for backend in change.backends]

        assert await listed() == []
        instance = await agent.add("llama:8b")
        await fleet.refresh(host.id)
        assert await listed() == [f"llama:8b at {instance.port}"]
        await agent.add("stopped", start=False)
        await fleet.refresh(host.id)  # no backend: not listed anew
        before = instance.port
        await agent.lifecycle.restart(instance)
        await fleet.refresh(host.id)
        assert instance.port != before
        assert await listed() == [f"llama:8b at {instance.port}"]
        await fleet.remove(host.id)
        assert await listed() == []


async def test_instances_outlive_their_agent_as_backends(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        await agent.add("llama:8b")
        host = await fleet.add(host_of(agent))
        async with asking(fleet) as (_, client):
            await agent.die(instances_live=True)
            assert (await fleet.refresh(host.id)).status == "offline"
            assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 200


async def test_a_dead_process_that_its_agent_calls_running_is_a_503_and_comes_back(tmp_path: Path) -> None:
    async with FakeAgent("v2") as agent, fleet_in(tmp_path) as fleet:
        instance = await agent.add("llama:8b")
        host = await fleet.add(host_of(agent))
        async with asking(fleet) as (_, client):
            await agent.kill(instance)
            await fleet.refresh(host.id)
            answer = await client.post("/v1/chat/completions", json=ASK)
            assert (instance.status, answer.status_code) == ("running", 503)
            await fleet.call(host.id, "POST", f"/instances/{instance.id}/restart", kind="start")
            await until(fleet, lambda: fleet.instances(host.id)[0].port == instance.port)
            async with asyncio.timeout(10):
                while (await client.post("/v1/chat/completions", json=ASK)).status_code != 200:
                    await fleet.refresh(host.id)


async def test_an_instance_that_starts_later_is_routed_to_by_itself(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path, QUICK) as fleet:
        await fleet.add(host_of(agent))
        async with asking(fleet) as (router, client):
            assert (await client.post("/v1/chat/completions", json=ASK)).status_code == 404
            await agent.add("llama:8b")
            await until(fleet, lambda: "1 backends" in repr(fleet.discoverer))
            async with asyncio.timeout(10):
                while (await client.post("/v1/chat/completions", json=ASK)).status_code != 200:
                    await fleet.refresh_all()
            assert len(router.backends) == 1


async def test_a_new_key_or_address_loses_no_backend_on_the_way(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        await agent.add("llama:8b")
        host = await fleet.add(host_of(agent))
        listed: list[int] = []
        fleet.on_change.append(lambda *_: listed.append(len(fleet.instances(host.id))))
        agent.freeze()
        patched = asyncio.get_running_loop().create_task(fleet.patch(host.id, HostPatch(url=f"localhost:{agent.port}")))
        await until(fleet, lambda: fleet.hosts()[0].url.startswith("http://localhost"))
        assert [backend.origin.hostname for backend in await backends(fleet)] == ["localhost"]
        agent.thaw()
        assert (await patched).status == "online"
        assert 0 not in listed


async def test_a_router_starts_with_the_whole_list(tmp_path: Path) -> None:
    async with FakeAgent() as one, FakeAgent() as two, stored(tmp_path) as store:
        for agent in (one, two):
            await agent.add("llama:8b")
            await store.put_host(Host(agent.url, "h", agent.url, "host-key", 1))
        async with running(store) as fleet, asking(fleet) as (router, _):
            assert len(router.backends) == 2
