"""What `bench/run` can be told, and how much each size of run measures."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

DOORS = ("default", "interpreted", "records", "asgi", "library")
QUICK_DOORS = ("default", "asgi")  # what is left of them by --quick
OTHERS = ("litellm", "sglang-router", "vllm-router", "portkey")
OURS = ("solar", "solar-interpreted", "solar-records", "solar-asgi", "library")
NAMES = ("nginx", "haproxy", "relay", *OURS, *OTHERS)
WORKS = ("300B", "32KB", "1MB", "sse20", "sse100", "ssefast", "latency", "streams", "two")


@dataclass(frozen=True, slots=True)
class Scale:
    """How long and how often is measured."""

    rounds: int
    seconds: float  # for each closed-loop and streaming measurement
    open_seconds: float  # for the open loop, whose p99.9 needs many requests
    chunks: int  # of a paced stream
    streams: tuple[int, ...]  # how many are held open while memory is read
    questions: int  # to a real model, in each round and on each way
    tokens: int  # of its answers


QUICK = Scale(rounds=2, seconds=0.5, open_seconds=1.0, chunks=100, streams=(1_000,), questions=8, tokens=24)
NORMAL = Scale(rounds=5, seconds=1.5, open_seconds=4.0, chunks=200, streams=(1_000,), questions=16, tokens=64)
FULL = Scale(rounds=5, seconds=2.0, open_seconds=6.0, chunks=200, streams=(1_000, 10_000), questions=32, tokens=64)


def parse(words: list[str]) -> argparse.Namespace:
    """The options; `--help` ends here, before anything is installed."""
    parser = argparse.ArgumentParser(
        prog="bench/run",
        description="Measure Solar beside nginx, haproxy, other gateways: CPU, latency, throughput, memory, start-up.",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="under two minutes: shows a tendency, is nothing to quote")
    size.add_argument("--full", action="store_true", help="for the record: more and longer rounds, 10,000 streams")
    parser.add_argument("--rounds", type=int, metavar="N", help="other than what the size of the run says")
    parser.add_argument("--peers", action="store_true", help="other LLM gateways too: several GB of packages")
    parser.add_argument("--only", metavar="NAME,...", help=f"these contestants alone: {', '.join(NAMES)}")
    parser.add_argument(
        "--doors",
        metavar="DOOR,...",
        help=f"which of ours: {', '.join(DOORS)} (all; with --quick {', '.join(QUICK_DOORS)})",
    )
    parser.add_argument("--works", metavar="WORK,...", help=f"these measurements alone: {', '.join(WORKS)}")
    parser.add_argument(
        "--engine",
        action="store_true",
        help="instead: a real llama-server, direct and through Solar, as aiperf sees them (1.4 GB of packages)",
    )
    parser.add_argument("--no-report", action="store_true", help="print the tables, write nothing into bench/results")
    given = parser.parse_args(words)
    usual = QUICK_DOORS if given.quick and not given.only else DOORS
    for name, known, default in (("only", NAMES, NAMES), ("doors", DOORS, usual), ("works", WORKS, WORKS)):
        chosen = tuple((getattr(given, name) or ",".join(default)).split(","))
        if unknown := [word for word in chosen if word not in known]:
            parser.error(f"--{name} knows {', '.join(known)}; got {', '.join(unknown)}")
        setattr(given, name, chosen)
    given.part = (given.only, given.doors, given.works) != (NAMES, usual, WORKS)
    named = given.peers or given.only != NAMES
    given.peers = tuple(name for name in OTHERS if named and name in given.only)
    if given.engine and (given.part or given.peers):
        parser.error("--engine measures something else: --only, --doors, --works and --peers mean nothing there")
    if given.rounds is not None and given.rounds < 1:
        parser.error("--rounds must be at least 1")
    return given


def scale(given: argparse.Namespace) -> Scale:
    """The size of the run that was asked for."""
    return QUICK if given.quick else FULL if given.full else NORMAL
