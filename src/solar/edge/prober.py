"""When to probe whom: one look at a time for each backend, all backends side by side."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from solar.core.member import Member
from solar.core.roster import Roster
from solar.edge.details import Contexts
from solar.edge.fetch import Sends
from solar.edge.probe import Finding, may_be_woken, probe, try_inference
from solar.edge.relay import Relay
from solar.edge.tasks import Tasks

PROBE_SECONDS = 5.0  # for each question of a probe
DOUBT_SECONDS = 2.0  # the same while something is wrong: a fresh connection has to show life soon
REVIVAL_SECONDS = 10.0  # for one token


class Prober:
    """The active half of health. `tick` starts what is due."""

    def __init__(self, relay: Relay, tasks: Tasks, fresh: Sends, log: logging.Logger) -> None:
        self._relay = relay
        self._roster: Roster = relay.roster
        self._tasks = tasks
        self._fresh = fresh  # a transport that opens a new connection for each request
        self._log = log
        self._contexts: Contexts = {}
        self._asking: dict[Member, asyncio.Task[None]] = {}
        self.jitter: Callable[[], float] = random.random

    def tick(self, now: float) -> None:
        """Start the probes that are due."""
        for member in self._roster.members.values():
            if member.health.due(now) and member not in self._asking:
                self._asking[member] = self._tasks.spawn(self._ask(member), f"probe {member.backend.id}")

    async def all_asked(self, seconds: float) -> None:
        """Wait for the probes that are under way, `seconds` at most."""
        if self._asking:
            await asyncio.wait(self._asking.values(), timeout=seconds)

    async def _ask(self, member: Member) -> None:
        clock = self._relay.clock
        backend = member.backend
        doubtful = member.stall.grade != "moving"
        seconds = DOUBT_SECONDS if doubtful else PROBE_SECONDS
        through: Sends = backend.upstream if backend.upstream is not None else self._fresh
        try:
            finding = await probe(through, backend, member.type, seconds=seconds, contexts=self._contexts)
            if finding.state == "healthy" and member.stall.stalled and await self._revives(member):
                member.stall.revived(clock())
                self._log.info("revived backend=%s", backend.id)
        finally:
            self._asking.pop(member, None)
        if not member.draining and member.backend is backend:
            self._heard(member, finding, clock())

    async def _revives(self, member: Member) -> bool:
        """A stalled engine often answers its control endpoint: only a token proves that it works again."""
        backend = member.backend
        if not member.models or not may_be_woken(backend, member.type):
            return True
        through: Sends = backend.upstream if backend.upstream is not None else self._fresh
        return await try_inference(through, backend, member.models[0].id, seconds=REVIVAL_SECONDS)

    def _heard(self, member: Member, finding: Finding, now: float) -> None:
        """Book what a probe found, and tell those who wait."""
        health = member.health
        before = health.state
        if finding.type is not None and member.backend.type == "auto":
            member.type = finding.type
        if finding.models is not None:
            self._roster.reported(member, finding.models)
        if finding.state == "healthy":
            health.passed(now, self.jitter(), suspect=member.stall.grade != "moving")
        elif finding.state == "loading":
            health.loading(now, self.jitter())
        else:
            moving = finding.timed_out and member.stall.streaming and member.stall.grade == "moving"
            health.failed(now, finding.reason, self.jitter(), moving=moving, refused=finding.refused)
            proof = f"its control endpoint is dead: {finding.reason}"
            if finding.timed_out and self._proves_a_stall(member) and member.stall.evidence(proof):
                self._relay.stalled(member, now)
        if health.state != before:
            # Who set up no logging, as with a library, still has to see why nothing is answered.
            level = logging.WARNING if health.state == "down" else logging.INFO
            said = (member.backend.id, health.state, before, finding.reason)
            self._log.log(level, "health backend=%s state=%s was=%s detail=%r", *said)
            self._roster.changed()

    @staticmethod
    def _proves_a_stall(member: Member) -> bool:
        """Simple servers answer nothing while they compute; the engines that we know always answer here."""
        if member.stall.grade == "suspect":
            return True
        known = member.type not in ("auto", "generic")
        return known and member.health.state == "down" and member.load.in_flight > 0
