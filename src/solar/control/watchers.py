"""Who watches what happens, and what each of them is still to be told.

Whoever has something to tell never waits for them. One that reads too slowly misses the oldest of what waits for it,
and is told how much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from solar.store.facts import RequestSummary
from solar.wire.watching import Filter

MOST_FRAMES = 1000  # that wait for one watcher
MOST_BYTES = 1 << 20  # of them
IN_A_ROW = 32  # frames that are given before others have their turn

HOSTS = frozenset({"host_status", "host_removed"})
ROUTING = frozenset({"request_start", "request_routed", "request_reroute", "request_success", "request_error"})
EVENTS = HOSTS | ROUTING | {"gateway_request", "log", "instance_state", "host_health"}


class Watcher:
    """One of them: an async iterator of frames, until it leaves."""

    def __init__(self, kinds: frozenset[str], admits: Filter, leave: Callable[[Watcher], None]) -> None:
        self.kinds = kinds
        self.filter = admits  # of the requests that are over
        self._leave = leave
        self._waiting: deque[bytes | str] = deque()
        self._size = 0
        self._missed = 0
        self._given = 0  # in a row
        self._news = asyncio.Event()
        self._left = False

    def __repr__(self) -> str:
        return f"<Watcher, {len(self._waiting)} frames wait, {self._missed} missed>"

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """It wants no more; what waits for it is dropped."""
        if not self._left:
            self._left = True
            self._waiting.clear()
            self._news.set()
            self._leave(self)

    def tell(self, frame: bytes | str) -> None:
        """Let it read `frame` once it gets there."""
        self._waiting.append(frame)
        self._size += len(frame)
        while len(self._waiting) > MOST_FRAMES or self._size > MOST_BYTES:
            self._size -= len(self._waiting.popleft())
            self._missed += 1
        self._news.set()

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> bytes | str:
        """The next frame; where some were missed, first how many."""
        if self._given >= IN_A_ROW:
            self._given = 0
            await asyncio.sleep(0)
        while not (self._waiting or self._missed or self._left):
            self._given = 0
            self._news.clear()
            await self._news.wait()
        if self._left:
            raise StopAsyncIteration
        self._given += 1
        if self._missed:
            missed, self._missed = self._missed, 0
            return gap(missed)
        frame = self._waiting.popleft()
        self._size -= len(frame)
        return frame


class Watchers:
    """All of them. `on_watched` is called after somebody came or left: who has nobody to tell need make nothing."""

    def __init__(self) -> None:
        self.on_watched: list[Callable[[], None]] = []
        self._of_kind: dict[str, list[Watcher]] = {}

    def __repr__(self) -> str:
        return f"<Watchers of {', '.join(sorted(self._of_kind)) or 'nothing'}>"

    @property
    def watched(self) -> bool:
        """Whether there is anybody."""
        return bool(self._of_kind)

    def wants(self, kinds: Iterable[str]) -> bool:
        """Whether somebody wants frames of one of these kinds."""
        return not self._of_kind.keys().isdisjoint(kinds)

    def join(self, kinds: frozenset[str], admits: Filter = Filter()) -> Watcher:  # noqa: B008  # frozen
        """Another one. It leaves at the end of its `with`."""
        watcher = Watcher(kinds, admits, self._leave)
        for kind in kinds:
            self._of_kind.setdefault(kind, []).append(watcher)
        self._changed()
        return watcher

    def tell(self, kind: str, frame: bytes | str, request: RequestSummary | None = None) -> None:
        """Let all who want frames of this kind read it; of a request that is over, where their filters admit it."""
        for watcher in self._of_kind.get(kind, ()):
            if request is None or _admits(watcher.filter, request):
                watcher.tell(frame)

    def _leave(self, watcher: Watcher) -> None:
        for kind in watcher.kinds:
            self._of_kind[kind].remove(watcher)
            if not self._of_kind[kind]:
                del self._of_kind[kind]
        self._changed()

    def _changed(self) -> None:
        for hear in self.on_watched:
            hear()


def gap(missed: int) -> bytes:
    """What stands in the place of frames that a slow reader missed."""
    return msgspec.json.encode({"type": "gap", "missed": missed})


def _admits(wanted: Filter, request: RequestSummary) -> bool:
    return wanted.admits(
        status=request.status,
        request_type=request.request_type,
        model=request.model,
        host_id=request.host_id,
    )
