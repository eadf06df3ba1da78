"""The ASGI door: reads a request, hands it to an exchange, and carries the answer to `send`.

What an ASGI application cannot see (framing, pipelining, header limits) is the server's business; docs/api.md lists it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote

from solar.core.headers import Headers, value_of
from solar.core.multipart import peek_multipart
from solar.core.openai import peek
from solar.core.paths import Found, locate
from solar.core.record import Record
from solar.edge.admission import Admission
from solar.edge.answers import error_answer
from solar.edge.exchange import Exchange
from solar.edge.pages import Pages
from solar.edge.relay import Relay
from solar.edge.request import ClientRequest
from solar.edge.tasks import Tasks
from solar.errors import InvalidRequest, NoBackendAvailable, SolarError, UpstreamFailed

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HIGH_WATER = 64 * 1024  # bytes for a slow client that wait here before reading upstream stops
HTTP10_ANSWER = 16 * 1024 * 1024  # bytes of an answer that are collected for a client that knows no chunks
BODY_SECONDS = 60.0  # without a byte of the request's body
LONGEST_ID = 200

_QUERY = re.compile(rb"[\x21-\x7e]*").fullmatch


class AsgiDoor:
    """Paths to handlers, for one router."""

    def __init__(
        self, relay: Relay, admission: Admission, pages: Pages, tasks: Tasks, sessions: frozenset[str]
    ) -> None:
        self._relay = relay
        self._admission = admission
        self._pages = pages
        self._tasks = tasks
        self._sessions = sessions  # where a session's name may stand: header, user, prompt_cache_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        headers: Headers = scope["headers"]
        path = route_path(scope)
        found = locate(path)
        method: str = scope["method"]
        if method == "HEAD":
            send = _head_only(send)
        record = self._record(scope, headers, path, found)
        admission = self._admission
        refusal = admission.refusal(found, headers) if method != "OPTIONS" else None
        http10 = scope.get("http_version") in ("1.0", "1")  # granian writes "1"
        client = AsgiClient(admission.cors(found, headers), http10=http10)
        if refusal is None:
            refusal = _misdirected(found, method, path, scope.get("query_string", b""))
        if method == "OPTIONS" and refusal is None:
            await _reply(send, 204, admission.preflight(found, headers), b"", record)
        elif refusal is not None:
            await self._refuse(client, send, record, found, refusal)
        elif found.kind == "inference":
            await self._infer(scope, receive, send, client, record, found, headers)
        elif found.kind == "model" and not self._pages.has_model(found.model_id or "") and self._pages.default_backend:
            request = ClientRequest(record, None, headers, query=scope.get("query_string", b""))
            request.method = b"GET"
            request.target = b"/models/" + quote(found.model_id or "", safe="/:@").encode("ascii")
            await self._exchange(request, client, receive, send)
        else:
            page = self._pages.page(found, headers)
            if isinstance(page, SolarError):
                await self._refuse(client, send, record, found, page)
                return
            status, kind, body, extra = page
            answer = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *extra, *client.cors]
            await _reply(send, status, answer, body, record)
            if found.kind in ("models", "model"):
                self._book(record, status, len(body))

    def _record(self, scope: Scope, headers: Headers, path: str, found: Found) -> Record:
        given = value_of(headers, b"x-request-id")
        client = scope.get("client")
        return Record(
            given.decode("ascii") if given is not None and _usable_id(given) else self._relay.new_id(),
            method=scope["method"],
            path=path,
            endpoint=found.endpoint.name if found.endpoint is not None else found.kind,
            client=client[0] if client else "",
            started_at=self._relay.clock(),
        )

    def _book(self, record: Record, status: int, size: int, error: SolarError | None = None) -> None:
        record.status = status
        record.bytes_out = size
        record.ended_at = self._relay.clock()
        record.end = "success" if status < 400 else "rejected" if status < 500 else "failed"
        if error is not None:
            record.code = error.code
            record.detail = error.message
        self._relay.book(record)

    async def _refuse(self, client: AsgiClient, send: Send, record: Record, found: Found, error: SolarError) -> None:
        wire = found.endpoint.wire if found.endpoint is not None else "plain"
        body, headers = error_answer(error, wire, record.id)
        if error.status == 405:
            headers.append((b"allow", ", ".join((*found.methods, "OPTIONS")).encode("ascii")))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await _reply(send, error.status, headers + client.cors, body, record)
        self._book(record, error.status, len(body), error)

    async def _infer(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        client: AsgiClient,
        record: Record,
        found: Found,
        headers: Headers,
    ) -> None:
        request = ClientRequest(record, found.endpoint, headers, query=scope.get("query_string", b""))
        try:
            complete = await self._read_body(request, receive)
            if complete:
                self._peek(request)
        except SolarError as error:
            self._relay.release_body(request)
            await self._refuse(client, send, record, found, error)
            return
        except BaseException:
            self._relay.release_body(request)
            raise
        if not complete:  # the client left in the middle of its request: nothing of it is ever forwarded
            self._relay.release_body(request)
            record.status, record.end, record.ended_at = 499, "client_gone", self._relay.clock()
            self._relay.book(record)
            return
        await self._exchange(request, client, receive, send)

    async def _read_body(self, request: ClientRequest, receive: Receive) -> bool:
        """Read the body within its limits; False when the client left before its end."""
        relay = self._relay
        declared = value_of(request.headers, b"content-length")
        # Nineteen digits are too many bytes for anyone; int() itself refuses some thousands of them.
        expected = int(declared[:19]) if declared is not None and declared.isdigit() else None
        if expected is not None:
            self._reserve(request, expected)
        received = bytearray()  # one buffer: kept apart, pieces of a byte or two would take twenty times their size
        size = 0
        while True:
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    message = await receive()
            except TimeoutError:
                raise InvalidRequest(
                    f"no byte of the request's body came for {BODY_SECONDS:g} s", status=408, code="body_timeout"
                ) from None
            if message["type"] != "http.request":
                return False
            part = message.get("body", b"")
            size += len(part)
            if size > request.reserved:
                self._reserve(request, size - request.reserved)
            if not message.get("more_body", False):
                break
            received += part
        if expected is not None and size != expected:
            return False
        request.body = bytes(received + part) if received else part
        request.record.bytes_in = size
        request.record.body_at = relay.clock()
        return True

    def _reserve(self, request: ClientRequest, size: int) -> None:
        most = self._relay.options.max_body
        if request.reserved + size > most:
            raise InvalidRequest(
                f"the request's body is larger than {most} bytes, the limit here", status=413, code="body_too_large"
            )
        if not self._relay.reserve(size):
            raise NoBackendAvailable(
                "too many request bodies are in memory now; try again shortly", code="buffers_full", retry_after=1.0
            )
        request.reserved += size

    def _peek(self, request: ClientRequest) -> None:
        kind = value_of(request.headers, b"content-type") or b""
        if kind.lstrip()[:10].lower() == b"multipart/":
            seen = peek_multipart(request.body, kind.decode("latin-1"))
        else:
            seen = peek(request.body)
        request.peek = seen
        request.record.model = seen.model or ""
        request.record.stream = seen.stream
        sessions = self._sessions
        if sessions:
            named = value_of(request.headers, b"x-session-id") if "header" in sessions else None
            request.session = (
                (named.decode("latin-1") if named else None)
                or (seen.prompt_cache_key if "prompt_cache_key" in sessions else None)
                or (seen.user if "user" in sessions else None)
            )

    async def _exchange(self, request: ClientRequest, client: AsgiClient, receive: Receive, send: Send) -> None:
        exchange = Exchange(self._relay, client, request)
        client.exchange = exchange
        exchange.begin()
        # ASGI shows that a client left only to those who ask: this one asks while the answer is being made.
        watcher = self._tasks.spawn(_watch(receive, exchange, client), "client")
        try:
            await client.carry(send)
        except OSError:  # how servers tell that the client is gone
            exchange.client_gone()
        finally:
            watcher.cancel()
            exchange.client_gone()  # cancelled by the server, or nothing at all when it is over


class AsgiClient:
    """The client of one exchange, behind ASGI's `send`."""

    def __init__(self, cors: Headers, *, http10: bool) -> None:
        self.cors = cors
        self.exchange: Exchange | None = None
        self._http10 = http10
        self._start: tuple[int, Headers] | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._ended = False
        self._aborted = False
        self._full = False
        self._wake: asyncio.Future[None] | None = None

    def head(self, status: int, headers: Headers) -> None:
        self._start = (status, headers + self.cors if self.cors else headers)
        self._rouse()

    def write(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        if self._size > HIGH_WATER and not self._full and not self._http10 and self.exchange is not None:
            self._full = True
            self.exchange.client_full()
        self._rouse()

    def end(self) -> None:
        self._ended = True
        self._rouse()

    def abort(self) -> None:
        self._aborted = True
        self._rouse()

    def _rouse(self) -> None:
        wake = self._wake
        if wake is not None and not wake.done():
            wake.set_result(None)

    async def _more(self) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        await self._wake
        self._wake = None

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
        known = self._start is not None and value_of(self._start[1], b"content-length") is not None
        self._http10 = not known
        return known

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


async def _watch(receive: Receive, exchange: Exchange, client: AsgiClient) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.client_gone()
            client.abort()  # nobody will wake it any more
            return


def _head_only(send: Send) -> Send:
    """An answer to HEAD has the headers of the answer to GET, and no body; not every server sees to that."""

    async def send_head(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head


async def _reply(send: Send, status: int, headers: Headers, body: bytes, record: Record) -> None:
    if value_of(headers, b"x-request-id") is None:
        headers = [*headers, (b"x-request-id", record.id.encode("latin-1"))]
    with contextlib.suppress(OSError):  # the client is gone, and some servers say so
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def route_path(scope: Scope) -> str:
    """The path below the mount point."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
        return path[len(root) :] or "/"
    return path


def _misdirected(found: Found, method: str, path: str, query: bytes) -> SolarError | None:
    if found.kind == "unknown":
        return InvalidRequest(f"unknown path {path[:200]!r}; the API is under /v1", status=404, code="unknown_path")
    if query and not _QUERY(query):  # it goes upstream as it came, so it must not end the line that it stands in
        return InvalidRequest("the query string holds a character that must be percent-encoded")
    if method not in found.methods and method != "OPTIONS":
        allowed = " or ".join(found.methods)
        return InvalidRequest(f"{method} is not allowed here; use {allowed}", status=405, code="method_not_allowed")
    return None


def _usable_id(given: bytes) -> bool:
    return (
        0 < len(given) <= LONGEST_ID and given.isascii() and given.decode("ascii").isprintable() and b" " not in given
    )
