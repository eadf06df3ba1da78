import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept import EVER, asked, exported, host, pieces, running, summaries, until

from solar.errors import InvalidRequest, StoreFailed
from solar.store import Candidate, Counts, Happened, RequestSummary, Trail
from solar.store import reading as reading_module
from solar.store.asking import Asked
from solar.store.facts import iso
from solar.store.reading import counting, in_order, page, tallies

slow = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stored(path: Path, question: str, *values: object) -> list[Any]:
    shell = sqlite3.connect(path)
    try:
        return shell.execute(question, values).fetchall()
    finally:
        shell.close()


def plan(path: Path, question: tuple[str, list[Any]], *, every: bool = False) -> list[str]:
    """How SQLite would answer it: what it reads, or every step."""
    statement, values = question
    steps = [row[3] for row in stored(path, f"EXPLAIN QUERY PLAN {statement}", *values)]
    return [step for step in steps if every or step.startswith(("SEARCH", "SCAN"))]


def parts_of(export: bytes) -> list[Any]:
    return [msgspec.json.decode(line) for line in export.splitlines()][1:-1]


async def test_what_is_recorded_can_be_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.record(asked(1, host_id="h1", prompt_tokens=7, completion_tokens=11, ttft_us=500_000))
        await store.flush()
        (found,) = (await store.requests(*EVER))["items"]
        assert (found["request_id"], found["host_id"], found["total_tokens"]) == ("req-1", "h1", 18)
        assert found["stream"] is True
        assert (found["duration_s"], found["ttft_s"], found["decode_tps"]) == (1.5, 0.5, 10.0)
        assert found["start_timestamp"] == "2026-11-18T11:06:38.501+00:00"
        assert found["end_timestamp"] == "2026-11-18T11:06:40.001+00:00"
        assert found["resolved_model"] == "llama:8b"


