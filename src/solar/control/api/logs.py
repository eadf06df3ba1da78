"""The WebSockets of those who read logs: /ws/logs for all of them, /ws/logs/{host_id}/{instance_id} for one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import suppress
from typing import Any

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from solar.control.api.asking import Asked, Desk, Parameter, flag, only
from solar.control.logs import Contact, Gap, Item, LogLine, Place, Reader, Since, Wanted
from solar.control.logs.wanted import read_since, read_wanted
from solar.errors import InvalidRequest, SolarError
from solar.wire.watching import PING, PONG

REPLAY = 10.0  # seconds within which who writes a log must tell what is held
_IN_A_ROW = 32  # frames that are given before others have their turn

_TOKEN = Parameter("token", "of POST /ws/token, in place of a key")
_SINCE = Parameter("since", "a line's number: only what came after it")
PARAMETERS = (
    Parameter("host", "ids or names, with commas"),
    Parameter("instance", "ids, with commas"),
    Parameter("alias", "the names that clients ask for, with commas"),
    Parameter("level", "debug, info, warning or error: at least"),
    Parameter("text", "that stands in the line, whatever the case"),
    Parameter("since", "a number, a time, or HOST_ID/INSTANCE_ID:NUMBER for each log, with commas"),
    Parameter("replay", "so many of the newest lines of each log come first: 100 unless told", "integer"),
    Parameter("follow", "`false`: what is held now, and then the end", "boolean"),
    _TOKEN,
)


async def all_logs(desk: Desk, socket: WebSocket) -> None:
    """The lines of all logs that are wanted, each with its names. Raises InvalidRequest for what is no filter."""
    query = socket.query_params
    asked = Asked({}, query)
    only(asked, PARAMETERS)
    wanted, since = read_wanted(query), read_since(query)
    follow = "follow" not in query or flag(asked, "follow")
    if not follow:
        await desk.fleet.listed()
    await socket.accept()
    with desk.logs.follow(wanted, since) as reader:
        await _converse(socket, _named(reader) if follow else _held(reader))


async def one_log(desk: Desk, socket: WebSocket) -> None:
    """The lines of one instance, as the original's clients read them: bare, and what is held comes first."""
    host_id, instance_id = socket.path_params["host_id"], socket.path_params["instance_id"]
    query = socket.query_params
    only(Asked({}, query), (_SINCE, _TOKEN))
    since = read_since(query, replay=None)
    if since.number is None and since != Since():
        raise InvalidRequest("since must be a whole number", param="since")
    await socket.accept()
    if trouble := await _unknown(desk, host_id, instance_id):
        await _end(socket, trouble)
        return
    wanted = Wanted(hosts=frozenset({host_id}), instances=frozenset({instance_id}))
    with desk.logs.follow(wanted, since) as reader:
        await _converse(socket, _bare(reader))


async def _unknown(desk: Desk, host_id: str, instance_id: str) -> str | None:
    """Why there is no such log."""
    if desk.logs.has(host_id, instance_id):
        return None
    try:
        view = await desk.fleet.refresh(host_id)  # it may be new there
    except InvalidRequest:
        return f"Host {host_id[:100]} not found"
    except SolarError as error:
        return error.message
    for instance in view.instances:
        if instance.id == instance_id:
            desk.logs.tell(Place(host_id, instance_id, view.name, instance.alias))
            return None
    return "Instance not found" if view.status == "online" else f"Failed to connect to solar-host: {view.reason}"


async def _converse(socket: WebSocket, frames: AsyncIterable[dict[str, Any]]) -> None:
    """Give it `frames` until there are no more, or the client has left."""
    async with asyncio.TaskGroup() as tasks:
        giving = tasks.create_task(_give(socket, frames))
        with suppress(WebSocketDisconnect):
            while (message := await socket.receive())["type"] != "websocket.disconnect":
                if message.get("text") == PING:
                    await socket.send_text(PONG)
        giving.cancel()


async def _give(socket: WebSocket, frames: AsyncIterable[dict[str, Any]]) -> None:
    given = 0
    with suppress(WebSocketDisconnect):  # who listens hears of it as well
        async for frame in frames:
            await socket.send_text(msgspec.json.encode(frame).decode())
            given += 1
            if given % _IN_A_ROW == 0:
                await asyncio.sleep(0)
        await socket.close()


async def _named(reader: Reader) -> AsyncIterator[dict[str, Any]]:
    async for items in reader:
        for item in items:
            yield _frame(item)


async def _held(reader: Reader) -> AsyncIterator[dict[str, Any]]:
    """What is held, as far as those who write it tell it in time; who did not is named."""
    with suppress(TimeoutError):
        async with asyncio.timeout(REPLAY):
            await reader.heard()
    for item in reader.take():  # all at once, so that the lines of all logs are in the order of their times
        yield _frame(item)
    for place in reader.unheard:
        yield _frame(Contact(place, f"it was not told within {REPLAY:g} s"))


async def _bare(reader: Reader) -> AsyncIterator[dict[str, Any]]:
    """As the original tells them; and the end, where it cannot be reached at first."""
    begun = False
    async for items in reader:
        for item in items:
            match item:
                case LogLine(_, line):
                    yield {"seq": line.seq, "timestamp": line.at, "line": line.text}
                case Contact(_, trouble) if not begun:
                    begun = True
                    if trouble is not None:
                        yield {"error": f"Failed to connect to solar-host: {trouble}"}
                        return


async def _end(socket: WebSocket, trouble: str) -> None:
    with suppress(WebSocketDisconnect):
        await socket.send_text(msgspec.json.encode({"error": trouble}).decode())
        await socket.close()


def _frame(item: Item) -> dict[str, Any]:
    match item:
        case LogLine(place, line):
            told = {"seq": line.seq, "line": line.text, "level": line.level, "timestamp": line.at, "epoch": line.epoch}
            return {"type": "log", **_names(place), "timestamp": line.at, "data": told}
        case Gap(place, missed):
            return {"type": "gap", **_names(place), "missed": missed}
        case Contact(place, trouble):
            return {"type": "source", **_names(place), "live": trouble is None, "reason": trouble}


def _names(place: Place) -> dict[str, str]:
    return {
        "host_id": place.host_id,
        "host_name": place.host_name,
        "instance_id": place.instance_id,
        "alias": place.alias,
    }
