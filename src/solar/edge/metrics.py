"""What is counted, and how Prometheus reads it. Requests touch plain numbers only; families are built at a scrape.

Every name here is frozen and stands in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Final

from solar.core.record import Record
from solar.edge.exposition import Histogram, Histograms, Number, Numbers, text_of

if TYPE_CHECKING:
    from prometheus_client import Metric

MODELS_KEPT = 200  # model names that are labels; all others are "other"
TOGETHER: Final = 100  # requests that are booked in one go: the more wait, the more memory is cold by then
BACKENDS_KEPT = 1000  # backend ids that are labels; the oldest makes room for the next

# Where a GenAI convention proposes boundaries, ours contain them: wider, for engines on a desk or behind a long prompt.
_REQUEST = tuple(0.01 * 2**doubled for doubled in range(17))  # 10 ms to 11 minutes
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 320)
_PER_TOKEN = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
_GAP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_OVERHEAD = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_QUEUE = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)

# The conventions have a word of their own for this one; the other endpoints keep their names.
_OPERATIONS = {"completions": "text_completion"}
_BACKEND = ("backend", "host")
_OPERATION, _MODEL = "gen_ai_operation_name", "gen_ai_request_model"


@dataclass(frozen=True, slots=True)
class BackendView:
    """One backend at the moment of a scrape."""

    id: str
    host: str
    state: str  # one word
    in_flight: int
    models: int  # how many it serves


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The router at the moment of a scrape."""

    backends: Sequence[BackendView] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)  # a model as clients ask for it -> requests in its queue
    buffered_bytes: int = 0  # of request bodies
    open_exchanges: int = 0
    upstream_connections: int = 0


@dataclass(slots=True)
class _Books:
    """Where a finished request is booked: found once for each set of labels."""

    requests: Number
    duration: Histogram
    overhead: Histogram
    first_token: Histogram
    per_token: Histogram
    usage_in: Histogram
    usage_out: Histogram
    tokens_in: Number
    tokens_out: Number
    events: Number


