"""Agents reach a whole gateway by their links, through either of its doors; strangers do not."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from managed import KEY
from served import Served, served
from websockets.exceptions import InvalidStatus

from solar.testing import FakeAgent
from solar.testing.agents.shapes import DialectName

ASK = {"model": "llama:8b", "messages": [{"role": "user", "content": "hi"}]}
DOORS = pytest.mark.parametrize("door", ["front", "asgi"])


@asynccontextmanager
async def asking(here: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://{here.place}", headers={"x-api-key": KEY}) as client:
        yield client


async def answered(client: httpx.AsyncClient) -> None:
    """Returns once the model answers."""
    async with asyncio.timeout(15):
        while (await client.post("/v1/chat/completions", json=ASK)).status_code != 200:
            pass


@DOORS
@pytest.mark.parametrize("dialect", ["v2", "fork"])
async def test_an_agent_s_link_is_all_that_the_gateway_needs_to_know(
    tmp_path: Path, door: str, dialect: DialectName
) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(served(tmp_path, door))
        agent = await stack.enter_async_context(
            FakeAgent(dialect, name="gpu1", control_urls=[f"{here.url}/ws/host-channel"])
        )
        client = await stack.enter_async_context(asking(here))
        events = await stack.enter_async_context(here.open("/ws/events"))
        new = {"name": "gpu1", "url": agent.url, "api_key": "host-key"}
        host = (await client.post("/hosts", json=new)).json()["host"]
        async with asyncio.timeout(15):
            while (told := json.loads(await events.recv()))["type"] != "host_status" or not told["data"]["connected"]:
                pass
            assert told["data"]["host_id"] == host["id"]
            one = await agent.add("llama:8b")
            agent.write(one, "a line of its log")
            while (told := json.loads(await events.recv()))["type"] != "log" or "a line" not in told["data"]["line"]:
                pass
            assert (told["host_name"], told["instance_id"]) == ("gpu1", one.id)
        await answered(client)
        async with here.open(f"/ws/logs/{host['id']}/{one.id}") as lines, asyncio.timeout(15):
            while "a line of its log" not in str(await lines.recv()):
                pass


@pytest.mark.parametrize("path", ["/ws/host-channel", "/socket.io/?transport=websocket&EIO=4"])
async def test_a_page_of_another_origin_opens_no_link(tmp_path: Path, path: str) -> None:
    async with served(tmp_path) as here:
        with pytest.raises(InvalidStatus, match="403"):
            await here.open(path, key=None, headers={"Origin": "https://elsewhere.example"}).__aenter__()
        async with here.open(path, key=None):
            pass


async def test_without_its_extra_an_agent_of_the_fork_is_told_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solar.control.links.links.find_spec", lambda _: None)
    async with served(tmp_path) as here, asking(here) as client, FakeAgent("fork", control_urls=[here.url]) as agent:
        one = await agent.add("llama:8b")
        await client.post("/hosts", json={"name": "gpu1", "url": agent.url, "api_key": "host-key"})
        await answered(client)
        assert one.status == "running"
        with pytest.raises(InvalidStatus) as refused:
            await here.open("/socket.io/?transport=websocket&EIO=4", key=None).__aenter__()
        assert refused.value.response.status_code == 404
        assert json.loads(refused.value.response.body)["error"]["code"] == "no_socketio"


@pytest.mark.parametrize("linked", [False, True])
async def test_a_model_that_was_started_through_the_gateway_is_no_unknown_one(tmp_path: Path, linked: bool) -> None:
    async with served(tmp_path) as here, asking(here) as client:
        urls = [f"{here.url}/ws/host-channel"] if linked else []
        async with FakeAgent("v2", control_urls=urls) as agent:
            new = {"name": "gpu1", "url": agent.url, "api_key": "host-key"}
            host = (await client.post("/hosts", json=new)).json()["host"]["id"]
            if linked:
                await agent.wait_for(lambda: agent.links[0].acknowledged)
            for number in range(5):
                config = {"config": {"model": "/m.gguf", "alias": f"m{number}"}}
                created = await client.post(f"/hosts/{host}/instances", json=config)
                page = f"/hosts/{host}/instances/{created.json()['instance']['id']}"
                assert (await client.post(f"{page}/start")).status_code == 200
                answer = await client.post("/v1/chat/completions", json=ASK | {"model": f"m{number}"})
                assert answer.status_code in (200, 503)
                assert (await client.post(f"{page}/stop")).status_code == 200
                answer = await client.post("/v1/chat/completions", json=ASK | {"model": f"m{number}"})
                assert answer.status_code == 404
