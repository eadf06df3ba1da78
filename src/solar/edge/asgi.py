"""The ASGI door: reads a request, hands it to an exchange, and carries the answer to `send`.

What an ASGI application cannot see (framing, pipelining, header limits) is the server's business; docs/api.md lists it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from solar.core.headers import Block, Headers
from solar.core.record import Record
from solar.edge.answers import error_answer, route_pairs
from solar.edge.exchange import Exchange
from solar.edge.heads import LONGEST, KnownHeads
from solar.edge.reception import BODY_SECONDS, Reception
from solar.edge.request import Answer, Asked, ClientRequest
from solar.edge.tasks import Tasks
from solar.errors import InvalidRequest, SolarError, UpstreamFailed

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HIGH_WATER = 64 * 1024  # bytes for a slow client that wait here before reading upstream stops
HTTP10_ANSWER = 16 * 1024 * 1024  # bytes of an answer that are collected for a client that knows no chunks


class AsgiDoor:
    """One router's door for ASGI servers."""

    def __init__(self, reception: Reception, tasks: Tasks) -> None:
        self._reception = reception
        self._tasks = tasks
        self._known: KnownHeads[tuple[Any, ...], Asked] = KnownHeads()
        self._reading: dict[asyncio.Task[Any], float] = {}  # who waits for a piece of a body, since when
        self._unwatched: set[AsgiClient] = set()  # whose exchanges began since the last tick: most are soon over
        reception.relay.on_tick.append(self._tick)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        peer = scope.get("client")
        method = scope["method"]
        asked, length = self._ask(scope)
        request = self._reception.arrive(asked, peer[0] if peer else "")
        if request.answer is not None:
            await _reply(send, method, request.answer)
            return
        if request.endpoint is not None:
            try:
                body = await self._read_body(request, length, receive)
                if body is not None:
                    self._reception.complete(request, body)
            except SolarError as error:
                await _reply(send, method, self._reception.refuse(request, error))
                return
            except BaseException:  # the server gave up on this request: its body must not stay counted
                self._reception.left_early(request)
                raise
            if body is None:
                self._reception.left_early(request)
                return
        http10 = scope.get("http_version") in ("1.0", "1")  # granian writes "1"
        client = AsgiClient(asked.cors, receive, http10=http10)
        client.exchange = exchange = Exchange(self._reception.relay, client, request)
        exchange.begin()
        self._unwatched.add(client)
        try:
            await client.carry(_head_only(send) if method == "HEAD" else send)
        except OSError:  # how servers tell that the client is gone
            exchange.client_gone()
        finally:
            self._unwatched.discard(client)
            if client.watching is not None:
                client.watching.cancel()
            exchange.client_gone()  # cancelled by the server, or nothing at all when it is over
            client.exchange = None  # it knows us, and what knows itself stays in memory until it is searched for

    def _ask(self, scope: Scope) -> tuple[Asked, bytes | None]:
        """What a head means, remembered where the next one will say the same; and the body's length, as it says."""
        headers: Headers = []
        length: bytes | None = None
        for name, value in scope["headers"]:
            if name != b"content-length":
                headers.append((name, value))
            elif length is None:
                length = value
        method, query = scope["method"], scope.get("query_string", b"")
        key = (method, scope["path"], scope.get("root_path"), query, *headers)
        asked = self._known.get(key)
        if asked is None:
            asked = self._reception.read(method, route_path(scope), query, headers)
            size = len(scope["path"]) + len(query) + sum(len(name) + len(value) for name, value in headers)
            if asked.endpoint is not None and asked.refusal is None and size <= LONGEST:
                self._known.keep(key, asked)
        return asked, length

    async def _read_body(self, request: ClientRequest, declared: bytes | None, receive: Receive) -> bytes | None:
        """Read the body within its limits; None when the client left before its end."""
        reception = self._reception
        expected: int | None = None
        if declared is not None and declared.isdigit():
            # Nineteen digits are too many bytes for anyone; int() itself refuses some thousands of them.
            expected = int(declared[:19])
            reception.reserve(request, expected)
        received: bytearray | None = None  # kept apart, pieces of a byte or two would take twenty times their size
        size = 0
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # for the type checker: ASGI applications run in tasks
        try:
            while True:
                self._reading[task] = reception.relay.clock()  # a timer for each piece would cost as much as the rest
                message = await receive()
                if message["type"] != "http.request":
                    return None
                part = bytes(message.get("body", b""))  # some servers give a bytearray
                size += len(part)
                if size > request.reserved:
                    reception.reserve(request, size - request.reserved)
                if not message.get("more_body", False):
                    break
                if received is None:
                    received = bytearray()
                received += part
        except asyncio.CancelledError:
            if task in self._reading or task.uncancel():  # it was the server
                raise
            raise InvalidRequest(
                f"no byte of the request's body came for {BODY_SECONDS:g} s", status=408, code="body_timeout"
            ) from None
        finally:
            self._reading.pop(task, None)
        if expected is not None and size != expected:
            return None
        return part if received is None else bytes(received + part)

    def _tick(self, now: float) -> None:
        for task in [task for task, since in self._reading.items() if now - since > BODY_SECONDS]:
            del self._reading[task]
            task.cancel()
        unwatched, self._unwatched = self._unwatched, set()
        for client in unwatched:
            client.watching = self._tasks.spawn(client.watch(), "client")


