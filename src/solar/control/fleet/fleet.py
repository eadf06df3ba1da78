"""All hosts of the coordinator: who is registered, and what can be asked of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from hmac import compare_digest
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar
from urllib.parse import unquote
from uuid import uuid4

import msgspec

from solar.control.fleet.calls import Agent, AgentAnswer, HostUnreachable, Kind, NoAgent
from solar.control.fleet.discoverer import FleetDiscoverer
from solar.control.fleet.hosts import HostWatch, Pace
from solar.control.fleet.view import HostView, What
from solar.edge.tasks import Tasks
from solar.errors import InvalidRequest, MissingExtra, SolarError, StoreFailed
from solar.store.facts import Host
from solar.store.store import Store
from solar.wire.address import AgentUrl, agent_url, same
from solar.wire.channel import NOT_YET, SEVERAL, TAKEN, UNKNOWN_KEY, NotRegistered
from solar.wire.hosts import HostPatch, NewHost
from solar.wire.instances import Instance
from solar.wire.redact import redact, unmask

T = TypeVar("T")
PATIENCE = 2.0  # seconds: for the hosts to be read right after the start; for a change to be seen
_PAUSES = (0.5, 30.0)  # seconds between two readings of hosts that cannot be read: the first, the longest


class Fleet:
    """The hosts, each watched by a task of its own. Somebody must run() it; before that it knows nobody.

    `on_change` is called, at once, with what changed and the host as it is then; it must not raise. The methods raise
    InvalidRequest (400, 404, 409), HostUnreachable (502, 504), and StoreFailed (503) where the database cannot keep it:
    then all is as it was.
    """

    def __init__(self, store: Store, *, log: logging.Logger, pace: Pace = Pace()) -> None:  # noqa: B008  # frozen
        if find_spec("aiohttp") is None:
            raise MissingExtra.of("the fleet", "aiohttp", "server")
        self.on_change: list[Callable[[What, HostView], None]] = []
        self.discoverer = FleetDiscoverer()
        self._store = store
        self._log = log
        self._pace = pace
        self._watches: dict[str, HostWatch] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}  # one for each watch
        self._office: _Office | None = None  # while it runs, once the hosts were read
        self._read = asyncio.Event()
        self._changing = asyncio.Lock()  # held by whoever changes who is registered

    def __repr__(self) -> str:
        views = self.hosts()
        online = sum(view.status == "online" for view in views)
        running = sum(instance.running for view in views for instance in view.instances)
        return f"<Fleet {len(views)} hosts ({online} online), {running} running instances>"

    async def run(self) -> None:
        """Read the hosts once the store has opened, and watch them until cancelled."""
        await self._store.opened()
        hosts = await self._stored()
        async with AsyncExitStack() as connections:
            tasks = Tasks(self._log)
            self._office = _Office(tasks, connections)
            try:
                for host in hosts:
                    self._begin(await self._watcher(host))
                self._read.set()
                await self.refresh_all()
                self.discoverer.complete()
                await asyncio.Event().wait()
            finally:
                self._office = None
                self._read.clear()
                for watch in self._watches.values():
                    watch.close()
                await tasks.stop()

    async def ready(self) -> None:
        """Return once the hosts were read, however long that takes; they may not have been asked yet."""
        await self._read.wait()

    def hosts(self) -> tuple[HostView, ...]:
        """All of them, the first registered first."""
        return tuple(watch.view for watch in self._watches.values())

    async def listed(self) -> tuple[HostView, ...]:
        """As hosts(), and right after the start not before they were read. Raises StoreFailed where that takes long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._read.wait()
        self._ready()
        return self.hosts()

    def instances(self, host_id: str) -> tuple[Instance, ...]:
        """What a host's agent told last."""
        return self._watch(host_id).instances

    def watched(self, host_id: str) -> HostWatch | None:
        """Who watches a host; None where there is no such host."""
        return self._watches.get(host_id)

    async def add(self, new: NewHost, *, unreachable: bool = False) -> HostView:
        """Register a host, once its agent has answered, or `unreachable` as it may be."""
        agent = new.agent
        self._refuse_second(agent)
        now_ms = int(time.time() * 1000)
        settings = {} if new.weight is msgspec.UNSET else {"weight": new.weight}
        watch = await self._watcher(Host(str(uuid4()), new.name, str(agent), new.api_key, now_ms, settings))
        await watch.look()
        if watch.dialect is None and not unreachable:
            raise InvalidRequest(f"the host was not registered: {watch.reason}", code="host_unreachable", param="url")

        async def keep() -> HostView:
            self._refuse_second(agent)
            await self._store.put_host(watch.host)
            self._begin(watch)
            self._heard(watch, "added")
            return watch.view

        return await self._whole(keep())

    async def patch(self, host_id: str, patch: HostPatch) -> HostView:
        """Change what is kept of a host. Returns once it was asked at its new place, where it has one."""
        changes = {name: told for name, told in msgspec.structs.asdict(patch).items() if told is not msgspec.UNSET}
        if "url" in changes:
            changes["url"] = str(agent_url(changes["url"]))
        settings = {name: changes.pop(name) for name in ("weight",) if name in changes}
        self._watch(host_id)

        async def keep() -> HostWatch:
            old = self._watch(host_id)
            host = replace(old.host, **changes, settings=old.host.settings | settings)
            if host.url != old.host.url:
                self._refuse_second(agent_url(host.url), but=host_id)
            await self._store.put_host(host)
            return await self._revise(old, host)

        watch = await self._whole(keep())
        if changes.keys() - {"name"}:
            await watch.refresh()
        return watch.view

    async def remove(self, host_id: str) -> HostView:
        """Forget a host. Its instances live on, and take no more requests from here."""
        self._watch(host_id)

        async def drop() -> HostView:
            watch = self._watch(host_id)
            await self._store.drop_host(host_id)
            self._end(host_id)
            del self._watches[host_id]
            self._list()
            self._tell("removed", watch.view)
            return watch.view

        return await self._whole(drop())

    async def read_again(self) -> None:
        """Take over what somebody else has put into the store: an import."""

        async def keep() -> None:
            for host in await self._store.hosts():
                old = self._watches.get(host.id)
                if old is None:
                    self._begin(await self._watcher(host))
                    self._heard(self._watches[host.id], "added")
                elif old.host != host:
                    await self._revise(old, host)

        await self._whole(keep())

    async def refresh(self, host_id: str) -> HostView:
        """A host, asked anew."""
        await self._watch(host_id).refresh()
        return self._watch(host_id).view

    async def refresh_all(self) -> tuple[HostView, ...]:
        """All hosts, asked anew side by side."""
        self._ready()
        await asyncio.gather(*(watch.refresh() for watch in self._watches.values()))
        return self.hosts()

    async def call(
        self, host_id: str, method: str, path: str, body: bytes = b"", *, kind: Kind = "read"
    ) -> AgentAnswer:
        """Ask a host's agent for a client: its status and body as they are, but for the keys.

        A mask that a client sends back in place of a key is that key again.
        """
        self._ready()
        watch = self._watch(host_id)
        if watch.dialect is None:
            await watch.refresh()
            if watch.dialect is None:  # the key is for agents only
                raise HostUnreachable(watch.reason)
        secrets = watch.secrets
        try:
            answer = await watch.ask(method, path, unmask(body, _key_for(path, watch)), kind=kind)
        finally:
            if kind != "read":
                watch.wake()
        if kind != "read" and answer.status == 200:
            with suppress(TimeoutError):  # whoever starts an instance asks it next: by then it must be known
                async with asyncio.timeout(PATIENCE):
                    await watch.refresh()
        return replace(answer, body=redact(answer.body, secrets | watch.secrets))

    def whose(self, api_key: str, called: str | None) -> HostWatch:
        """The host whose agent has this key; of several, the one of the name that the agent calls itself.

        Raises NotRegistered, with what to tell the agent.
        """
        if self._office is None:
            raise NotRegistered(NOT_YET)
        given = _bytes(api_key)
        found = [watch for watch in self._watches.values() if compare_digest(_bytes(watch.host.api_key), given)]
        if len(found) > 1:
            found = [watch for watch in found if watch.host.name == called]
            if len(found) != 1:
                raise NotRegistered(SEVERAL)
        if not found:
            raise NotRegistered(UNKNOWN_KEY)
        link = found[0].link
        if link is not None and link.called != called:
            raise NotRegistered(TAKEN)
        return found[0]

    # --- within

    async def _stored(self) -> tuple[Host, ...]:
        pause, longest = _PAUSES
        while True:
            try:
                return await self._store.hosts()
            except StoreFailed as error:
                self._log.error("the hosts cannot be read; again in %.1fs: %s", pause, error.message)
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)

    def _ready(self) -> _Office:
        if self._office is None:
            raise StoreFailed("the hosts were not read from the database yet; try again in a moment", retry_after=1)
        return self._office

    def _watch(self, host_id: str) -> HostWatch:
        watch = self._watches.get(host_id)
        if watch is None:
            self._ready()  # before that nobody can say who is there
            raise InvalidRequest(f"there is no host {host_id!r}", status=404, code="host_not_found")
        return watch

    def _refuse_second(self, agent: AgentUrl, but: str | None = None) -> None:
        for known in self.hosts():
            try:
                twice = known.id != but and same(agent, agent_url(known.url))
            except InvalidRequest:  # what an original had kept may be no address
                continue
            if twice:
                raise InvalidRequest(
                    f"{agent} is registered already: it is host {known.name!r}, {known.id}",
                    status=409,
                    code="host_exists",
                    param="url",
                )

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        """`change` to its end, one after another, though whoever asked may leave: disk and memory must agree."""

        async def alone() -> T | SolarError:
            async with self._changing:
                try:
                    return await change
                except SolarError as error:
                    return error

        try:
            task = self._ready().tasks.spawn(alone(), "change of hosts")
        except StoreFailed:
            change.close()
            raise
        outcome: T | SolarError = await asyncio.shield(task)
        if isinstance(outcome, SolarError):
            raise outcome
        return outcome

    async def _watcher(self, host: Host, after: HostWatch | None = None) -> HostWatch:
        """Who watches `host`; nobody runs it yet."""
        client = await self._ready().client()
        try:
            agent = client(agent_url(host.url), host.api_key)
        except InvalidRequest as error:
            agent = NoAgent(error.message)
        return HostWatch(host, agent, self._heard, pace=self._pace, log=self._log, after=after)

    async def _revise(self, old: HostWatch, host: Host) -> HostWatch:
        """What is kept of a host is `host` now; who watches it from here on."""
        if (host.url, host.api_key) == (old.host.url, old.host.api_key):
            old.revised(host)
        else:
            new = await self._watcher(host, after=old)
            self._end(host.id)
            self._begin(new)
        watch = self._watches[host.id]
        self._heard(watch, "patched")
        return watch

    def _begin(self, watch: HostWatch) -> None:
        host_id = watch.host.id
        self._watches[host_id] = watch
        self._looking[host_id] = self._ready().tasks.spawn(watch.run(), f"watch host {host_id}")

    def _end(self, host_id: str) -> None:
        self._watches[host_id].close()
        self._looking.pop(host_id).cancel()

    def _heard(self, watch: HostWatch, what: What) -> None:
        """A watch tells that something changed. One that is not the host's any more speaks for nobody."""
        if self._watches.get(watch.host.id) is watch:
            self._list()
            self._tell(what, watch.view)

    def _list(self) -> None:
        self.discoverer.tell(tuple(backend for watch in self._watches.values() for backend in watch.backends))

    def _tell(self, what: What, view: HostView) -> None:
        if what in ("added", "removed", "patched", "status"):
            level = logging.INFO if view.status == "online" else logging.WARNING
            is_how = f"{view.status}{view.reason and f': {view.reason}'}"
            self._log.log(level, "host=%s name=%r url=%s %s, it is %s", view.id, view.name, view.url, what, is_how)
        elif what == "link":
            self._log.info("host=%s name=%r link %s", view.id, view.name, "stands" if view.connected else "ended")
        for told in tuple(self.on_change):
            told(what, view)


class _Office:
    """What there is while a fleet runs."""

    def __init__(self, tasks: Tasks, connections: AsyncExitStack) -> None:
        self.tasks = tasks
        self._connections = connections  # to agents; closed at the end
        self._loading = asyncio.Lock()
        self._client: Callable[[AgentUrl, str], Agent] | None = None

    async def client(self) -> Callable[[AgentUrl, str], Agent]:
        """How an agent is asked. It is loaded for the first host: a gateway without any stays small."""
        async with self._loading:
            if self._client is None:
                agents = await asyncio.to_thread(import_module, "solar.control.fleet.agents")
                session = await self._connections.enter_async_context(agents.open_session())
                self._client = partial(agents.AgentClient, session)
            return self._client


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _key_for(path: str, watch: HostWatch) -> str:
    """The key that a mask in a body to this page stands for: the instance's own, else the agent's."""
    instance_id = unquote(path.partition("?")[0].removeprefix("/instances/").partition("/")[0])
    own = next((one.api_key for one in watch.instances if one.id == instance_id), None)
    return own or watch.host.api_key
