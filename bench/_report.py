"""The report: tables in Markdown, a picture, and every sample as JSON."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import _machine
from _measure import RATE, TWO, Work
from _picture import draw, panels
from _rows import Facts, Row, names, table
from _setup import BENCH, ROOT

BUSY = 0.95  # of a core: from here on it is what limits
QUIET = 0.05  # of a core, that other programs may take
TAIL_NEEDS = 2000  # requests that a p99.9 needs


def _cpu(facts: Facts, works: tuple[Work, ...]) -> str:
    chosen = [work for work in works if work.mode in ("closed", "stream")]
    head = ["CPU, us", *(f"a {'chunk' if w.mode == 'stream' else 'request'}, {w.title}" for w in chosen)]
    return table(
        head,
        ([name, *(Row(facts, w.name, name, lambda s: s["cpu_us"]).cell() for w in chosen)] for name in names(facts)),
    )


def _latency(facts: Facts) -> str:
    direct = facts["samples"].get("latency", {}).get("direct", [])
    enough = all(sample["latency"]["count"] >= TAIL_NEEDS for sample in direct if sample)
    titles = {"p50": "p50", "p99": "p99", **({"p999": "p99.9"} if enough else {})}
    rows = []
    for name in ("direct", *names(facts)):
        cells = [name]
        for point in titles:

            def read(sample: dict[str, Any], point: str = point) -> float:
                return float(sample["latency"][point])

            cells.append(Row(facts, "latency", name, read).cell(0, ratio=name != "direct"))
            added = Row(facts, "latency", name, read, reference="direct").difference
            cells.append("" if name == "direct" or added is None else f"{added:+,.0f}")
        missed = [s.get("missed", 0) for s in facts["samples"].get("latency", {}).get(name, []) if s]
        cells[0] += " (cannot keep up)" if any(missed) else ""
        rows.append(cells)
    return table(["latency, us", *(head for title in titles.values() for head in (title, f"{title}, added"))], rows)


def _rest(facts: Facts) -> str:
    held = sorted((work for work in facts["samples"] if work.startswith("streams")), key=lambda w: int(w[7:]))
    rows = []
    for name in names(facts):
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
    head = ["", "requests/s, 300 B", "chunks/s, 20 streams", "MB, just started"]
    return table([*head, *(f"MB, {int(work[7:]):,} streams" for work in held), "KB a stream", "start, s"], rows)


def _per_stream(facts: Facts, held: str, name: str) -> str:
    """What one more open stream takes, by the largest number of them that was held."""
    full, idle = (
        Row(facts, held, name, lambda s: s["mb"]).median,
        Row(facts, "start", name, lambda s: s["idle_mb"]).median,
    )
    return f"{(full - idle) * 1000 / int(held[7:]):.0f}" if full is not None and idle is not None else "-"


def _two(facts: Facts) -> str:
    """One process and two on one port."""
    rows = []
    for name in facts["samples"]["start-two"]:
        cells = [name]
        cells.append(Row(facts, TWO.name, name, lambda s: s["cpu_us"]).cell(ratio=False))
        cells.append(Row(facts, TWO.name, name, lambda s: s["per_second"]).cell(0, ratio=False))
        one = Row(facts, TWO.name, name, lambda s: s["per_second"], reference=name.removesuffix("-2")).ratio
        cells.append(f"x{one:.2f}" if one is not None else "-")
        busy = (
            Row(facts, TWO.name, name, lambda s: s["busy"]).median or 0.0,
            Row(facts, TWO.name, name, lambda s: s["load_busy"] + s["backend_busy"]).median or 0.0,
        )
        cells.append("{:.0%} / {:.0%}".format(*busy) if any(busy) else "-")
        rows.append(cells)
    return table(["", "CPU, us a request", "requests/s", "of one process", "busy: contestant / backend and load"], rows)


def _at_least(facts: Facts, work: str, name: str) -> str:
    """A sign before a throughput that the load's core limited, not the contestant."""
    busy, others = _busy(facts, work, name)
    return "≥ " if others > BUSY and busy < BUSY else ""


def _busy(facts: Facts, work: str, name: str) -> tuple[float, float]:
    """How busy the contestant's core was, and the busier one of backend and load."""
    together = sum if facts["machine"]["cores"] < 3 else max  # one core for both, or one each
    mine = Row(facts, work, name, lambda s: s["busy"]).median or 0.0
    others = Row(facts, work, name, lambda s: together((s["load_busy"], s["backend_busy"]))).median or 0.0
    return mine, others


def _bottleneck(facts: Facts, works: tuple[Work, ...]) -> str:
    rows = []
    for name in ("direct", *names(facts)):
        shares = (_busy(facts, work.name, name) for work in works)
        rows.append([name, *("{:.0%} / {:.0%}".format(*share) if any(share) else "-" for share in shares)])
    return table(["busy: contestant / backend and load", *(work.title for work in works)], rows)


