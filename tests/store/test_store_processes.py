"""Faults that only a process of its own can have: a kill, a full disk, files that it may not write."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from kept import EVER, running

HERE = Path(__file__).parent
PRELUDE = """
import asyncio, logging, os, resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import solar.store.connections, solar.store.place
from kept import EVER, asked, host, running, until
solar.store.connections.PAUSES = (0.01, 0.05)
data = Path(sys.argv[1])

async def numbers(store):
    items = (await store.requests(*EVER, limit=1000))["items"]
    return [int(item["request_id"].partition("-")[2]) for item in reversed(items)]
"""
RECORDING = """
async def main():
    async with running(data) as store:
        await store.put_host(host())
        number = 0
        while True:
            for _ in range(50):
                store.record(asked(number))
                number += 1
            await store.flush()
            print(number, flush=True)
            store.record(asked(number))
            number += 1
            await asyncio.sleep(0)
asyncio.run(main())
"""
FULL = """
def grow_to(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main():
    async with running(data) as store:
        store.record(asked(0))
        await store.flush()
        grow_to(1000)  # bytes of any file that is written from now on
        for number in range(1, 900):
            store.record(asked(number))
        await until(lambda: store.state.kind == "failing")
        print(store.state.reason)
        try:
            await store.put_host(host())
        except solar.errors.StoreFailed as error:
            print(type(error).__name__)
        assert (await numbers(store))[:1] == [0]
        grow_to(resource.RLIM_INFINITY)
        await until(lambda: store.state.kind == "ok" and not store.state.waiting)
        print(await numbers(store) == list(range(900)), store.state.lost)
asyncio.run(main())
"""
FORBIDDEN = """
async def main():
    async with running(data) as store:
        await store.put_host(host())
        await store.flush()
    what = Path(sys.argv[3].format(data=data))
    os.chmod(data, 0o755)
    os.chmod(data / "solar.db", 0o644)
    os.chmod(what, 0o555 if what.is_dir() else 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)
    async with running(data) as store:
        store.record(asked(1))
        await until(lambda: store.state.kind == "failing")
        print(store.state.reason)
        try:
            print(len(await store.hosts()))
        except solar.errors.StoreFailed:
            print("unreadable")
        if os.getuid() == 0:
            os.seteuid(0)
        os.chmod(what, 0o755 if what.is_dir() else 0o600)
        await until(lambda: store.state.kind == "ok" and not store.state.waiting)
        print(await numbers(store))
asyncio.run(main())
"""


def start(code: str, data: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PRELUDE + code, os.fspath(data), os.fspath(HERE), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def lines(process: subprocess.Popen[bytes]) -> list[str]:
    told = process.communicate(timeout=60)[0].decode().splitlines()
    assert process.returncode == 0
    return told


@pytest.mark.parametrize("after", [1, 4, 9])
async def test_a_kill_loses_nothing_that_was_flushed_and_leaves_no_hole(tmp_path: Path, after: int) -> None:
    with start(RECORDING, tmp_path) as process:
        assert process.stdout is not None
        for _ in range(after):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        flushed = int((process.stdout.read().split() or [51 * after - 1])[-1])
    async with running(tmp_path) as store:
        total = (await store.requests(*EVER))["total"]
        assert flushed <= total <= flushed + 51
        newest = (await store.requests(*EVER, limit=1))["items"]
        assert newest[0]["request_id"] == f"req-{total - 1}"
        assert [found.name for found in await store.hosts()] == ["gpu1"]
    with closing(sqlite3.connect(store.path)) as shell:
        assert shell.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert list(tmp_path.glob("*damaged*")) == []  # noqa: ASYNC240


def test_a_full_disk_stops_the_writing_and_loses_nothing(tmp_path: Path) -> None:
    reason, refused, *rest = lines(start(FULL, tmp_path))
    assert reason in ("the disk does not read or write (SQLITE_IOERR_WRITE)", "the disk is full")
    assert (refused, rest) == ("StoreFailed", ["True 0"])


@pytest.mark.parametrize("what", ["{data}", "{data}/solar.db"])
def test_files_that_may_not_be_written_are_told_and_used_once_they_may(what: str) -> None:
    with tempfile.TemporaryDirectory() as room:  # pytest closes its own to other users, and root becomes one
        Path(room).chmod(0o755)
        reason, _, found = lines(start(FORBIDDEN, Path(room) / "data", what))
    assert "let this user write the file and its directory" in reason
    assert found == "[1]"
