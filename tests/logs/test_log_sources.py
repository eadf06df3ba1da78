from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from following import Followed, following, reading

from solar.control.logs import Limits, Since, Wanted
from solar.control.logs.sources import ways
from solar.testing import FakeAgent, FakeInstance, TcpProxy, json_answer
from solar.wire.dialects import DIALECTS
from solar.wire.hosts import HostPatch
from solar.wire.lines import Entry

AGENTS = [("v1", None), ("v2", None), ("fork", "0.1.3"), ("fork", "3.8.3")]


def made(dialect: str, version: str | None, **settings: object) -> FakeAgent:
    return FakeAgent(dialect, version=version, **settings)  # type: ignore[arg-type]


def logs_asked(agent: FakeAgent) -> int:
    return sum(recorded.path.endswith("/logs") for recorded in agent.requests)


async def looks(agent: FakeAgent, times: int) -> None:
    """Returns once its instances were asked for so often."""
    asked = len(agent.requests)
    await agent.wait_for(lambda: sum(one.path == "/instances" for one in agent.requests[asked:]) >= times)


def test_an_agent_that_pushes_is_not_asked_and_others_are_in_the_best_way_that_they_have() -> None:
    assert ways(DIALECTS["v1"], connected=False) == ("stream", "page")
    assert ways(DIALECTS["v1"], connected=True) == ("stream", "page")
    assert ways(DIALECTS["v2"], connected=False) == ("page",)
    assert ways(DIALECTS["v2"], connected=True) == ("push",)
    assert ways(DIALECTS["fork"], connected=True) == ("push",)
    assert ways(DIALECTS["solar"], connected=False) == ("stream", "page")
    assert ways(None, connected=True) == ("push",)  # it cannot be asked, and tells by itself
    assert ways(None, connected=False) == ()


@pytest.mark.parametrize(("dialect", "version"), AGENTS)
async def test_lines_from_before_come_first_and_then_live_ones(
    dialect: str, version: str | None, tmp_path: Path
) -> None:
    async with made(dialect, version) as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        agent.write(instance, *(f"before {n}" for n in range(200)))
        await logs.add(agent)
        async with reading(logs.hub, since=Since(replay=2)) as seen:
            await seen.line("before 199")
            assert seen.texts == ["before 198", "before 199"]
            agent.write(instance, "live")
            await seen.line("live")
            assert seen.gaps == []


@pytest.mark.parametrize(("dialect", "version"), AGENTS)
async def test_an_agent_that_is_killed_and_restarted_repeats_no_line_and_loses_none(
    dialect: str, version: str | None, tmp_path: Path
) -> None:
    async with made(dialect, version) as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        agent.write(instance, "before")
        await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.line("before")
            await agent.die()
            await seen.until(lambda: seen.troubles[-1])
            await agent.revive()
            agent.write(instance, "after")
            await seen.line("after")
            held = [line["line"] for line in instance.lines]
            assert seen.texts[-len(held) :] == held
            assert len(seen.texts) == 3 + len(held)
            assert (seen.gaps, seen.epochs, seen.troubles[-1]) == ([], {0, 1}, None)
            assert seen.numbers == list(range(len(seen.numbers)))


@pytest.mark.parametrize(("dialect", "version"), AGENTS)
async def test_an_instance_that_is_restarted_repeats_no_line(dialect: str, version: str | None, tmp_path: Path) -> None:
    async with made(dialect, version) as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        agent.write(instance, "before")
        await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.line("before")
            await agent.lifecycle.restart(instance)
            agent.write(instance, "after")
            await seen.line("after")
            assert seen.texts.count("before") == seen.texts.count("after") == 1
            assert seen.gaps == []
            assert seen.numbers == list(range(len(seen.numbers)))


@pytest.mark.parametrize(("dialect", "version"), AGENTS)
async def test_what_the_agent_has_no_more_is_a_gap(dialect: str, version: str | None, tmp_path: Path) -> None:
    async with made(dialect, version, log_buffer=10) as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        host_id = await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 2)
        await logs.gone()
        agent.write(instance, *(f"line {n}" for n in range(50)))
        async with reading(logs.hub, since=Since(number=seen.numbers[-1])) as again:
            await again.line("line 49")
            assert (again.gaps, again.numbers) == ([40], list(range(42, 52)))
        assert host_id in repr(logs.hub.places)


