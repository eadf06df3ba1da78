import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from managed import Managed, managed

from solar.control.records import Place, Places, events_of, rows_of, status_of, summary_of
from solar.core.record import Record
from solar.store.facts import COLUMNS, of_row
from solar.testing import FakeAgent, FakeBackend, faults
from solar.wire.hosts import HostPatch, NewHost

EVERY = "request_start,request_routed,request_reroute,request_success,request_error"
WISH = "a secret wish"


async def asked(api: Managed, path: str, count: int) -> Any:
    """The records, once there are that many."""
    async with asyncio.timeout(20):
        while len((told := (await api.ask("GET", path)).json)["items"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return told


async def chat(api: Managed, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": WISH}]}
    return (await api.ask("POST", "/v1/chat/completions", json.dumps(body).encode())).status


def record(**facts: Any) -> Record:
    made = Record("r", method="POST", path="/v1/chat/completions", endpoint="chat", client="::1", started_at=0.0)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


async def test_what_became_of_a_request_is_kept_and_what_was_said_is_not(tmp_path: Path) -> None:
    async with FakeBackend(["m"]) as fake, managed(tmp_path, backends=(f"one={fake.url}",)) as api:
        assert await chat(api, "m") == 200
        assert await chat(api, "none") == 404
        told = await asked(api, "/gateway/requests", 2)
        assert [(one["status"], one["model"], one["attempts"]) for one in told["items"]] == [
            ("missed", "none", 0),
            ("success", "m", 1),
        ]
        events = await asked(api, f"/gateway/events/recent?types={EVERY}", 5)
        assert [event["type"] for event in events["items"]] == [
            "request_start",
            "request_routed",
            "request_success",
            "request_start",
            "request_error",
        ]
        stats = (await api.ask("GET", "/gateway/stats")).json
        assert (stats["completed"], stats["missed"], stats["models"][0]["model"]) == (1, 1, "m")
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert b"/v1/chat/completions" in kept
    assert WISH.encode() not in kept


async def test_who_failed_is_kept_with_what_was_considered_instead(tmp_path: Path) -> None:
    async with FakeBackend(["m"]) as bad, FakeBackend(["m"]) as good:
        bad.script(faults.status(503))
        async with managed(tmp_path, backends=(f"bad={bad.url}", f"good={good.url}")) as api:
            assert [await chat(api, "m"), await chat(api, "m")] == [200, 200]
            (reroute,) = (await asked(api, "/gateway/events/recent", 1))["items"]
            told = reroute["data"]
            assert (told["backend"], told["reason"], told["attempt"]) == ("bad", "busy", 1)
            events = (await asked(api, f"/gateway/events/recent?types={EVERY}", 8))["items"]
            story = [event for event in events if event["data"]["request_id"] == told["request_id"]]
            assert [event["type"] for event in story] == [
                "request_start",
                "request_routed",
                "request_reroute",
                "request_routed",
                "request_success",
            ]
            first, second = story[1]["data"], story[3]["data"]
            assert (first["instance_url"], first["attempt"]) == ("bad", 1)
            assert (second["instance_url"], second["attempt"]) == ("good", 2)
            assert [one["backend"] for one in first["candidates"]] == ["bad", "good"]
            assert first["candidates"][0]["value"]["priority"] == 0
            assert {one["backend"]: one.get("why_not") for one in second["candidates"]} == {
                "good": None,
                "bad": "tried",
            }
            times = [event["timestamp"] for event in story]
            assert times == sorted(times)


async def test_requests_are_found_by_what_they_are_and_paged(tmp_path: Path) -> None:
    async with FakeBackend(["m", "n"]) as fake, managed(tmp_path, backends=(f"one={fake.url}",)) as api:
        for model in ("m", "n", "m", "none"):
            await chat(api, model)
        await asked(api, "/gateway/requests", 4)

        async def found(query: str) -> list[Any]:
            told = (await api.ask("GET", f"/gateway/requests?{query}")).json
            return [told["total"], *(item["model"] for item in told["items"])]

        assert await found("status=missed") == [1, "none"]
        assert await found("status=success&model=m&request_type=chat") == [2, "m", "m"]
        assert await found("request_type=embedding") == [0]
        assert await found("host_id=h") == [0]
        assert await found("limit=1&page=3&status=all") == [4, "n"]
        assert await found("to=2020-01-01") == [0]


async def test_a_host_is_told_by_the_name_that_it_has_now(tmp_path: Path) -> None:
    async with FakeAgent("v1", api_key="agent-key") as agent, managed(tmp_path) as api:
        instance = await agent.add("llama:8b")
        fleet, router = api.gateway._desk.fleet, api.gateway.router
        await fleet.ready()
        host = await fleet.add(NewHost("before", agent.url, "agent-key"))
        await fleet.patch(host.id, HostPatch(name="after"))
        async with asyncio.timeout(20):
            while "llama:8b" not in {model.id for status in router.backends for model in status.models}:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await chat(api, "llama:8b") == 200
        (item,) = (await asked(api, f"/gateway/requests?host_id={host.id}", 1))["items"]
        assert (item["host_name"], item["instance_id"], item["backend"]) == ("after", instance.id, None)


async def test_why_nobody_could_be_asked_is_kept(tmp_path: Path) -> None:
    async with (
        FakeBackend(["m"]) as fake,
        managed(tmp_path, backends=(f"one={fake.url}",), health_check_interval=0.05) as api,
    ):
        fake.die()
        async with asyncio.timeout(20):
            while api.gateway.router.backends[0].state != "down":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await chat(api, "m") == 503
        (error,) = (await asked(api, "/gateway/events/recent?types=request_error", 1))["items"]
        assert error["data"]["candidates"] == [{"backend": "one", "why_not": "down"}]


async def test_where_no_days_are_kept_nothing_is(tmp_path: Path) -> None:
    async with FakeBackend(["m"]) as fake, managed(tmp_path, backends=(f"one={fake.url}",), request_log_days=0) as api:
        assert await chat(api, "m") == 200
        assert api.gateway.router.on_record is None
        assert (await api.ask("GET", "/gateway/state")).json["store"]["state"] == "unused"
    assert not (tmp_path / "data").exists()


def test_missed_is_only_what_nobody_was_asked_for() -> None:
    refused = record(code="no_backend_available")
    assert status_of(refused) == "missed"
    refused.attempts = 1
    assert status_of(refused) == "error"


def test_a_row_has_a_value_for_each_column_and_says_what_the_books_say() -> None:
    now = time.monotonic()
    ended = record(started_at=now - 2.0, sent_at=now - 1.5, first_byte_at=now - 1.0, ended_at=now)
    ended.model, ended.resolved, ended.backend, ended.attempts, ended.stream = "m", "m:8b", "left", 1, True
    ended.end, ended.status, ended.tokens_in, ended.tokens_out, ended.queued = "success", 200, 7, 11, 0.25
    (row,) = rows_of(Places(), [ended])
    assert len(row) == len(COLUMNS)
    told = of_row(row)
    assert abs(told.ended_ms / 1000 - time.time()) < 1.0
    assert told.duration_us == pytest.approx(2_000_000, abs=2)
    assert told.sent_us == pytest.approx(500_000, abs=2)
    assert told.ttft_us == pytest.approx(1_000_000, abs=2)
    assert (told.status, told.resolved, told.backend, told.total_tokens) == ("success", "m:8b", "left", 18)
    assert (told.queued_us, told.decode_tps, told.host_id, told.trail) == (250_000, 10.0, None, None)
    assert not any(value is None or isinstance(value, bool) for value in row)


def test_an_instance_is_told_with_its_host_also_once_it_is_gone() -> None:
    places = Places()
    places._known = {"h/i": Place("h", "gpu1", "i", "http://gpu1:3500")}
    told = summary_of(record(backend="h/i", attempts=1), places)
    assert (told.host_id, told.host_name, told.instance_id, told.instance_url, told.backend) == (
        "h", "gpu1", "i", "http://gpu1:3500", None,
    )  # fmt: skip


def test_a_request_that_its_client_left_is_an_error_with_that_reason() -> None:
    *_, end = events_of(summary_of(record(end="client_gone", status=499), Places()))
    assert (end.type, end.data.error_message) == ("request_error", "the client left")
