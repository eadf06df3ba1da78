import asyncio
from typing import Any

import httpx
import pytest

from solar.testing import Answered, FakeAgent, FakeInstance, json_answer
from solar.testing.agents.shapes import DialectName

KEY = {"X-API-Key": "host-key", "Authorization": "Bearer host-key"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def ask(agent: FakeAgent, path: str = "/health", timeout: float = 5.0, method: str = "GET") -> httpx.Response:  # noqa: ASYNC109
    async with httpx.AsyncClient(headers=KEY, timeout=timeout, trust_env=False) as client:
        return await client.request(method, agent.url + path)


async def chat(instance: FakeInstance) -> int:
    async with httpx.AsyncClient(headers=KEY, trust_env=False) as client:
        return (await client.post(f"http://127.0.0.1:{instance.port}/v1/chat/completions", json=CHAT)).status_code


@pytest.mark.parametrize(
    ("dialect", "version", "status"),
    [("v1", None, "running"), ("v2", None, "running"), ("fork", "0.1.3", "running"), ("fork", "3.8.3", "failed")],
)
async def test_only_the_newer_fork_notices_that_a_process_died(
    dialect: DialectName, version: str | None, status: str
) -> None:
    async with FakeAgent(dialect, version=version) as agent:
        instance = await agent.add("m", **({"api_key": "host-key"} if dialect == "v1" else {}))
        assert await chat(instance) == 200
        port, pid = instance.port, instance.pid
        await agent.kill(instance)
        told = (await ask(agent, f"/instances/{instance.id}")).json()
        assert (told["status"], told["port"]) == (status, port)
        assert told["pid"] == (pid if status == "running" else None)
        with pytest.raises(httpx.ConnectError):
            await chat(instance)


async def test_a_hung_agent_takes_connections_and_says_nothing_while_its_engines_go_on() -> None:
    async with FakeAgent() as agent:
        instance = await agent.add("m")
        agent.freeze()
        with pytest.raises(httpx.ReadTimeout):
            await ask(agent, timeout=0.05)
        assert await chat(instance) == 200
        agent.thaw()
        assert (await ask(agent)).status_code == 200


async def test_a_hung_agent_leaves_a_request_unanswered_on_a_connection_that_it_knows() -> None:
    async with FakeAgent() as agent, httpx.AsyncClient(trust_env=False, timeout=0.05) as client:
        await client.get(agent.url + "/health")
        agent.freeze()
        with pytest.raises(httpx.ReadTimeout):
            await client.get(agent.url + "/health")


async def test_a_dead_agent_refuses_and_its_engines_live_on_or_die_with_it() -> None:
    for live in (True, False):
        async with FakeAgent() as agent:
            instance = await agent.add("m")
            await agent.die(instances_live=live)
            with pytest.raises(httpx.ConnectError):
                await ask(agent)
            if live:
                assert await chat(instance) == 200
            else:
                with pytest.raises(httpx.ConnectError):
                    await chat(instance)


@pytest.mark.parametrize(("dialect", "moved", "orphans"), [("v2", True, 1), ("fork", False, 0)])
async def test_an_agent_that_begins_anew_starts_what_ran_beside_what_still_runs(
    dialect: DialectName, moved: bool, orphans: int
) -> None:
    async with FakeAgent() as probe:
        first = (await probe.add("probe")).port
    async with FakeAgent(dialect, start_port=first) as agent:
        instance, stopped = await agent.add("m"), await agent.add("n", start=False)
        agent.write(instance, "one more")
        url, port, seq = agent.url, instance.port, instance.seq
        await agent.die(instances_live=True)
        await agent.revive()
        assert (agent.url, instance.status, stopped.status) == (url, "running", "stopped")
        assert (instance.port != port) == moved
        assert len(agent.lifecycle.orphans) == orphans
        lines = (await ask(agent, f"/instances/{instance.id}/logs")).json()
        assert [line["seq"] for line in lines] == list(range(seq - 1))
        assert await chat(instance) == 200


async def test_a_v1_agent_that_begins_anew_finds_its_old_port_taken() -> None:
    async with FakeAgent("v1") as agent:
        instance = await agent.add("m", api_key="host-key")
        await agent.die(instances_live=True)
        await agent.revive()
        assert (instance.status, instance.error_message) == ("failed", "Process exited immediately")
        assert await chat(instance) == 200  # the old one, which nobody knows any more


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (Answered(500, b"Internal Server Error", content_type="text/plain"), 500),
        (json_answer({"detail": "Invalid or missing API key"}, 401), 401),
        (json_answer({"not": "a list"}), 200),
        (b"\x00garbage\r\n\r\n", None),
    ],
)
async def test_an_agent_answers_as_it_is_told_to(answer: Answered | bytes, seen: int | None) -> None:
    async with FakeAgent() as agent:
        agent.always(answer, "/instances")
        assert (await ask(agent)).status_code == 200
        if seen is None:
            with pytest.raises(httpx.RemoteProtocolError):
                await ask(agent, "/instances")
        else:
            assert (await ask(agent, "/instances")).status_code == seen
        agent.always(None, "/instances")
        assert (await ask(agent, "/instances")).json() == []


