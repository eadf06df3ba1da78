"""From when on a request's time is the gateway's: not while its client is still sending."""

from __future__ import annotations

from test_any_bytes import Line, State, Told

from solar.core.backend import Backend
from solar.core.record import Record
from solar.edge.frontdoor import FrontDoor
from solar.edge.hall import Hall
from solar.edge.tasks import Tasks
from solar.router import Router


async def booked(head: bytes, body: bytes) -> Record:
    """The books on a request whose head comes at 100 s, and its body at 150 s."""
    records: list[Record] = []
    backend = Backend("a", "http://a.invalid", models=("m",))
    async with Router([backend], upstream=Told(), default_backend="a") as router:
        router.on_record = records.append
        relay = router.reception.relay
        now = 100.0
        relay.clock = lambda: now
        door = FrontDoor(Hall(router.reception, State(), Tasks(router._log)))
        door.connection_made(Line())
        door.data_received(head)
        now = 150.0
        door.data_received(body)
        door.connection_lost(None)
    (record,) = records
    return record


async def test_a_prompt_that_comes_slowly_is_sent_when_it_is_here() -> None:
    record = await booked(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 13\r\n\r\n", b'{"model":"m"}')
    assert (record.started_at, record.body_at, record.sent_at, record.overhead) == (100.0, 150.0, 150.0, 0.0)


async def test_a_look_at_a_model_with_a_body_is_sent_when_that_is_here() -> None:
    record = await booked(b"GET /v1/models/other HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n", b"ok")
    assert (record.started_at, record.body_at, record.sent_at, record.overhead) == (100.0, 150.0, 150.0, 0.0)
