"""An agent's WebSocket, as it should not be."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import pytest
from following import following, reading
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers

from solar.control.fleet import HostUnreachable
from solar.control.fleet.agents import AgentClient, open_session
from solar.control.fleet.calls import NoAgent, NoStream
from solar.control.logs import LogHub, LogLine
from solar.control.logs.feed import Feed
from solar.control.logs.items import Key
from solar.control.logs.streaming import stream
from solar.errors import InvalidRequest
from solar.testing import FakeAgent, blackhole, json_answer
from solar.wire.address import agent_url

PATH = "/instances/i/logs"


@asynccontextmanager
async def client(
    talk: Callable[[ServerConnection], Awaitable[None]],
    answer: Callable[[ServerConnection, Request], Response | None] | None = None,
) -> AsyncIterator[AgentClient]:
    """Of an agent that talks like this on its WebSocket."""
    async with serve(talk, "127.0.0.1", 0, process_request=answer) as server, open_session() as session:
        port = server.sockets[0].getsockname()[1]
        yield AgentClient(session, agent_url(f"http://127.0.0.1:{port}"), "key")


async def test_what_is_no_line_among_lines_is_passed_over() -> None:
    async def talk(socket: ServerConnection) -> None:
        for frame in ('{"seq": 0, "line": "one"}', "garbage", b"\x00", "[1]", '{"seq": 1, "line": "two"}'):
            await socket.send(frame)

    hub = LogHub()
    async with client(talk) as agent:
        await stream(agent.stream(PATH), Feed(hub, Key("h", "i")))
    with hub.follow() as reader:
        assert [item.line.text for item in reader.take() if isinstance(item, LogLine)] == ["one", "two"]


async def test_a_log_that_never_pauses_is_live_before_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.control.logs.settling.LONGEST", 0.05)
    ended = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        n = 0
        while not ended.is_set():
            await socket.send(f'{{"seq": {n}, "line": "line {n}"}}')
            await asyncio.sleep(0)
            n += 1

    hub = LogHub()
    hub.on_followed = lambda place: None
    feed = Feed(hub, Key("h", "i"))
    async with client(talk) as agent, asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        tasks.create_task(stream(agent.stream(PATH), feed))
        with hub.follow() as reader:
            await anext(reader)
            assert feed.works
            await anext(reader)
        ended.set()


async def test_a_handshake_is_followed_nowhere_else() -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.send('{"seq": 0, "line": "never"}')

    def elsewhere(socket: ServerConnection, request: Request) -> Response | None:
        if request.path != PATH:
            return None
        return Response(HTTPStatus.FOUND, "", Headers({"Location": "/elsewhere"}))

    async with client(talk, elsewhere) as agent:
        with pytest.raises(HostUnreachable, match="it leads elsewhere"):
            async with agent.stream(PATH):
                pass


async def test_an_agent_that_has_no_such_websocket_says_so() -> None:
    async with FakeAgent("v2") as fake, open_session() as session:
        agent = AgentClient(session, agent_url(fake.url), fake.api_key)
        with pytest.raises(NoStream, match="403"):
            async with agent.stream(PATH):
                pass
        with pytest.raises(InvalidRequest):
            async with agent.stream("/instances/../x"):
                pass


async def test_an_agent_that_is_not_there_or_does_not_answer_cannot_be_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("solar.control.fleet.agents.HANDSHAKE", 0.05)
    async with FakeAgent("v1") as fake, blackhole(fake.url) as hole, open_session() as session:
        for url, why in ((hole.url, "has not opened"), ("http://127.0.0.1:1", "nobody listens there")):
            agent = AgentClient(session, agent_url(url), "key")
            with pytest.raises(HostUnreachable, match=why):
                async with agent.stream(PATH):
                    pass
    with pytest.raises(HostUnreachable, match="it has no address"):
        NoAgent("it has no address").stream(PATH)


async def test_a_frame_that_is_too_large_ends_the_websocket_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.control.fleet.agents.MAX_FRAME", 1000)

    async def talk(socket: ServerConnection) -> None:
        await socket.send("x" * 2000)
        await socket.wait_closed()

    async with client(talk) as agent, agent.stream(PATH) as texts:
        with pytest.raises(HostUnreachable, match="broke its WebSocket"):
            await anext(texts)


async def test_an_instance_that_its_agent_knows_no_more_is_told_as_the_agent_tells_it(tmp_path: Path) -> None:
    async with FakeAgent("v1") as agent, following(tmp_path, look=3600) as logs:
        instance = await agent.add("m", start=False)
        await logs.add(agent)
        del agent.instances[instance.id]
        async with reading(logs.hub) as seen:
            await seen.until(lambda: seen.troubles == ["Instance not found"])


async def test_a_page_that_the_agent_refuses_is_told_with_its_status(tmp_path: Path) -> None:
    async with FakeAgent("v2") as agent, following(tmp_path, look=3600) as logs:
        await agent.add("m")
        await logs.add(agent)
        agent.always(json_answer({"detail": "no"}, 503), "/instances/")
        async with reading(logs.hub) as seen:
            await seen.until(lambda: seen.troubles == ["the agent answered 503 when asked for the log"])
            agent.always(None, "/instances/")
            await seen.until(lambda: seen.texts)
            assert seen.troubles[-1] is None
