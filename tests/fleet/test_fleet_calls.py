"""Calls to agents for clients: what the agent says is kept, and no key is in it."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from fleets import ASKED, fleet_in, host_of, until, view

from solar.control.fleet import HostUnreachable
from solar.control.fleet.calls import seconds
from solar.errors import InvalidRequest
from solar.testing import FakeAgent
from solar.testing.agents.messages import Answered, json_answer
from solar.testing.agents.shapes import DialectName
from solar.wire.dialects import DIALECTS
from solar.wire.hosts import HostPatch, NewHost

CONFIG = {"model": "/m.gguf", "alias": "llama:8b", "api_key": "key-of-instance"}


def body(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize("dialect", ["v1", "v2", "fork"])
async def test_an_instance_lives_through_calls_in_every_dialect(tmp_path: Path, dialect: DialectName) -> None:
    async with FakeAgent(dialect) as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        created = await fleet.call(host.id, "POST", "/instances", body({"config": CONFIG}), kind="change")
        assert created.status == 200
        page = f"/instances/{json.loads(created.body)['instance']['id']}"
        for verb, kind, status in (
            ("start", "start", "running"),
            ("restart", "start", "running"),
            ("stop", "stop", "stopped"),
        ):
            answer = await fleet.call(host.id, "POST", f"{page}/{verb}", kind=kind)
            assert (answer.status, json.loads(answer.body)["instance"]["status"]) == (200, status)
            await until(fleet, lambda status=status: [one.status for one in fleet.instances(host.id)] == [status])
        assert (await fleet.call(host.id, "GET", f"{page}/state")).status == 200
        assert (await fleet.call(host.id, "DELETE", page, kind="change")).status == 200
        await until(fleet, lambda: not fleet.instances(host.id))


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/instances/x", 404, "Instance not found"),
        ("POST", "/instances/x/start", 404, "Instance not found"),
        ("PATCH", "/instances", 405, "Method Not Allowed"),
    ],
)
async def test_the_status_and_the_message_of_an_agent_are_kept(
    tmp_path: Path, method: str, path: str, status: int, said: str
) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        answer = await fleet.call(host.id, method, path)
        assert (answer.status, json.loads(answer.body)) == (status, {"detail": said})


@pytest.mark.parametrize("dialect", ["v1", "v2", "fork"])
async def test_what_a_change_made_is_known_when_its_answer_comes(tmp_path: Path, dialect: DialectName) -> None:
    async with FakeAgent(dialect) as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        created = await fleet.call(host.id, "POST", "/instances", body({"config": CONFIG}), kind="change")
        assert [one.status for one in fleet.instances(host.id)] == ["stopped"]
        page = f"/instances/{json.loads(created.body)['instance']['id']}"
        await fleet.call(host.id, "POST", f"{page}/start", kind="start")
        assert "1 backends" in repr(fleet.discoverer)
        await fleet.call(host.id, "POST", f"{page}/stop", kind="stop")
        assert "0 backends" in repr(fleet.discoverer)
        await fleet.call(host.id, "DELETE", page, kind="change")
        assert fleet.instances(host.id) == ()


async def test_a_start_that_fails_says_why_as_the_agent_does(tmp_path: Path) -> None:
    async with FakeAgent("fork") as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        instance = await agent.add("llama:8b", start=False)
        agent.lifecycle.failing = 2
        answer = await fleet.call(host.id, "POST", f"/instances/{instance.id}/start", kind="start")
        assert answer.status == 500
        assert json.loads(answer.body)["log_tail"]
        await until(fleet, lambda: [one.status for one in fleet.instances(host.id)] == ["failed"])


async def test_a_start_that_loads_a_model_is_waited_for_and_its_state_is_seen_meanwhile(tmp_path: Path) -> None:
    async with FakeAgent("fork") as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        agent.lifecycle.loading = True
        instance = await agent.add("llama:8b", start=False)
        call = fleet.call(host.id, "POST", f"/instances/{instance.id}/start", kind="start")
        started = asyncio.get_running_loop().create_task(call)
        await agent.wait_for(lambda: instance.status == "starting")
        assert [one.status for one in (await fleet.refresh(host.id)).instances] == ["starting"]
        assert not started.done()
        agent.loaded(instance)
        assert (await started).status == 200


def test_a_deadline_fits_what_is_asked_and_whom() -> None:
    assert [seconds("start", DIALECTS[name]) for name in ("v1", "v2", "fork", "solar")] == [90, 90, 90, 720]
    assert seconds("start", None) == 720
    assert [seconds("read", DIALECTS[name]) for name in ("v1", "v2", "fork")] == [15, 15, 5]
    assert (seconds("read", None), seconds("change", None), seconds("stop", None)) == (5, 30, 60)


async def test_while_an_agent_freezes_in_a_stop_it_is_no_dead_one(tmp_path: Path) -> None:
    async with FakeAgent("v2") as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        agent.lifecycle.free.clear()
        refreshed = asyncio.get_running_loop().create_task(fleet.refresh(host.id))
        # It has taken the connection and says nothing: as long as that is within its deadline, nothing is said of it.
        await agent.wait_for(lambda: agent.connections)
        assert view(fleet, host.id).status == "online"
        agent.lifecycle.free.set()
        assert (await refreshed).status == "online"


async def test_a_dead_agent_is_a_502(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        await agent.die()
        with pytest.raises(HostUnreachable, match="nobody listens there") as failed:
            await fleet.call(host.id, "GET", "/instances")
        assert (failed.value.status, failed.value.code) == (502, "host_unreachable")


async def test_a_hung_agent_is_a_504(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        monkeypatch.setattr("solar.control.fleet.hosts.seconds", lambda *_: 0.05)
        agent.freeze()
        with pytest.raises(HostUnreachable, match="has not answered GET /instances within") as failed:
            await fleet.call(host.id, "GET", "/instances")
        assert failed.value.status == 504


async def test_an_answer_without_an_end_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        monkeypatch.setattr("solar.control.fleet.agents.MAX_ANSWER", 1000)
        agent.always(Answered(200, b"x" * 1001), "/instances/a/logs")
        with pytest.raises(HostUnreachable, match="more than the limit of 1000 bytes"):
            await fleet.call(host.id, "GET", "/instances/a/logs")


async def test_keys_are_masked_in_every_answer_and_a_mask_that_comes_back_is_the_key_again(tmp_path: Path) -> None:
    async with FakeAgent("v1", api_key="key-of-host") as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent, key="key-of-host"))
        instance = await agent.add("llama:8b", start=False, api_key="key-of-instance")
        agent.write(instance, "llama-server --api-key key-of-instance")
        await fleet.refresh(host.id)
        page = f"/instances/{instance.id}"
        shown = await fleet.call(host.id, "GET", page)
        config = json.loads(shown.body)["config"]
        assert config["api_key"] == "***"
        answer = await fleet.call(host.id, "PUT", page, body({"config": config | {"alias": "b"}}), kind="change")
        assert (answer.status, instance.alias, instance.config["api_key"]) == (200, "b", "key-of-instance")
        agent.always(json_answer({"detail": "key-of-host or key-of-instance"}, 500), "/memory")
        answer = await fleet.call(host.id, "GET", "/memory")
        assert (answer.status, answer.body) == (500, b'{"detail":"*** or ***"}')


async def test_the_key_is_the_one_that_holds_now(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        agent.api_key = "new"
        assert (await fleet.call(host.id, "GET", "/instances")).status == 401
        await fleet.patch(host.id, HostPatch(api_key="new"))
        assert (await fleet.call(host.id, "GET", "/instances")).status == 200
        assert {request.header("x-api-key") for request in agent.requests} == {None, "host-key", "new"}


@pytest.mark.parametrize("path", ["instances", "/instances/../x", "/a b", "/a\r\nX: y", "/./a", "/ä", ""])
async def test_what_is_no_path_is_asked_of_nobody(tmp_path: Path, path: str) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path, ASKED) as fleet:
        host = await fleet.add(host_of(agent))
        with pytest.raises(InvalidRequest, match="is no path of an agent"):
            await fleet.call(host.id, "GET", path)


async def test_a_query_and_an_escaped_name_arrive_as_they_were_written(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        await fleet.call(host.id, "GET", "/instances/a%2Fb/last-generation?after=2026-01-01T00%3A00&within_s=5")
        assert agent.requests[-1].target == "/instances/a%2Fb/last-generation?after=2026-01-01T00%3A00&within_s=5"


async def test_an_agent_that_was_not_reached_at_registration_is_asked_who_it_is_before_it_gets_the_key(
    tmp_path: Path,
) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        await agent.die()
        host = await fleet.add(host_of(agent), unreachable=True)
        await agent.revive()
        assert (await fleet.call(host.id, "GET", "/instances")).status == 200
        assert view(fleet, host.id).status == "online"


async def test_an_agent_below_a_path_is_asked_there(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        health = json_answer({"service": "solar-host", "version": "2.0.0"})
        for path, answer in (("/base/health", health), ("/base/instances", json_answer([]))):
            agent.always(answer, path)
        host = await fleet.add(NewHost("a", f"{agent.url}/base/", "host-key"))
        assert (host.status, host.url) == ("online", f"{agent.url}/base")
