"""`python -m solar.testing`: one FakeBackend as a process. Its first line says where it listens."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from solar.testing.backend import FakeBackend
from solar.testing.control import KINDS
from solar.testing.fault import names


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m solar.testing", description="A fake model server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one (default)")
    parser.add_argument("--models", default="fake", help="names, separated by commas")
    parser.add_argument("--kind", choices=KINDS, default="generic")
    parser.add_argument("--api-key", default=None)
    parser.add_argument("--tokens", type=int, default=5, help="words in an answer")
    parser.add_argument("--token-interval", type=float, default=0.0, help="seconds between two events")
    parser.add_argument(
        "--fault-from-model",
        action="store_true",
        help=f"a model named fault:NAME[:ARG...] breaks so; NAME: {', '.join(names())}",
    )
    given = parser.parse_args(argv)
    fake = FakeBackend(
        [name for name in given.models.split(",") if name],
        kind=given.kind,
        host=given.host,
        port=given.port,
        api_key=given.api_key,
        tokens=given.tokens,
        token_interval=given.token_interval,
        fault_from_model=given.fault_from_model,
    )
    asyncio.run(_serve(fake))


async def _serve(fake: FakeBackend) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with fake:
        sys.stdout.write(f"{fake.url}\n")
        sys.stdout.flush()
        await stopped.wait()


if __name__ == "__main__":
    main()
