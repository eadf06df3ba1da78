"""What every door does with a request before it becomes an exchange: who may come in, what is asked, how it is answered
without a backend. A door only reads and writes; both doors decide here."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote

from solar.core.headers import Headers, value_of
from solar.core.multipart import peek_multipart
from solar.core.openai import peek
from solar.core.paths import Found, locate
from solar.core.record import Record
from solar.edge.admission import Admission
from solar.edge.answers import error_answer
from solar.edge.pages import Pages
from solar.edge.relay import Relay
from solar.edge.request import ClientRequest
from solar.errors import InvalidRequest, NoBackendAvailable, SolarError

LONGEST_ID = 200  # of a request id that a client may give

_QUERY = re.compile(rb"[\x21-\x7e]*").fullmatch
_BOOKED = frozenset({"inference", "models", "model", "unknown"})


class Answer(NamedTuple):
    """A complete answer of our own."""

    status: int
    headers: Headers
    body: bytes


_UNDECIDED = Answer(500, [], b"")


class Arrival:
    """A request whose head is here, and what becomes of it: an answer of our own, or a request for a backend."""

    __slots__ = ("cors", "found", "next", "record")

    def __init__(self, record: Record, found: Found, cors: Headers) -> None:
        self.record = record
        self.found = found
        self.cors = cors  # to be added to whatever the client gets
        self.next: Answer | ClientRequest = _UNDECIDED


class Reception:
    """Where the requests of one router arrive."""

    def __init__(self, relay: Relay, admission: Admission, pages: Pages, sessions: frozenset[str]) -> None:
        self.relay = relay
        self._admission = admission
        self._pages = pages
        self._sessions = sessions  # where a session's name may stand: header, user, prompt_cache_key

    def arrive(self, method: str, path: str, query: bytes, headers: Headers, client: str) -> Arrival:
        """A head is here. `path` is percent-decoded and below the mount point; names of `headers` are in lower case."""
        found = locate(path)
        endpoint = found.endpoint
        given = value_of(headers, b"x-request-id")
        record = Record(
            given.decode("ascii") if given is not None and _usable_id(given) else self.relay.new_id(),
            method=method,
            path=path,
            endpoint=endpoint.name if endpoint is not None else found.kind,
            client=client,
            started_at=self.relay.clock(),
        )
        cors = self._admission.cors(found, headers)
        if method == "OPTIONS":
            refusal = _misdirected(found, method, path, query)
        else:
            refusal = self._admission.refusal(found, headers) or _misdirected(found, method, path, query)
        arrival = Arrival(record, found, cors)
        if refusal is not None:
            arrival.next = self.refuse(arrival, refusal)
        elif endpoint is not None and method == "POST":
            arrival.next = ClientRequest(record, endpoint, headers, query=query)
        elif method == "OPTIONS":
            arrival.next = Answer(204, [*self._admission.preflight(found, headers), _id_header(record)], b"")
        elif found.kind == "model" and not self._pages.has_model(found.model_id or "") and self._pages.default_backend:
            arrival.next = request = ClientRequest(record, None, headers, query=query)
            request.method = b"GET"
            request.target = b"/models/" + quote(found.model_id or "", safe="/:@").encode("ascii")
        else:
            arrival.next = self._page(arrival, headers)
        return arrival

    def stranger(self, method: str, headers: Headers, client: str) -> Arrival:
        """A request that cannot be told what it wants, as its head is none that we read: to be refused."""
        given = value_of(headers, b"x-request-id")
        request_id = given.decode("ascii") if given is not None and _usable_id(given) else self.relay.new_id()
        now = self.relay.clock()
        record = Record(request_id, method=method, path="", endpoint="unknown", client=client, started_at=now)
        return Arrival(record, Found("unknown"), [])

    def _page(self, arrival: Arrival, headers: Headers) -> Answer:
        page = self._pages.page(arrival.found, headers)
        if isinstance(page, SolarError):
            return self.refuse(arrival, page)
        status, kind, body, extra = page
        length = (b"content-length", b"%d" % len(body))
        answer = [(b"content-type", kind), length, *extra, *arrival.cors, _id_header(arrival.record)]
        self._book(arrival, status, len(body))
        return Answer(status, answer, b"" if arrival.record.method == "HEAD" else body)

    def refuse(self, arrival: Arrival, error: SolarError) -> Answer:
        """The answer that says why not, in the wire's own shape; the request is over."""
        found, record = arrival.found, arrival.record
        wire = found.endpoint.wire if found.endpoint is not None else "plain"
        body, headers = error_answer(error, wire, record.id)
        if error.status == 405:
            headers.append((b"allow", ", ".join((*found.methods, "OPTIONS")).encode("ascii")))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        headers += arrival.cors
        headers.append(_id_header(record))
        self._let_go(arrival)
        self._book(arrival, error.status, len(body), error)
        return Answer(error.status, headers, b"" if record.method == "HEAD" else body)

    def left_early(self, arrival: Arrival) -> None:
        """The client left in the middle of its request: nothing of it is ever forwarded."""
        self._let_go(arrival)
        record = arrival.record
        record.status, record.end, record.ended_at = 499, "client_gone", self.relay.clock()
        self.relay.book(record)

    def _let_go(self, arrival: Arrival) -> None:
        if isinstance(arrival.next, ClientRequest):
            self.relay.release_body(arrival.next)

    def _book(self, arrival: Arrival, status: int, size: int, error: SolarError | None = None) -> None:
        if arrival.found.kind not in _BOOKED and error is None:
            return
        record = arrival.record
        record.status = status
        record.bytes_out = size
        record.ended_at = self.relay.clock()
        record.end = "success" if status < 400 else "rejected" if status < 500 else "failed"
        if error is not None:
            record.code = error.code
            record.detail = error.message
        self.relay.book(record)

    # --- the body

    def expect(self, request: ClientRequest) -> int | None:
        """Reserve room for the body that the head declares; returns its length. Raises for what is too much."""
        declared = value_of(request.headers, b"content-length")
        if declared is None or not declared.isdigit():
            return None
        # Nineteen digits are too many bytes for anyone; int() itself refuses some thousands of them.
        length = int(declared[:19])
        self.reserve(request, length)
        return length

    def reserve(self, request: ClientRequest, size: int) -> None:
        """Make room for `size` more bytes of body."""
        most = self.relay.options.max_body
        if request.reserved + size > most:
            raise InvalidRequest(
                f"the request's body is larger than {most} bytes, the limit here", status=413, code="body_too_large"
            )
        if not self.relay.reserve(size):
            raise NoBackendAvailable(
                "too many request bodies are in memory now; try again shortly", code="buffers_full", retry_after=1.0
            )
        request.reserved += size

    def complete(self, request: ClientRequest, body: bytes) -> None:
        """The whole body is here: find model, stream and session in it. Raises for what cannot be read."""
        record = request.record
        request.body = body
        record.bytes_in = len(body)
        record.body_at = self.relay.clock()
        kind = value_of(request.headers, b"content-type") or b""
        if kind.lstrip()[:10].lower() == b"multipart/":
            seen = peek_multipart(body, kind.decode("latin-1"))
        else:
            seen = peek(body)
        request.peek = seen
        record.model = seen.model or ""
        record.stream = seen.stream
        sessions = self._sessions
        if sessions:
            named = value_of(request.headers, b"x-session-id") if "header" in sessions else None
            request.session = (
                (named.decode("latin-1") if named else None)
                or (seen.prompt_cache_key if "prompt_cache_key" in sessions else None)
                or (seen.user if "user" in sessions else None)
            )


def _id_header(record: Record) -> tuple[bytes, bytes]:
    return (b"x-request-id", record.id.encode("latin-1"))


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
