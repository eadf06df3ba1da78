"""One host, watched: the one owner of what is known of it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from typing import Protocol

from solar.control.fleet.calls import Agent, AgentAnswer, HostUnreachable, Kind, seconds
from solar.control.fleet.view import HostView, What
from solar.core.backend import Backend
from solar.errors import InvalidBackend, InvalidRequest
from solar.store.facts import Host, iso
from solar.wire.address import agent_url
from solar.wire.dialects import Dialect, dialect_of
from solar.wire.figures import Memory, read_memory
from solar.wire.hosts import Status
from solar.wire.instances import Home, Instance, Listing, backend_of, read_instances, updated
from solar.wire.messages import FromAgent, HealthFrame, InstancesUpdate
from solar.wire.reading import Unreadable
from solar.wire.redact import MASK, masking, redact

_MOST_TOLD = 4 * 1024 * 1024  # bytes; a thousand instances are one or two MiB
_SAID = 200  # characters of a refusal that a reason shows


@dataclass(frozen=True, slots=True)
class Pace:
    """How often an agent is asked, in seconds."""

    instances: float = 2.0
    health: float = 10.0  # and its memory
    longest: float = 30.0  # the pauses grow to this while it does not answer as it should
    linked: float = 30.0  # while a link tells what happens: just to check


class Link(Protocol):
    """A connection that an agent opened to us, and has registered on."""

    @property
    def called(self) -> str | None:
        """What its agent calls itself."""
        ...

    def end(self, why: str) -> None:
        """Close it, soon: it speaks for nobody any more."""
        ...


class HostWatch:
    """What the agent at one address, asked with one key, says of itself and of its instances.

    A host that gets another address or key gets another watch: so no late answer speaks for what came after. The new
    one goes on from what the old one knew (`after`), until it has asked. `changed` hears of everything that changes.

    A link that stands tells what happens; then the agent is asked only to check. What a look and a link say becomes
    one status here: while its link speaks, a host is online.
    """

    def __init__(
        self,
        host: Host,
        agent: Agent,
        changed: Callable[[HostWatch, What], None],
        *,
        pace: Pace,
        log: logging.Logger,
        after: HostWatch | None = None,
    ) -> None:
        self.host = host
        self.status: Status = after.status if after else "offline"
        self.reason: str = after.reason if after else "it was not asked yet"
        self.dialect: Dialect | None = None
        self.memory: Memory | None = after.memory if after else None
        self.instances: tuple[Instance, ...] = after.instances if after else ()
        self._agent = agent
        self._changed = changed
        self._pace = pace
        self._log = log
        self._told = after.status if after else None  # the status that was told last
        self._last_seen: int | None = after._last_seen if after else None
        self._found = (self.status, self.reason)  # by the last look
        self._link: Link | None = None
        self._since = ""  # when its agent registered, as the agent wrote it
        self._quiet = False  # it stands, and nothing was heard of it for long
        self._news = 0  # how often a link told of the instances
        self._ill = ""  # what is wrong with its health
        self._due = float("-inf")  # when its health is asked again
        self.pause = pace.instances  # seconds until the next look
        self._complained: dict[str, tuple[str, ...]] = {}  # who told, and what could not be read of it
        self._woken = asyncio.Event()
        self._begun = False  # it was looked at once
        self._wanted = False  # somebody waits for a whole look that has not begun
        self._look, self._next_look = asyncio.Event(), asyncio.Event()  # set once they have ended
        self._closed = False
        self.backends = self._backends()

    def __repr__(self) -> str:
        return f"<HostWatch {self.host.name!r} at {self.host.url}: {self.status}>"

    @property
    def view(self) -> HostView:
        """All of it, now."""
        return HostView(
            id=self.host.id,
            name=self.host.name,
            url=self.host.url,
            status=self.status,
            reason=self.reason,
            created_at=iso(self.host.created_ms),
            last_seen=None if self._last_seen is None else iso(self._last_seen),
            memory=self.memory,
            dialect=self.dialect,
            instances=self.instances,
            weight=_weight(self.host),
            connected=self._link is not None,
        )

    @property
    def link(self) -> Link | None:
        """The one that speaks for it now."""
        return None if self._quiet else self._link

    @property
    def secrets(self) -> set[str]:
        """The keys that its answers may show."""
        return {key for key in (self.host.api_key, *(instance.api_key for instance in self.instances)) if key}

    async def ask(self, method: str, path: str, body: bytes = b"", *, kind: Kind = "read") -> AgentAnswer:
        """What its agent answers, with its keys. Raises HostUnreachable."""
        return await self._agent.ask(method, path, body, within=seconds(kind, self.dialect))

    def stream(self, path: str) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """The texts of a WebSocket of its agent, with its keys. Raises HostUnreachable, NoStream."""
        return self._agent.stream(path)

    async def run(self) -> None:
        """Look again and again, until cancelled. Nobody else may ask it to look meanwhile, but by refresh()."""
        try:
            if self._begun:  # when it was registered
                await self._rest()
            while not self._closed:
                self._woken.clear()
                self._look, self._next_look = self._next_look, asyncio.Event()
                if self._wanted:
                    self._wanted, self._due = False, float("-inf")
                await self.look()
                self._look.set()
                await self._rest()
        finally:
            self.close()

    async def refresh(self) -> None:
        """Return once it was looked at by a look that begins from now on, or once nobody looks any more."""
        self._wanted = True
        self._woken.set()
        await self._next_look.wait()

    def close(self) -> None:
        """Nobody looks any more, and nobody waits for it. Its link ends."""
        self._closed = True
        link, self._link = self._link, None
        if link is not None:
            link.end("this host is registered no more as it was")
        self._look.set()
        self._next_look.set()

    def revised(self, host: Host) -> None:
        """What is kept of it has changed, but for its address and key."""
        self.host = host
        self.backends = self._backends()

    def wake(self) -> None:
        """Look again soon: something has changed there."""
        self._woken.set()

    def linked(self, link: Link, at: str = "") -> None:
        """`link` speaks for this host from now on; the one before it ends. `at`: when its agent registered."""
        before, self._link = self._link, link
        self._since, self._quiet = at, False
        if before is not None:
            before.end("a newer link of this host took its place")
        self._seen()
        self._found = ("online", "")  # what a look found before is old: another one is asked for
        self._settle()
        self._changed(self, "link")
        self._ask_anew()

    def heard(self, link: Link, message: FromAgent) -> bool:
        """What a link says. False: it speaks for nobody any more."""
        if self._link is not link:
            return False
        self._seen()
        if self._quiet:
            self._quiet = False
            self._settle()
        match message:
            case InstancesUpdate(at, listing) if self._is_new(at):
                self._news += 1
                self._told_by("its link", Listing(updated(self.instances, listing.instances), listing.complaints))
            case HealthFrame(at, memory) if memory is not None and self._is_new(at):
                self._weighs(memory)
        return True

    def hushed(self, link: Link) -> None:
        """Nothing was heard on `link` for long: it stands, and its word counts no more until it speaks."""
        if self._link is link and not self._quiet:
            self._quiet = True
            self._settle()
            self._ask_anew()

    def unlinked(self, link: Link) -> None:
        """`link` is gone. Whether its host is, the next look says; where another took its place, nothing changes."""
        if self._link is link:
            self._link, self._quiet = None, False
            self._changed(self, "link")
            self._ask_anew()

    async def look(self) -> None:
        """Ask what is due, once. Whatever goes wrong becomes its status."""
        self._begun = True
        try:
            wrong = await self._asked()
        except HostUnreachable as error:
            self._due = float("-inf")  # it may be another one that comes back
            self._becomes("offline", error.message)
        else:
            self._becomes("error" if wrong else "online", wrong)

    async def _asked(self) -> str:
        """What is wrong with its answers. Raises HostUnreachable."""
        now = asyncio.get_running_loop().time()
        due = self.dialect is None or now >= self._due
        if due:
            self._ill = await self._wrong(self._identify())
        if self.dialect is None:  # the key is for agents only
            return self._ill
        wrong = await self._wrong(self._list())
        if due:
            self._due = now + self._pace.health
            with suppress(HostUnreachable, Unreadable):  # many have no memory to tell; that says nothing of the rest
                await self._weigh()
        return self._ill or wrong

    async def _wrong(self, look: Awaitable[None]) -> str:
        try:
            await look
        except Unreadable as error:
            return error.message
        return ""

    async def _identify(self) -> None:
        health = await self._get("/health", with_key=False)
        try:
            dialect = dialect_of(health)
        except Unreadable:
            self.dialect = None
            raise
        if dialect.name == "v1":  # or one that tells no version: then it is the root that knows
            root = await self._agent.ask("GET", "/", within=seconds("read", self.dialect), with_key=False)
            dialect = dialect_of(health, root.body if root.status == 200 else None)
        self.dialect = dialect

    async def _list(self) -> None:
        news = self._news
        listing = read_instances(await self._get("/instances"))
        if news == self._news:  # else its link has told meanwhile what may be newer
            self._told_by("GET /instances", listing)

    def _told_by(self, who: str, listing: Listing) -> None:
        if listing.complaints and listing.complaints != self._complained.get(who):
            self._log.warning("host=%s %s: %s", self.host.id, who, "; ".join(listing.complaints))
        self._complained[who] = listing.complaints
        instances = _hiding(self.secrets, listing.instances)
        if instances != self.instances:
            self.instances = instances
            self.backends = self._backends()
            self._changed(self, "instances")

    async def _weigh(self) -> None:
        self._weighs(read_memory(await self._get("/memory")))

    def _weighs(self, memory: Memory | None) -> None:
        if memory != self.memory:
            self.memory = memory
            self._changed(self, "memory")

    async def _get(self, path: str, *, with_key: bool = True) -> bytes:
        answer = await self._agent.ask("GET", path, within=seconds("read", self.dialect), with_key=with_key)
        if answer.status != 200:
            said = redact(answer.body[:_MOST_TOLD], self.secrets).decode("utf-8", "replace")[:_SAID]
            raise Unreadable(f"GET {path} was answered {answer.status}: {said}")
        if len(answer.body) > _MOST_TOLD:
            raise Unreadable(f"GET {path} was answered with more than {_MOST_TOLD} bytes")
        return answer.body

    def _backends(self) -> tuple[Backend, ...]:
        """What runs. A "running" of an agent is no word on whether it serves: the router probes."""
        if not self.instances:
            return ()
        try:
            agent = agent_url(self.host.url)
        except InvalidRequest:  # what was imported may be no address; its status says so
            return ()
        home = Home(self.host.id, agent, self.host.api_key or None, _weight(self.host))
        found = []
        for instance in self.instances:
            try:
                backend = backend_of(instance, home)
            except InvalidBackend as error:
                self._log.warning("host=%s instance=%s cannot be routed to: %s", home.id, instance.id, error.message)
                continue
            if backend is not None:
                found.append(backend)
        return tuple(found)

    def _is_new(self, at: str) -> bool:
        """Agents keep what happens while they have no link, and tell it later: by then it is not how things are."""
        return not (at and self._since) or at >= self._since

    def _becomes(self, status: Status, reason: str) -> None:
        """What a look found."""
        if status == "online":
            self._seen()
        if self.link is not None:
            self.pause = self._pace.linked
        else:
            self.pause = self._pace.instances if status == "online" else min(2 * self.pause, self._pace.longest)
        self._found = (status, reason)
        self._settle()

    def _settle(self) -> None:
        """The one place that writes the status."""
        self.status, self.reason = self._found
        if self.link is not None and self.status != "online":
            self.status = "online"
            self.reason = (
                f"its agent keeps a link to us, and cannot be asked: {self.reason}; "
                "its instances are routed to only where the probes reach them"
            )
        if self.status != self._told:
            self._told = self.status
            self._changed(self, "status")

    def _seen(self) -> None:
        self._last_seen = int(time.time() * 1000)

    def _ask_anew(self) -> None:
        """All of it, at once, and soon again where nobody answers."""
        self.pause, self._due = self._pace.instances, float("-inf")
        self.wake()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(self.pause * random.uniform(0.9, 1.1)):  # many hosts do not answer at once
                await self._woken.wait()
        except TimeoutError:
            return


def _hiding(secrets: set[str], instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """`instances` without keys in what went wrong with them: a command line may stand there."""
    if not any(one.error_message for one in instances):
        return instances
    hidden = masking({*secrets, *(one.api_key for one in instances if one.api_key)})
    if hidden is None:
        return instances
    return tuple(
        replace(one, error_message=hidden.sub(MASK, one.error_message)) if one.error_message else one
        for one in instances
    )


def _weight(host: Host) -> float:
    told = host.settings.get("weight")
    usable = isinstance(told, int | float) and not isinstance(told, bool) and 0 < told < float("inf")
    return float(told) if told is not None and usable else 1.0
