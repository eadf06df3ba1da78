"""The books of one client request: what was asked, what was decided, how it ended. One log line is drawn from it."""

from __future__ import annotations

from typing import Final, Literal

from solar.core.decision import NOBODY, Considered, Try

End = Literal[
    "success",  # answered below 400, to its end
    "rejected",  # answered 4xx: by the backend, or by us
    "failed",  # answered 5xx, or nobody could answer
    "broken",  # the answer had begun and was cut short, and the client was told
    "client_gone",  # the client left first
]


_FIELDS: Final = (
    "attempts", "backend", "body_at", "bytes_in", "bytes_out", "client", "code", "detail", "end", "ended_at",
    "endpoint", "events", "first_byte_at", "id", "method", "model", "path", "queued", "resolved", "sent_at",
    "session_broken", "started_at", "status", "stream", "tokens_in", "tokens_out", "tries", "upstream_seconds",
    "weighed",
)  # fmt: skip


class Record:
    """One request, from its head to the end of its answer. Times are seconds of the event loop's clock."""

    __slots__ = _FIELDS

    def __init__(
        self, request_id: str, *, method: str, path: str, endpoint: str, client: str, started_at: float
    ) -> None:
        self.id = request_id
        self.method = method
        self.path = path
        self.endpoint = endpoint  # "chat", "embeddings", ...: a name from core.paths, bounded
        self.client = client  # its address
        self.started_at = started_at
        self.body_at = started_at  # when the whole request was here
        self.model = ""  # as asked for
        self.resolved = ""  # the answering backend's own name for it
        self.backend = ""  # the id of the last backend that was tried
        self.stream = False
        self.attempts = 0
        self.tries: tuple[
            Try, ...
        ] = ()  # attempts that were not the last word; where none came after them, all there are
        self.weighed = NOBODY  # what the last decision saw, at most 16 candidates
        self.queued = 0.0  # seconds in the queue
        self.sent_at: float | None = None  # when the last attempt went out
        self.first_byte_at: float | None = None
        self.ended_at = started_at
        self.upstream_seconds = 0.0  # spent waiting for backends before the first byte: not ours
        self.status = 0  # as sent to the client; 499 when it left before one was
        self.end: End = "failed"
        self.code: str | None = None  # the error's code, or the outcome that broke the stream
        self.detail = ""  # what happened, for the log
        self.session_broken = False
        self.bytes_in = 0
        self.bytes_out = 0
        self.events = 0  # events of a stream
        self.tokens_in: int | None = None  # as the engine reports them
        self.tokens_out: int | None = None

    def __copy__(self) -> Record:
        """As it is now; compiled, only a class itself can say how it is copied."""
        same = Record("", method="", path="", endpoint="", client="", started_at=0.0)
        for name in _FIELDS:
            setattr(same, name, getattr(self, name))
        return same

    def __repr__(self) -> str:
        return (
            f"<Record {self.id} {self.endpoint} {self.model!r} {self.status} {self.end} after {self.attempts} attempts>"
        )

    @property
    def considered(self) -> tuple[Considered, ...]:
        """The candidates of the last decision, the one that was taken first; worked out when it is asked for."""
        return self.weighed.considered()

    @property
    def duration(self) -> float:
        """Seconds from the head of the request to the end of the answer."""
        return self.ended_at - self.started_at

    @property
    def overhead(self) -> float:
        """Seconds that we took ourselves before the first byte: not the client's upload, the queue's or a backend's."""
        until = self.first_byte_at if self.first_byte_at is not None else self.ended_at
        seconds = until - self.body_at - self.queued - self.upstream_seconds
        return seconds if seconds > 0.0 else 0.0

    @property
    def first_token(self) -> float | None:
        """Seconds from the head of the request to the first body byte of the answer."""
        return None if self.first_byte_at is None else self.first_byte_at - self.started_at