async def test_a_log_file_that_is_read_once_the_ring_is_gone_repeats_no_line(tmp_path: Path) -> None:
    async with FakeAgent("fork", version="3.8.3") as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        agent.write(instance, *(f"line {n}" for n in range(100)))
        await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.line("line 99")
            await agent.kill(instance)
            agent.reads_log_from_file(instance)
            agent.write(instance, "its last")
            await seen.line("its last")
            assert seen.numbers == list(range(103))


async def test_nobody_is_asked_for_logs_that_nobody_reads(tmp_path: Path) -> None:
    async with FakeAgent("v2") as agent, following(tmp_path) as logs:
        await agent.add("m")
        await logs.add(agent)
        await agent.wait_for(lambda: sum(recorded.path == "/instances" for recorded in agent.requests) > 5)
        assert logs_asked(agent) == 0


async def test_a_source_outlives_its_last_reader_for_a_while_and_then_ends(tmp_path: Path) -> None:
    async with FakeAgent("v1") as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        await logs.add(agent)
        for n in range(3):
            async with reading(logs.hub, since=Since(replay=1)) as seen:
                agent.write(instance, f"line {n}")
                await seen.line(f"line {n}")
        assert logs_asked(agent) == 1
        await agent.wait_for(lambda: not any(connection.stream for connection in agent.connections))
        agent.write(instance, "nobody reads it now")
        async with reading(logs.hub, since=Since(number=seen.numbers[-1])) as again:
            await again.until(lambda: again.texts)
        assert (again.texts, again.gaps, logs_asked(agent)) == (["nobody reads it now"], [], 2)


async def test_a_link_that_stands_brings_the_lines_and_the_agent_is_asked_once_for_what_was_before(
    tmp_path: Path,
) -> None:
    async with FakeAgent("v2") as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        host_id = await logs.add(agent)
        link = Link()
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 2)
            watch = logs.fleet.watched(host_id)
            assert watch is not None
            watch.linked(link)
            await looks(agent, 2)
            asked = logs_asked(agent)
            agent.write(instance, "pushed")
            logs.hub.take(host_id, instance.id, [Entry(2, instance.lines[-1]["timestamp"], "pushed")])
            await seen.line("pushed")
            await looks(agent, 5)
            assert logs_asked(agent) == asked
            watch.unlinked(link)
            await agent.wait_for(lambda: logs_asked(agent) > asked + 2)
            assert seen.texts.count("pushed") == 1


@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
async def test_what_an_agent_wrote_before_its_link_came_back_is_asked_for(tmp_path: Path, *, read: bool) -> None:
    async with FakeAgent("v2") as agent, following(tmp_path) as logs:
        instance = await agent.add("m")
        host_id = await logs.add(agent)
        watch = logs.fleet.watched(host_id)
        assert watch is not None
        first, second = Link(), Link()
        watch.linked(first)
        agent.write(instance, "pushed")
        push(logs, host_id, instance)
        async with reading(logs.hub) as seen:
            await seen.line("pushed")
            if not read:
                await seen.leave()
                await logs.gone()
            await agent.die()
            await agent.revive()  # it writes while it has no link
            watch.linked(second)
            agent.write(instance, "last")
            push(logs, host_id, instance)
            async with reading(logs.hub, since=Since(number=2)) as all_of_it:
                await all_of_it.line("last")
        held = [line["line"] for line in instance.lines]
        assert all_of_it.texts[-len(held) :] == held
        assert all_of_it.gaps == []


def push(logs: Followed, host_id: str, instance: FakeInstance) -> None:
    """Its newest line comes by its link."""
    line = instance.lines[-1]
    logs.hub.take(host_id, instance.id, [Entry(line["seq"], line["timestamp"], line["line"])])


async def test_the_first_reader_of_a_pushed_log_gets_what_was_before(tmp_path: Path) -> None:
    async with FakeAgent("v2") as agent, following(tmp_path) as logs:
        await agent.add("m")
        host_id = await logs.add(agent)
        watch = logs.fleet.watched(host_id)
        assert watch is not None
        watch.linked(Link())
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 2)
            assert logs_asked(agent) == 1


