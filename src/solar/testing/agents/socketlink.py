"""The link that a fake agent of the fork opens: Socket.IO over a WebSocket, just as much of it as that needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from solar.testing.agents.link import Link, Refused

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_NAMESPACE = "/hosts,"
# The packets of Engine.IO 4, and within its messages those of Socket.IO 5.
_OPEN, _PING, _PONG, _CONNECT, _EVENT, _CONNECT_ERROR = "0", "2", "3", "40", "42", "44"


class SocketLink(Link):
    """As `Link`, with the fork's habits.

    The path of its URL is ignored. An agent from 3.8 on registers when it has connected, and once more upon each
    acknowledgement; an older one registers only when it was told to wait and is then acknowledged. A rejection ends
    its tries for good.
    """

    pending = False  # it was told to wait
    registered = 0  # how often it registered

    def _address(self) -> str:
        parts = urlsplit(self.url)
        scheme = "wss" if parts.scheme in ("wss", "https") else "ws"
        return f"{scheme}://{parts.netloc}/socket.io/?transport=websocket&EIO=4"

    async def _register(self, socket: ClientConnection) -> None:
        self.pending = False
        if not self._heard(await socket.recv()).startswith(_OPEN):
            raise Refused
        auth = {"api_key": self._agent.api_key, "host_name": self._agent.name}
        await socket.send(_CONNECT + _NAMESPACE + msgspec.json.encode(auth).decode())
        answer = self._heard(await socket.recv())
        if not answer.startswith(_CONNECT + _NAMESPACE):
            refused = answer.removeprefix(_CONNECT_ERROR + _NAMESPACE)
            self.refusals.append(msgspec.json.decode(refused).get("message", "") if refused != answer else answer)
            raise Refused
        self.up = True
        if self._agent.newer:
            await self._tell_all(socket)

    async def _take(self, socket: ClientConnection, packet: str) -> None:
        if packet == _PING:
            await socket.send(_PONG)
        elif packet.startswith(_EVENT + _NAMESPACE):
            name, *_ = msgspec.json.decode(packet.removeprefix(_EVENT + _NAMESPACE))
            await self._told(socket, name)

    async def _told(self, socket: ClientConnection, name: str) -> None:
        if name == "pending":
            self.pending = True
        elif name == "registration_ack":
            was_pending, self.pending = self.pending, False
            self.acknowledged += 1
            if was_pending or self._agent.newer:
                await self._tell_all(socket)
        elif name == "rejected":
            self.refusals.append(name)
            self.ended = True
            await socket.close()

    async def _tell_all(self, socket: ClientConnection) -> None:
        self.registered += 1
        agent = self._agent
        data = {"host_name": agent.name, "instances": agent._flat(), "roles": ["inference"], "gpu_type": "cpu"}
        await self._emit(socket, "registration", data | {"version": agent.version})
        agent._instances_changed()
        agent.tell_health()

    async def _write(self, socket: ClientConnection, frame: dict[str, Any]) -> None:
        kind, at = frame["type"], frame["timestamp"]
        if kind == "log":
            line = {"seq": frame["data"]["seq"], "line": frame["data"]["line"], "timestamp": at}
            await self._emit(socket, "log_batch", {"entries": [{"instance_id": frame["instance_id"], **line}]})
        elif kind == "instance_state":
            entry = {name: frame[name] for name in ("instance_id", "timestamp", "data")}
            await self._emit(socket, "instance_state_batch", {"entries": [entry]})
        else:
            await self._emit(socket, kind, {"timestamp": at, "data": frame["data"]})

    async def _emit(self, socket: ClientConnection, name: str, payload: dict[str, Any]) -> None:
        await socket.send(_EVENT + _NAMESPACE + msgspec.json.encode([name, payload]).decode())
