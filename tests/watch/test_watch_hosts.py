import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from served import Served, said
from websockets.asyncio.client import ClientConnection

from solar.control.api import watching
from solar.control.fleet import fleet
from solar.testing import FakeAgent
from solar.wire.hosts import NewHost

Serve = Callable[..., AbstractAsyncContextManager[Served]]
EVERYTHING = {"status": "all", "request_type": "all", "model": None, "host_id": None}


async def frame(client: ClientConnection) -> Any:
    return json.loads(await said(client))


async def until(client: ClientConnection, kind: str) -> Any:
    """The next frame of this kind."""
    while (told := await frame(client))["type"] != kind:
        pass
    return told


async def added(gateway: Served, agent: FakeAgent) -> str:
    hosts = gateway.gateway._desk.fleet
    await hosts.ready()
    return (await hosts.add(NewHost("Mac 1", agent.url, "agent-key"))).id


@pytest.mark.parametrize("path", ["/ws/status", "/ws/events"])
async def test_who_watches_hosts_reads_all_of_them_and_then_each_change(serve: Serve, path: str) -> None:
    async with serve() as gateway, FakeAgent("v1", api_key="agent-key") as agent:
        host_id = await added(gateway, agent)
        async with gateway.open(path) as client:
            first = await frame(client)
            assert first["type"] == "initial_status"
            (host,) = first["data"]
            assert host["timestamp"]
            seen = {name: host[name] for name in ("host_id", "name", "status", "url", "connected")}
            url = agent.url.rstrip("/")
            assert seen == {"host_id": host_id, "name": "Mac 1", "status": "online", "url": url, "connected": False}
            assert host["last_seen"]
            if path == "/ws/events":
                assert await frame(client) == {"type": "filter_status", "filter": EVERYTHING}
            await agent.stop()
            await gateway.gateway._desk.fleet.refresh(host_id)
            change = await until(client, "host_status")
            assert (change["data"]["host_id"], change["data"]["status"]) == (host_id, "offline")
            await gateway.gateway._desk.fleet.remove(host_id)
            gone = await until(client, "host_removed")
            assert gone == {"type": "host_removed", "data": {"host_id": host_id, "name": "Mac 1"}}


async def test_no_frame_has_a_key(serve: Serve) -> None:
    async with serve() as gateway, FakeAgent("v1", api_key="agent-key") as agent:
        await added(gateway, agent)
        async with gateway.open("/ws/status") as client:
            assert "agent-key" not in str(await said(client))


@pytest.mark.parametrize("path", ["/ws/status", "/ws/routing", "/ws/events"])
async def test_ping_is_answered_by_pong(serve: Serve, path: str) -> None:
    async with serve() as gateway, gateway.open(path) as client:
        await client.send("ping")
        while (told := await said(client)) != "pong":
            assert json.loads(told)["type"] in ("initial_status", "filter_status")


@pytest.mark.parametrize("path", ["/ws/status", "/ws/routing", "/ws/events"])
async def test_a_silent_client_reads_that_the_gateway_is_there(
    serve: Serve, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "KEEPALIVE_SECONDS", 0.05)
    async with serve() as gateway, gateway.open(path) as client:
        assert await until(client, "keepalive") == {"type": "keepalive"}
        assert await until(client, "keepalive") == {"type": "keepalive"}


async def test_a_filter_is_answered_by_what_holds_now(serve: Serve) -> None:
    async with serve() as gateway, gateway.open("/ws/events") as client:
        await until(client, "filter_status")
        for nonsense in ("{", '{"type": "what"}', "\u00e9"):
            await client.send(nonsense)
        await client.send(json.dumps({"type": "set_filter", "filter": {"status": "error", "model": "m", "what": 1}}))
        holds = {"status": "error", "request_type": "all", "model": "m", "host_id": None}
        assert await frame(client) == {"type": "filter_status", "filter": holds}


async def test_who_has_left_is_told_nothing_any_more(serve: Serve) -> None:
    async with serve() as gateway:
        watchers = gateway.gateway._desk.watchers
        async with gateway.open("/ws/routing") as client:
            await client.send("ping")
            await said(client)
            assert watchers.watched
        await gateway.idle()
        assert not watchers.watched


async def test_hosts_that_cannot_be_read_yet_keep_nobody_from_watching(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "PATIENCE", 0.01)
    (tmp_path / "data" / "solar.db").mkdir(parents=True)  # no file, so no database
    async with serve() as gateway, gateway.open("/ws/status") as client:
        assert await frame(client) == {"type": "initial_status", "data": []}
