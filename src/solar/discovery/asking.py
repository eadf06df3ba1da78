"""Finds an engine by trying: asks addresses whether one answers there, which, and what it has."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.discovery.engines import OWNERS, questions
from solar.discovery.sighting import Address, Failed, Tried
from solar.edge.fetch import Answer, FetchFailed, Sends, fetch
from solar.edge.tasks import Tasks
from solar.edge.upstream import FreshUpstream, HttpUpstream
from solar.errors import InvalidBackend

ASK_SECONDS = 2.0  # for each question: what is near answers at once, and what is not must hold nobody up
_SHOWN = 3  # models that an outcome names


class Asked(NamedTuple):
    """What came of asking one address."""

    answered: bool  # an engine is there; it may still be loading, or want another key
    outcome: str  # in human words
    type: str | None = None  # what it is, where it told
    models: tuple[str, ...] = ()
    failed: Failed | None = None  # the outcome in one word, where no engine answered


@dataclass(frozen=True, slots=True)
class Settled:
    """All addresses of one engine, asked; `address` is the first in order that answered."""

    tried: tuple[Tried, ...]
    address: Address | None
    asked: Asked | None  # of that address
    others: tuple[str, ...]  # the URLs behind which it answered as well


class Asker:
    """Asks. It holds no connection between two questions.

    async with Asker() as asker:
        settled = await asker.settle([Address("http://127.0.0.1:8080", "its usual port")])
    """

    def __init__(self) -> None:
        self._tasks = Tasks(logging.getLogger("solar"))
        self._upstream = HttpUpstream(self._tasks)
        self._sends: Sends = FreshUpstream(self._upstream)

    async def __aenter__(self) -> Asker:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._upstream.close()
        await self._tasks.stop()

    async def settle(self, addresses: Sequence[Address], *, hint: str = "auto", api_key: str | None = None) -> Settled:
        """Ask all of them side by side. `hint` is what it is said to be, `api_key` what it may want."""
        asked = await asyncio.gather(*(self.ask(address.url, hint=hint, api_key=api_key) for address in addresses))
        tried = tuple(
            Tried(address, one.answered, one.outcome, one.failed) for address, one in zip(addresses, asked, strict=True)
        )
        answering = [(address, one) for address, one in zip(addresses, asked, strict=True) if one.answered]
        if not answering:
            return Settled(tried, None, None, ())
        address, one = answering[0]
        return Settled(tried, address, one, tuple(other.url for other, _ in answering[1:]))

    async def ask(self, url: str, *, hint: str = "auto", api_key: str | None = None) -> Asked:
        """What answers at `url`."""
        try:
            backend = Backend("asked", url, api_key=api_key)
        except InvalidBackend as error:
            return Asked(False, error.message, failed="unreachable")
        try:
            health = await self._get(backend, backend.root + "/health")
            if "backends_total" in _object(health):
                return Asked(False, "a Solar gateway, and no engine", failed="foreign")
            return await self._engine(backend, hint)
        except FetchFailed as error:
            failed, outcome = _why(error)
            return Asked(False, outcome, failed=failed)

    async def _engine(self, backend: Backend, hint: str) -> Asked:
        where = f"{backend.prefix}/models"
        listed = await self._get(backend, where)
        if listed.status == 503:
            return Asked(True, "it answers 503: loading", await self._kind(backend, hint, None))
        if listed.status in (401, 403):
            wants = "it refuses the key" if backend.api_key else "it wants a key"
            return Asked(True, f"{wants} ({listed.status})", await self._kind(backend, hint, None))
        items = _items(listed)
        if items is None:
            kind = await self._kind(backend, hint, None)
            if kind is None:
                said = f"no engine that we know: {where} answered {listed.status}"
                return Asked(False, said, failed="foreign")
            return Asked(True, f"{kind}; it lists no models", kind)
        owners = {str(item.get("owned_by")) for item in items}
        kind = await self._kind(backend, hint, owners.pop() if len(owners) == 1 else None)
        models = tuple(item["id"] for item in items)
        return Asked(True, f"{kind or 'OpenAI-compatible'}, with {_in_words(models)}", kind or "generic", models)

    async def _kind(self, backend: Backend, hint: str, owner: str | None) -> str | None:
        """Which engine it is: by the page that only that engine has, else by what its list of models says."""
        for engine in questions(hint, owner):
            try:
                page = _object(await self._get(backend, backend.root + engine.question))
            except FetchFailed:  # one that hangs up on pages that it does not have
                continue
            if engine.told(page):
                return engine.type
        return OWNERS.get(owner or "")

    async def _get(self, backend: Backend, target: str) -> Answer:
        return await fetch(self._sends, backend, "GET", target, seconds=ASK_SECONDS)


def _object(answer: Answer) -> Mapping[str, Any]:
    """The JSON object of an answer; an empty one where it is none, or an error."""
    if answer.status != 200:
        return {}
    try:
        page = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return page if isinstance(page, dict) else {}


def _items(answer: Answer) -> list[dict[str, Any]] | None:
    """The models of a list; None where it is none."""
    items = _object(answer).get("data")
    if not isinstance(items, list):
        return None
    return [item for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]


def _in_words(models: Sequence[str]) -> str:
    if not models:
        return "no model yet"
    more = f" and {len(models) - _SHOWN} more" if len(models) > _SHOWN else ""
    return ", ".join(models[:_SHOWN]) + more


def _why(error: FetchFailed) -> tuple[Failed, str]:
    """In one word, and in a few."""
    detail = error.detail
    if error.outcome is Outcome.REFUSED:
        if f"[Errno {errno.ECONNREFUSED}]" in detail:
            return "refused", "nothing listens there"
        if "[Errno -" in detail or "nodename nor servname" in detail:  # what Linux and macOS say of a name
            return "unknown name", "there is no host of that name"
        return "unreachable", detail
    if error.outcome in (Outcome.TIMEOUT, Outcome.CONNECT_TIMEOUT):
        return "silent", f"no answer within {ASK_SECONDS:g} s"
    if error.outcome is Outcome.UNREADABLE:
        return "foreign", detail
    return "cut", detail
