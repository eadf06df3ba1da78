"""Silence: a backend that is suspect or stalled, told from what moved when.

Engines freeze while their control endpoint goes on answering, and networks swallow packets without a word. A long
prefill looks the same for a while: one prompt of 7,000 tokens can hold all other streams of an engine for 24 s.
"""

from __future__ import annotations

from math import sqrt
from typing import Final, Literal

Grade = Literal["moving", "suspect", "stalled"]

_PATIENCE = 4.0  # queued prompts may take so many times what the learned rate says
_ASSUMED_RATE = 500.0  # prompt tokens a second, until the engine has shown its own
_ASSUMED_TAUGHT = 512  # tokens of the prompt that would have shown that rate
_TEACHES: Final = 128  # tokens: the first byte of a shorter prompt measures everything but prefill
_CLIMB = 1.01


class Watched:
    """A request in flight, as far as silence is concerned."""

    __slots__ = ("ahead", "first_byte_at", "open", "prompt_tokens", "sent_at", "streaming")

    def __init__(self, sent_at: float, streaming: bool, prompt_tokens: int, ahead: int) -> None:
        self.sent_at = sent_at
        self.streaming = streaming
        self.prompt_tokens = prompt_tokens  # an estimate
        self.ahead = ahead  # prompt tokens of the streams that were queued when it was sent, its own included
        self.first_byte_at: float | None = None
        self.open = True

    def __repr__(self) -> str:
        kind = "stream" if self.streaming else "request"
        return f"<Watched {kind} of {self.prompt_tokens} tokens, first byte at {self.first_byte_at}>"


