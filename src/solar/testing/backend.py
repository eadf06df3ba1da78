"""A model server that tells the truth until it is told not to."""

from __future__ import annotations

import asyncio
import hmac
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from solar.testing.answer import Answer, Question, Step, told
from solar.testing.connection import Connection
from solar.testing.control import KINDS, control_answer
from solar.testing.endpoints import ENDPOINTS, parse_payload, prompt_words, token_limit, wants_stream
from solar.testing.fault import Fault, fault_named
from solar.testing.recorded import Recorded
from solar.testing.shapes import loading_answer
from solar.testing.sockets import Listener
from solar.testing.wires import error

FAULT_PREFIX = "fault:"


class FakeBackend:
    """An HTTP server that speaks like a model server of some `kind`, and breaks on command.

    >>> async with FakeBackend(models=["m"]) as fake:
    ...     fake.script(faults.reset_after(2))  # the next inference request; then the truth again
    ...     ...  # ask fake.url
    ...     await fake.wait_for(lambda: fake.in_flight == 0)
    ...     fake.requests[0].headers

    `tokens`, `token_interval` (seconds), `loading`, `api_key`, `models`, `keepalive_seconds` and
    `keepalive_requests` may be changed at any time. `meta` holds facts by model, put where that kind of engine
    reports them. `base_path` stands before every path. With `fault_from_model` a model named
    `fault:reset_after:3` picks its own fault.
    """

    def __init__(
        self,
        models: Sequence[str] = ("fake",),
        *,
        kind: str = "generic",
        api_key: str | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        base_path: str = "",
        tokens: int = 5,
        token_interval: float = 0.0,
        keepalive_seconds: float | None = None,
        keepalive_requests: int | None = None,
        loading: bool = False,
        meta: Mapping[str, Mapping[str, Any]] | None = None,
        fault_from_model: bool = False,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
        self.models = tuple(models)
        self.kind = kind
        self.api_key = api_key
        self.tls = tls
        self.base_path = base_path.rstrip("/")
        self.tokens = tokens
        self.token_interval = token_interval
        self.keepalive_seconds = keepalive_seconds
        self.keepalive_requests = keepalive_requests
        self.loading = loading
        self.meta = meta or {}
        self.fault_from_model = fault_from_model
        self.requests: list[Recorded] = []  # everything that was asked, oldest first
        self.connections = 0  # opened so far
        self._open: set[Connection] = set()
        self._known: set[Connection] = set()  # those whose task may still run
        self._bugs: list[BaseException] = []
        self._script: deque[Fault | None] = deque()
        self._always: Fault | None = None
        self._listener = Listener(host, port, self._accepted)
        self._frozen = False
        self._health_frozen = False
        self._thawed = asyncio.Event()
        self._release = asyncio.Event()
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    # What a test reads

    @property
    def url(self) -> str:
        """Its root, without `/v1`."""
        return f"{'https' if self.tls else 'http'}://{self._listener.authority}{self.base_path}"

    @property
    def port(self) -> int:
        """Where it listens; 0 before it does."""
        return self._listener.port

    @property
    def inference(self) -> list[Recorded]:
        """The recorded requests without health checks, model lists and the like."""
        return [recorded for recorded in self.requests if recorded.inference]

    @property
    def in_flight(self) -> int:
        """Inference requests that are neither answered nor given up by their client."""
        return sum(recorded.in_flight for recorded in self.requests if recorded.inference)

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._open)

    async def wait_for(self, condition: Callable[[], object], timeout: float = 5.0) -> None:  # noqa: ASYNC109
        """Returns once `condition()` is true. It is asked whenever something happens here.

        Raises TimeoutError after `timeout` seconds.
        """
        if condition():
            return
        happened = asyncio.get_running_loop().create_future()
        self._waiters.append((condition, happened))
        try:
            await asyncio.wait_for(happened, timeout)
        except TimeoutError:
            raise TimeoutError(f"not so within {timeout:g} s: {self!r}") from None
        finally:
            self._waiters = [(c, f) for c, f in self._waiters if f is not happened]

    def __repr__(self) -> str:
        state = f"{self.open} open" if self._listener.listens else "not listening"
        asked = f"{len(self.requests)} requests, {self.in_flight} in flight"
        return f"<FakeBackend {self.kind} {self.url} {state}, {asked}>"

    # What a test commands

    def script(self, *coming: Fault | None) -> None:
        """Queues one fault for each coming inference request; None is the truth. Then all is well again."""
        self._script.extend(coming)

    def always(self, fault: Fault | None) -> None:
        """Plays `fault` for every inference request that the script does not cover, until `always(None)`."""
        self._always = fault

    def release(self) -> None:
        """Lets everything that stalls go on."""
        self._release.set()
        self._release = asyncio.Event()

    def freeze(self, *, health_answers: bool = False) -> None:
        """Stops as if by SIGSTOP: accepts nothing, reads nothing, says nothing. The kernel still takes connections.

        With `health_answers` only inference stops, also in the middle of answers.
        """
        self.thaw()
        self._frozen, self._health_frozen = True, not health_answers
        self._thawed.clear()
        if self._health_frozen:
            self.pause_accept()
            for connection in self._open:
                connection.pause_reading(True)

    def thaw(self) -> None:
        """Goes on where `freeze` stopped."""
        if self._health_frozen:
            for connection in self._open:
                connection.pause_reading(False)
            self.resume_accept()
        self._frozen = self._health_frozen = False
        self._thawed.set()

    def pause_accept(self) -> None:
        """Accepts no connection; the kernel completes them all the same, up to its backlog."""
        self._listener.pause()

    def resume_accept(self) -> None:
        """Accepts what waits, and what comes."""
        self._listener.resume()

    def ignore_connects(self) -> None:
        """Lets new connects hang until `resume_accept`, as when packets are swallowed (Linux)."""
        self._listener.ignore()

    def stop_listening(self) -> None:
        """Refuses new connections; those that are open live on."""
        self._listener.close()

    def close_idle(self) -> None:
        """Closes every connection that waits for a request (FIN)."""
        for connection in [c for c in self._open if c.idle]:
            connection.close()

    def die(self) -> None:
        """Crashes: refuses new connections and resets those that are open. `revive` undoes it."""
        self.stop_listening()
        for connection in self._known | self._open:
            connection.reset()

    def revive(self) -> None:
        """Listens again, on the same port."""
        self._listener.open()

    async def start(self) -> None:
        """Listens. `async with` does it for you. Raises OSError when the port is taken."""
        self._listener.open()

    async def stop(self) -> None:
        """Ends at once, whatever is in flight. Raises what a connection tripped over, if one did: a bug here."""
        self.die()
        if self._known:
            await asyncio.wait([connection.task for connection in self._known])
        for connection in list(self._open):
            await connection.closed.wait()
        await asyncio.sleep(0)  # the transport of a TLS handshake under way closes its socket
        if self._bugs:
            raise self._bugs[0]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Called by the listener

    def _accepted(self, sock: socket.socket) -> None:
        self.connections += 1
        connection = Connection(self, sock, self.connections)
        self._known.add(connection)
        connection.task.add_done_callback(lambda task: self._connection_done(connection, task))

    # Called by connections

    def _connection_opened(self, connection: Connection) -> None:
        self._open.add(connection)
        if self._health_frozen:
            connection.pause_reading(True)
        self._changed()

    def _connection_closed(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._changed()

    def _connection_done(self, connection: Connection, task: asyncio.Task[None]) -> None:
        self._known.discard(connection)
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bugs.append(bug)

    def _request_began(self, recorded: Recorded) -> None:
        recorded.inference = recorded.method == "POST" and self._endpoint(recorded.path) is not None
        self.requests.append(recorded)
        self._changed()

    def _changed(self) -> None:
        for condition, happened in self._waiters:
            if not happened.done() and condition():
                happened.set_result(None)

    async def _gate(self, recorded: Recorded) -> None:
        while self._frozen and (self._health_frozen or recorded.inference):
            await self._thawed.wait()

    async def _released(self) -> None:
        await self._release.wait()

    # Answering

    def _steps(self, recorded: Recorded, keep: bool) -> Iterator[Step]:
        answer, fault = self._answer(recorded)
        recorded.fault = fault
        answer = replace(
            answer,
            close=answer.close or not keep,
            old_client=b" HTTP/1.0\r\n" in recorded.head,
            bodiless=recorded.method == "HEAD",
        )
        return told(answer) if fault is None else fault.steps(answer)

    def _endpoint(self, path: str) -> str | None:
        if not path.startswith(self.base_path + "/"):
            return None
        path = path[len(self.base_path) :]
        endpoint = path.removeprefix("/v1")
        return endpoint if endpoint in ENDPOINTS else None

    def _answer(self, recorded: Recorded) -> tuple[Answer, Fault | None]:
        path = recorded.path.removeprefix(self.base_path)
        if not self._admits(recorded) and path != "/health":
            return error(401, "Invalid API Key", "authentication_error", "invalid_api_key"), None
        if self.loading and path not in ("/v1/models", "/models"):
            return loading_answer(), None
        if recorded.inference:
            return self._infer(recorded)
        answer = None
        if recorded.method in ("GET", "HEAD"):
            answer = control_answer(path, self.kind, self.models, self.meta)
        return answer or error(404, f"File Not Found: {path}", "not_found_error", 404), None

    def _admits(self, recorded: Recorded) -> bool:
        if self.api_key is None:
            return True
        shown = [*recorded.all_headers("x-api-key")]
        shown += [value[7:] for value in recorded.all_headers("authorization") if value[:7].lower() == "bearer "]
        return any(hmac.compare_digest(key.encode(), self.api_key.encode()) for key in shown)

    def _infer(self, recorded: Recorded) -> tuple[Answer, Fault | None]:
        fault = self._script.popleft() if self._script else self._always
        try:
            payload = parse_payload(recorded.body, recorded.header("content-type") or "")
        except ValueError as problem:
            return error(400, f"cannot read the body: {problem}"), fault
        model = payload.get("model") or (self.models[0] if self.models else "none")
        if self.fault_from_model and isinstance(model, str) and model.startswith(FAULT_PREFIX):
            try:
                fault = fault or fault_named(model.removeprefix(FAULT_PREFIX))
            except ValueError as problem:
                return error(400, str(problem)), None
        elif not self._serves(str(model)):
            return error(404, f"The model `{model}` does not exist.", code="model_not_found"), fault
        return self._truth(recorded, payload, str(model)), fault

    def _serves(self, model: str) -> bool:
        # llama-server and its like answer with what they have, whatever name they are given.
        return self.kind not in ("vllm", "ollama") or model in self.models or f"{model}:latest" in self.models

    def _truth(self, recorded: Recorded, payload: Mapping[str, Any], model: str) -> Answer:
        endpoint = self._endpoint(recorded.path)
        assert endpoint is not None  # noqa: S101  it is an inference request
        limit = token_limit(payload)
        count = self.tokens if limit is None else min(limit, self.tokens)
        tell = ENDPOINTS[endpoint]
        question = Question(
            endpoint=endpoint,
            payload=payload,
            model=model,
            kind=self.kind,
            number=len(self.requests),
            words=tuple(f"word{n} " for n in range(count)),
            cut=count < self.tokens,
            prompt_tokens=prompt_words(payload),
            stream=wants_stream(payload),
            interval=self.token_interval,
        )
        return replace(tell(question), question=question, tell=tell)
