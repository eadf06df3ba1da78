"""What every door does with a request before it becomes an exchange: who may come in, what is asked, how it is answered
without a backend. A door only reads and writes; both doors decide here."""

from __future__ import annotations

import re
from urllib.parse import quote

from solar.core.headers import Block, Headers, to_backend, value_of
from solar.core.multipart import peek_multipart
from solar.core.openai import peek
from solar.core.paths import Found, locate
from solar.core.record import Record
from solar.edge.admission import Admission
from solar.edge.answers import error_answer
from solar.edge.pages import Pages
from solar.edge.relay import Relay
from solar.edge.request import Answer, Asked, ClientRequest
from solar.errors import InvalidRequest, NoBackendAvailable, SolarError

BODY_SECONDS = 60.0  # without a byte of a request's body: then its client is told that it took too long
LONGEST_ID = 200  # of a request id that a client may give

_QUERY = re.compile(rb"[\x21-\x7e]*").fullmatch
_BOOKED = frozenset({"inference", "models", "model", "unknown"})


class Reception:
    """Where the requests of one router arrive."""

    def __init__(self, relay: Relay, admission: Admission, pages: Pages, sessions: frozenset[str]) -> None:
        self.relay = relay
        self._admission = admission
        self._pages = pages
        self._sessions = sessions  # where a session's name may stand: header, user, prompt_cache_key

    def read(self, method: str, path: str, query: bytes, headers: Headers) -> Asked:
        """Understand a head. `path` is percent-decoded and below the mount point; names of `headers` in lower case.

        What comes out depends on nothing else, and never changes.
        """
        found = locate(path)
        asked = Asked(method, path, query, headers, found)
        given = value_of(headers, b"x-request-id")
        asked.request_id = given.decode("ascii") if given is not None and _usable_id(given) else None
        asked.cors = self._admission.cors(found, headers)
        if method == "OPTIONS":
            asked.refusal = _misdirected(found, method, path, query)
        else:
            asked.refusal = self._admission.refusal(found, headers) or _misdirected(found, method, path, query)
        if asked.refusal is not None:
            return asked
        asked.passed = Block(to_backend(headers))
        if "header" in self._sessions and (named := value_of(headers, b"x-session-id")):
            asked.session = named.decode("latin-1")
        kind = value_of(headers, b"content-type") or b""
        if kind.lstrip()[:10].lower() == b"multipart/":
            asked.form = kind.decode("latin-1")
        return asked

    def arrive(self, asked: Asked, client: str) -> ClientRequest:
        """A request whose head is here: it has its answer already, or is for a backend."""
        endpoint = asked.endpoint
        relay = self.relay
        record = Record(
            asked.request_id or relay.new_id(),
            method=asked.method,
            path=asked.path,
            endpoint=endpoint.name if endpoint is not None else asked.found.kind,
            client=client,
            started_at=relay.clock(),
        )
        request = ClientRequest(record, asked)
        if asked.refusal is not None:
            request.answer = self.refuse(request, asked.refusal)
        elif endpoint is None or asked.method != "POST":
            self._answer(request)
        return request

    def _answer(self, request: ClientRequest) -> None:
        """Whatever is no inference."""
        asked, record = request.asked, request.record
        found, pages = asked.found, self._pages
        if asked.method == "OPTIONS":
            preflight = self._admission.preflight(found, asked.headers)
            request.answer = Answer(204, [*preflight, _id_header(record)], b"")
        elif found.kind == "model" and not pages.has_model(found.model_id or "") and pages.default_backend:
            request.method = b"GET"
            request.target = b"/models/" + quote(found.model_id or "", safe="/:@").encode("ascii")
        else:
            request.answer = self._page(request)

    def stranger(self, method: str, headers: Headers, client: str) -> ClientRequest:
        """A request that cannot be told what it wants, as its head is none that we read: to be refused."""
        given = value_of(headers, b"x-request-id")
        request_id = given.decode("ascii") if given is not None and _usable_id(given) else self.relay.new_id()
        now = self.relay.clock()
        record = Record(request_id, method=method, path="", endpoint="unknown", client=client, started_at=now)
        return ClientRequest(record, Asked(method, "", b"", headers, Found("unknown")))

    def _page(self, request: ClientRequest) -> Answer:
        asked = request.asked
        page = self._pages.page(asked.found, asked.headers)
        if isinstance(page, SolarError):
            return self.refuse(request, page)
        status, kind, body, extra = page
        self._book(request, status, len(body))
        return Answer(status, [(b"content-type", kind), *extra, *asked.cors, _id_header(request.record)], body)

    def refuse(self, request: ClientRequest, error: SolarError) -> Answer:
        """The answer that says why not, in the wire's own shape; the request is over."""
        asked, record = request.asked, request.record
        body, headers = error_answer(error, request.wire, record.id)
        if error.status == 405:
            headers.append((b"allow", ", ".join((*asked.found.methods, "OPTIONS")).encode("ascii")))
        if error.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        headers += asked.cors
        headers.append(_id_header(record))
        self.relay.release_body(request)
        self._book(request, error.status, len(body), error)
        return Answer(error.status, headers, body)

    def left_early(self, request: ClientRequest) -> None:
        """The client left in the middle of its request: nothing of it is ever forwarded."""
        self.relay.release_body(request)
        record = request.record
        record.status, record.end, record.ended_at = 499, "client_gone", self.relay.clock()
        self.relay.book(record)

    def _book(self, request: ClientRequest, status: int, size: int, error: SolarError | None = None) -> None:
        if request.asked.found.kind not in _BOOKED and error is None:
            return
        record = request.record
        record.status = status
        record.bytes_out = size
        record.ended_at = self.relay.clock()
        record.end = "success" if status < 400 else "rejected" if status < 500 else "failed"
        if error is not None:
            record.code = error.code
            record.detail = error.message
        self.relay.book(record)

    # --- the body

    def reserve(self, request: ClientRequest, size: int) -> None:
        """Make room for `size` more bytes of body. Raises for what is too much."""
        relay = self.relay
        most = relay.options.max_body
        if request.reserved + size > most:
            raise InvalidRequest(
                f"the request's body is larger than {most} bytes, the limit here", status=413, code="body_too_large"
            )
        if not relay.reserve(size):
            raise NoBackendAvailable(
                "too many request bodies are in memory now; try again shortly", code="buffers_full", retry_after=1.0
            )
        request.reserved += size

    def complete(self, request: ClientRequest, body: bytes) -> None:
        """The whole body is here: find model, stream and session in it. Raises for what cannot be read."""
        record, asked = request.record, request.asked
        request.body = body
        record.bytes_in = len(body)
        record.body_at = self.relay.clock()
        request.peek = seen = peek(body) if asked.form is None else peek_multipart(body, asked.form)
        record.model = seen.model or ""
        record.stream = seen.stream
        sessions = self._sessions
        if sessions:
            request.session = (
                asked.session
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
