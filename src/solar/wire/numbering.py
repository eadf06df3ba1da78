"""Joins what an agent tells of one log, over polls, pushes, reconnects and restarts, into one numbered log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from solar.wire.lines import Entry, Line

WINDOW = 1024  # at least so many lines are remembered, to know them again; agents keep 1000 by default
_PROOF = 64  # lines that must agree before a file is taken for the log that we know


class Numbering:
    """Gives each line its number, once.

    An agent counts from 0, tells its whole ring at every poll and after every reconnect, and counts from 0 again when
    it is started anew: an *epoch*. Within an epoch a line is never given twice, whatever repeats, overlaps or
    overtakes; what is missing is a jump in our numbers, and a later epoch's lines say so in `epoch`. A new epoch
    shows by a number that falls back to another line. Where a new epoch's first number that we hear is not below
    what we expect, the numbers alone cannot show it: who knows better says so with `restarted`.
    """

    __slots__ = ("_expected", "_new", "_number", "_oldest", "_seen", "epoch")

    def __init__(self) -> None:
        self.epoch = 0
        self._seen: dict[int, tuple[str, int]] = {}  # of this epoch: number -> time, and the hash of the text
        self._oldest = 0  # the least of these numbers
        self._expected = 0  # the agent's next number
        self._number = 0  # our next number
        self._new = False  # somebody said that the next line begins a new epoch

    def __repr__(self) -> str:
        return f"<Numbering epoch {self.epoch}, agent at {self._expected}, we at {self._number}>"

    def restarted(self) -> None:
        """The agent, or an instance whose lines it counts anew, was started again: what comes next is a new epoch."""
        self._new = self._expected > 0

    def take(self, entries: Sequence[Entry]) -> tuple[Line, ...]:
        """The new ones of `entries`, which come together and in their agent's order: a poll, a push, a replay."""
        if self._new and entries and not any(self._knows(entry) for entry in entries):
            self._begin()
        return tuple(self._taken(self._read_from_file(entries)))

    def _taken(self, entries: Iterable[Entry]) -> Iterable[Line]:
        for entry in entries:
            if self._knows(entry):
                continue
            if not self._fits(entry):
                self._begin()
            yield self._numbered(entry)

    def _knows(self, entry: Entry) -> bool:
        """It was given out before, in this epoch."""
        if entry.seq >= self._expected:
            return False
        if entry.seq in self._seen:
            return self._seen[entry.seq] == (entry.at, hash(entry.text))
        oldest = self._oldest
        return entry.seq < oldest and "" < _moment(entry.at) <= _moment(self._seen[oldest][0])

    def _fits(self, entry: Entry) -> bool:
        """It is of this epoch: the next one, one after a gap, or a late one that belongs into a gap."""
        if entry.seq >= self._expected:
            return True
        if entry.seq in self._seen:
            return False
        before = max((seq for seq in self._seen if seq < entry.seq), default=None)
        if before is None:
            return False
        after = min(seq for seq in self._seen if seq > entry.seq)
        return _moment(self._seen[before][0]) <= _moment(entry.at) <= _moment(self._seen[after][0])

    def _begin(self) -> None:
        self.epoch += 1
        self._seen.clear()
        self._expected = 0
        self._new = False

    def _numbered(self, entry: Entry) -> Line:
        if entry.seq >= self._expected:
            self._number += entry.seq - self._expected  # the gap
            self._expected = entry.seq + 1
        self._oldest = min(self._oldest, entry.seq) if self._seen else entry.seq
        self._seen[entry.seq] = (entry.at, hash(entry.text))
        if len(self._seen) >= 2 * WINDOW:
            for seq in sorted(self._seen)[:WINDOW]:
                del self._seen[seq]
            self._oldest = min(self._seen)
        line = Line(self._number, entry.at, entry.text, self.epoch)
        self._number += 1
        return line

    def _read_from_file(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """`entries` as they are, or, where an agent read them from a log file, the new ones with the ring's numbers.

        A file's lines are counted from 0 wherever they begin, and all have the file's time. They are this epoch's
        if they go on where it stands: then the lines up to there are known, whatever their numbers are.
        """
        if len(entries) < 2 or entries[0].seq != 0 or not self._seen or len({entry.at for entry in entries}) > 1:
            return entries
        if all(self._knows(entry) for entry in entries):
            return ()
        known = self._last_texts()
        texts = [hash(entry.text) for entry in entries]
        # A file that was not cut has a line's number as its place.
        for end in (self._expected, *range(len(texts), 0, -1)):
            proof = known[-end:]
            if end <= len(texts) and texts[end - len(proof) : end] == proof:
                return [Entry(self._expected + n, e.at, e.text) for n, e in enumerate(entries[end:])]
        return entries

    def _last_texts(self) -> list[int]:
        """The hashes of the newest lines, as far back as there is no gap between them."""
        texts: list[int] = []
        for seq in range(self._expected - 1, self._expected - 1 - _PROOF, -1):
            if seq not in self._seen:
                break
            texts.append(self._seen[seq][1])
        return texts[::-1]


def _moment(at: str) -> str:
    """Times of one agent compare as texts: it writes all of them alike, but for a fraction that may be missing."""
    return at.removesuffix("Z")
