"""What an original agent does with instances: creates, starts, stops, loses them. By the rules of its dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import uuid4

from solar.testing.agents.engine import IDLE, Engine, FakeInstance
from solar.testing.agents.shapes import DialectName, endpoints_of, extras_of, whole_config

_PORTS = 1000  # that are tried from the first on


@dataclass(slots=True)
class Delays:
    """How long things take, in seconds. The originals: start 2, retry 1, restart 1, stop up to 10."""

    start: float = 0.0  # from the process begun until it is looked at
    retry: float = 0.0  # before a second attempt
    restart: float = 0.0  # between stop and start
    stop: float = 0.0


class Lifecycle:
    """The instances of one agent."""

    def __init__(
        self,
        dialect: DialectName,
        version: str,
        host: str,
        start_port: int | None,
        max_retries: int,
        buffer: int,
    ) -> None:
        self.dialect = dialect
        self.version = version
        self.delays = Delays()
        self.instances: dict[str, FakeInstance] = {}
        self.orphans: list[Engine] = []  # engines that outlived their agent
        self.api_key = ""
        self.failing = 0  # so many processes that begin from now on exit at once
        self.loading = False  # engines begin without their model
        self.tells: Callable[[FakeInstance, dict[str, Any]], None] = lambda *_: None
        self.changed: Callable[[], None] = lambda: None  # created, deleted, started or stopped
        self.happened: Callable[[], None] = lambda: None  # anything at all
        self.free = asyncio.Event()  # cleared while a stop blocks the whole agent
        self.free.set()
        self._host = host
        self._start_port = start_port
        self._max_retries = max_retries
        self._buffer = buffer
        self._pids = count(40_001)

    def __repr__(self) -> str:
        return f"<Lifecycle {self.dialect}, {len(self.instances)} instances, {len(self.orphans)} orphans>"

    @property
    def new_fork(self) -> bool:
        """The fork from 3.8 on: it waits until an engine listens, and notices when it dies."""
        return self.dialect == "fork" and not self.version.startswith("0.")

    def now(self) -> str:
        """The time as this agent writes it into logs: legekka's are local and have no zone."""
        return (datetime.now(UTC) if self.dialect == "fork" else datetime.now()).isoformat()  # noqa: DTZ005

    def record(self, instance: FakeInstance) -> dict[str, Any]:
        """An instance as GET tells it."""
        told: dict[str, Any] = {"id": instance.id, "config": instance.config}
        for name in ("status", "port", "pid", "created_at", "started_at", "error_message", "retry_count"):
            told[name] = getattr(instance, name)
        if self.dialect != "v1":
            told["supported_endpoints"] = endpoints_of(self.dialect, instance.config)
        return told | extras_of(self.version, instance.config)

    def create(self, config: dict[str, Any]) -> FakeInstance:
        """A new instance, stopped. Raises WrongConfig."""
        instance = FakeInstance(str(uuid4()), whole_config(self.dialect, config), _utc(), self._buffer)
        self.instances[instance.id] = instance
        self.changed()
        return instance

    def delete(self, instance: FakeInstance) -> None:
        """Forgets a stopped instance."""
        del self.instances[instance.id]
        self.changed()

    async def start(self, instance: FakeInstance) -> bool:
        """Starts an instance; one that runs already is fine as it is.

        Only the newer fork sees that one is being started, and only it counts the attempts of each start anew.
        """
        if instance.status == "running" or (self.new_fork and instance.status == "starting" and instance.engine):
            return True
        if self.new_fork:
            instance.retry_count = 0
        while not await self._begun(instance):
            instance.status, instance.pid, instance.started_at = "failed", None, None
            instance.retry_count += 1
            exited = "unexpectedly (exit code: 1)" if self.new_fork else "immediately"
            instance.error_message = f"Process exited {exited}"
            if instance.retry_count >= self._max_retries:
                return False
            await asyncio.sleep(self.delays.retry)
            if self.new_fork:
                instance.forget_lines()
        instance.status, instance.retry_count, instance.error_message = "running", 0, None
        instance.started_at = _utc()
        self.changed()
        return True

    async def _begun(self, instance: FakeInstance) -> bool:
        instance.status = "starting"
        instance.ready.clear()
        instance.file_time = None
        if instance.engine is not None:  # two starts at once: the first process is forgotten
            self.orphans.append(instance.engine)
        instance.engine = await self._spawned(instance)
        instance.pid = next(self._pids)
        self.happened()
        await asyncio.sleep(self.delays.start)
        if instance.engine is not None and self.new_fork:
            await instance.ready.wait()
        return instance.engine is not None

    async def _spawned(self, instance: FakeInstance) -> Engine | None:
        self.write(instance, f"0.00.003.000 I srv    load_model: loading model '{instance.config.get('model')}'")
        fails, self.failing = self.failing > 0, max(0, self.failing - 1)
        for port in self._ports(instance):
            engine = Engine(
                lambda text: self.write(instance, text),
                [instance.alias],
                kind=instance.kind,
                api_key=instance.config.get("api_key") or self.api_key,
                host=self._host,
                port=port,
                loading=self.loading,
            )
            try:
                await engine.start()
            except OSError:
                continue
            instance.port = engine.port
            if fails:
                await engine.stop()
                break
            if not self.loading:
                self.loaded(instance, engine)
            return engine
        self.write(instance, "0.00.006.000 E srv    load_model: failed to load model")
        return None

    def loaded(self, instance: FakeInstance, engine: Engine) -> None:
        """Its engine has its model now, and answers."""
        engine.loading = False
        instance.ready.set()
        self.write(instance, f"0.00.300.000 I srv  llama_server: listening on http://{self._host}:{engine.port}")

    def _ports(self, instance: FakeInstance) -> Iterator[int]:
        if self.dialect == "v1" and instance.port is not None:
            yield instance.port
        elif self._start_port is None:
            yield 0
        else:
            running = {one.port for one in self.instances.values() if one.status == "running"}
            yield from (n for n in range(self._start_port, self._start_port + _PORTS) if n not in running)

    async def stop(self, instance: FakeInstance) -> bool:
        """Stops an instance; one that is stopped is fine as it is. But for the fork, all else waits meanwhile."""
        if instance.status == "stopped":
            return True
        if self.dialect == "fork" and instance.status == "failed":
            instance.status, instance.error_message = "stopped", None
            self.changed()
            return True
        if self.dialect != "fork":
            self.free.clear()
        instance.status = "stopping"
        self.happened()
        try:
            await asyncio.sleep(self.delays.stop)
            self.write(instance, "0.09.000.000 I srv    operator(): cleaning up before exit...")
            await self._ended(instance)
        finally:
            self.free.set()
        instance.status, instance.pid, instance.started_at = "stopped", None, None
        if self.dialect == "fork" and not self.new_fork:
            instance.forget_lines()
        self.changed()
        return True

    async def _ended(self, instance: FakeInstance) -> None:
        engine, instance.engine = instance.engine, None
        if engine is not None:
            await engine.stop()
        instance.state = dict(IDLE)

    async def restart(self, instance: FakeInstance) -> bool:
        """Stops it, waits, starts it."""
        await self.stop(instance)
        await asyncio.sleep(self.delays.restart)
        return await self.start(instance)

    async def lose(self, instance: FakeInstance, exit_code: int = 1) -> None:
        """Its process dies. Most agents never notice; the newer fork does."""
        await self._ended(instance)
        if self.new_fork:
            instance.status, instance.pid, instance.started_at = "failed", None, None
            instance.error_message = f"Process exited unexpectedly (exit code: {exit_code})"
            self.changed()

    def write(self, instance: FakeInstance, text: str) -> None:
        """Its process writes a line."""
        self.tells(instance, instance.write(text, self.now()))

    async def leave(self, *, instances_live: bool) -> None:
        """The agent's process ends: its engines live on without it, or die with it."""
        for instance in self.instances.values():
            if instances_live and instance.engine is not None:
                self.orphans.append(instance.engine)
                instance.engine = None
            await self._ended(instance)

    async def boot(self) -> None:
        """The agent begins anew: what ran is started once more, one after another. Lines count from 0."""
        if self.dialect == "fork":
            await self.end_orphans()
        for instance in self.instances.values():
            instance.forget_lines()
            if instance.status in ("running", "starting", "stopping"):
                instance.status = "stopped"
                instance.pid = instance.started_at = None
                await self.start(instance)

    async def end_orphans(self) -> None:
        """Ends the engines that nobody knows of any more."""
        orphans, self.orphans = self.orphans, []
        for engine in orphans:
            await engine.stop()


def _utc() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
