"""However a request ends, one line tells of it, the counters have it, and nothing is left open."""

import logging
import shlex
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from asgi_call import CHAT, Call, get, post, routed
from solar import Router
from solar.core.record import Record
from solar.testing import FakeBackend, Fault, faults

STREAM = b'{"model":"m","stream":true}'


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What was logged of requests; filled as it happens."""
    kept: list[str] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("request "):
                kept.append(record.getMessage())

    logger = logging.getLogger("solar")
    handler = Keeps()
    logger.addHandler(handler)
    with caplog.at_level(logging.INFO, "solar"):
        yield kept
    logger.removeHandler(handler)


async def numbers(router: Router) -> dict[str, float]:
    """The sums of all samples, by name."""
    page = (await get(router, "/metrics")).body.decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


ENDS: list[tuple[Fault | None, bytes, int, str]] = [
    (None, b'{"model":"m"}', 200, "success"),
    (None, STREAM, 200, "success"),
    (None, b"{", 400, "rejected"),
    (None, b'{"model":"other"}', 404, "rejected"),
    (faults.status(400), b'{"model":"m"}', 400, "rejected"),
    (faults.status(429), b'{"model":"m"}', 429, "rejected"),
    (faults.status(500), b'{"model":"m"}', 500, "failed"),
    (faults.reset_before_head(), b'{"model":"m"}', 502, "failed"),
    (faults.garbage(), b'{"model":"m"}', 502, "failed"),
    (faults.fin_after(2), STREAM, 200, "broken"),
    (faults.reset_after(2), STREAM, 200, "broken"),
    (faults.no_done(), STREAM, 200, "success"),
]


@pytest.mark.parametrize(("fault", "body", "status", "end"), ENDS, ids=range(len(ENDS)))
async def test_however_a_request_ends_its_books_are_closed(
    fault: Fault | None, body: bytes, status: int, end: str, lines: list[str]
) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        records: list[Record] = []
        router.on_record = records.append
        fake.always(fault)
        request = Call(router, "POST", CHAT, headers=[("x-request-id", "r1")])
        request.send(body)
        reply = await request.answered()
        assert (reply.status, len(records)) == (status, 1)
        assert (records[0].status, records[0].end) == (status, end)
        assert [line.split()[1] for line in lines] == ["id=r1"]
        assert f" status={status} end={end} " in lines[0]
        counted = await numbers(router)
        assert counted["solar_requests_total"] == 1
        for left in ("solar_backend_in_flight", "solar_open_exchanges", "solar_buffered_bytes"):
            assert counted[left] == 0


async def test_a_client_that_leaves_is_booked_as_gone(lines: list[str]) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        fake.script(faults.silent())
        request = Call(router, "POST", CHAT, headers=[("x-request-id", "r1")])
        request.send(b'{"model":"m"}')
        await fake.wait_for(lambda: fake.in_flight == 1)
        assert (await numbers(router))["solar_backend_in_flight"] == 1
        request.leave()
        await request.answered()
        assert " status=499 end=client_gone " in lines[0]
        assert (await numbers(router))["solar_backend_in_flight"] == 0


async def test_a_line_names_what_was_asked_and_who_answered(lines: list[str]) -> None:
    async with FakeBackend(["m:latest"]) as fake, FakeBackend(["m"]) as other, routed(fake, other) as router:
        fake.script(faults.status(503))
        await post(router, b'{"model":"m","stream":true,"messages":[{"role":"user","content":"a secret"}]}')
        assert " endpoint=chat model=m backend=two status=200 end=success attempts=2 " in lines[0]
        assert " client=127.0.0.1" in lines[0]
        assert "secret" not in lines[0]


async def test_a_line_cannot_be_forged(lines: list[str]) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        await post(router, {"model": "x end=success status=200"}, headers=[("x-request-id", 'a="b"')])
        assert len(lines) == 1
        fields = [field.split("=", 1) for field in shlex.split(lines[0])[1:]]
        assert [value for name, value in fields if name in ("id", "status", "end")] == ['a="b"', "404", "rejected"]


async def test_pages_and_refused_keys_are_booked_too(lines: list[str]) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, api_keys=["k"]) as router:
        await post(router, headers=[("x-api-key", "wrong")])
        await get(router, "/nowhere", headers=[("x-api-key", "k")])
        await get(router, "/v1/models", headers=[("x-api-key", "k")])
        assert [line.partition(" status=")[2][:3] for line in lines] == ["401", "404", "200"]
        assert "wrong" not in "".join(lines)


async def test_metrics_count_attempts_retries_and_tokens() -> None:
    async with FakeBackend(["m"]) as fake, FakeBackend(["m"]) as other, routed(fake, other) as router:
        fake.script(faults.status(503))
        await post(router)
        await post(router, b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}')
        await post(router, STREAM)
        counted = await numbers(router)
        assert counted["solar_requests_total"] == 3
        assert (counted["solar_attempts_total"], counted["solar_retries_total"]) == (4, 1)
        assert counted["solar_tokens_total"] > 0
        assert counted["solar_stream_events_total"] > 0
        assert counted["gen_ai_server_request_duration_seconds_count"] == 3


async def test_names_that_clients_make_up_do_not_become_labels() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        for n in range(50):
            await post(router, {"model": f"made-up-{n}"})
        assert b"made-up" not in (await get(router, "/metrics")).body
