import asyncio
import logging
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kept import EVER, asked, exported, happened, host, pieces, routing_events, running, summaries, until

from solar.errors import InvalidRequest, MissingExtra, StoreFailed
from solar.store import Counts, RequestSummary, RoutingEvent, Store
from solar.store import reading as reading_module
from solar.store.asking import Asked
from solar.store.reading import matching, page, recent, tallies

slow = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stored(path: Path, question: str) -> list[Any]:
    shell = sqlite3.connect(path)
    try:
        return shell.execute(question).fetchall()
    finally:
        shell.close()


def parts_of(export: bytes) -> list[Any]:
    return [msgspec.json.decode(line) for line in export.splitlines()][1:-1]


async def test_what_is_recorded_can_be_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.record(asked(1, host_id="h1", prompt_tokens=7, ttft_s=0.25))
        store.event(happened(1, candidates=["a", "b"]))
        await store.flush()
        (found,) = (await store.requests(*EVER))["items"]
        assert (found["request_id"], found["host_id"], found["prompt_tokens"]) == ("req-1", "h1", 7)
        assert found["stream"] is True
        assert found["end_timestamp"] == "2026-11-18T11:06:40.001+00:00"
        assert "started_ms" not in found
        (event,) = (await store.events(*EVER))["items"]
        assert event == {
            "type": "request_start",
            "timestamp": "2026-11-18T11:06:40.001+00:00",
            "data": {"request_id": "req-1", "candidates": ["a", "b"]},
        }


async def test_entries_are_written_without_being_asked_for_in_few_transactions(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        await store.flush()
        for number in range(700):
            store.record(asked(number))
        await until(lambda: stored(store.path, "SELECT count(*) FROM requests") == [(700,)])
        await until(lambda: (store.state.kind, store.state.waiting, store.state.lost) == ("ok", 0, 0))


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


async def test_the_newest_events_come_oldest_first(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for number in range(6):
            store.event(happened(number, "request_error" if number % 2 else "request_start"))
        await store.flush()
        told = await store.events(*EVER, types=["request_error", "request_reroute"], limit=2)
        assert told["types"] == ["request_error", "request_reroute"]
        assert [item["data"]["request_id"] for item in told["items"]] == ["req-3", "req-5"]


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


@given(entries=st.lists(summaries | routing_events, max_size=5))
@slow
async def test_any_record_comes_back_as_it_was(
    tmp_path_factory: Any, entries: list[RequestSummary | RoutingEvent]
) -> None:
    async with running(tmp_path_factory.mktemp("data")) as store:
        for entry in entries:
            (store.record if isinstance(entry, RequestSummary) else store.event)(entry)  # type: ignore[operator]
        found = parts_of(await exported(store))
        wanted = [{"request": entry} for entry in entries if isinstance(entry, RequestSummary)]
        wanted += [{"event": entry} for entry in entries if isinstance(entry, RoutingEvent)]
        assert found == msgspec.json.decode(msgspec.json.encode(wanted))


@given(steps=st.lists(st.sampled_from(["record", "record", "event", "flush", "ask", "yield"]), max_size=30))
@slow
async def test_in_any_order_of_writing_and_asking_nothing_is_lost_or_doubled(
    tmp_path_factory: Any, steps: list[str]
) -> None:
    recorded = happenings = flushed = 0
    async with running(tmp_path_factory.mktemp("data"), limit=100) as store:
        for step in steps:
            if step == "record":
                store.record(asked(recorded))
                recorded += 1
            elif step == "event":
                store.event(happened(happenings))
                happenings += 1
            elif step == "flush":
                await store.flush()
                flushed = recorded
            elif step == "yield":
                await asyncio.sleep(0)
            else:
                assert flushed <= (await store.requests(*EVER))["total"] <= recorded
    assert stored(store.path, "SELECT request_id FROM requests ORDER BY id") == [(f"req-{n}",) for n in range(recorded)]
    assert stored(store.path, "SELECT count(*) FROM events") == [(happenings,)]


async def test_an_entry_that_no_database_can_hold_is_counted_and_the_others_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as store:
        for entry in (asked(1), asked(2, model="\ud800"), asked(3, attempts=2**70), asked(4, duration_s=float("nan"))):
            store.record(entry)
        store.event(happened(5, odd=object()))
        store.event(happened(6))
        await store.flush()
        assert store.state.lost == 4
        assert [item["request_id"] for item in (await store.requests(*EVER))["items"]] == ["req-1"]
        assert len((await store.events(*EVER))["items"]) == 1
    assert "4 entries are lost: no database could hold what is in them" in caplog.text


async def test_old_entries_are_deleted_by_themselves_a_little_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solar.store.recorder.PRUNE_STEP", 2)
    async with running(tmp_path) as store:
        for number in range(5):
            store.record(asked(number, ended_ms=1000))
            store.event(happened(number))
        store.record(asked(7, ended_ms=4_000_000_000_000))
        await store.flush()
    async with running(tmp_path, retention_days=0) as store:
        await until(lambda: stored(store.path, "SELECT request_id FROM requests") == [("req-7",)])
        await until(lambda: stored(store.path, "SELECT count(*) FROM events") == [(0,)])


async def test_pruning_by_hand_says_how_much_it_was(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        store.record(asked(1, ended_ms=1000))
        store.event(happened(1))
        await store.flush()
        assert await store.prune(36500) == 0
        assert await store.prune(0) == 2


async def test_an_export_brings_back_everything_and_nothing_twice(tmp_path: Path) -> None:
    async with running(tmp_path / "old") as store:
        for number in range(1201):
            store.record(asked(number % 1200))
            store.event(happened(number))
        await store.put_host(host(1))
        export = await exported(store, keys=True)
    async with running(tmp_path / "new") as store:
        store.record(asked(7))
        await store.flush()
        assert await store.import_(pieces([export[:5000], export[5000:]])) == Counts(1, 1200, 1201)
        assert await store.import_(pieces([export])) == Counts(0, 0, 0)
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
        assert await store.import_(pieces([export])) == Counts(1, 0, 0)
        assert await store.hosts() == (host(1, name="new name", api_key=""),)


async def test_an_import_that_fails_at_its_end_has_brought_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as store:
        for number in range(1500):
            store.record(asked(number))
        await store.put_host(host(1))
        export = await exported(store)
        await store.prune(0)
        await store.drop_host("id-1")
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
    query = Asked(*EVER, **wanted, types=("request_start", "request_error"))  # type: ignore[arg-type]
    statements = matching(query), page(query), tallies(query), recent(query)
    for statement in statements:
        text = str(statement.compile(compile_kwargs={"literal_binds": True}))
        plan = [row[3] for row in stored(store.path, f"EXPLAIN QUERY PLAN {text}")]
        reads = [step for step in plan if step.startswith(("SEARCH", "SCAN"))]
        assert reads
        assert all("USING INDEX" in step or "COVERING INDEX" in step or "PRIMARY KEY" in step for step in reads), plan
        assert statement is not statements[0] or "COVERING INDEX" in reads[0]


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


def test_without_the_extra_one_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.store.store.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="extra 'server'"):
        Store(tmp_path, log=logging.getLogger("x"))
