"""What is known of a host follows what its agent says, and what it does not say."""

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from fleets import QUICK, fleet_in, host_of, stored, until, view

from solar.control.fleet import Fleet, HostUnreachable, HostView
from solar.control.fleet.calls import AgentAnswer
from solar.control.fleet.hosts import HostWatch, Pace
from solar.control.fleet.view import What
from solar.store import Host
from solar.testing import FakeAgent
from solar.testing.agents.messages import Answered, json_answer
from solar.wire.hosts import HostPatch

LOG = logging.getLogger("solar.fleet-test")


def asked_for(agent: FakeAgent, path: str) -> int:
    return sum(request.path == path for request in agent.requests)


async def test_instances_that_come_go_and_move_are_seen_by_themselves(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path, QUICK) as fleet:
        host = await fleet.add(host_of(agent))
        instance = await agent.add("llama:8b")
        await until(fleet, lambda: [one.running for one in fleet.instances(host.id)] == [True])
        before = fleet.instances(host.id)[0].port
        await agent.lifecycle.stop(instance)
        await until(fleet, lambda: not fleet.instances(host.id)[0].running)
        await agent.lifecycle.start(instance)
        await until(fleet, lambda: fleet.instances(host.id)[0].running)
        assert fleet.instances(host.id)[0].port == instance.port != before
        await agent.lifecycle.stop(instance)
        agent.lifecycle.delete(instance)
        await until(fleet, lambda: not fleet.instances(host.id))


async def test_a_host_that_dies_is_offline_keeps_its_instances_and_comes_back_by_itself(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path, QUICK) as fleet:
        await agent.add("llama:8b")
        host = await fleet.add(host_of(agent))
        await agent.die()
        await until(fleet, lambda: view(fleet, host.id).status == "offline")
        assert "nobody listens there" in view(fleet, host.id).reason
        assert [instance.running for instance in fleet.instances(host.id)] == [True]
        await agent.revive()
        await until(fleet, lambda: view(fleet, host.id).status == "online")