class StallWatch:
    """One backend's silence. Times are seconds of one monotonic clock.

    Only streams make silence evidence: who does not stream is silent by nature.
    """

    __slots__ = (
        "_answered_streams",
        "_in_flight",
        "_longest_queued",
        "_most_queued",
        "_queued",
        "_queued_by_streams",
        "_silent_since",
        "_streams",
        "_taught",
        "_waiting",
        "grade",
        "learned",
        "longest_pause",
        "rate",
        "stalled_after",
        "stalled_reason",
        "suspect_after",
        "unlearned_after",
    )

    def __init__(
        self, *, suspect_after: float = 2.0, stalled_after: float = 10.0, unlearned_after: float = 30.0
    ) -> None:
        self.suspect_after = suspect_after
        self.stalled_after = stalled_after
        self.unlearned_after = unlearned_after  # in place of stalled_after until a prefill rate is learned
        self.grade: Grade = "moving"
        self.stalled_reason = ""
        self.longest_pause = 0.0  # of those that ended by themselves
        self.rate = _ASSUMED_RATE  # prompt tokens a second
        self.learned = False
        self._taught = _ASSUMED_TAUGHT  # tokens of the longest prompt that the rate was learned from
        self._silent_since = 0.0
        self._in_flight = 0
        self._streams = 0
        self._answered_streams = 0  # of those, with a first byte
        self._waiting: dict[Watched, None] = {}  # without a first byte, in the order sent
        self._queued = 0  # prompt tokens of those
        self._queued_by_streams = 0
        self._most_queued = 0  # at any moment of this silence
        self._longest_queued = 0  # of one prompt among those

    def __repr__(self) -> str:
        return (
            f"<StallWatch {self.grade}, {self._in_flight} in flight ({self._streams} streams), "
            f"{self._queued} tokens queued, {self.rate:.0f} tokens/s{'' if self.learned else ' assumed'}>"
        )

    @property
    def stalled(self) -> bool:
        """Stays until something moves or a probe brings the backend back, also when nothing is in flight any more."""
        return self.grade == "stalled"

    @property
    def streaming(self) -> bool:
        """Whether a stream is in flight: only then silence can be told from work."""
        return self._streams > 0

    def silent_for(self, now: float) -> float:
        """Seconds of silence that count as evidence; 0 while no stream is in flight."""
        return now - self._silent_since if self._streams else 0.0

    def sent(self, now: float, *, streaming: bool, prompt_tokens: int) -> Watched:
        """A request went out. `prompt_tokens` is an estimate: a quarter of the body's bytes will do."""
        self._queued += prompt_tokens
        self._in_flight += 1
        if streaming:
            if not self._streams:
                self._restart(now)
            self._streams += 1
            self._queued_by_streams += prompt_tokens
        if self._queued > self._most_queued:
            self._most_queued = self._queued
        if prompt_tokens > self._longest_queued:
            self._longest_queued = prompt_tokens
        watched = Watched(now, streaming, prompt_tokens, self._queued_by_streams)
        self._waiting[watched] = None
        return watched

    def moved(self, now: float, watched: Watched | None) -> None:
        """A byte of any answer came: all is forgiven. `watched` is its request if the byte is one of a body.

        Some engines send the head before they prefill, so a head moves (with None) and is no first byte.
        """
        if watched is not None and watched.first_byte_at is None and watched.open:
            self._first_byte(now, watched)
        if self._streams and self.grade != "stalled":  # a stall is a fault and no habit
            pause = now - self._silent_since
            if pause > self.longest_pause:
                self.longest_pause = pause
        self._silent_since = now
        self._most_queued = self._queued
        if not self._queued:
            self._longest_queued = 0
        if self.grade != "moving":
            self._forgive()

    def closed(self, now: float, watched: Watched) -> None:
        """The request is over, however it ended. A second call does nothing."""
        if not watched.open:
            return
        may_be_queued = bool(self._waiting) and self._may_be_queued()
        watched.open = False
        self._in_flight -= 1
        self._streams -= watched.streaming
        if watched.first_byte_at is None:
            self._unqueue(watched)
        else:
            self._answered_streams -= watched.streaming
        if not self._streams and self.grade == "suspect":
            self._forgive()
        elif may_be_queued and not self._may_be_queued():
            self._restart(now)  # until now the engine was at work for the one that left

    def check(self, now: float, *, loading: bool = False) -> Grade:
        """Grade the silence so far. While the model is `loading`, silence is no evidence and does not count later."""
        if self.grade == "stalled":
            return "stalled"
        if loading:
            self._restart(now)
        silence = self.silent_for(now)
        limit = self._stalled_limit()
        if silence > limit and not self._may_be_queued():
            self._stall(f"nothing moved for {silence:.0f} s with {self._streams} streams in flight")
        elif self._streams and silence >= min(limit, max(self.suspect_after, self.longest_pause)):
            self.grade = "suspect"
        else:
            self.grade = "moving"
        return self.grade

    def evidence(self, reason: str) -> bool:
        """Proof other than silence: bytes that nobody acknowledges, a dead control endpoint. True if that stalls it."""
        if self.grade == "stalled" or (self.grade == "moving" and not self._in_flight):
            return False
        self._stall(reason)
        return True

    def revived(self, now: float) -> None:
        """A probe brought proof of life: back to moving."""
        self._restart(now)
        self._forgive()

    def _forgive(self) -> None:
        self.grade = "moving"
        self.stalled_reason = ""

    def _stall(self, reason: str) -> None:
        self.grade = "stalled"
        self.stalled_reason = reason

    def _restart(self, now: float) -> None:
        self._silent_since = now
        self._most_queued = self._queued

    def _stalled_limit(self) -> float:
        # The most that was queued, not what still is: engines go on with a prompt for a while after its client left.
        at_least = self.stalled_after if self.learned else self.unlearned_after
        # Attention makes a long prompt slower by the token than the short one that taught the rate.
        slower = max(1.0, sqrt(self._longest_queued / self._taught))
        return max(at_least, _PATIENCE * slower * self._most_queued / self.rate)

    def _may_be_queued(self) -> bool:
        """Whether every stream may just wait its turn behind a request that does not stream, which tells nothing."""
        if self._answered_streams or not self._waiting:
            return False
        return not next(iter(self._waiting)).streaming

    def _unqueue(self, watched: Watched) -> None:
        del self._waiting[watched]
        self._queued -= watched.prompt_tokens
        if watched.streaming:
            self._queued_by_streams -= watched.prompt_tokens

    def _first_byte(self, now: float, watched: Watched) -> None:
        watched.first_byte_at = now
        self._unqueue(watched)
        self._answered_streams += watched.streaming
        took = now - watched.sent_at
        # Without streaming the time holds the whole generation, after a stall the stall: neither measures prefill.
        # So only streams count as queued ahead, too: who does not stream may have been prefilled long ago.
        if watched.streaming and watched.prompt_tokens >= _TEACHES and took > 0 and self.grade != "stalled":
            self._learn(watched.ahead / took, watched.prompt_tokens)

    def _learn(self, sample: float, tokens: int) -> None:
        # A rate too low costs patience, one too high cuts living streams. A prompt that was cached takes no time,
        # so the rate falls at once and climbs by a hundredth a sample, from what was assumed at first.
        self._taught = max(self._taught, tokens) if self.learned else tokens
        self.learned = True
        self.rate = min(sample, self.rate * _CLIMB)
