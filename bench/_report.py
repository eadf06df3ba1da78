"""The report: tables in Markdown, a picture, and every sample as JSON."""

from __future__ import annotations

import importlib
import json
import math
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import _machine
from _measure import RATE, Work
from _setup import BENCH

REFERENCE = "nginx"
BUSY = 0.95  # of a core: from here on it is what limits
TAIL_NEEDS = 2000  # requests that a p99.9 needs

Facts = dict[str, Any]
Read = Callable[[dict[str, Any]], float]


class Row:
    """Figures of one contestant in one work: the median over rounds, how far they spread, the ratio to nginx."""

    def __init__(self, facts: Facts, work: str, name: str, read: Read) -> None:
        mine = facts["samples"].get(work, {}).get(name, [])
        theirs = facts["samples"].get(work, {}).get(REFERENCE, [])
        self.values = [read(sample) for sample in mine if sample]
        pairs = ((read(a), read(b)) for a, b in zip(mine, theirs, strict=False) if a and b)
        self._ratios = [a / b for a, b in pairs if b]
        self.failure: str = facts["failures"].get(work, {}).get(name, "")

    @property
    def median(self) -> float | None:
        """None where no round went well."""
        return statistics.median(self.values) if self.values else None

    @property
    def ratio(self) -> float | None:
        """The median of the ratios within each round, as a machine that slows down slows both."""
        return statistics.median(self._ratios) if self._ratios else None

    def cell(self, digits: int = 1, *, ratio: bool = True) -> str:
        """`median (least-most) xratio`, or why there is none."""
        if self.median is None:
            return f"fails: {self.failure}" if self.failure else "-"
        text = f"**{self.median:,.{digits}f}**"
        if len(self.values) > 1:
            text += f" ({min(self.values):,.{digits}f}-{max(self.values):,.{digits}f})"
        if ratio and self.ratio is not None:
            text += f" x{self.ratio:.2f}"
        return f"{text} (some rounds failed: {self.failure})" if self.failure else text


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _names(facts: Facts) -> list[str]:
    return [name for name in facts["contestants"] if name != "direct"]


def _cpu(facts: Facts, works: tuple[Work, ...]) -> str:
    chosen = [work for work in works if work.mode in ("closed", "stream")]
    head = ["CPU, us", *(f"{'chunk' if w.mode == 'stream' else 'request'}, {w.title}" for w in chosen)]
    return _table(
        head,
        ([name, *(Row(facts, w.name, name, lambda s: s["cpu_us"]).cell() for w in chosen)] for name in _names(facts)),
    )


def _latency(facts: Facts) -> str:
    direct = facts["samples"].get("latency", {}).get("direct", [])
    enough = all(sample["latency"]["count"] >= TAIL_NEEDS for sample in direct if sample)
    points = ("p50", "p99", *(("p999",) if enough else ()))
    rows = []
    for name in ("direct", *_names(facts)):
        cells = [name]
        base = [Row(facts, "latency", "direct", lambda s, p=p: s["latency"][p]).median for p in points]  # type: ignore[misc]
        for point, without in zip(points, base, strict=True):
            row = Row(facts, "latency", name, lambda s, p=point: s["latency"][p])  # type: ignore[misc]
            added = "" if name == "direct" or row.median is None or without is None else f"{row.median - without:,.0f}"
            cells += [row.cell(0), added]
        missed = [s.get("missed", 0) for s in facts["samples"].get("latency", {}).get(name, []) if s]
        cells[0] += " (cannot keep up)" if any(missed) else ""
        rows.append(cells)
    titles = {"p50": "p50", "p99": "p99", "p999": "p99.9"}
    return _table([f"latency, us, at {RATE}/s", *(h for p in points for h in (titles[p], "added"))], rows)


def _rest(facts: Facts) -> str:
    held = sorted((work for work in facts["samples"] if work.startswith("streams")), key=lambda w: int(w[7:]))
    rows = []
    for name in _names(facts):
        rate = Row(facts, "300B", name, lambda s: s["per_second"])
        chunks = Row(facts, "ssefast", name, lambda s: s["per_second"])
        rows.append(
            [
                name,
                _at_least(facts, "300B", name) + rate.cell(0, ratio=False),
                _at_least(facts, "ssefast", name) + chunks.cell(0, ratio=False),
                Row(facts, "start", name, lambda s: s["idle_mb"]).cell(ratio=False),
                *(Row(facts, work, name, lambda s: s["mb"]).cell(ratio=False) for work in held),
                _per_stream(facts, held[-1], name) if held else "-",
                Row(facts, "start", name, lambda s: s["startup_s"]).cell(2, ratio=False),
            ]
        )
    head = ["", "requests/s, 300 B", "chunks/s, 20 streams", "MB idle"]
    return _table([*head, *(f"MB, {int(work[7:]):,} streams" for work in held), "KB a stream", "start, s"], rows)


def _per_stream(facts: Facts, held: str, name: str) -> str:
    """What one more open stream takes, by the largest number of them that was held."""
    full, idle = (
        Row(facts, held, name, lambda s: s["mb"]).median,
        Row(facts, "start", name, lambda s: s["idle_mb"]).median,
    )
    return f"{(full - idle) * 1000 / int(held[7:]):.0f}" if full is not None and idle is not None else "-"


