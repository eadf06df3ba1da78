"""One small request to a backend and its whole answer: for probes and for `solar doctor`, never for clients."""

from __future__ import annotations

import asyncio
from typing import NamedTuple, Protocol

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.core.headers import Headers
from solar.edge.transport import Call, Failure, Sink, UpstreamRequest

MOST = 4 * 1024 * 1024  # bytes of an answer that are read


class Answer(NamedTuple):
    """A complete answer."""

    status: int
    headers: Headers
    body: bytes


class FetchFailed(Exception):
    """There is no answer. `outcome` says how far it came; TIMEOUT when it took too long."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.outcome = failure.outcome
        self.detail = failure.detail


class Sends(Protocol):
    """What `fetch` needs of a transport."""

    def send(self, request: UpstreamRequest, sink: Sink) -> Call:
        """See solar.Upstream."""
        ...


async def fetch(
    upstream: Sends, backend: Backend, method: str, target: str, *, body: bytes = b"", seconds: float
) -> Answer:
    """Ask `backend` for `target` with its own key. Raises FetchFailed; `seconds` is for all of it."""
    headers: Headers = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]
    if body:
        headers.append((b"content-type", b"application/json"))
    if backend.api_key is not None:
        headers.append((b"authorization", b"Bearer " + backend.api_key.encode("ascii")))
    collector = _Collector()
    call = upstream.send(
        UpstreamRequest(backend, method.encode("ascii"), target.encode("utf-8"), headers, body, seconds), collector
    )
    try:
        async with asyncio.timeout(seconds):
            return await collector.answer
    except TimeoutError:
        raise FetchFailed(Failure(Outcome.TIMEOUT, f"no answer to {target} within {seconds:g} s")) from None
    finally:
        call.abort()


class _Collector:
    """The sink that waits for all of it."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._headers: Headers = []
        self._parts: list[bytes] = []
        self._size = 0

    def head(self, status: int, headers: Headers, length: int | None) -> None:
        del length
        self._status, self._headers = status, headers

    def chunk(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MOST:
            self._parts.append(data)
        elif not self.answer.done():
            self.answer.set_exception(FetchFailed(Failure(Outcome.UNREADABLE, "its answer is larger than 4 MiB")))

    def end(self) -> None:
        if not self.answer.done():
            self.answer.set_result(Answer(self._status, self._headers, b"".join(self._parts)))

    def failed(self, failure: Failure) -> None:
        if not self.answer.done():
            self.answer.set_exception(FetchFailed(failure))
