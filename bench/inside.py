"""Where a request's time goes inside of `solar serve`: the front door and the pool in one process, without sockets.

    PYTHONPATH=src .cache/bench/venv/bin/python bench/inside.py [--stream] [--body BYTES]

Without PYTHONPATH what is compiled runs, and only the sum is told: the timer sees what Python interprets.

Everything runs as it does under `solar serve` (keys, two backends, metrics, a line a request), but for the kernel and
the event loop's own part. A timer looks about a thousand times a second which function is at work.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import gc
import json
import logging
import os
import signal
import statistics
import time
from pathlib import Path
from types import FrameType
from typing import Any

from solar.core.backend import Backend
from solar.edge import exchange
from solar.edge.connection import Connection, key_of
from solar.edge.frontdoor import FrontDoor
from solar.edge.hall import Hall
from solar.edge.linewriter import BatchedLines
from solar.edge.tasks import Tasks
from solar.edge.upstream import HttpUpstream
from solar.router import Router

STAGES = {
    "read the request": ("reader", "incoming", "heads", "frontdoor", "hall"),
    "admit it, find its model": ("reception", "request", "admission", "openai", "paths"),
    "choose a backend, keep its load, health and silence": (
        *(
            "roster",
            "select",
            "member",
            "catalog",
            "load",
            "health",
            "breaker",
            "stall",
            "rest",
            "queue",
            "attempts",
            "decision",
        ),
    ),
    "move it: states, retries, limits": ("exchange", "attempt", "relay", "headers", "answers", "answering", "choosing"),
    "speak to the backend": ("upstream", "connection", "connecting", "transport", "backend"),
    "write the answer": ("reply",),
    "let writes leave together": ("outbox",),
    "watch the stream, count tokens": ("sse", "dialects"),
    "metrics": ("metrics", "exposition", "record"),
    "the line in the log": ("requestlog", "lines", "linewriter", "router"),
}
STAGE_OF = {module: stage for stage, modules in STAGES.items() for module in modules}
CHUNKS = 200


class State:
    """What uvicorn keeps of its connections."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.default_headers = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")]


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.last: Any = b""

    def write(self, data: bytes) -> None:
        self.last = data

    writelines = write

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Inside:
    """A started router, a client's connection, and pooled connections to its backends."""

    def __init__(self, router: Router, backends: list[Backend], *, size: int, stream: bool) -> None:
        relay = router.reception.relay
        assert isinstance(relay.upstream, HttpUpstream)
        for member in relay.roster.members.values():
            member.health.passed(time.monotonic(), 0.5)
        tasks = Tasks(logging.getLogger("solar"))
        self.relay = relay
        wire: Any = Wire()
        hall = Hall(router.reception, State(), tasks, router)
        self.outboxes = (relay.upstream.outbox, hall.outbox)
        self.door = FrontDoor(hall)
        self.door.connection_made(wire)
        self.connections = []
        for backend in backends:
            connection = Connection(relay.upstream, key_of(backend))
            transport: Any = Wire()
            connection.connection_made(transport)
            relay.upstream.keep(connection)
            self.connections.append(connection)
        self.request = _request(size, stream=stream)
        self.answer = _stream() if stream else [_answer()]

    def once(self) -> None:
        """One request and its answer."""
        upstream, downstream = self.outboxes
        self.door.data_received(self.request)
        upstream.end_turn()
        connection = next(c for c in self.connections if c.call is not None)
        for piece in self.answer:
            connection.data_received(piece)
            downstream.end_turn()

    def many(self, times: int) -> None:
        """So many of them, with the clock that ticks for all."""
        for _ in range(times):
            self.once()
        self.relay.tick(time.monotonic())


def _request(size: int, *, stream: bool) -> bytes:
    empty = {"messages": [{"role": "user", "content": ""}], "model": "bench"} | ({"stream": True} if stream else {})
    words = 'The quick brown fox said: "no".\n' * (size // 32 + 1)
    empty["messages"][0]["content"] = words[: max(0, size - len(json.dumps(empty)) - size // 16)]  # type: ignore[index]
    body = json.dumps(empty).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\n"
    return f"{head}Authorization: Bearer bench\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _answer() -> bytes:
    usage = {"prompt_tokens": 40, "completion_tokens": 200, "total_tokens": 240}
    body = json.dumps({"choices": [{"message": {"role": "assistant", "content": "word " * 170}}], "usage": usage})
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return (head + body).encode()


def _stream() -> list[bytes]:
    event = (
        b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" black"}}]}\n\n'
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    done = b"data: [DONE]\n\n"
    chunk = b"%x\r\n%b\r\n" % (len(event), event)
    return [head, *[chunk] * CHUNKS, b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done)]


def _spent(inside: Inside, times: int) -> float:
    """Seconds of CPU a request: the median of many short looks."""
    looks = []
    for _ in range(25):
        began = time.process_time()
        inside.many(times)
        looks.append((time.process_time() - began) / times)
    return statistics.median(looks)


def _shares(inside: Inside, times: int) -> dict[str, float]:
    """Stage -> its share of the time, by sampling for some seconds."""
    seen: collections.Counter[str] = collections.Counter()

    def look(number: int, frame: FrameType | None) -> None:
        del number
        while frame is not None and "solar" not in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is not None and not frame.f_code.co_filename.endswith("inside.py"):
            module = Path(frame.f_code.co_filename).stem
            seen[STAGE_OF.get(module, module)] += 1

    signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
    until = time.process_time() + 8
    while time.process_time() < until:
        inside.many(times)
    signal.setitimer(signal.ITIMER_PROF, 0)
    return {stage: count / seen.total() for stage, count in seen.most_common()}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="Where a request's time goes inside of `solar serve`.")
    parser.add_argument("--stream", action="store_true", help=f"a stream of {CHUNKS} chunks")
    parser.add_argument("--body", type=int, default=300, metavar="BYTES", help="of the request (300)")
    given = parser.parse_args()
    log = logging.getLogger("solar")
    log.propagate = False
    log.setLevel(logging.INFO)
    with Path(os.devnull).open("w") as nowhere:
        log.addHandler(BatchedLines(nowhere))
        asyncio.run(_measure(given.body, stream=given.stream))


async def _measure(size: int, *, stream: bool) -> None:
    backends = [Backend(name, f"http://127.0.0.1:{port}", models=("bench",)) for name, port in (("a", 1), ("b", 2))]
    async with Router(backends, api_keys=["bench"]) as router:
        inside = Inside(router, backends, size=size, stream=stream)
        times = 10 if stream else 300
        inside.many(times)
        gc.freeze()  # as `solar serve` does
        gc.set_threshold(10_000, 20, 50)
        spent = _spent(inside, times) * 1e6
        print(f"\n{spent:.1f} us a {'stream of ' + str(CHUNKS) + ' chunks' if stream else 'request'}\n")
        if not exchange.__file__.endswith(".py"):
            print("This is compiled code, which cannot be looked into. With PYTHONPATH=src the sources run.")
            return
        print(f"| us | share | what |\n|{'---|' * 3}")
        for stage, share in _shares(inside, times).items():
            print(f"| {share * spent:.1f} | {share:.0%} | {stage} |")


if __name__ == "__main__":
    main()
