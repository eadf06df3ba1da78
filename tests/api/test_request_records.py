import asyncio
import json
from pathlib import Path

from managed import Managed, managed

from solar.control.records import status_of
from solar.core.record import Record
from solar.testing import FakeBackend


async def asked(api: Managed, path: str, count: int) -> dict:  # type: ignore[type-arg]
    """The records, once there are that many."""
    async with asyncio.timeout(20):
        while len((told := (await api.ask("GET", path)).json)["items"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return told  # type: ignore[no-any-return]


async def test_what_became_of_a_request_is_kept_and_what_was_said_is_not(tmp_path: Path) -> None:
    async with FakeBackend(["m"]) as fake, managed(tmp_path, backends=(f"one={fake.url}",)) as api:
        body = {"model": "m", "messages": [{"role": "user", "content": "a secret wish"}]}
        assert (await api.ask("POST", "/v1/chat/completions", json.dumps(body).encode())).status == 200
        body["model"] = "none"
        assert (await api.ask("POST", "/v1/chat/completions", json.dumps(body).encode())).status == 404
        told = await asked(api, "/gateway/requests", 2)
        assert [(one["status"], one["model"], one["attempts"]) for one in told["items"]] == [
            ("missed", "none", 0),
            ("success", "m", 1),
        ]
        assert "secret wish" not in json.dumps(told)
        every = "request_start,request_routed,request_success,request_error"
        events = await asked(api, f"/gateway/events/recent?types={every}", 5)
        assert [event["type"] for event in events["items"]] == [
            "request_start",
            "request_routed",
            "request_success",
            "request_start",
            "request_error",
        ]
        stats = (await api.ask("GET", "/gateway/stats")).json
        assert (stats["completed"], stats["missed"], stats["models"][0]["model"]) == (1, 1, "m")


async def test_where_no_days_are_kept_nothing_is(tmp_path: Path) -> None:
    async with managed(tmp_path, request_log_days=0) as api:
        assert api.gateway.router.on_record is None


def test_missed_is_only_what_nobody_was_asked_for() -> None:
    record = Record("r", method="POST", path="/v1/chat/completions", endpoint="chat", client="", started_at=0.0)
    record.code = "no_backend_available"
    assert status_of(record) == "missed"
    record.attempts = 1
    assert status_of(record) == "error"