def _at_least(facts: Facts, work: str, name: str) -> str:
    """A sign before a throughput that the load's core limited, not the contestant."""
    busy, others = _busy(facts, work, name)
    return "≥ " if others > BUSY and busy < BUSY else ""


def _busy(facts: Facts, work: str, name: str) -> tuple[float, float]:
    """How busy the contestant's core was, and that of backend and load."""
    mine = Row(facts, work, name, lambda s: s["busy"]).median or 0.0
    others = Row(facts, work, name, lambda s: s["load_busy"] + s["backend_busy"]).median or 0.0
    return mine, others


def _bottleneck(facts: Facts, works: tuple[Work, ...]) -> str:
    rows = []
    for name in ("direct", *_names(facts)):
        pairs = [_busy(facts, work.name, name) for work in works]
        rows.append([name, *(f"{mine:.0%} / {others:.0%}" for mine, others in pairs)])
    return _table(["busy: contestant / backend and load", *(work.title for work in works)], rows)


def tables(facts: Facts, works: tuple[Work, ...]) -> str:
    """All of them, in Markdown."""
    parts = [_cpu(facts, works), _rest(facts)]
    if "latency" in facts["samples"]:
        parts.insert(1, _latency(facts))
    return "\n\n".join(parts)


def _text(facts: Facts, works: tuple[Work, ...]) -> str:
    machine, check = facts["machine"], facts["cross_check"]
    who = [f"- **{name}** {facts['versions'].get(name, '')}: {what}" for name, what in facts["contestants"].items()]
    who += [f"- **{name}**: absent, {why}" for name, why in facts["absent"].items()]
    tools = ", ".join(f"{k} {v}" for k, v in facts["versions"].items() if k not in facts["contestants"])
    lines = [
        f"# Benchmark of {facts['date']}",
        "",
        f"`{facts['command']}`: {facts['rounds']} interleaved rounds, {facts['minutes']:.0f} minutes.",
        f"{machine['cores']} cores of {machine['cpu']}{' (virtual machine)' if machine['virtual'] else ''},",
        f"{machine['memory_gb']} GB, Linux {machine['kernel']}; {facts['cores']}; everything on loopback, keep-alive.",
        f"{tools}.",
    ]
    if machine["load_before"] > 0.5:
        lines.append(f"The machine was not quiet: load average {machine['load_before']:.1f} before the run.")
    lines += [
        "",
        "A cell is the median over the rounds (least-most), then how many times nginx: the median of the ratios within",
        "a round. CPU is user and system time of the whole process tree. [How it is measured](../../README.md).",
        "",
        tables(facts, works),
        "",
        "![CPU of each contestant](cpu.png)",
        "",
        "## Who",
        "",
        *who,
        "",
        "## Was the load the bottleneck?",
        "",
        "Shares of a core, by CPU time. Where backend and load are near 100 % and the contestant is not, its",
        "throughput is only a lower bound (≥ above); its CPU for each request or chunk stands all the same.",
        "",
        _bottleneck(facts, works),
    ]
    if check:
        off = check["wrk"] / check["load"] - 1
        lines += [
            "",
            f"Cross-check by wrk (300 B, 32 connections, {check['contestant']}): {check['wrk']:,.0f} requests/s;",
            f"our load sees {check['load']:,.0f}: wrk sees {off:+.0%}.",
        ]
    return "\n".join(lines) + "\n"


def write(facts: Facts, works: tuple[Work, ...]) -> str:
    """Into bench/results/<date>-<kind of machine>/, apart where it is not for the record; returns that name."""
    name = f"{facts['date']}-{_machine.kind(facts['machine'])}{facts['part']}"
    folder = BENCH / "results" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(_text(facts, works))
    (folder / "results.json").write_text(json.dumps(facts, indent=1) + "\n")
    _draw(facts, works, folder / "cpu.png")
    return f"bench/results/{name}"


def _draw(facts: Facts, works: tuple[Work, ...], target: Path) -> None:
    # By name, as the project's checks run where it is not installed.
    importlib.import_module("matplotlib").use("Agg")
    plt = importlib.import_module("matplotlib.pyplot")

    panels: list[tuple[str, str, Read]] = [
        (work.name, f"CPU a {'chunk' if work.mode == 'stream' else 'request'}, us\n{work.title}", lambda s: s["cpu_us"])
        for work in works
        if work.name in ("300B", "32KB", "sse100")
    ]
    if any(work.mode == "open" for work in works):
        panels.append(("latency", f"p99 latency, us\n{RATE} requests/s", lambda s: s["latency"]["p99"]))
    if not panels:
        return
    names = _names(facts)[::-1]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.4 * len(panels), 1.2 + 0.42 * len(names)), sharey=True, squeeze=False
    )
    for axis, (work, title, read) in zip(axes[0], panels, strict=True):
        rows = [Row(facts, work, name, read) for name in names]
        values = [row.median or 0.0 for row in rows]
        most = max(max(row.values, default=0.0) for row in rows)
        spread = [
            [v - min(row.values, default=v) for v, row in zip(values, rows, strict=True)],
            [max(row.values, default=v) - v for v, row in zip(values, rows, strict=True)],
        ]
        colours = ["#2563a8" if name.startswith(("solar", "library")) else "#b8bec6" for name in names]
        axis.barh(names, values, color=colours, xerr=spread, error_kw={"elinewidth": 1, "ecolor": "#444444"})
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
