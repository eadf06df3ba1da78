"""The WebSocket that v2 agents, and ours, open to us: who calls shows its host's key in its first frame."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from solar.control.api.asking import Desk
from solar.control.links.channel import serve
from solar.control.links.conversation import Conversation


async def host_channel(desk: Desk, socket: WebSocket) -> None:
    async def send(message: MutableMapping[str, Any]) -> None:
        try:
            await socket.send(message)
        except WebSocketDisconnect:
            raise ConnectionResetError("the agent is gone") from None

    await socket.accept()
    await serve(desk.links, Conversation(socket.receive, send), socket.client.host if socket.client else "")
