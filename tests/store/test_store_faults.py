import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kept import EVER, asked, exported, host, running, until

from solar.errors import StoreFailed
from solar.store import Store

HOLD = """
import sqlite3, sys
shell = sqlite3.connect(sys.argv[1], isolation_level=None)
shell.execute(f"PRAGMA locking_mode = {sys.argv[2]}")
shell.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("place", "database", "reading"):
        monkeypatch.setattr(f"solar.store.{module}.BUSY_SECONDS", 0.02)
    monkeypatch.setattr("solar.store.connections.PAUSES", (0.01, 0.05))


@contextmanager
def locked(path: Path, mode: str = "NORMAL") -> Iterator[None]:
    """Another process holds the database."""
    command = [sys.executable, "-c", HOLD, os.fspath(path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield
        process.communicate()


def change(path: Path, statement: str) -> None:
    shell = sqlite3.connect(path)
    shell.execute(statement)
    shell.commit()
    shell.close()


async def made(data_dir: Path, entries: int = 0) -> Path:
    """A database that was closed, with a host in it."""
    async with running(data_dir) as store:
        await store.put_host(host())
        for number in range(entries):
            store.record(asked(number))
    return store.path


def set_aside(data_dir: Path) -> list[Path]:
    return [path for path in data_dir.glob("solar.db.damaged-*") if not path.name.endswith(("-wal", "-shm"))]


async def numbers(store: Store) -> list[int]:
    items = (await store.requests(*EVER, limit=1000))["items"]
    return [int(item["request_id"].partition("-")[2]) for item in reversed(items)]


async def test_a_lock_of_another_process_loses_nothing_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await made(tmp_path)
    async with running(tmp_path) as store:
        await store.flush()
        with locked(store.path):
            store.record(asked(1))
            await until(lambda: store.state.kind == "behind")
            since = store.state.since_ms
            store.record(asked(2))
            with pytest.raises(StoreFailed, match="another process holds the database locked"):
                await store.put_host(host(2))
            assert await store.hosts() == (host(),)
            assert (store.state.waiting, store.state.since_ms) == (2, since)
        await until(lambda: store.state.kind == "ok")
        await store.flush()
        assert await numbers(store) == [1, 2]
    assert caplog.text.count("another process holds the database locked; requests are served") == 1
    assert caplog.text.count("store ok again, after behind; 0 entries were lost") == 1


async def test_who_asks_for_a_flush_meanwhile_hears_why_there_is_none(tmp_path: Path) -> None:
    await made(tmp_path)
    async with running(tmp_path) as store:
        await store.flush()
        with locked(store.path):
            store.record(asked(1))
            with pytest.raises(StoreFailed, match="locked"):
                await store.flush()
        await until(lambda: store.state.kind == "ok")


async def test_a_database_that_is_locked_at_the_start_is_opened_when_it_is_free(tmp_path: Path) -> None:
    path = await made(tmp_path)
    async with running(tmp_path) as store:
        with locked(path, "EXCLUSIVE"):
            with pytest.raises(StoreFailed, match="locked"):
                await store.hosts()
            store.record(asked(1))
        await store.opened()
        assert await store.hosts() == (host(),)
        await until(lambda: store.state.kind == "ok")
        await store.flush()
        assert await numbers(store) == [1]


async def test_when_the_queue_is_full_the_oldest_are_lost_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await made(tmp_path)
    async with running(tmp_path, limit=10) as store:
        await store.flush()
        with locked(store.path):
            for number in range(25):
                store.record(asked(number))
            await until(lambda: "the oldest entries are given up" in store.state.reason)
            await until(lambda: (store.state.waiting, store.state.lost) == (10, 15))
        await until(lambda: store.state.kind == "ok")
        await store.flush()
        assert await numbers(store) == list(range(15, 25))
        assert store.state.lost == 15
    assert "15 entries were lost" in caplog.text


async def test_garbage_is_kept_aside_with_its_log_and_a_new_database_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "solar.db").write_bytes(b"garbage" * 2000)
    (tmp_path / "solar.db-wal").write_bytes(b"more of it")
    async with running(tmp_path) as store:
        store.record(asked(1))
        await store.flush()
        assert await numbers(store) == [1]
    (aside,) = set_aside(tmp_path)
    assert aside.read_bytes() == b"garbage" * 2000
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"more of it"
    assert f"the database was damaged; it is kept as {aside}" in caplog.text


async def test_a_second_damaged_database_does_not_replace_the_first(tmp_path: Path) -> None:
    for _ in range(2):
        (tmp_path / "solar.db").write_bytes(b"garbage" * 2000)
        async with running(tmp_path) as store:
            await store.flush()
    assert len(set_aside(tmp_path)) == 2


@pytest.mark.parametrize("kept_bytes", [0.5, 0.9])
async def test_a_database_that_was_cut_is_kept_aside(tmp_path: Path, kept_bytes: float) -> None:
    path = await made(tmp_path, entries=500)
    os.truncate(path, int(path.stat().st_size * kept_bytes))
    async with running(tmp_path) as store:
        await store.flush()
        assert await numbers(store) == []
        assert await store.hosts() == (host(),)
    assert len(set_aside(tmp_path)) == 1


async def test_a_database_that_was_cut_to_nothing_does_not_take_its_log_with_it(tmp_path: Path) -> None:
    (tmp_path / "solar.db").touch()
    (tmp_path / "solar.db-wal").write_bytes(b"what was not in it yet")
    async with running(tmp_path) as store:
        await store.flush()
    (aside,) = set_aside(tmp_path)
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"what was not in it yet"


async def test_damage_that_a_question_meets_is_looked_into_and_hosts_are_saved(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = await made(tmp_path, entries=2000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    async with running(tmp_path) as store:
        await store.opened()
        with pytest.raises(StoreFailed, match="damaged"):
            await store.stats(*EVER)
        await until(lambda: set_aside(tmp_path))
        await store.flush()
        assert await numbers(store) == []
        assert await store.hosts() == (host(),)
    assert "the new one has the 1 hosts that could be read" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "was written by a newer Solar (its schema is 9999"),
        ("DROP TABLE alembic_version", "is the database of another program"),
    ],
)
async def test_a_database_that_is_not_for_us_is_left_as_it_is(tmp_path: Path, spoil: str, says: str) -> None:
    path = await made(tmp_path)
    change(path, spoil)
    before = path.read_bytes()
    async with running(tmp_path) as store:
        store.record(asked(1))
        with pytest.raises(StoreFailed) as refused:
            await store.hosts()
        assert says in refused.value.message
        assert (store.state.kind, store.state.waiting) == ("failing", 1)
    assert path.read_bytes() == before
    assert set_aside(tmp_path) == []


async def test_a_schema_that_cannot_be_made_has_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "schema.sql"
    broken.write_text("CREATE TABLE hosts (id); CREATE TABLE hosts (id);")
    monkeypatch.setattr("solar.store.database._SCHEMA", broken)
    async with running(tmp_path) as store:
        with pytest.raises(StoreFailed, match="table hosts already exists"):
            await store.put_host(host())
        monkeypatch.undo()
        await store.put_host(host())
        assert await store.hosts() == (host(),)


async def test_a_database_that_somebody_removed_is_begun_anew_with_what_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as store:
        await store.flush()
        store.path.rename(tmp_path / "elsewhere.db")
        store.record(asked(1))
        await until(lambda: store.path.exists() and store.state.kind == "ok")
        await store.flush()
        assert await numbers(store) == [1]
    assert "the database was moved or removed by somebody" in caplog.text


async def test_a_directory_that_cannot_be_is_told_and_used_once_it_can(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.write_text("in the way")
    async with running(data) as store:
        store.record(asked(1))
        await until(lambda: store.state.kind == "failing")
        assert store.state.reason == f"file exists ({data})"
        data.unlink()
        await until(lambda: store.state.kind == "ok")
        await store.flush()
        assert await numbers(store) == [1]


async def test_what_is_left_at_the_end_is_not_lost_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = await made(tmp_path)
    with locked(path, "EXCLUSIVE"):
        async with running(tmp_path) as store:
            for number in range(3):
                store.record(asked(number))
    assert "3 entries are lost at the end: another process holds the database locked" in caplog.text


async def test_saved_hosts_outlive_a_new_database_that_cannot_be_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await made(tmp_path, entries=500)
    os.truncate(path, path.stat().st_size // 2)

    def fail_once(*_: object) -> None:
        monkeypatch.undo()
        raise sqlite3.OperationalError("the disk is full just now")

    monkeypatch.setattr("solar.store.database.Database.recall", fail_once)
    async with running(tmp_path) as store:
        await until(lambda: store.state.kind == "ok")
        assert await store.hosts() == (host(),)
    assert len(set_aside(tmp_path)) == 1


async def test_a_host_that_makes_no_sense_any_more_is_not_saved(tmp_path: Path) -> None:
    path = await made(tmp_path, entries=500)
    async with running(tmp_path) as store:
        await store.put_host(host(2))
    change(path, "UPDATE hosts SET settings = 'torn', created_ms = 'odd' WHERE id = 'id-2'")
    os.truncate(path, path.stat().st_size // 2)
    async with running(tmp_path) as store:
        assert await store.hosts() == (host(),)


async def test_damage_that_the_writer_meets_is_looked_into_too(tmp_path: Path) -> None:
    path = await made(tmp_path, entries=2000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    async with running(tmp_path, retention_days=0) as store:
        await until(lambda: set_aside(tmp_path))
        await until(lambda: store.state.kind == "ok")
        assert await store.hosts() == (host(),)
    assert len(set_aside(tmp_path)) == 1


async def test_a_disk_that_hangs_is_told_and_holds_neither_questions_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("solar.store.connections.SLOW", 0.01)
    for module in ("connections", "recorder"):
        monkeypatch.setattr(f"solar.store.{module}.LEAVE", 0.05)
    answer = threading.Event()
    monkeypatch.setattr("solar.store.database.Database.write", lambda *_: answer.wait())
    await made(tmp_path)
    async with running(tmp_path) as store:
        assert await store.hosts() == (host(),)
        store.record(asked(1))
        await until(lambda: store.state.reason == "the disk does not answer")
        assert await store.hosts() == (host(),)
    assert "1 entries are lost at the end: the disk does not answer" in caplog.text
    answer.set()


async def test_an_import_that_a_fault_interrupts_has_brought_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "old") as store:
        for number in range(1500):
            store.record(asked(number))
        export = await exported(store)
    async with running(tmp_path) as store:

        async def interrupted() -> AsyncIterator[bytes]:
            yield export[: len(export) * 3 // 4]
            store.path.rename(tmp_path / "elsewhere.db")
            with pytest.raises(StoreFailed, match="moved or removed"):
                await store.put_host(host())
            await until(lambda: store.state.kind == "ok")
            yield export[len(export) * 3 // 4 :]

        with pytest.raises(StoreFailed):
            await store.import_(interrupted())
        assert await numbers(store) == []


async def test_more_than_the_disk_takes_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("solar.store.recorder.BATCH", 2)
    async with running(tmp_path, limit=10) as store:
        await store.flush()
        for number in range(10):
            store.record(asked(number))
        await store.flush()
        assert (store.state.kind, store.state.lost) == ("ok", 0)
    assert caplog.text.count("store behind: more comes in than the disk takes") == 1


async def test_two_stores_on_one_database_do_not_harm_each_other(tmp_path: Path) -> None:
    async with running(tmp_path) as one, running(tmp_path) as other:
        for number in range(20):
            (one if number % 2 else other).record(asked(number))
        for store in (one, other):
            await until(lambda store=store: store.state.kind == "ok" and not store.state.waiting)  # type: ignore[misc]
        assert await numbers(one) == list(range(20))