async def test_an_agent_without_the_stream_is_asked_for_the_page(tmp_path: Path) -> None:
    async with FakeAgent("v2", version="1.0.0") as agent, following(tmp_path) as logs:
        agent.always(json_answer({"service": "solar-host", "version": "1.0.0"}), "/health")
        agent.always(json_answer({"service": "solar-host", "version": "1.0.0"}), "/docs")
        await agent.add("m")
        host_id = await logs.add(agent)
        watch = logs.fleet.watched(host_id)
        assert watch is not None
        watch.dialect = DIALECTS["v1"]
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 2)


async def test_a_host_that_gets_another_address_is_followed_there(tmp_path: Path) -> None:
    async with FakeAgent("v1") as agent, following(tmp_path) as logs, TcpProxy("127.0.0.1", agent.port) as proxy:
        instance = await agent.add("m")
        host_id = await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 2)
            await logs.fleet.patch(host_id, HostPatch(url=proxy.url))
            agent.write(instance, "there")
            await seen.line("there")
            assert len(seen.texts) == 3


async def test_what_a_host_has_no_more_is_said_and_its_lines_are_kept(tmp_path: Path) -> None:
    async with FakeAgent("v2") as agent, following(tmp_path) as logs:
        await agent.add("m")
        host_id = await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 2)
            await logs.fleet.remove(host_id)
            await seen.until(lambda: seen.troubles[-1] == "nobody knows where this log is written any more")
        async with reading(logs.hub) as again:
            await again.until(lambda: len(again.texts) == 2)


async def test_a_hung_host_slows_no_other(tmp_path: Path) -> None:
    async with FakeAgent("v2") as hung, FakeAgent("v2") as well, following(tmp_path) as logs:
        for agent, name in ((hung, "hung"), (well, "well")):
            await agent.add("m")
            await logs.add(agent, name)
        hung.freeze()
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 2)
            instance = next(iter(well.instances.values()))
            well.write(instance, "live")
            await seen.line("live")
        hung.thaw()


async def test_an_instance_that_is_created_later_joins(tmp_path: Path) -> None:
    async with FakeAgent("v2") as agent, following(tmp_path) as logs:
        await logs.add(agent)
        async with reading(logs.hub, Wanted(aliases=frozenset({"new"}))) as seen:
            await agent.add("other")
            await agent.add("new")
            await seen.until(lambda: len(seen.texts) == 2)
            assert [item.place.alias for item in seen.items] == ["new"] * 3


async def test_a_log_that_was_forgotten_while_it_was_read_is_read_on(tmp_path: Path) -> None:
    async with FakeAgent("v1") as agent, following(tmp_path, limits=Limits(bytes=8000)) as logs:
        instances = [await agent.add(alias) for alias in ("a", "b")]
        await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 4)
            for n in range(20):
                for instance in instances:
                    agent.write(instance, f"{instance.alias} {n} {'x' * 1000}")
                    await seen.line(f"{instance.alias} {n} ")


async def test_an_agents_keys_are_in_no_line(tmp_path: Path) -> None:
    async with FakeAgent("v1", api_key="key-of-the-host") as agent, following(tmp_path) as logs:
        instance = await agent.add("m", api_key="key-of-the-instance")
        agent.write(instance, "--api-key key-of-the-instance for key-of-the-host")
        await logs.add(agent)
        async with reading(logs.hub) as seen:
            await seen.line("--api-key *** for ***")


class Link:
    called = None

    def end(self, why: str) -> None:
        pass


async def test_all_logs_of_many_hosts_come_though_one_host_hangs_and_agents_are_not_hurried(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(FakeAgent("v2")) for _ in range(10)]
        logs = await stack.enter_async_context(following(tmp_path, look=3600))
        for n, agent in enumerate(agents):
            for alias in "0123456789":
                agent.write(await agent.add(alias, start=False), f"{n}/{alias}")
            await logs.add(agent, f"host{n}")
        agents[0].freeze()
        async with reading(logs.hub) as seen:
            await seen.until(lambda: len(seen.texts) == 90)
            assert sorted(set(seen.texts)) == sorted(f"{n}/{alias}" for n in range(1, 10) for alias in "0123456789")
            assert sum(logs_asked(agent) for agent in agents[1:]) == 90
        agents[0].thaw()
