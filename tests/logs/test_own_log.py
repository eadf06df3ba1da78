import asyncio
import io
import json
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Literal

import pytest
from following import following, reading
from served import Served

from solar.control.logs import Since, Wanted
from solar.control.logs.own import MOST, PLACE, OwnLog
from solar.edge.linewriter import BatchedLines

Serve = Callable[..., AbstractAsyncContextManager[Served]]


def logging_to(form: Literal["text", "json"] = "text") -> tuple[logging.Logger, BatchedLines]:
    logger = logging.getLogger("own-log-test")
    lines = BatchedLines(io.StringIO(), form)
    logger.handlers, logger.propagate, logger.level = [lines], False, logging.INFO
    return logger, lines


@pytest.mark.parametrize("form", ["text", "json"])
async def test_the_gateways_own_lines_are_a_log_like_others(form: Literal["text", "json"], tmp_path: Path) -> None:
    logger, lines = logging_to(form)
    own = OwnLog(lines)
    logger.warning("request id=1 end=failed")
    assert "1 lines wait" in repr(own)
    async with following(tmp_path, origins=[own]) as logs, reading(logs.hub, Wanted(level="warning")) as seen:
        await seen.line("id=1")
        logger.info("request id=2")
        logger.warning("request id=3")
        await seen.line("id=3")
        assert (seen.numbers, seen.gaps) == ([0, 2], [])
        last = seen.items[-1]
        assert last.place == PLACE
        assert last.line.at.endswith("Z")  # type: ignore[union-attr]
        assert len(last.line.at) == len("2026-11-22T07:00:00.123Z")  # type: ignore[union-attr]


async def test_while_nobody_reads_the_newest_lines_are_kept_and_the_others_are_a_gap(tmp_path: Path) -> None:
    logger, lines = logging_to()
    async with following(tmp_path, origins=[OwnLog(lines)]) as logs:
        logger.warning("first")
        async with reading(logs.hub) as seen:
            await seen.line("first")
        await logs.gone()
        for n in range(MOST + 50):
            logger.warning("line %d", n)
        async with reading(logs.hub, since=Since(number=0)) as again:
            await again.line(f"line {MOST + 49}")
            assert (again.gaps, len(again.texts), again.numbers[-1]) == ([50], MOST, MOST + 50)


async def test_lines_of_other_threads_and_tracebacks_are_lines_too(tmp_path: Path) -> None:
    logger, lines = logging_to()
    async with following(tmp_path, origins=[OwnLog(lines)]) as logs, reading(logs.hub) as seen:
        await seen.until(lambda: seen.troubles == [None])

        def fail() -> None:
            try:
                raise ZeroDivisionError("of a thread")
            except ZeroDivisionError:
                logger.exception("it failed")

        thread = threading.Thread(target=fail)
        thread.start()
        await seen.line("ZeroDivisionError: of a thread")
        await asyncio.to_thread(thread.join)
        assert seen.texts[0] == "ERROR it failed"


async def test_a_gateways_own_lines_are_followed_over_its_websocket(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [BatchedLines(io.StringIO())])
    async with serve() as gateway, gateway.open("/ws/logs?host=gateway&instance=requests&text=followed") as socket:
        logging.getLogger("solar").warning("it is followed")
        async with asyncio.timeout(10):
            frames: list[Any] = [json.loads(await socket.recv()) for _ in range(2)]
        assert frames[0] == {
            "type": "source",
            "host_id": "gateway",
            "host_name": "gateway",
            "instance_id": "requests",
            "alias": "requests",
            "live": True,
            "reason": None,
        }
        assert (frames[1]["data"]["line"], frames[1]["data"]["level"]) == ("WARNING it is followed", "warning")
