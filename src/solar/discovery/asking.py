"""Finds an engine by trying: asks addresses whether one answers there, which, and what it has."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.core.health import says_loading
from solar.discovery.engines import ENGINES, owner_type, questions
from solar.discovery.sighting import Address, Failed, Tried
from solar.edge.fetch import Answer, FetchFailed, Sends, fetch
from solar.edge.tasks import Tasks
from solar.edge.upstream import FreshUpstream, HttpUpstream
from solar.errors import InvalidBackend

ASK_SECONDS = 2.0  # for each question: what is near answers at once, and what is not must hold nobody up
_SHOWN = 3  # models that an outcome names
_LONGEST_NAME = 512  # characters of a model's name
_GONE = (Outcome.REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.TIMEOUT)  # one who does so once need not be asked more


class Asked(NamedTuple):
    """What came of asking one address."""

    answered: bool  # an engine is there; it may still be loading, or want another key
    outcome: str  # in human words
    type: str | None = None  # what it is, where it told
    models: tuple[str, ...] = ()
    failed: Failed | None = None  # the outcome in one word, where no engine answered
    locked: bool = False  # it wants a key, or another one


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

    async def settle(
        self, addresses: Sequence[Address], *, hint: str = "auto", api_key: str | None = None, named: bool = True
    ) -> Settled:
        """Ask all of them side by side. `hint` is what it is said to be.

        `api_key` is what it may want: it is shown to nobody but the one that is kept, and only if that asks for a key.
        `named`: somebody says that an engine is there. Else what answers must prove to be one.
        """
        asked = await asyncio.gather(*(self.ask(address.url, hint=hint, named=named) for address in addresses))
        kept = next((place for place, one in enumerate(asked) if one.answered), None)
        if kept is None:
            return Settled(_tried(addresses, asked), None, None, ())
        same = (asked[kept].type, asked[kept].models)  # who says something else there is another engine
        others = tuple(
            other.url
            for other, one in zip(addresses[kept + 1 :], asked[kept + 1 :], strict=True)
            if one.answered and (one.type, one.models) == same
        )
        if asked[kept].locked and api_key is not None:
            asked[kept] = await self.ask(addresses[kept].url, hint=hint, api_key=api_key, named=named)
        return Settled(_tried(addresses, asked), addresses[kept], asked[kept], others)

    async def ask(self, url: str, *, hint: str = "auto", api_key: str | None = None, named: bool = True) -> Asked:
        """What answers at `url`."""
        try:
            backend = Backend("asked", url, api_key=api_key)
        except InvalidBackend as error:
            return Asked(False, error.message.removeprefix("backend 'asked': "), failed="unreachable")
        return await self.ask_backend(backend, hint=hint, named=named)

    async def ask_backend(self, backend: Backend, *, hint: str = "auto", named: bool = True) -> Asked:
        """What answers where `backend` is, asked with its key and its certificates."""
        try:
            if await self._is_gateway(backend):
                return Asked(False, "a Solar gateway, and no engine", failed="foreign")
            return await self._engine(backend, hint, named=named)
        except FetchFailed as error:
            failed, outcome = _why(error)
            return Asked(False, outcome, failed=failed)

    async def _is_gateway(self, backend: Backend) -> bool:
        """Every Solar tells so in its health, whoever asks; the first coordinator and its agents name themselves."""
        try:
            health = _object(await self._get(backend, backend.root + "/health"))
        except FetchFailed as error:
            if error.outcome in _GONE:
                raise
            return False  # it hangs up on pages that it does not have
        return "backends_total" in health or health.get("service") in ("solar-control", "solar-host")

    async def _engine(self, backend: Backend, hint: str, *, named: bool) -> Asked:
        where = f"{backend.prefix}/models"
        listed = await self._get(backend, where)
        items = _items(listed)
        if items is not None:
            return await self._with_models(backend, hint, items, named=named)
        kind = await self._kind(backend, hint, None)
        if listed.status == 503 and (named or says_loading(listed.body)):
            return Asked(True, "it answers 503: loading", kind)
        if listed.status in (401, 403):
            wants = f"{'it refuses the key' if backend.api_key else 'it wants a key'} ({listed.status})"
            if named or kind is not None:
                return Asked(True, wants, kind, locked=True)
            return Asked(False, f"{wants}, and does not say what it is", failed="foreign", locked=True)
        if kind is None or not (ENGINES[kind].sure or kind == hint):
            return Asked(False, f"no engine that we know: {where} answered {listed.status}", failed="foreign")
        return Asked(True, f"{kind}; it lists no models", kind)

    async def _with_models(
        self, backend: Backend, hint: str, items: Sequence[Mapping[str, Any]], *, named: bool
    ) -> Asked:
        owners = {owner for item in items if isinstance(owner := item.get("owned_by"), str)}
        kind = owner_type(owners) or await self._kind(backend, hint, owners if items else None)
        if kind is None and not items and not named:  # an empty list proves nothing
            return Asked(False, f"no engine that we know: {backend.prefix}/models lists nothing", failed="foreign")
        models = tuple(item["id"] for item in items)
        known = kind or ("generic" if items else None)  # without a model it may yet tell
        return Asked(True, f"{kind or 'OpenAI-compatible'}, with {_in_words(models)}", known, models)

    async def _kind(self, backend: Backend, hint: str, owners: Collection[str] | None) -> str | None:
        """Which engine it is, by the page that only that engine has; None where that takes too long to find out."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * ASK_SECONDS):
                for engine in questions(hint, owners):
                    try:
                        page = _object(await self._get(backend, backend.root + engine.question))
                    except FetchFailed as error:
                        if error.outcome in _GONE:
                            break
                        continue  # it hangs up on pages that it does not have
                    if engine.told(page):
                        return engine.type
        return None

    async def _get(self, backend: Backend, target: str) -> Answer:
        return await fetch(self._sends, backend, "GET", target, seconds=ASK_SECONDS)


def _tried(addresses: Sequence[Address], asked: Sequence[Asked]) -> tuple[Tried, ...]:
    return tuple(
        Tried(address, one.answered, one.outcome, one.failed) for address, one in zip(addresses, asked, strict=True)
    )


def _json(answer: Answer) -> Any:
    """What an answer holds; None where it is no JSON, or an error."""
    if answer.status != 200:
        return None
    try:
        return msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError):
        return None


def _object(answer: Answer) -> Mapping[str, Any]:
    """The JSON object of an answer; an empty one where it is none."""
    page = _json(answer)
    return page if isinstance(page, dict) else {}


def _items(answer: Answer) -> list[dict[str, Any]] | None:
    """The models of a list; None where it is none."""
    listing = _json(answer)
    items = listing.get("data", ...) if isinstance(listing, dict) else listing
    if items is None and isinstance(listing, dict):  # how an Ollama without a model writes an empty list
        return []
    if not isinstance(items, list):
        return None
    return [item for item in items if isinstance(item, dict) and _is_name(item.get("id"))]


def _is_name(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable()


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
