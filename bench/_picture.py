"""The picture of a report."""

from __future__ import annotations

import importlib
import math
from pathlib import Path

from _measure import RATE, Work
from _rows import Facts, Read, Row, names


def panels(works: tuple[Work, ...]) -> list[tuple[str, str, Read]]:
    """Of each: the work, the title, what is read of a sample."""
    found: list[tuple[str, str, Read]] = [
        (work.name, f"CPU a {'chunk' if work.mode == 'stream' else 'request'}, us\n{work.title}", lambda s: s["cpu_us"])
        for work in works
        if work.name in ("300B", "32KB", "sse100")
    ]
    if any(work.mode == "open" for work in works):
        found.append(("latency", f"p99 latency, us\n{RATE} requests/s", lambda s: s["latency"]["p99"]))
    return found


def draw(facts: Facts, works: tuple[Work, ...], target: Path) -> None:
    """A bar for each contestant, with the least and the most of its rounds; log where one is far above the others."""
    chosen = panels(works)
    if not chosen:
        return
    # By name, as the project's checks run where it is not installed.
    importlib.import_module("matplotlib").use("Agg")
    plt = importlib.import_module("matplotlib.pyplot")
    shown = names(facts)[::-1]
    figure, axes = plt.subplots(
        1, len(chosen), figsize=(3.4 * len(chosen), 1.2 + 0.42 * len(shown)), sharey=True, squeeze=False
    )
    for axis, (work, title, read) in zip(axes[0], chosen, strict=True):
        rows = [Row(facts, work, name, read) for name in shown]
        values = [row.median or 0.0 for row in rows]
        most = max(max(row.values, default=0.0) for row in rows)
        spread = [
            [v - min(row.values, default=v) for v, row in zip(values, rows, strict=True)],
            [max(row.values, default=v) - v for v, row in zip(values, rows, strict=True)],
        ]
        colours = ["#2563a8" if name.startswith(("solar", "library")) else "#b8bec6" for name in shown]
        axis.barh(shown, values, color=colours, xerr=spread, error_kw={"elinewidth": 1, "ecolor": "#444444"})
        for place, (row, value) in enumerate(zip(rows, values, strict=True)):
            text = f" {value:,.0f}" if value >= 100 else f" {value:,.1f}"
            if row.values:
                axis.text(max(row.values), place, text, va="center", fontsize=8)
            else:
                axis.text(0, place, " fails", va="center", fontsize=8, transform=axis.get_yaxis_transform())
        axis.set_title(title, fontsize=10)
        least = min((v for v in values if v), default=1.0)
        if most > 20 * least:
            axis.set_xscale("log")
            axis.set_xlim(left=10 ** math.floor(math.log10(least)), right=most * 8)
        else:
            axis.set_xlim(right=most * 1.3)
            axis.locator_params(axis="x", nbins=4)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=9)
    machine = facts["machine"]
    figure.suptitle(f"{facts['date']}, {machine['cores']} cores of {machine['cpu']}; lower is better", fontsize=10)
    figure.tight_layout()
    figure.savefig(target, dpi=130)
