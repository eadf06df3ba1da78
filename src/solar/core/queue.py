"""The queue: who waits for a full model, and who left."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic, NamedTuple, TypeVar

W = TypeVar("W")


class _Seat(NamedTuple):
    model: str
    number: int  # order of arrival, over all models
    until: float


class WaitingRoom(Generic[W]):
    """Who waits, first come first served for each model. A waiter is any object that hashes by identity.

    Joining, leaving and expiring cost the same however many wait. Times are seconds.
    """

    __slots__ = ("_arrivals", "_lines", "limit", "longest", "seats")

    def __init__(self, *, limit: int = 1000, longest: float = 60.0) -> None:
        self.limit = limit  # waiting for one model
        self.longest = longest  # seconds that anyone waits
        # OrderedDict and not dict: a dict whose first keys were deleted scans over them again to find its first one.
        # All wait equally long at most, so the order of arrival is the order of expiry too.
        self.seats: OrderedDict[W, _Seat] = OrderedDict()
        self._lines: dict[str, OrderedDict[W, None]] = {}
        self._arrivals = 0

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self.seats)} waiting for {len(self._lines)} models>"

    def __len__(self) -> int:
        return len(self.seats)

    def waiting(self, model: str) -> int:
        line = self._lines.get(model)
        return len(line) if line is not None else 0

    def join(self, model: str, waiter: W, now: float) -> bool:
        """Queue for `model`; False when its queue is full. Raises ValueError for one who waits already."""
        if waiter in self.seats:
            raise ValueError(f"{waiter!r} waits already")
        if self.waiting(model) >= self.limit:
            return False
        self._arrivals += 1
        self.seats[waiter] = _Seat(model, self._arrivals, now + self.longest)
        self._lines.setdefault(model, OrderedDict())[waiter] = None
        return True

    def leave(self, waiter: W) -> bool:
        """Stop waiting: it was served, or its client left. False when it does not wait."""
        seat = self.seats.pop(waiter, None)
        if seat is None:
            return False
        line = self._lines[seat.model]
        del line[waiter]
        if not line:
            del self._lines[seat.model]
        return True

    def first(self, model: str) -> W | None:
        line = self._lines.get(model)
        return next(iter(line)) if line is not None else None

    def by_model(self) -> dict[str, int]:
        """model -> how many wait for it."""
        return {model: len(line) for model, line in self._lines.items()}

    def earliest(self, models: Iterable[str]) -> list[W]:
        """The first of each of these models' queues, in order of arrival: who may take a slot that became free."""
        heads = {next(iter(line)) for model in models if (line := self._lines.get(model)) is not None}
        return sorted(heads, key=lambda waiter: self.seats[waiter].number)

    def expired(self, now: float) -> list[W]:
        """Take out who has waited too long, in order of arrival."""
        late: list[W] = []
        while self.seats and next(iter(self.seats.values())).until <= now:
            waiter = next(iter(self.seats))
            self.leave(waiter)
            late.append(waiter)
        return late
