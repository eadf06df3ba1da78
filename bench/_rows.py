"""What a report reads of a run: the figures of one contestant in one work, and tables of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from typing import Any

REFERENCE = "nginx"

Facts = dict[str, Any]
Read = Callable[[dict[str, Any]], float]


class Row:
    """Figures of one contestant in one work: the median over rounds, how far they spread, the ratio to another."""

    def __init__(self, facts: Facts, work: str, name: str, read: Read, reference: str = REFERENCE) -> None:
        mine = facts["samples"].get(work, {}).get(name, [])
        theirs = facts["samples"].get(work, {}).get(reference, [])
        self.values = [read(sample) for sample in mine if sample]
        pairs = [(read(a), read(b)) for a, b in zip(mine, theirs, strict=False) if a and b]
        self._ratios = [a / b for a, b in pairs if b]
        self._differences = [a - b for a, b in pairs]
        self._rounds = len(mine)
        self.failed = len(facts["failures"].get(work, {}).get(name, []))

    @property
    def median(self) -> float | None:
        """None where no round went well."""
        return statistics.median(self.values) if self.values else None

    @property
    def ratio(self) -> float | None:
        """The median of the ratios within each round, as a machine that slows down slows both."""
        return statistics.median(self._ratios) if self._ratios else None

    @property
    def difference(self) -> float | None:
        """As `ratio`."""
        return statistics.median(self._differences) if self._differences else None

    def cell(self, digits: int = 1, *, ratio: bool = True) -> str:
        """`median (least-most) xratio`, or that it failed."""
        if self.median is None:
            return "fails" if self.failed else "-"
        text = f"**{self.median:,.{digits}f}**"
        if len(self.values) > 1:
            text += f" ({min(self.values):,.{digits}f}-{max(self.values):,.{digits}f})"
        if ratio and self.ratio is not None:
            text += f" x{self.ratio:.2f}"
        return f"{text}, failed in {self.failed} of {self._rounds} rounds" if self.failed else text


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def names(facts: Facts) -> list[str]:
    """Those who were measured on one core each."""
    return [name for name in facts["contestants"] if name != "direct" and not name.endswith("-2")]