def _quiet(facts: Facts) -> str:
    """Who else was at work on this machine, as the kernel counts it."""
    samples = [s for by_name in facts["samples"].values() for row in by_name.values() for s in row if s]
    others = [sample["others_busy"] for sample in samples if "others_busy" in sample]
    stolen = [sample["stolen"] for sample in samples if "stolen" in sample]
    if not others:
        return ""
    middle, most = statistics.median(others), max(others)
    return (
        f"{'The machine was quiet' if middle < QUIET else '**The machine was not quiet**'}: while we measured, other "
        f"programs took {middle:.1%} of a core (median; {most:.0%} at most), the host of this machine "
        f"{statistics.median(stolen):.1%} ({max(stolen):.0%} at most)."
    )


def tables(facts: Facts, works: tuple[Work, ...]) -> str:
    """All of them, in Markdown."""
    samples = facts["samples"]
    parts = []
    if any(work.mode in ("closed", "stream") for work in works):
        parts += [
            "## CPU time",
            "Microseconds of user and system time, of all processes of a contestant.",
            _cpu(facts, works),
        ]
    if "latency" in samples:
        text = f"Microseconds from when a request was meant to start to the end of its answer, at {RATE} requests/s."
        parts += ["## Latency", f"{text} *added*: what direct did not have in the same round.", _latency(facts)]
    if works or any(work.startswith("streams") for work in samples):
        parts += ["## Throughput at saturation, memory, start", "One process on one core.", _rest(facts)]
    if "start-two" in samples:
        text = f"300 B, {TWO.connections} connections; {facts['cores'][-1]}."
        parts += ["## Two processes on one port", text, _two(facts)]
    parts += [_quiet(facts)]
    return "\n\n".join(part for part in parts if part)


def head(facts: Facts, title: str) -> list[str]:
    """What every report says first: what was run, when, and on what."""
    machine = facts["machine"]
    who = facts.get("contestants", {})
    tools = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if name not in who)
    where = (
        f"{_counted(machine['cores'], 'core')} of {machine['cpu']}{' (virtual machine)' if machine['virtual'] else ''}"
    )
    lines = [
        f"# {title}, {facts['date']}",
        "",
        f"- Solar {facts['solar']}",
        f"- `{facts['command']}`: {_counted(facts['rounds'], 'round')}, interleaved, {facts['minutes']:.1f} minutes",
        f"- {where}, {machine['memory_gb']} GB, Linux {machine['kernel']}; everything on loopback",
        f"- {tools}",
        *(f"- {place}" for place in facts["cores"]),
    ]
    if machine["cores"] == 1:
        lines.append("- **Only one core**: CPU time can be compared; throughput and latency say little")
    if facts["part"]:
        lines.append("- **Not for the record**: a quick run, or a part of one, shows a tendency")
    if "dirty" in facts["solar"]:
        lines.append("- **Not for the record**: files differ from that commit")
    return lines


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number > 1 else ''}"


def _text(facts: Facts, works: tuple[Work, ...]) -> str:
    check = facts["cross_check"]
    versions = facts["versions"]
    who = [f"- **{' '.join((name, versions[name])).strip()}**: {what}" for name, what in facts["contestants"].items()]
    who += [f"- **{name}**: left out, {why}" for name, why in facts["absent"].items()]
    lines = [
        *head(facts, "Benchmark"),
        "",
        "A cell is the median over the rounds (least-most), then how many times nginx: the median of the ratios within",
        "a round. Less is better, but for requests/s and chunks/s. `≥`: the load's core was full, the contestant's was",
        "not. [What a column means, and how it is measured](../../README.md).",
        "",
        tables(facts, works),
        "",
        *(["![CPU of each contestant](cpu.png)", ""] if panels(works) else []),
        "## Who",
        "",
        *who,
    ]
    if facts["failures"]:
        lines += ["", "## What failed", ""]
        for work, by_name in facts["failures"].items():
            for name, reasons in by_name.items():
                times = f" ({len(reasons)} times)" if len(reasons) > 1 else ""
                lines.append(f"- **{name}**, {work}{times}: {reasons[0]}")
    if works:
        lines += [
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


def folder(facts: Facts) -> Path:
    """bench/results/<date>-<kind of machine>/, apart where it is not for the record."""
    found = BENCH / "results" / f"{facts['date']}-{_machine.kind(facts['machine'])}{facts['part']}"
    found.mkdir(parents=True, exist_ok=True)
    return found


def write(facts: Facts, works: tuple[Work, ...]) -> str:
    """All into the folder; returns its name from the project's root."""
    into = folder(facts)
    (into / "report.md").write_text(_text(facts, works))
    (into / "results.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(facts, works, into / "cpu.png")
    return str(into.relative_to(ROOT))
