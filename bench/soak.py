"""Soak: many streams for minutes. Memory must stay flat, and at the end the books must be closed.

    python bench/soak.py --streams 500 --minutes 3

Starts two fake backends and `solar serve`, each in a process of its own. One stream in ten leaves in the middle, the
others are read to their end; one backend is killed and started again half-way. Exit 1 if a stream lied, if memory grew
by more than a tenth in the last third, if anything is still open at the end, or if the gateway does not stop at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

import psutil  # type: ignore[import-untyped]

GROWTH = 1.10
STOPS_WITHIN = 5.0  # seconds
TOKENS, INTERVAL = 100, 0.05  # a stream of five seconds


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def fake(port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "solar.testing", "--port", str(port), "--models", "m",
         "--tokens", str(TOKENS), "--token-interval", str(INTERVAL)],
        stdout=subprocess.DEVNULL,
    )  # fmt: skip


async def stream(port: int, seen: Counter[str], leaves: bool) -> None:
    """One chat stream, over a connection of its own; counts how it ended."""
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "x" * 500}]}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        got = bytearray()
        while data := await reader.read(65536):
            got += data
            if leaves and got.count(b"data:") > TOKENS // 2:
                seen["left"] += 1
                return
        status = bytes(got[9:12]).decode()
        complete = got.endswith(b"0\r\n\r\n")
        if status != "200":
            seen[f"status {status}"] += 1
        elif complete and b"data: [DONE]" in got:
            seen["finished"] += 1
        elif b'"error"' in got and not complete:
            seen["broken, and said so"] += 1
        else:
            seen["LIED"] += 1
    except OSError:
        seen["connection lost"] += 1
    finally:
        writer.close()


async def keep_streaming(port: int, until: float, seen: Counter[str]) -> None:
    while time.monotonic() < until:
        await stream(port, seen, leaves=random.random() < 0.1)


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


async def soak(streams: int, minutes: float) -> int:
    """Run it, print what was seen, and return the exit status."""
    ports = [free_port(), free_port()]
    backends = [fake(port) for port in ports]
    port = free_port()
    seen: Counter[str] = Counter()
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as data:
        named = [part for i, p in enumerate(ports) for part in ("--backend", f"b{i}=http://127.0.0.1:{p}")]
        gateway = subprocess.Popen(  # noqa: ASYNC220  # it takes a millisecond, before anything is measured
            [sys.executable, "-m", "solar", "serve", "--port", str(port), "--data-dir", data, *named],
            cwd=data,
            stderr=(Path(data) / "log").open("wb"),
        )
        try:
            process = psutil.Process(gateway.pid)
            deadline = time.monotonic() + 15
            while True:
                try:
                    if metric(port, "solar_backend_models") == len(ports):
                        break
                except OSError:
                    pass
                if time.monotonic() > deadline:
                    sys.exit("the gateway did not come up")
                await asyncio.sleep(0.1)
            start = time.monotonic()
            until = start + minutes * 60
            clients = asyncio.gather(*(keep_streaming(port, until, seen) for _ in range(streams)))
            killed = False
            while time.monotonic() < until:
                await asyncio.sleep(1)
                memory.append(process.memory_info().rss / 1e6)
                if not killed and time.monotonic() > start + minutes * 30:
                    killed = True
                    backends[0].kill()
                    backends[0].wait()
                    backends[0] = fake(ports[0])
                if sys.stderr.isatty():
                    print(
                        f"\r{time.monotonic() - start:5.0f} s  {memory[-1]:6.1f} MB  {dict(seen)}",
                        end="",
                        file=sys.stderr,
                    )
            await clients
            cpu = process.cpu_times()
            deadline = time.monotonic() + 10
            while (still := metric(port, "solar_open_exchanges") + metric(port, "solar_backend_in_flight")) > 0:
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.2)
        finally:
            told = time.monotonic()
            gateway.terminate()
            gateway.wait()
            stopped = time.monotonic() - told
            for backend in backends:
                backend.kill()
    third = len(memory) // 3
    before, after = statistics.median(memory[third : 2 * third]), statistics.median(memory[2 * third :])
    chunks = (seen["finished"] + seen["left"] / 2) * TOKENS
    print(f"\n{streams} streams at a time for {minutes:g} min: {dict(seen)}")
    print(f"memory: {before:.1f} MB in the second third, {after:.1f} MB in the last; most {max(memory):.1f} MB")
    spent = cpu.user + cpu.system
    print(f"CPU of the gateway: {spent:.1f} s, {spent / max(chunks, 1) * 1e6:.0f} us a chunk")
    print(f"still open at the end: {still:.0f}; it stopped within {stopped:.1f} s")
    return int(seen["LIED"] > 0 or after > before * GROWTH or still > 0 or stopped > STOPS_WITHIN)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=3)
    given = parser.parse_args()
    sys.exit(asyncio.run(soak(given.streams, given.minutes)))