@pytest.mark.parametrize(
    ("path", "answer", "status", "reason"),
    [
        ("/health", Answered(500, b"boom"), "error", "GET /health was answered 500: boom"),
        ("/health", json_answer({"service": "x"}), "error", "this is no agent"),
        ("/instances", Answered(200, b"[{"), "error", "this is no JSON"),
        ("/instances", json_answer({"detail": "gone"}, 404), "error", "was answered 404"),
        ("/instances", b"\x00\xff garbage", "offline", "what it says is no HTTP"),
        ("/instances", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n[", "offline", "its answer was cut short"),
        ("/instances", b"", "offline", "it closed the connection"),
        ("/memory", b"\x00\xff garbage", "online", ""),
        ("/memory", Answered(200, b"[[["), "online", ""),
    ],
)
async def test_garbage_is_said_and_loses_nothing_that_was_known(
    tmp_path: Path, path: str, answer: Answered | bytes, status: str, reason: str
) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        await agent.add("llama:8b")
        host = await fleet.add(host_of(agent))
        agent.always(answer, path)
        now = await fleet.refresh(host.id)
        assert (now.status, len(now.instances)) == (status, 1)
        assert reason in now.reason
        agent.always(None, path)
        assert (await fleet.refresh(host.id)).status == "online"


async def test_a_host_with_a_failing_health_page_stays_in_error_and_its_instances_are_followed(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path, QUICK) as fleet:
        host = await fleet.add(host_of(agent))
        seen: list[str] = []
        agent.always(Answered(500), "/health")
        await until(fleet, lambda: view(fleet, host.id).status == "error")
        fleet.on_change.append(lambda what, _: seen.append(what))
        await agent.add("llama:8b")
        await until(fleet, lambda: fleet.instances(host.id))
        before = asked_for(agent, "/health")
        await agent.wait_for(lambda: asked_for(agent, "/health") > before + 2)
        assert set(seen) == {"instances"}  # no flapping between error and online


async def test_each_change_is_told_once(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        told: list[tuple[What, str]] = []
        fleet.on_change.append(lambda what, host: told.append((what, host.status)))
        host = await fleet.add(host_of(agent))
        await fleet.refresh(host.id)
        await agent.die()
        await fleet.refresh(host.id)
        await fleet.refresh(host.id)
        await fleet.patch(host.id, HostPatch(name="b"))
        await fleet.remove(host.id)
        assert told == [("added", "online"), ("status", "offline"), ("patched", "offline"), ("removed", "offline")]


async def test_health_and_memory_are_asked_less_often_than_instances(tmp_path: Path) -> None:
    pace = Pace(instances=0.01, health=3600, longest=3600)
    async with FakeAgent() as agent, fleet_in(tmp_path, pace) as fleet:
        await fleet.add(host_of(agent))
        await agent.wait_for(lambda: asked_for(agent, "/instances") > 5)
        assert (asked_for(agent, "/health"), asked_for(agent, "/memory")) == (1, 1)


async def test_a_hung_host_among_fifty_costs_the_others_nothing(tmp_path: Path) -> None:
    pace = Pace(instances=0.2, health=1, longest=1)
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(FakeAgent()) for _ in range(50)]
        store = await stack.enter_async_context(stored(tmp_path))
        for number, agent in enumerate(agents):
            await store.put_host(Host(f"h{number}", f"h{number}", agent.url, agent.api_key, number))
        hung, *others = agents
        hung.freeze()
        fleet = Fleet(store, log=LOG, pace=pace)
        run = asyncio.get_running_loop().create_task(fleet.run())
        try:
            # Each was asked five times while the hung one has not answered once.
            await asyncio.gather(
                *(one.wait_for(lambda one=one: asked_for(one, "/instances") >= 5, 60) for one in others)
            )
            assert [host.status for host in fleet.hosts()[1:]] == ["online"] * 49
            assert (fleet.hosts()[0].last_seen, hung.requests) == (None, [])
            async with asyncio.timeout(20):
                await asyncio.gather(*(fleet.refresh(host.id) for host in fleet.hosts()[1:]))
            hung.thaw()
            await until(fleet, lambda: fleet.hosts()[0].status == "online", 30)
        finally:
            run.cancel()
            await asyncio.wait([run])


class Questioned:
    """An agent whose answers a test gives, when it wants."""

    def __init__(self) -> None:
        self.open: asyncio.Queue[tuple[str, asyncio.Future[AgentAnswer]]] = asyncio.Queue()

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, within: float, with_key: bool = True
    ) -> AgentAnswer:
        answer = asyncio.get_running_loop().create_future()
        await self.open.put((path, answer))
        return await answer


async def test_a_refresh_waits_for_a_look_that_begins_after_it() -> None:
    agent, over = Questioned(), list[str]()
    host = Host("h", "h", "http://h:8001", "k", 1)
    watch = HostWatch(host, agent, lambda *_: None, pace=Pace(3600, 3600, 3600), log=LOG)
    loop = asyncio.get_running_loop()
    run = loop.create_task(watch.run())
    _, first = await agent.open.get()

    async def refreshed() -> None:
        await watch.refresh()
        over.append(watch.reason)

    waiting = loop.create_task(refreshed())
    await asyncio.sleep(0)
    first.set_exception(HostUnreachable("old"))
    _, second = await agent.open.get()
    assert (watch.reason, over) == ("old", [])
    second.set_exception(HostUnreachable("new"))
    await waiting
    assert over == ["new"]
    late = loop.create_task(watch.refresh())
    await agent.open.get()
    run.cancel()
    await late  # nobody looks any more: it does not wait for ever


async def test_a_late_answer_of_a_host_that_moved_or_left_speaks_for_nobody(tmp_path: Path) -> None:
    async with FakeAgent() as old, FakeAgent() as new, fleet_in(tmp_path) as fleet:
        await old.add("of-the-old")
        host = await fleet.add(host_of(old))
        told: list[tuple[What, HostView]] = []
        old.freeze()
        late = asyncio.get_running_loop().create_task(fleet.refresh(host.id))
        await asyncio.sleep(0)
        await fleet.patch(host.id, HostPatch(url=new.url))
        assert (await late).url == new.url  # whoever waits hears of the host as it is now
        fleet.on_change.append(lambda what, seen: told.append((what, seen)))
        old.thaw()
        await fleet.refresh(host.id)
        assert (fleet.instances(host.id), view(fleet, host.id).status, told) == ((), "online", [])


async def test_pauses_grow_while_a_host_is_down_and_are_short_again_when_it_is_back() -> None:
    agent = Questioned()
    watch = HostWatch(Host("h", "h", "http://h:8001", "k", 1), agent, lambda *_: None, pace=Pace(2, 10, 30), log=LOG)

    async def pause_after(*answers: AgentAnswer | None) -> float:
        look = asyncio.get_running_loop().create_task(watch.look())
        for answer in answers:
            _, asked = await agent.open.get()
            if answer is None:
                asked.set_exception(HostUnreachable("down"))
            else:
                asked.set_result(answer)
        await look
        return watch.pause

    assert [await pause_after(None) for _ in range(6)] == [4, 8, 16, 30, 30, 30]
    health = AgentAnswer(200, b'{"service": "solar-host", "version": "2.0.0"}')
    assert await pause_after(health, AgentAnswer(200, b"[]"), AgentAnswer(503, b"")) == 2
