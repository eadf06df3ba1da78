"""The WebSockets that agents open to us: who calls shows its host's key in its first frame."""

from __future__ import annotations

from starlette.websockets import WebSocket, WebSocketDisconnect

from solar.control.api.asking import Desk
from solar.control.links.channel import serve
from solar.control.links.conversation import Conversation
from solar.edge.asgi import Message, Send
from solar.errors import InvalidRequest
from solar.wire.channel import NotRegistered


async def host_channel(desk: Desk, socket: WebSocket) -> None:
    """A v2 agent, or one of ours."""
    await socket.accept()
    await serve(desk.links, Conversation(socket.receive, _sending(socket)), socket.client.host if socket.client else "")


async def socket_io(desk: Desk, socket: WebSocket) -> None:
    """An agent of the fork. Raises InvalidRequest where nobody here speaks its protocol, or has time for it."""
    speak = await desk.links.socketio()
    try:
        await speak(socket.scope, socket.receive, _sending(socket))
    except NotRegistered as crowd:
        raise InvalidRequest(crowd.message, status=503, code="too_many_sockets") from None


def _sending(socket: WebSocket) -> Send:
    async def send(message: Message) -> None:
        try:
            await socket.send(message)
        except WebSocketDisconnect:
            raise ConnectionResetError("the agent is gone") from None

    return send