class AsgiClient:
    """The client of one exchange, behind ASGI's `send`."""

    def __init__(self, cors: Headers, receive: Receive, *, http10: bool) -> None:
        self.cors = cors
        self.exchange: Exchange | None = None
        self.watching: asyncio.Task[None] | None = None
        self._receive = receive
        self._http10 = http10
        self._start: tuple[int, Headers] | None = None
        self._sized = False  # the answer tells its length
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._aborted = False
        self._full = False
        self._wake: asyncio.Future[None] | None = None

    def head(self, status: int, headers: Block, record: Record, length: int | None) -> None:
        said = [*headers.pairs, *route_pairs(record), *self.cors]
        if length is not None and status not in (204, 304):
            self._sized = True
            said.append((b"content-length", b"%d" % length))
        self._start = (status, said)
        if self._wake is not None:
            self._rouse()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._full and not self._http10 and self.exchange is not None:
            self._full = True
            self.exchange.client_full()
        if self._wake is not None:
            self._rouse()

    def end(self) -> None:
        self._ended = True
        if self._wake is not None:
            self._rouse()

    def abort(self) -> None:
        self._aborted = True
        if self._wake is not None:
            self._rouse()

    def _rouse(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    def _more(self) -> asyncio.Future[None]:
        self._wake = wake = asyncio.get_running_loop().create_future()
        return wake

    async def watch(self) -> None:
        """Ask whether the client has left, while the answer is being made: ASGI tells only those who ask."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if self.exchange is not None:
                    self.exchange.client_gone()
                self.abort()  # nobody will wake it any more
                return

    async def carry(self, send: Send) -> None:
        """Send what the exchange says. To return before the end is how ASGI cuts an answer."""
        if self._http10 and not await self._length_known():
            await self._carry_whole(send)
            return
        while True:
            if self._start is not None:
                status, headers = self._start
                self._start = None
                await send({"type": "http.response.start", "status": status, "headers": headers})
            elif self._parts:
                data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts = []
                last = self._ended
                await send({"type": "http.response.body", "body": data, "more_body": not last})
                if last:
                    return
                self._size -= len(data)
                if self._full and self._size <= HIGH_WATER // 2 and self.exchange is not None:
                    self._full = False
                    self.exchange.client_ready()
            elif self._ended:
                await send({"type": "http.response.body", "body": b""})
                return
            elif self._aborted:
                return
            else:
                await self._more()

    async def _length_known(self) -> bool:
        """Whether the answer tells its length by itself: then it needs no chunks."""
        while self._start is None and not self._aborted:
            await self._more()
        self._http10 = not self._sized
        return self._sized

    async def _carry_whole(self, send: Send) -> None:
        """HTTP/1.0 knows no chunks, and servers send them all the same: collect the answer, and send its length."""
        while not (self._ended or self._aborted) and self._size <= HTTP10_ANSWER:
            await self._more()
        status, headers = self._start or (502, [])
        if self._aborted or not self._ended:
            error = UpstreamFailed(
                "the answer broke, or is too large for an HTTP/1.0 client; use HTTP/1.1", code="http10_answer"
            )
            request_id = self.exchange.record.id if self.exchange is not None else ""
            body, headers = error_answer(error, "plain", request_id)
            headers = [*headers, (b"x-request-id", request_id.encode("latin-1")), *self.cors]
            status = error.status
        else:
            body = b"".join(self._parts)
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _head_only(send: Send) -> Send:
    """An answer to HEAD has the headers of the answer to GET, and no body; not every server sees to that."""

    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


async def _reply(send: Send, method: str, answer: Answer) -> None:
    headers = answer.headers
    if answer.status != 204:
        headers = [*headers, (b"content-length", b"%d" % len(answer.body))]
    with contextlib.suppress(OSError):  # the client is gone, and some servers say so
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})


def route_path(scope: Scope) -> str:
    """The path below the mount point."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path