class Metrics:
    """All that one router counts. It is a collector too, in prometheus_client's sense.

    `knows` says whether some backend has a model of this name: where a default backend takes whatever is asked for,
    clients could else fill the places for model names with names of their own.
    """

    def __init__(self, view: Callable[[], Snapshot], knows: Callable[[str], bool] = lambda name: True) -> None:
        self._view = view
        self._knows = knows
        self._closed: list[Record] = []  # not yet booked
        self._gaps_seen: list[float] = []
        self.gap = self._gaps_seen.append  # for the time between two chunks
        self._settling = Lock()  # a registry of prometheus_client may look from a thread of its own
        self._books: dict[tuple[str, str, str, int, str], _Books] = {}
        self._models: dict[str, str] = {"": ""}  # a model's name -> its label
        self._backends: dict[str, None] = {"": None}  # in order of appearance; "" is no backend
        self._counted: list[Numbers | Histograms] = []

        count, measure = self._count, self._measure
        self._requests = count(
            "solar_requests", "Requests that ended, by the status sent and by how they ended.",
            "endpoint", "backend", "status", "end",
        )  # fmt: skip
        self._durations = measure(
            _REQUEST, "gen_ai_server_request_duration_seconds", "From the request's head to the end of its answer.",
            _OPERATION, _MODEL, "backend", "error_type",
        )  # fmt: skip
        self._first_tokens = measure(
            _FIRST, "gen_ai_server_time_to_first_token_seconds", "Streams: from the request's head to the first byte.",
            _OPERATION, _MODEL, "backend",
        )  # fmt: skip
        self._per_tokens = measure(
            _PER_TOKEN, "gen_ai_server_time_per_output_token_seconds",
            "Streams: mean time of an output token after the first.", _OPERATION, _MODEL, "backend",
        )  # fmt: skip
        self._usage = measure(
            _TOKENS, "gen_ai_client_token_usage", "Tokens of one request, as its engine reports them.",
            _OPERATION, _MODEL, "gen_ai_token_type",
        )  # fmt: skip
        self._tokens = count("solar_tokens", "Tokens, as engines report them.", "backend", "model", "direction")
        self._events = count("solar_stream_events", "Events of streams without a token count.", "backend", "model")
        self._gaps = measure(_GAP, "solar_stream_gap_seconds", "Time between two chunks of a stream.").at()
        self._overheads = measure(
            _OVERHEAD, "solar_overhead_seconds", "Our own part of the time to an answer's first byte.", "endpoint"
        )
        self._queued = measure(_QUEUE, "solar_queue_wait_seconds", "Time in the queue, of requests that waited.").at()
        self._attempts = count("solar_attempts", "Requests sent to backends, retries included.").at()
        self._retries = count("solar_retries", "Requests that left a backend for another.", "backend", "outcome")
        self._ejections = count("solar_ejections", "Times that a backend's circuit opened.", "backend")
        self._stalls = count("solar_stalls", "Times that a backend was found stalled.", "backend")

    def __repr__(self) -> str:
        return f"<Metrics {len(self._books)} label sets, {len(self._backends) - 1} backends>"

    # --- at each tick

    def closed(self, record: Record) -> None:
        """A request ended: it is booked with others, at the next tick or when somebody looks."""
        self._closed.append(record)
        if len(self._closed) >= TOGETHER:
            self.settle()

    @property
    def waiting(self) -> int:
        """Requests that ended, and are not booked yet."""
        return len(self._closed)

    def settle(self) -> None:
        """Book what has happened. Together that costs half of what it would cost one by one, between other work."""
        with self._settling:
            closed, gaps = self._closed[:], self._gaps_seen[:]
            del self._closed[: len(closed)]  # and none that came since
            del self._gaps_seen[: len(gaps)]
            for record in closed:
                self._book(record)
            for seconds in gaps:
                self._gaps.observe(seconds)

    def _book(self, record: Record) -> None:
        model = self._models.get(record.resolved)
        if model is None:
            model = self._model(record.resolved)
        books = self._books.get((record.endpoint, model, record.backend, record.status, record.end))
        if books is None:
            books = self._open(record, model)
        books.requests.value += 1
        self._attempts.value += record.attempts
        tokens_out = record.tokens_out
        books.duration.observe(record.ended_at - record.started_at)
        if record.queued:
            self._queued.observe(record.queued)
        if record.tokens_in is not None:
            books.tokens_in.value += record.tokens_in
            books.usage_in.observe(record.tokens_in)
        if tokens_out is not None:
            books.tokens_out.value += tokens_out
            books.usage_out.observe(tokens_out)
        first = record.first_byte_at
        if first is None:
            return
        books.overhead.observe(record.overhead)
        if not record.stream or record.status >= 400:
            return
        books.first_token.observe(first - record.started_at)
        if tokens_out is None:
            books.events.value += record.events
        elif tokens_out > 1 and record.end == "success":
            books.per_token.observe((record.ended_at - first) / (tokens_out - 1))

    def _model(self, name: str) -> str:
        """The label of a model: its name, if a backend has it and while there is room."""
        if name in self._models:
            return self._models[name]
        if len(self._models) > MODELS_KEPT or not self._knows(name):
            return "other"
        self._models[name] = name
        return name

    def _backend(self, backend_id: str) -> str:
        if backend_id not in self._backends:
            self._backends[backend_id] = None
            if len(self._backends) > BACKENDS_KEPT + 1:
                self._forget(next(known for known in self._backends if known))
        return backend_id

    def _forget(self, backend_id: str) -> None:
        del self._backends[backend_id]
        self._books = {key: books for key, books in self._books.items() if key[2] != backend_id}
        for family in self._counted:
            family.forget("backend", backend_id)

    def _open(self, record: Record, model: str) -> _Books:
        endpoint, status, end = record.endpoint, record.status, record.end
        backend = self._backend(record.backend)
        operation = _OPERATIONS.get(endpoint, endpoint)
        books = self._books[endpoint, model, backend, status, end] = _Books(
            requests=self._requests.at(endpoint, backend, str(status), end),
            duration=self._durations.at(operation, model, backend, "" if end == "success" else end),
            overhead=self._overheads.at(endpoint),
            first_token=self._first_tokens.at(operation, model, backend),
            per_token=self._per_tokens.at(operation, model, backend),
            usage_in=self._usage.at(operation, model, "input"),
            usage_out=self._usage.at(operation, model, "output"),
            tokens_in=self._tokens.at(backend, model, "in"),
            tokens_out=self._tokens.at(backend, model, "out"),
            events=self._events.at(backend, model),
        )
        return books

    # --- now and then

    def retried(self, backend_id: str, outcome: str) -> None:
        """A request leaves this backend for another, because of `outcome`."""
        self.settle()
        self._retries.at(self._backend(backend_id), outcome).value += 1

    def ejected(self, backend_id: str) -> None:
        """This backend's circuit opened."""
        self.settle()
        self._ejections.at(self._backend(backend_id)).value += 1

    def stalled(self, backend_id: str) -> None:
        """This backend was found stalled."""
        self.settle()
        self._stalls.at(self._backend(backend_id)).value += 1

    # --- at a scrape

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """The exposition and its content type, for a request with this Accept header."""
        return text_of(self._families(), accept)

    def collect(self) -> Iterator[Metric]:
        """Every family as prometheus_client knows it: `REGISTRY.register(metrics)` adds them to your own."""
        for family in self._families():
            yield family.metric()

    def _families(self) -> list[Numbers | Histograms]:
        self.settle()
        return [*self._counted, *self._gauges(self._view())]

    def _gauges(self, now: Snapshot) -> Iterator[Numbers]:
        state = Numbers("gauge", "solar_backend_state", "1, with the backend's state as label.", *_BACKEND, "state")
        in_flight = Numbers("gauge", "solar_backend_in_flight", "Requests sent and not yet closed.", *_BACKEND)
        models = Numbers("gauge", "solar_backend_models", "Models that the backend serves.", *_BACKEND)
        for backend in now.backends:
            state.at(backend.id, backend.host, backend.state).value = 1
            in_flight.at(backend.id, backend.host).value = backend.in_flight
            models.at(backend.id, backend.host).value = backend.models
        waiting = Numbers("gauge", "solar_requests_waiting", "Requests in the queue of a full model.", "model")
        for model, length in now.waiting.items():
            waiting.at(self._model(model)).value += length
        yield from (state, in_flight, models, waiting)
        for name, meaning, value in (
            ("solar_buffered_bytes", "Bytes of request bodies in memory.", now.buffered_bytes),
            ("solar_open_exchanges", "Requests whose books are open.", now.open_exchanges),
            ("solar_upstream_connections", "Connections to backends, idle ones too.", now.upstream_connections),
        ):
            gauge = Numbers("gauge", name, meaning)
            gauge.at().value = value
            yield gauge

    # --- what there is to count

    def _count(self, name: str, meaning: str, *labels: str) -> Numbers:
        family = Numbers("counter", name, meaning, *labels)
        self._counted.append(family)
        return family

    def _measure(self, bounds: tuple[float, ...], name: str, meaning: str, *labels: str) -> Histograms:
        family = Histograms(bounds, name, meaning, *labels)
        self._counted.append(family)
        return family
