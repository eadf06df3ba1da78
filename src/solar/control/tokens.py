"""Tokens that open one WebSocket each: what a browser puts into a URL where the key must not stand."""

from __future__ import annotations

import hmac
import secrets

LIVES = 60.0  # seconds from making it to using it
MOST = 256  # that wait to be used; the oldest goes for one more


class Tokens:
    """Those that were made, and neither used nor too old. Time is an argument, in seconds."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # the oldest first

    def __repr__(self) -> str:
        return f"<Tokens {len(self._until)}>"

    def make(self, now: float) -> str:
        """A new one, for whoever has shown the key."""
        self._forget(now)
        if len(self._until) >= MOST:
            del self._until[next(iter(self._until))]
        token = secrets.token_urlsafe(32)
        self._until[token] = now + LIVES
        return token

    def spend(self, token: str, now: float) -> bool:
        """Whether it opens a WebSocket: it does so once."""
        self._forget(now)
        given = token.encode("utf-8", "replace")
        found = ""
        for known in self._until:  # all of them: the time must not tell which came close
            if hmac.compare_digest(given, known.encode("ascii")):
                found = known
        return self._until.pop(found, None) is not None

    def _forget(self, now: float) -> None:
        for token in [token for token, until in self._until.items() if until <= now]:
            del self._until[token]