async def test_entries_are_written_without_being_asked_for_in_few_transactions(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.flush()
        for number in range(700):
            store.record(asked(number))
        await until(lambda: stored(store.path, "SELECT count(*) FROM requests") == [(700,)])
        await until(lambda: (store.state.kind, store.state.waiting, store.state.lost) == ("ok", 0, 0))


async def test_who_reads_meanwhile_sees_one_moment_and_holds_nobody_up(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.record(asked(0))
        await store.flush()
        shell = sqlite3.connect(store.path, isolation_level=None)
        shell.execute("BEGIN")
        assert shell.execute("SELECT count(*) FROM requests").fetchall() == [(1,)]
        for number in range(1, 3000):
            store.record(asked(number))
        await store.flush()
        assert (await store.requests(*EVER))["total"] == 3000
        assert shell.execute("SELECT count(*) FROM requests").fetchall() == [(1,)]
        shell.close()


async def test_pages_are_newest_first_and_filters_hold_together(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for number in range(10):
            status = "error" if number % 2 else "success"
            store.record(asked(number, status=status, host_id=f"h{number % 3}", model=f"m{number % 5}"))
        await store.flush()

        async def ids(**wanted: Any) -> list[str]:
            told = await store.requests(*EVER, **wanted)
            return [told["total"], *(item["request_id"] for item in told["items"])]

        assert await ids(limit=2) == [10, "req-9", "req-8"]
        assert await ids(limit=4, page=3) == [10, "req-1", "req-0"]
        assert await ids(limit=4, page=4) == [10]
        assert await ids(status="error", host_id="h0") == [2, "req-9", "req-3"]
        assert await ids(model="m1", request_type="chat") == [2, "req-6", "req-1"]
        at = asked(4).ended_ms
        assert (await store.requests(at, at + 2))["total"] == 2


def beginning_and_end(summary: RequestSummary) -> Iterator[Happened]:
    yield Happened(summary.started_ms, "request_start", summary.request_id)
    yield Happened(summary.ended_ms, f"request_{summary.status}", summary.request_id)


async def test_events_are_told_from_what_ended_and_the_newest_come_oldest_first(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for number in range(6):
            store.record(asked(number, status="error" if number % 2 else "success"))
        store.record(asked(9, duration_us=1000))
        await store.flush()

        async def told(*types: str, limit: int = 1000) -> list[tuple[str, str]]:
            answer = await store.events(beginning_and_end, *EVER, types=types, limit=limit)
            assert answer["types"] == list(types)
            return [(item["type"], item["data"]) for item in answer["items"]]

        assert await told("request_error", "request_reroute", limit=2) == [
            ("request_error", "req-3"), ("request_error", "req-5"),
        ]  # fmt: skip
        assert await told(limit=3) == [
            ("request_error", "req-5"), ("request_start", "req-9"), ("request_success", "req-9"),
        ]  # fmt: skip
        assert await told("request_start", limit=2) == [("request_start", "req-5"), ("request_start", "req-9")]


@given(spans=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8), limit=st.integers(1, 6))
@slow
async def test_the_newest_events_are_the_newest_of_all_however_long_requests_took(
    tmp_path_factory: Any, spans: list[tuple[int, int]], limit: int
) -> None:
    async with running(tmp_path_factory.mktemp("data")) as store:
        for number, (ended, took) in enumerate(spans):
            store.record(asked(number, ended_ms=1000 + ended, duration_us=took * 1000))
        await store.flush()
        times = sorted(1000 + at for ended, took in spans for at in (ended - took, ended))[-limit:]
        items = (await store.events(beginning_and_end, *EVER, limit=limit))["items"]
        assert [item["timestamp"] for item in items] == [iso(ms) for ms in times]


async def test_stats_are_of_the_time_and_type_that_are_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.record(asked(1, attempts=2, prompt_tokens=10, completion_tokens=5, host_id="h", host_name="gpu1"))
        store.record(asked(2, request_type="embedding", prompt_tokens=3, resolved_model="real"))
        store.record(asked(3, status="missed", model="none"))
        await store.flush()
        told = await store.stats(*EVER)
        assert (told["completed"], told["missed"], told["rerouted_requests"], told["token_in_total"]) == (2, 1, 1, 13)
        assert [made["model"] for made in told["models"]] == ["llama:8b", "real"]
        assert (await store.stats(*EVER, request_type="embedding"))["token_in_total"] == 3
        assert (await store.stats(0, 1))["completed"] == 0


async def test_hosts_are_put_replaced_and_dropped_and_their_keys_are_never_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.put_host(host(2))
        await store.put_host(host(1, settings={"weight": 2.5}))
        await store.put_host(host(2, name="renamed"))
        assert await store.drop_host("id-1")
        assert not await store.drop_host("id-1")
        assert await store.hosts() == (host(2, name="renamed"),)
        assert "sk-secret" not in repr(await store.hosts()) + repr(store)
    async with running(tmp_path) as store:
        await store.opened()
        assert await store.hosts() == (host(2, name="renamed"),)


@given(entries=st.lists(summaries, max_size=5))
@slow
async def test_any_record_comes_back_as_it_was(tmp_path_factory: Any, entries: list[RequestSummary]) -> None:
    async with running(tmp_path_factory.mktemp("data")) as store:
        for entry in entries:
            store.record(entry)
        found = parts_of(await exported(store))
        wanted = [{"request": entry} for entry in entries]
        assert found == msgspec.json.decode(msgspec.json.encode(wanted))


@given(steps=st.lists(st.sampled_from(["record", "record", "flush", "ask", "yield"]), max_size=30))
@slow
async def test_in_any_order_of_writing_and_asking_nothing_is_lost_or_doubled(
    tmp_path_factory: Any, steps: list[str]
) -> None:
    recorded = flushed = 0
    async with running(tmp_path_factory.mktemp("data"), limit=100) as store:
        for step in steps:
            if step == "record":
                store.record(asked(recorded))
                recorded += 1
            elif step == "flush":
                await store.flush()
                flushed = recorded
            elif step == "yield":
                await asyncio.sleep(0)
            else:
                assert flushed <= (await store.requests(*EVER))["total"] <= recorded
    if recorded:
        kept = stored(store.path, "SELECT request_id FROM requests ORDER BY id")
        assert kept == [(f"req-{number}",) for number in range(recorded)]


async def test_an_entry_that_no_database_can_hold_is_counted_and_the_others_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as store:
        odd = Trail(candidates=(Candidate("\ud800"),))
        for entry in (asked(1), asked(2, model="\ud800"), asked(3, attempts=2**70), asked(4, trail=odd), asked(5)):
            store.record(entry)
        await store.flush()
        assert store.state.lost == 3
        assert [item["request_id"] for item in (await store.requests(*EVER))["items"]] == ["req-5", "req-1"]
    assert "3 entries are lost: no database could hold what is in them" in caplog.text


async def test_old_entries_are_deleted_by_themselves_a_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solar.store.recorder.PRUNE_STEP", 2)
    async with running(tmp_path) as store:
        for number in range(5):
            store.record(asked(number, ended_ms=1000))
        store.record(asked(7, ended_ms=4_000_000_000_000))
        await store.flush()
    async with running(tmp_path, retention_days=0) as store:
        await until(lambda: stored(store.path, "SELECT request_id FROM requests") == [("req-7",)])


async def test_where_all_take_more_than_they_may_the_oldest_go_as_new_ones_come(tmp_path: Path) -> None:
    allowed = 200_000
    async with running(tmp_path, bytes_kept=allowed) as store:
        for number in range(5000):
            store.record(asked(number))
            if number % 500 == 499:
                await store.flush()
        ((pages, free, size),) = stored(
            store.path, "SELECT * FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        assert (pages - free) * size <= allowed + 500 * 300
        assert pages * size < 2 * allowed
        kept = [number for (number,) in stored(store.path, "SELECT ended_ms - 1795000000000 FROM requests ORDER BY id")]
        assert 500 < len(kept) < 2500
        assert kept == list(range(5000 - len(kept), 5000))


async def test_a_bound_that_became_less_is_kept_without_a_new_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solar.store.recorder.PRUNE_STEP", 100)
    async with running(tmp_path) as store:
        for number in range(2000):
            store.record(asked(number))
    async with running(tmp_path, bytes_kept=100_000) as store:
        await until(lambda: stored(store.path, "SELECT count(*) FROM requests")[0][0] < 1000)
        assert stored(store.path, "SELECT max(ended_ms) - 1795000000000 FROM requests") == [(1999,)]


async def test_nothing_is_made_before_there_is_something_to_keep(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running(data) as store:
        await store.opened()
        assert await store.hosts() == ()
        assert store.state.kind == "unused"
        assert not data.exists()
        store.record(asked(1))
        await until(lambda: store.state.kind == "ok")
        assert stored(store.path, "SELECT count(*) FROM requests") == [(1,)]


@pytest.mark.parametrize("first", ["put_host", "requests", "import_", "flush"])
async def test_whatever_needs_it_first_makes_the_database(tmp_path: Path, first: str) -> None:
    async with running(tmp_path / "old") as store:
        await store.put_host(host(1))
        export = await exported(store)
    async with running(tmp_path / "new") as store:
        await store.opened()
        arguments = {"put_host": (host(1),), "requests": EVER, "import_": (pieces([export]),)}.get(first, ())
        await getattr(store, first)(*arguments)
        assert store.state.kind == "ok"
        assert (await store.hosts() == ()) == (first in ("requests", "flush"))


async def test_a_database_that_somebody_else_made_meanwhile_is_found(tmp_path: Path) -> None:
    async with running(tmp_path) as early, running(tmp_path) as store:
        await store.put_host(host(1))
        assert [found.name for found in await early.hosts()] == ["gpu1"]


async def test_an_export_brings_back_everything_and_nothing_twice(tmp_path: Path) -> None:
    async with running(tmp_path / "old") as store:
        for number in range(1201):
            store.record(asked(number % 1200))
        await store.put_host(host(1))
        export = await exported(store, keys=True)
    async with running(tmp_path / "new") as store:
        store.record(asked(7))
        await store.flush()
        assert await store.import_(pieces([export[:5000], export[5000:]])) == Counts(1, 1200)
        assert await store.import_(pieces([export])) == Counts(0, 0)
        assert await store.hosts() == (host(1),)
        assert (await store.requests(*EVER))["total"] == 1201


async def test_an_import_without_keys_leaves_the_keys_that_are_there(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.put_host(host(1, name="new name"))
        export = await exported(store)
        assert b"sk-secret" not in export
        await store.put_host(host(1))
        await store.import_(pieces([export]))
        assert await store.hosts() == (host(1, name="new name"),)
        await store.drop_host("id-1")
        assert await store.import_(pieces([export])) == Counts(1, 0)
        assert await store.hosts() == (host(1, name="new name", api_key=""),)


async def test_an_import_that_fails_at_its_end_has_brought_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for number in range(1500):
            store.record(asked(number))
        await store.put_host(host(1))
        export = await exported(store)
    async with running(tmp_path / "new") as store:
        with pytest.raises(InvalidRequest, match="it was cut off"):
            await store.import_(pieces([export[:-10]]))
        assert (await store.requests(*EVER))["total"] == 0
        assert await store.hosts() == ()


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"status": "error"},
        {"model": "m"},
        {"host_id": "h"},
        {"request_type": "chat"},
        {"status": "success", "model": "m", "host_id": "h", "request_type": "chat"},
    ],
)
async def test_every_question_is_answered_through_an_index(tmp_path: Path, wanted: dict[str, str]) -> None:
    async with running(tmp_path) as store:
        await store.flush()
    query = Asked(*EVER, **wanted)  # type: ignore[arg-type]
    for question in (counting(query), page(query), tallies(query), in_order(query)):
        reads = plan(store.path, question)
        assert all("ended_ms>? AND ended_ms<?" in step or "PRIMARY KEY" in step for step in reads)
        assert not any("ORDER BY" in step for step in plan(store.path, in_order(query), every=True))
    assert "COVERING INDEX" in plan(store.path, counting(Asked(*EVER)))[0]


@pytest.mark.parametrize("wanted", [{"status": "error"}, {"types": ("request_error", "request_reroute")}])
async def test_what_went_wrong_is_found_without_reading_what_went_well(tmp_path: Path, wanted: dict[str, Any]) -> None:
    async with running(tmp_path) as store:
        await store.flush()
    assert "INDEX requests_in_trouble" in plan(store.path, in_order(Asked(*EVER, **wanted)))[0]


async def test_a_question_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "LONGEST", -1.0)
    monkeypatch.setattr(reading_module, "_LOOK_EVERY", 1)
    async with running(tmp_path) as store:
        await store.flush()
        with pytest.raises(InvalidRequest, match="ask for a shorter time"):
            await store.stats(*EVER)
        assert store.state.kind == "ok"


async def test_a_store_that_was_stopped_says_so(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.record(asked(1))
    for call in (store.hosts, store.flush, lambda: store.drop_host("a")):
        with pytest.raises(StoreFailed, match="the store is stopped"):
            await call()
    assert (store.state.kind, store.state.waiting) == ("stopped", 0)
    assert store.state.as_json()["reason"] == "the store is stopped"
