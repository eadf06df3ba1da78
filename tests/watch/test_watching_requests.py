import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from managed import KEY
from served import Served, said
from websockets.asyncio.client import ClientConnection

from raw_wire import CHAT, connected
from solar.control.watchers import MOST_BYTES, MOST_FRAMES
from solar.testing import FakeAgent, FakeBackend, faults
from solar.wire.hosts import NewHost

Serve = Callable[..., AbstractAsyncContextManager[Served]]
WISH = "a secret wish"
HOOKS = ("on_start", "on_routed", "on_reroute")


async def ask(gateway: Served, model: str = "m", **more: object) -> int:
    """The status of a request."""
    body = {"model": model, "messages": [{"role": "user", "content": WISH}], **more}
    url = f"http://{gateway.place}/v1/chat/completions"
    async with aiohttp.request("POST", url, json=body, headers={"X-API-Key": KEY}) as answer:
        await answer.read()
        return answer.status


async def watching(client: ClientConnection) -> None:
    """Return once it is watched: who asks before that may go unseen."""
    await client.send("ping")
    while await said(client) != "pong":
        pass


async def told(client: ClientConnection, last: str) -> list[dict[str, Any]]:
    """The frames up to the first of this type."""
    frames = [json.loads(await said(client))]
    while frames[-1]["type"] != last:
        frames.append(json.loads(await said(client)))
    return frames


async def test_a_request_is_watched_from_its_start_to_its_end(serve: Serve) -> None:
    async with (
        FakeBackend(["m"]) as fake,
        serve(backends=(f"one={fake.url}",)) as gateway,
        gateway.open("/ws/routing") as routing,
        gateway.open("/ws/events") as events,
    ):
        await watching(routing)
        await watching(events)
        assert await ask(gateway, stream=True) == 200
        start, routed, success = await told(routing, "request_success")
        assert [start["type"], routed["type"]] == ["request_start", "request_routed"]
        assert {name: start["data"][name] for name in ("model", "endpoint", "client_ip", "stream")} == {
            "model": "m",
            "endpoint": "/v1/chat/completions",
            "client_ip": "127.0.0.1",
            "stream": True,
        }
        assert routed["data"]["instance_url"] == "one"
        assert routed["data"]["attempt"] == 1
        assert [one["backend"] for one in routed["data"]["candidates"]] == ["one"]
        assert success["data"]["duration"] > 0
        everything = await told(events, "gateway_request")
        assert everything[:3] == [start, routed, success]
        over = everything[3]["data"]
        assert (over["status"], over["request_type"], over["backend"]) == ("success", "chat", "one")
        assert len({frame["data"]["request_id"] for frame in everything}) == 1
        shown = json.dumps(everything)
        assert not any(secret in shown for secret in (WISH, KEY))


async def test_a_backend_that_fails_is_named_when_another_is_asked(serve: Serve) -> None:
    async with FakeBackend(["m"]) as bad, FakeBackend(["m"]) as good:
        bad.script(*[faults.status(503)] * 5)
        async with (
            serve(backends=(f"bad={bad.url}", f"good={good.url}")) as gateway,
            gateway.open("/ws/routing") as client,
        ):
            await watching(client)
            frames = []
            while not any(frame["type"] == "request_reroute" for frame in frames):
                assert await ask(gateway) == 200
                frames = await told(client, "request_success")
            _, first, reroute, second, _ = frames
            assert (first["data"]["instance_url"], second["data"]["instance_url"]) == ("bad", "good")
            assert (reroute["type"], reroute["data"]["attempt"], second["data"]["attempt"]) == ("request_reroute", 1, 2)
            assert reroute["data"]["reason"]


async def test_what_nobody_serves_is_an_error_and_missed(serve: Serve) -> None:
    async with serve() as gateway, gateway.open("/ws/events") as client:
        await watching(client)
        assert await ask(gateway, "nobody-has-it") == 404
        frames = await told(client, "gateway_request")
        assert [frame["type"] for frame in frames] == ["request_start", "request_error", "gateway_request"]
        assert "nobody-has-it" in frames[1]["data"]["error_message"]
        assert frames[2]["data"]["status"] == "missed"


async def test_a_filter_lets_only_some_ended_requests_through(serve: Serve) -> None:
    async with (
        FakeBackend(["m", "n"]) as fake,
        serve(backends=(f"one={fake.url}",)) as gateway,
        gateway.open("/ws/events") as client,
    ):
        await watching(client)
        await client.send(json.dumps({"type": "set_filter", "filter": {"model": "n"}}))
        await told(client, "filter_status")
        assert [await ask(gateway, "m"), await ask(gateway, "n")] == [200, 200]
        frames = await told(client, "gateway_request")
        assert [frame["type"] for frame in frames].count("request_success") == 2
        assert frames[-1]["data"]["model"] == "n"


async def test_what_runs_on_a_host_is_told_with_its_host(serve: Serve) -> None:
    async with serve() as gateway, FakeAgent("v1", api_key="agent-key") as agent:
        instance = await agent.add("llama:8b")
        fleet = gateway.gateway._desk.fleet
        await fleet.ready()
        host = await fleet.add(NewHost("Mac 1", agent.url, "agent-key"))
        async with asyncio.timeout(10), gateway.open("/ws/routing") as client:
            while "llama:8b" not in {m.id for s in gateway.gateway.router.backends for m in s.models}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await watching(client)
            assert await ask(gateway, "llama:8b") == 200
            for frame in (await told(client, "request_success"))[1:]:
                assert (frame["data"]["host_id"], frame["data"]["instance_id"]) == (host.id, instance.id)
                assert frame["data"].get("host_name") in (None, "Mac 1")


async def test_a_request_costs_nothing_more_while_nobody_watches_requests(serve: Serve) -> None:
    async with serve() as gateway:
        router = gateway.gateway.router
        book = router.on_record
        async with gateway.open("/ws/status") as client:
            await watching(client)
            assert [getattr(router, hook) for hook in HOOKS] == [None] * 3
            async with gateway.open("/ws/routing") as second:
                await watching(second)
                assert None not in [getattr(router, hook) for hook in HOOKS]
        await gateway.idle()
        assert [getattr(router, hook) for hook in HOOKS] == [None] * 3
        assert router.on_record == book


async def test_a_watcher_that_never_reads_slows_nobody_and_holds_little(serve: Serve) -> None:
    async with FakeBackend(["m"]) as fake, serve(backends=(f"one={fake.url}",), send_buffer=65536) as gateway:
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel would read for it
        small.connect(("127.0.0.1", gateway.port))
        idle = await gateway.open("/ws/events", sock=small, max_queue=1)
        await watching(idle)
        async with connected(gateway.port) as wire:
            for _ in range(2000):
                wire.ask(CHAT, head=f"X-API-Key: {KEY}\r\n")
            for _ in range(2000):
                assert (await wire.answer())[0].startswith("HTTP/1.1 200")
        (watcher,) = gateway.gateway._desk.watchers._of_kind["gateway_request"]
        assert len(watcher._waiting) <= MOST_FRAMES
        assert sum(len(frame) for frame in watcher._waiting) <= MOST_BYTES
        frames = await told(idle, "gap")
        assert 1000 < frames[-1]["missed"] < 8000 - len(frames)
        idle.transport.abort()
