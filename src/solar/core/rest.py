"""Rests: a model on a backend that answered 429 or 503 is left alone for as long as that answer asked."""

from __future__ import annotations

import re
from calendar import timegm
from collections import OrderedDict
from email.utils import parsedate_tz

LONGEST = 30.0  # seconds: whatever a backend asks for

_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?|\.[0-9]+")


class Rests:
    """Which (backend, model) rests until when. Times are seconds of one monotonic clock."""

    __slots__ = ("ends",)

    def __init__(self) -> None:
        self.ends: OrderedDict[tuple[str, str], float] = OrderedDict()  # in the order in which they were sent to rest

    def __repr__(self) -> str:
        return f"<Rests {len(self.ends)} resting>"

    def rest(self, backend_id: str, model: str, until: float) -> None:
        """Let the model rest on that backend. Of two answers, the one that asks for longer counts."""
        key = (backend_id, model)
        self.ends[key] = max(until, self.ends.pop(key, 0.0))
        # No rest is longer than LONGEST, so this one began after `until - LONGEST`. What ended by then goes, or names
        # that nobody asks for again would stay for ever.
        while next(iter(self.ends.values())) <= until - LONGEST:
            self.ends.popitem(last=False)

    def until(self, backend_id: str, model: str, now: float) -> float:
        """When the rest ends; 0 when it does not rest."""
        if not self.ends:
            return 0.0
        key = (backend_id, model)
        end = self.ends.get(key, 0.0)
        if end and end <= now:
            del self.ends[key]
            return 0.0
        return end


def retry_after(value: bytes | str | None, now_wall: float, *, ms: bytes | str | None = None) -> float | None:
    """Seconds to rest, from 0 to LONGEST; None when no header can be read.

    `value` is Retry-After: seconds or an HTTP date, which is compared with `now_wall` (seconds since 1970).
    `ms` is retry-after-ms, which is finer and so comes first.
    """
    seconds = _number(ms)
    if seconds is not None:
        seconds /= 1000
    else:
        seconds = _number(value)
    if seconds is None:
        date = _date(value)
        seconds = None if date is None else date - now_wall
    return None if seconds is None else min(max(seconds, 0.0), LONGEST)


def _text(value: bytes | str | None) -> str:
    return (value.decode("latin-1") if isinstance(value, bytes) else value or "").strip()


def _number(value: bytes | str | None) -> float | None:
    text = _text(value)
    return float(text) if _NUMBER.fullmatch(text) else None


def _date(value: bytes | str | None) -> float | None:
    """Seconds since 1970. A date without a zone is in GMT, as HTTP has it."""
    try:
        parsed = parsedate_tz(_text(value))
        return None if parsed is None else timegm(parsed[:9]) - (parsed[9] or 0)
    except (ValueError, IndexError, OverflowError):
        return None