async def test_a_key_may_change_under_way() -> None:
    async with FakeAgent() as agent:
        agent.api_key = "new"
        assert (await ask(agent, "/instances")).status_code == 401


async def test_a_log_file_counts_from_0_and_has_one_time() -> None:
    async with FakeAgent("fork", log_buffer=2) as agent:
        instance = await agent.add("m")
        agent.write(instance, "a", "b")
        agent.reads_log_from_file(instance)
        lines = (await ask(agent, f"/instances/{instance.id}/logs")).json()
        assert [(line["seq"], line["line"]) for line in lines] == [(0, "a"), (1, "b")]
        assert len({line["timestamp"] for line in lines}) == 1
        assert lines[0]["timestamp"].endswith("+00:00")


@pytest.mark.parametrize(("dialect", "freezes"), [("v1", True), ("v2", True), ("fork", False)])
async def test_a_stop_freezes_the_whole_agent_but_for_the_fork(dialect: DialectName, freezes: bool) -> None:
    async with FakeAgent(dialect) as agent:
        instance = await agent.add("m")
        agent.lifecycle.delays.stop = 60.0
        page = f"/instances/{instance.id}/stop"
        stopping = asyncio.get_running_loop().create_task(ask(agent, page, method="POST"))
        await agent.wait_for(lambda: instance.status == "stopping")
        if freezes:
            with pytest.raises(httpx.ReadTimeout):
                await ask(agent, timeout=0.05)
        else:
            assert (await ask(agent)).status_code == 200
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)


async def test_everything_that_was_asked_is_recorded() -> None:
    async with FakeAgent() as agent:
        await ask(agent, "/instances?x=1")
        (recorded,) = agent.requests
        assert (recorded.method, recorded.target, recorded.header("x-api-key")) == ("GET", "/instances?x=1", "host-key")
        assert recorded.finished
        assert "0 instances" in repr(agent)


async def test_waiting_gives_up_with_what_was_seen() -> None:
    async with FakeAgent() as agent:
        with pytest.raises(TimeoutError, match=r"not so within 0.01 s: <FakeAgent v2"):
            await agent.wait_for(lambda: False, timeout=0.01)
        assert await agent.wait_for(lambda: True) is None


@pytest.mark.parametrize("wrong", [{"dialect": "v3"}, {"dialect": "v1", "control_urls": ["ws://x"]}])
def test_what_no_original_does_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be one of|a v1 agent"):
        FakeAgent(**wrong)


async def test_a_client_that_is_none_is_let_go() -> None:
    async with FakeAgent() as agent:
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        writer.write(b"GET / HTTP/1.1\r\n")
        writer.close()
        assert await reader.read() == b""
        await agent.wait_for(lambda: not agent.connections)


async def test_an_agent_shows_what_it_is_made_of() -> None:
    async with FakeAgent("v1") as agent:
        instance = await agent.add("m")
        assert repr(instance) == f"<FakeInstance 'm' running, port {instance.port}>"
        assert repr(agent.lifecycle) == "<Lifecycle v1, 1 instances, 0 orphans>"
        reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
        await agent.wait_for(lambda: agent.connections)
        assert "HTTP" in repr(next(iter(agent.connections)))
        await agent.die()
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        agent.loaded(instance)  # its engine is gone, and nothing happens
        assert instance.engine is None
