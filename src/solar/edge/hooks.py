"""Whom the router tells of its requests, while they run."""

from __future__ import annotations

from collections.abc import Callable

from solar.core.decision import Try
from solar.core.record import Record


class Hooks:
    """Functions to be set by whoever watches; None: nobody does, and nothing is made for them.

    They are called on the way of a request, so they must not wait. What they raise is logged and harms no request.
    """

    def __init__(self) -> None:
        self.on_start: Callable[[Record], None] | None = None  # it is understood, and looks for its backend
        self.on_routed: Callable[[Record], None] | None = None  # it goes to a backend; `considered` says why there
        self.on_reroute: Callable[[Record, Try], None] | None = None  # it leaves one that failed it for another
        self.on_record: Callable[[Record], None] | None = None  # it is over; told of what was refused at once, too
