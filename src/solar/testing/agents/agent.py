"""An original host agent, in one of three dialects, that tells the truth until it is told not to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from solar.testing.agents.connection import AgentConnection
from solar.testing.agents.engine import FakeInstance
from solar.testing.agents.lifecycle import Lifecycle
from solar.testing.agents.link import Link
from solar.testing.agents.messages import Answered
from solar.testing.agents.pages import answer_to
from solar.testing.agents.shapes import VERSIONS, DialectName, endpoints_of, extras_of
from solar.testing.agents.socketlink import SocketLink
from solar.testing.recorded import Recorded
from solar.testing.sockets import Listener

# What the newer fork tells where there is no GPU; all others answer 503 there.
_RAM: dict[str, Any] = {"used_gb": 8.0, "total_gb": 32.0, "percent": 25.0, "memory_type": "RAM"}
_TOLD = ("id", "alias", "status", "port")


class FakeAgent:
    """A host agent on a real socket; its instances are fake engines on real ports of their own.

    >>> async with FakeAgent("v2", api_key="k") as agent:
    ...     instance = await agent.add("llama:8b")  # created, and started
    ...     ...  # ask agent.url, or http://127.0.0.1:{instance.port}/v1/chat/completions
    ...     agent.write(instance, "a line of its log")
    ...     await agent.kill(instance)  # dead, and v2 goes on calling it running

    `dialect` is "v1", "v2" or "fork"; `version` is what it says of itself (a fork of 0.x is the older one).
    Instances take their ports from `start_port` on, or from the kernel. `control_urls` are the coordinators that a
    v2 agent opens a link to, full ws:// URLs; of a fork only the first counts, without its path, by Socket.IO.
    `name` is its HOST_NAME. `memory` None answers 503, as without a GPU.

    `memory`, `api_key`, and of `lifecycle` its `delays`, `loading` and `failing`, may be changed at any time.
    """

    def __init__(
        self,
        dialect: DialectName = "v2",
        *,
        version: str | None = None,
        api_key: str = "host-key",
        name: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        start_port: int | None = None,
        control_urls: Sequence[str] = (),
        reconnect_seconds: float = 0.01,
        ping_seconds: float | None = None,
        memory: dict[str, Any] | None = None,
        max_retries: int = 2,
        log_buffer: int = 1000,
    ) -> None:
        if dialect not in VERSIONS:
            raise ValueError(f"dialect must be one of {', '.join(VERSIONS)}; got {dialect!r}")
        if control_urls and dialect == "v1":
            raise ValueError("a v1 agent opens no link to a coordinator")
        self.dialect = dialect
        self.version = version or VERSIONS[dialect]
        self.api_key = api_key
        self.name = name
        self.lifecycle = Lifecycle(dialect, self.version, host, start_port, max_retries, log_buffer)
        self.memory = dict(_RAM) if memory is None and self.newer else memory
        # The fork takes the first of its URLs only.
        links, urls = (SocketLink, control_urls[:1]) if dialect == "fork" else (Link, control_urls)
        self.links = [links(self, url, reconnect_seconds, ping_seconds) for url in urls]
        self.requests: list[Recorded] = []  # everything that was asked, oldest first
        self.connections: set[AgentConnection] = set()
        self.lifecycle.tells = self._line_written
        self.lifecycle.changed = self._instances_changed
        self.lifecycle.happened = self._changed
        self._listener = Listener(host, port, self._accepted)
        self._accepted_so_far = 0
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._overrides: dict[str, Answered | bytes] = {}
        self._waiters: list[tuple[Callable[[], object], asyncio.Future[None]]] = []
        self._linking: list[asyncio.Task[None]] = []
        self._bugs: list[BaseException] = []

    # What a test reads

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://{self._listener.authority}"

    @property
    def port(self) -> int:
        """Where it listens; 0 before it does."""
        return self._listener.port

    @property
    def newer(self) -> bool:
        """It is a fork from 3.8 on."""
        return self.lifecycle.new_fork

    @property
    def instances(self) -> dict[str, FakeInstance]:
        """By id."""
        return self.lifecycle.instances

    def __repr__(self) -> str:
        running = sum(instance.status == "running" for instance in self.instances.values())
        return f"<FakeAgent {self.dialect} {self.url}, {len(self.instances)} instances ({running} running)>"

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

    # What a test commands

    async def add(self, alias: str, *, start: bool = True, **config: Any) -> FakeInstance:
        """A new instance, started unless told otherwise, as if somebody had asked for it. Raises WrongConfig."""
        own = {"api_key": f"key-of-{alias}"} if self.dialect == "v1" else {}
        given = {"model": f"/models/{alias}.gguf", "alias": alias, **own, **config}
        if str(config.get("backend_type", "")).startswith("huggingface"):
            given = {"model_id": f"hub/{alias}", "alias": alias, **config}
        self.lifecycle.api_key = self.api_key
        instance = self.lifecycle.create(given)
        if start:
            await self.lifecycle.start(instance)
        return instance

    def write(self, instance: FakeInstance, *texts: str) -> None:
        """The instance writes lines into its log."""
        for text in texts:
            self.lifecycle.write(instance, text)

    def works(self, instance: FakeInstance, **state: Any) -> None:
        """The instance does something else now: `busy=True, phase="prefill", prefill_progress=0.5`."""
        instance.state.update(state)
        now = self.lifecycle.now()
        for connection in self.connections:
            if (stream := connection.stream) and stream.kind == "state" and stream.instance_id == instance.id:
                stream.tell_state(instance.state, now)
        frame = {"type": "instance_state", "instance_id": instance.id, "timestamp": now, "data": dict(instance.state)}
        self._tell(frame)

    def tell_health(self) -> None:
        """What a v2 agent tells its coordinators each 10 s."""
        running = sum(instance.status == "running" for instance in self.instances.values())
        data = {"memory": self.memory, "instance_count": len(self.instances), "running_instance_count": running}
        self._tell({"type": "host_health", "timestamp": self.lifecycle.now(), "data": data})

    def loaded(self, instance: FakeInstance) -> None:
        """The instance's engine, which began `loading`, has its model now."""
        if instance.engine is not None:
            self.lifecycle.loaded(instance, instance.engine)

    def reads_log_from_file(self, instance: FakeInstance) -> None:
        """Its ring is gone: lines are read from the log file, counted from 0, all with that file's time."""
        instance.file_time = self.lifecycle.now()

    async def kill(self, instance: FakeInstance) -> None:
        """The instance's process dies. Only the newer fork notices; for others it is running still."""
        await self.lifecycle.lose(instance)

    def always(self, answer: Answered | bytes | None, path: str = "") -> None:
        """Answers every request whose path begins with `path` so, until None takes it back. Bytes are no HTTP."""
        if answer is None:
            self._overrides.pop(path, None)
        else:
            self._overrides[path] = answer

    def freeze(self) -> None:
        """Hangs, as if by SIGSTOP: the kernel still takes connections, and nobody answers. Its engines go on."""
        self._listener.pause()
        self._thawed.clear()

    def thaw(self) -> None:
        """Goes on where `freeze` stopped."""
        self._thawed.set()
        self._listener.resume()

    async def die(self, *, instances_live: bool = True) -> None:
        """Crashes. Its engines live on and answer, or die with it."""
        self._listener.close()
        for link in self._linking:
            link.cancel()
        for connection in list(self.connections):
            connection.reset()
        await self._ended()
        await self.lifecycle.leave(instances_live=instances_live)
        self._changed()

    async def revive(self) -> None:
        """Begins anew on the same port: what ran is started first, log lines count from 0."""
        self.lifecycle.api_key = self.api_key
        await self.lifecycle.boot()
        await self.start()

    async def start(self) -> None:
        """Listens. `async with` does it for you. Raises OSError when the port is taken."""
        self.lifecycle.api_key = self.api_key
        self._thawed.set()
        self._listener.open()
        loop = asyncio.get_running_loop()
        self._linking = [loop.create_task(link.run(), name=f"fake link to {link.url}") for link in self.links]
        for task in self._linking:
            task.add_done_callback(self._note)

    async def stop(self) -> None:
        """Ends at once, with its engines. Raises what a connection tripped over, if one did: a bug here."""
        await self.die(instances_live=False)
        await self.lifecycle.end_orphans()
        if self._bugs:
            raise self._bugs[0]

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Called from within

    def _accepted(self, sock: socket.socket) -> None:
        self._accepted_so_far += 1
        connection = AgentConnection(self, sock, self._accepted_so_far)
        self.connections.add(connection)
        connection.task.add_done_callback(lambda task: self._left(connection, task))

    def _left(self, connection: AgentConnection, task: asyncio.Task[None]) -> None:
        self.connections.discard(connection)
        self._note(task)
        self._changed()

    def _note(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (bug := task.exception()) is not None:
            self._bugs.append(bug)

    async def _ended(self) -> None:
        tasks = [connection.task for connection in self.connections] + self._linking
        if tasks:
            await asyncio.wait(tasks)
        self._linking = []

    def _arrived(self, recorded: Recorded) -> None:
        self.requests.append(recorded)
        self._changed()

    async def _gate(self) -> None:
        """Waits while the agent hangs, or while one of legekka's stops an instance."""
        await self._thawed.wait()
        await self.lifecycle.free.wait()

    async def _answer(self, recorded: Recorded) -> Answered | bytes:
        for path, answer in self._overrides.items():
            if recorded.path.startswith(path):
                return answer
        self.lifecycle.api_key = self.api_key
        return await answer_to(self, recorded)

    def _changed(self) -> None:
        for condition, happened in self._waiters:
            if not happened.done() and condition():
                happened.set_result(None)

    def _line_written(self, instance: FakeInstance, line: dict[str, Any]) -> None:
        for connection in self.connections:
            if (stream := connection.stream) and stream.kind == "logs" and stream.instance_id == instance.id:
                stream.send(line)
        data = {"seq": line["seq"], "line": line["line"], "level": "info"}
        self._tell({"type": "log", "instance_id": instance.id, "timestamp": line["timestamp"], "data": data})
        self._changed()

    def _instances_changed(self) -> None:
        now = self.lifecycle.now()
        self._tell({"type": "instances_update", "timestamp": now, "data": {"instances": self._flat()}})
        self._changed()

    def _tell(self, frame: dict[str, Any]) -> None:
        for link in self.links:
            link.send(frame)

    def _flat(self) -> list[dict[str, Any]]:
        return [
            {
                **{name: getattr(instance, name) for name in _TOLD},
                "supported_endpoints": endpoints_of(self.dialect, instance.config),
                "backend_type": instance.config["backend_type"],
                **extras_of(self.version, instance.config),
            }
            for instance in (self.instances.values() if self.dialect != "v1" else ())
        ]
