"""One connection to a fake agent: HTTP/1.1, and in the v1 dialect the WebSocket streams of logs and state."""

from __future__ import annotations

import asyncio
import re
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from solar.errors import MissingExtra
from solar.testing.agents.engine import FakeInstance
from solar.testing.recorded import Recorded, recorded_of
from solar.testing.sockets import reset

if TYPE_CHECKING:
    from websockets.server import ServerProtocol

    from solar.testing.agents.agent import FakeAgent

_STREAM = re.compile(r"/instances/([^/]+)/(logs|state)")
_CHUNK = 64 * 1024


class AgentConnection:
    """A client's connection to an agent; its one task ends when the client leaves."""

    def __init__(self, agent: FakeAgent, sock: socket.socket, number: int) -> None:
        self._agent = agent
        self._socket = sock
        self._number = number
        self._writer: asyncio.StreamWriter | None = None
        self.stream: Stream | None = None
        self.task = asyncio.get_running_loop().create_task(self._serve(), name=f"fake agent connection {number}")
        self.task.add_done_callback(self._unserved)

    def __repr__(self) -> str:
        return f"<AgentConnection {self._number}, {self.stream or 'HTTP'}>"

    def reset(self) -> None:
        """RST, now."""
        if self._writer is not None:
            reset(self._writer.transport)  # type: ignore[arg-type]  # a stream's transport reads and writes
        self.task.cancel()

    def _unserved(self, _: asyncio.Task[None]) -> None:
        """One that is cancelled before it began has closed nothing."""
        if self._writer is None:
            self._socket.close()

    async def _serve(self) -> None:
        reader, self._writer = await asyncio.open_connection(sock=self._socket)
        try:
            while await self._exchange(reader, self._writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # the client left, or is none
        finally:
            self._writer.close()
            with suppress(ConnectionError):
                await self._writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False when it was the last one here."""
        head = await reader.readuntil(b"\r\n\r\n")
        recorded = recorded_of(head, self._number, asyncio.get_running_loop().time())
        recorded.received += await _body(recorded, reader)
        recorded.complete = True
        self._agent._arrived(recorded)
        await self._agent._gate()
        if (recorded.header("upgrade") or "").lower() == "websocket":
            await self._streams(recorded, reader, writer)
            return False
        close = (recorded.header("connection") or "").lower() == "close"
        answer = await self._agent._answer(recorded)
        await self._agent._gate()
        writer.write(answer if isinstance(answer, bytes) else answer.wire(close=close))
        await writer.drain()
        recorded.finished = True
        self._agent._changed()
        return not close and not isinstance(answer, bytes)

    async def _streams(self, recorded: Recorded, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = server_protocol()
        protocol.receive_data(recorded.head)
        (request,) = protocol.events_received()
        found = _STREAM.fullmatch(recorded.path) if self._agent.dialect == "v1" else None
        # Removed and unknown ones are refused so by the originals' framework.
        response = protocol.reject(403, "") if found is None else protocol.accept(request)  # type: ignore[arg-type]
        protocol.send_response(response)
        self.stream = Stream(protocol, writer, found[1] if found else "", found[2] if found else "")
        self.stream.flush()
        if found is not None:
            self._begin(self.stream)
            while not protocol.close_expected() and (data := await reader.read(_CHUNK)):
                protocol.receive_data(data)
                protocol.events_received()
                self.stream.flush()

    def _begin(self, stream: Stream) -> None:
        instance = self._agent.instances.get(stream.instance_id)
        if instance is None:
            stream.send({"error": "Instance not found"})
            stream.end()
        elif stream.kind == "logs":
            for line in instance.lines:
                stream.send(line)
        else:
            stream.send({"type": "instance_state", "data": _first_state(instance, self._agent.lifecycle.now())})


async def _body(recorded: Recorded, reader: asyncio.StreamReader) -> bytes:
    if recorded.header("transfer-encoding") is None:
        return await reader.readexactly(int(recorded.header("content-length") or 0))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


class Stream:
    """One WebSocket of a v1 agent."""

    def __init__(self, protocol: ServerProtocol, writer: asyncio.StreamWriter, instance_id: str, kind: str) -> None:
        self.instance_id = instance_id
        self.kind = kind  # "logs", "state", or "" when it was refused
        self._protocol = protocol
        self._writer = writer
        self._number = 0  # of the next state

    def __repr__(self) -> str:
        return f"<Stream of {self.kind} of {self.instance_id}>"

    def tell_state(self, state: dict[str, Any], at: str) -> None:
        """A change of what the instance does."""
        data = {"instance_id": self.instance_id, **state, "timestamp": at}
        self.send({"seq": self._number, "timestamp": at, "type": "instance_state", "data": data})
        self._number += 1

    def send(self, message: dict[str, Any]) -> None:
        """One text frame."""
        if self._protocol.state.name == "OPEN":
            self._protocol.send_text(msgspec.json.encode(message))
            self.flush()

    def end(self) -> None:
        """Closes, with manners."""
        self._protocol.send_close(1000)
        self.flush()

    def flush(self) -> None:
        """Hands over what the protocol has to say."""
        for data in self._protocol.data_to_send():
            if data:
                self._writer.write(data)
            elif self._writer.can_write_eof():
                with suppress(OSError):  # the other side is gone already
                    self._writer.write_eof()


def _first_state(instance: FakeInstance, at: str) -> dict[str, Any]:
    told = {name: instance.state[name] for name in ("busy", "prefill_progress", "active_slots")}
    return {"instance_id": instance.id, **told, "timestamp": at}


def server_protocol() -> ServerProtocol:
    """The server's half of a WebSocket. Raises MissingExtra."""
    try:
        from websockets.server import ServerProtocol
    except ImportError:
        raise MissingExtra("the fake agent's WebSockets need the package 'websockets'") from None
    return ServerProtocol()
