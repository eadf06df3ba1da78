import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from solar.errors import StoreFailed
from solar.store.state import StoreState, Trouble, trouble
from solar.store.worker import Worker


def caught(path: Path, *steps: str) -> sqlite3.Error:
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        for step in steps:
            connection.execute(step)
    except sqlite3.Error as error:
        return error
    finally:
        connection.close()
    raise AssertionError("nothing went wrong")


def test_a_full_disk_is_called_one(tmp_path: Path) -> None:
    big = "CREATE TABLE t AS SELECT zeroblob(1000000)"
    assert trouble(caught(tmp_path / "db", "PRAGMA max_page_count = 2", big)) == Trouble(
        "failing", "the disk is full", passing=True
    )


def test_a_lock_of_somebody_else_is_no_fault_of_the_database(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    found = trouble(caught(tmp_path / "db", "CREATE TABLE t (a)"))
    other.close()
    assert found == Trouble("behind", "another process holds the database locked", passing=True)


def test_garbage_is_damage(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"garbage" * 1000)
    found = trouble(caught(tmp_path / "db", "SELECT * FROM sqlite_master"))
    assert found == Trouble("failing", "the database is damaged: it is no SQLite file", damaged=True)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError(2, "No such file", "data/solar.db"), "no such file (data/solar.db)"),
        (OSError("odd"), "odd"),
        (sqlite3.OperationalError("no such table: songs"), "no such table: songs"),
        (StoreFailed("it is newer"), "it is newer"),
    ],
)
def test_what_is_wrong_is_said_in_words(error: sqlite3.Error | OSError | StoreFailed, reason: str) -> None:
    assert trouble(error) == Trouble("failing", reason)


def test_a_disk_that_fails_is_named_with_what_it_failed_at() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_WRITE, "SQLITE_IOERR_WRITE"
    assert trouble(error).reason == "the disk does not read or write (SQLITE_IOERR_WRITE)"


def test_the_state_is_shown_with_its_numbers() -> None:
    assert StoreState("failing", "the disk is full", 0, waiting=3, lost=2).as_json() == {
        "state": "failing",
        "reason": "the disk is full",
        "since": "1970-01-01T00:00:00.000+00:00",
        "waiting": 3,
        "lost": 2,
    }


async def test_a_call_that_nobody_waits_for_any_more_is_not_made() -> None:
    worker, hold, done = Worker("one"), threading.Event(), list[int]()
    first = worker.run(hold.wait)
    second = worker.run(lambda: done.append(2))
    second.cancel()
    await asyncio.sleep(0)  # the loop hands it on
    third = worker.run(lambda: done.append(3))
    hold.set()
    await asyncio.gather(first, third)
    worker.end()
    assert (done, repr(worker)) == ([3], "<Worker one>")


async def test_what_a_call_raises_goes_to_who_made_it_and_the_thread_goes_on() -> None:
    worker = Worker("one")
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 // 0)
    assert await worker.run(lambda: 5) == 5
    worker.end()
