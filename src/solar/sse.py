"""Watches an event stream on its way through: where events end, whether it finished, what it used.

The bytes are never changed. `feed` gives back those that may be relayed now, which is all of them up to the last blank
line; the rest is held until its event is complete, so that an error event never lands inside half of another.

    watch = Watch("chat")
    for chunk in upstream:
        client.write(watch.feed(chunk))
    if watch.finished(clean=True):
        client.write(watch.rest())
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, NamedTuple

from solar.core.dialects import DIALECTS, Dialect, Wire

HOLD: Final = 64 * 1024  # bytes of an unfinished event that are held back; a longer one flows through in pieces
_KEPT = 4  # pieces of the stream's end that are looked at once it is over

_FIGURES: Final = re.compile(rb'"(prompt|input|completion|output)_tokens": ?(\d{1,12})').findall
_TOKENS_IN: Final = (b"prompt", b"input")


class Usage(NamedTuple):
    """Tokens as the engine reports them; None where it does not."""

    tokens_in: int | None
    tokens_out: int | None


def usage_in(text: bytes) -> tuple[int | None, int | None]:
    """The last usage figures in a piece of JSON or of an event stream: tokens in, tokens out."""
    at = text.rfind(b'"usage"')
    figures: list[tuple[bytes, bytes]] = _FIGURES(text, at) if at > 0 else []
    if not figures and b"_tokens" in text:  # where the last usage says null, an earlier one may say more
        figures = _FIGURES(text)
    tokens_in: int | None = None
    tokens_out: int | None = None
    for name, figure in figures:
        if name in _TOKENS_IN:
            tokens_in = int(figure)
        else:
            tokens_out = int(figure)
    return tokens_in, tokens_out


class Watch:
    """One event stream. Works on whole reads; nothing is parsed before the end."""

    __slots__ = ("_dialect", "_ended", "_first", "_held", "_held_size", "_last", "events", "inside")

    def __init__(self, wire: Wire = "chat") -> None:
        self._dialect: Dialect = DIALECTS[wire]
        self._held: list[bytes] = []  # the unfinished event, as it came
        self._held_size = 0
        self._last: deque[bytes] = deque(maxlen=_KEPT)
        self._first = b""
        self._ended = False
        self.events = 0  # complete events relayed
        self.inside = False  # the client has received a part of an event and not yet its end

    def __repr__(self) -> str:
        return f"<Watch {self._dialect.wire} {self.events} events, {self._held_size} bytes held>"

    def feed(self, data: bytes) -> bytes:
        """What may be relayed now; perhaps nothing."""
        if self._held:
            if data.find(b"\n") < 0:  # quicker than `in`, which tries a number first
                return self._hold(data)
            data = b"".join((*self._held, data))
            self._held = []
            self._held_size = 0
        whole, unfinished = data, b""
        if not data.endswith((b"\n\n", b"\n\r\n")):
            end = _last_blank_line(data)
            if end == 0:
                return self._hold(data)
            whole, unfinished = data[:end], data[end:]
        self.events += whole.count(b"\n\n")
        if whole.find(b"\r") >= 0:
            self.events += whole.count(b"\n\r\n")
        self._saw(whole, begins=not self.inside)
        self.inside = False
        return whole + self._hold(unfinished) if unfinished else whole

    def only_comments(self, data: bytes) -> bool:
        """Whether `data`, if fed now, would be comments and nothing else: a keep-alive, and no sign of an answer."""
        if self._held or self.inside:
            return False
        return all(line[:1] in (b":", b"") for line in data.splitlines())

    def _hold(self, data: bytes) -> bytes:
        self._held.append(data)
        self._held_size += len(data)
        if self._held_size <= HOLD and not self.inside:
            return b""
        piece = b"".join(self._held)
        # A line's end may be the first half of the blank line that ends this event.
        cut = max(len(piece.rstrip(b"\r\n")), len(piece) - 3)
        self._held = [piece[cut:]] if cut < len(piece) else []
        self._held_size = len(piece) - cut
        piece = piece[:cut]
        if piece:
            self._saw(piece, begins=not self.inside)
            self.inside = True
        return piece

    def _saw(self, piece: bytes, *, begins: bool) -> None:
        """Keep it as a part of the stream's end. `begins`: an event starts with it, else one goes on."""
        if not begins:
            # The NUL keeps the middle of a line from looking like its start.
            piece = b"\0" + (self._last.pop() + piece if self._last else piece)[-HOLD:]
        elif piece[:1] == b":" and b"\ndata:" not in piece:
            return  # comments must not push the end out of sight; but an event may follow one in the same piece
        self._last.append(piece)
        if not self._first:
            self._first = piece[:4096]
        dialect = self._dialect
        if dialect.anywhere and not self._ended and dialect.end is not None:
            self._ended = dialect.end.search(piece) is not None

    def finished(self, *, clean: bool) -> bool:
        """Whether the stream reached its format's own end. `clean`: its framing (chunks, length) ended as it should.

        Without a known end the framing alone decides.
        """
        dialect = self._dialect
        if dialect.end is None:
            return clean
        if self._ended:
            return clean or not self.inside
        tail = self._tail(clean=clean)
        if dialect.end.search(tail) is not None:
            return True
        if not clean:
            return False
        if dialect.weak_end is not None and dialect.weak_end.search(tail) is not None:
            return True
        return self.error_seen(clean=clean)

    def error_seen(self, *, clean: bool = False) -> bool:
        """Whether the upstream itself told the client, in an event that was relayed, that it failed."""
        error = self._dialect.error
        return error is not None and error.search(self._tail(clean=clean)) is not None

    def _tail(self, *, clean: bool) -> bytes:
        # After a clean end a last line without its blank line still counts; after a break it never reaches the client.
        return b"".join((*self._last, *self._held)) if clean else b"".join(self._last)

    def rest(self) -> bytes:
        """The held bytes of a stream that ended cleanly without a last blank line."""
        piece = b"".join(self._held)
        self._held = []
        self._held_size = 0
        if piece:
            self._saw(piece, begins=not self.inside)
        return piece

    def usage(self) -> Usage:
        """Tokens in and out, as the engine reported them at the end (Anthropic's input count comes first)."""
        tokens_in, tokens_out = usage_in(self._tail(clean=True))
        return Usage(usage_in(self._first)[0] if tokens_in is None else tokens_in, tokens_out)

    def error_event(self, message: str, code: str, *, request_id: str) -> bytes:
        """The event that says in this stream's own format that it broke."""
        return self._dialect.error_event(message, code, request_id=request_id, seen=self._tail(clean=False))


def _last_blank_line(data: bytes) -> int:
    """The index behind the last blank line; 0 where there is none."""
    plain = data.rfind(b"\n\n")
    mixed = data.rfind(b"\n\r\n")
    return max(plain + 2 if plain >= 0 else 0, mixed + 3 if mixed >= 0 else 0)
