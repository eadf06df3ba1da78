"""Agents over HTTP. Nobody else imports aiohttp, which takes a quarter of a second: load this off the event loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace

import aiohttp
from yarl import URL

from solar.control.fleet.calls import AgentAnswer, HostUnreachable, NoStream
from solar.errors import InvalidRequest
from solar.wire.address import AgentUrl

MAX_ANSWER = 16 * 1024 * 1024  # bytes; a thousand long log lines are one or two MiB
CONNECT = 5.0  # seconds until a connection stands, however long the answer may take
HANDSHAKE = 15.0  # seconds for a WebSocket to open: some answer nobody for 10 while they stop an instance
HEARTBEAT = 40.0  # seconds between two pings on a WebSocket; half of it may pass until the pong
MAX_FRAME = 1024 * 1024  # bytes that an agent may say at once on a WebSocket
IDLE = 4.0  # seconds; the originals close an idle connection after 5, and a change must not run into that

_PATH = re.compile(r"/[\x21-\x7e]*")


def open_session() -> aiohttp.ClientSession:
    """The connections to all agents. A long call must not keep others waiting: nothing is queued here."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_follow_nowhere)  # a WebSocket's handshake would follow, with the key
    return aiohttp.ClientSession(
        trace_configs=[trace],
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity", "User-Agent": "solar"},
    )


class AgentClient:
    """Calls to one agent. Raises InvalidRequest where its key cannot stand in a header."""

    def __init__(self, session: aiohttp.ClientSession, agent: AgentUrl, api_key: str) -> None:
        if not (api_key.isascii() and (api_key.isprintable() or not api_key)):
            raise InvalidRequest("the host's api_key must be printable ASCII on one line", param="api_key")
        self.agent = agent
        self._session = session
        self._key = {"X-API-Key": api_key}

    def __repr__(self) -> str:
        return f"<AgentClient {self.agent}>"

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, within: float, with_key: bool = True
    ) -> AgentAnswer:
        """What the agent answers, whatever the status; it is followed nowhere else. `within` is in seconds.

        Raises HostUnreachable where there is no whole answer in time, and InvalidRequest for a path that is none.
        """
        headers = (self._key if with_key else {}) | ({"Content-Type": "application/json"} if body else {})
        try:
            async with self._session.request(
                method,
                self._url(path),
                data=body or None,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=within, sock_connect=CONNECT),
            ) as response:
                return AgentAnswer(response.status, await self._bounded(response))
        except aiohttp.ConnectionTimeoutError:
            raise HostUnreachable(f"{self.agent} takes no connection within {CONNECT:g} s", status=504) from None
        except TimeoutError:
            late = f"{self.agent} has not answered {method} {path} within {within:g} s"
            raise HostUnreachable(late, status=504) from None
        except (aiohttp.ClientError, OSError) as error:
            raise HostUnreachable(f"{self.agent} does not answer: {_why(error)}") from None

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[AsyncIterator[str]]:
        """The texts of a WebSocket, until it closes. Raises HostUnreachable, also from within; NoStream."""
        limits = aiohttp.ClientWSTimeout(ws_close=1.0)
        try:
            async with asyncio.timeout(HANDSHAKE):
                socket = await self._session.ws_connect(
                    self._url(path), headers=self._key, timeout=limits, heartbeat=HEARTBEAT, max_msg_size=MAX_FRAME
                )
        except TimeoutError:
            late = f"{self.agent} has not opened {path} within {HANDSHAKE:g} s"
            raise HostUnreachable(late, status=504) from None
        except aiohttp.WSServerHandshakeError as error:
            raise NoStream(f"{self.agent} refuses the WebSocket {path}: {error.status}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise HostUnreachable(f"{self.agent} does not answer: {_why(error)}") from None
        try:
            async with aclosing(self._texts(socket)) as texts:
                yield texts
        finally:
            await socket.close()

    async def _texts(self, socket: aiohttp.ClientWebSocketResponse) -> AsyncGenerator[str, None]:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.ERROR:
                raise HostUnreachable(f"{self.agent} broke its WebSocket: {message.data}")
            if message.type is aiohttp.WSMsgType.TEXT:
                yield message.data

    def _url(self, path: str) -> URL:
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.partition("?")[0].split("/")):
            raise InvalidRequest(f"{path!r} is no path of an agent")
        return URL(self.agent.at(path), encoded=True)

    async def _bounded(self, response: aiohttp.ClientResponse) -> bytes:
        pieces, size = list[bytes](), 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > MAX_ANSWER:
                raise HostUnreachable(f"{self.agent} answers more than the limit of {MAX_ANSWER} bytes")
            pieces.append(piece)
        return b"".join(pieces)


async def _follow_nowhere(
    session: aiohttp.ClientSession, context: SimpleNamespace, params: aiohttp.TraceRequestRedirectParams
) -> None:
    del session, context, params
    raise aiohttp.ClientError("it leads elsewhere")


def _why(error: aiohttp.ClientError | OSError) -> str:
    if isinstance(error, aiohttp.ClientSSLError):
        return f"TLS: {error}"
    if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
        return "nobody listens there"
    if isinstance(error, aiohttp.ClientResponseError):  # the text would show what was said, which may be anything
        return "what it says is no HTTP"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "its answer was cut short"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closed the connection"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
