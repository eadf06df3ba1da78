"""Before the first byte another backend may be tried, by rules; after it, never."""

from __future__ import annotations

import json

import pytest
from gateways import backend, fakes

from raw_wire import CHAT, STREAM
from solar.core.backend import Timeouts
from solar.testing import faults

pytestmark = pytest.mark.doors("uvicorn")  # the servers have no part in this

BEFORE_THE_FIRST_BYTE = [
    faults.reset_before_head(),
    faults.close_before_head(),
    faults.garbage(),
    faults.huge_head(70_000),
    faults.switching_protocols(),
    faults.lf_only(),
    faults.duplicate_content_length(),
    faults.length_and_chunked(),
    faults.reset_after(0),
    faults.fin_after(0),
    faults.clean_end_after(0),
    faults.die(),
    faults.loading(),
    faults.status(429),
    faults.status(429, retry_after=5),
    faults.status(503),
    faults.status(503, retry_after="Wed, 21 Oct 2065 07:28:00 GMT"),
    faults.status(500),
    faults.status(502),
    faults.status(504),
]


@pytest.mark.parametrize("fault", BEFORE_THE_FIRST_BYTE, ids=repr)
async def test_what_fails_before_the_first_byte_is_answered_by_another_backend(gateway, fault):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.script(fault)
        got = await gw.ask(STREAM)
        assert (got.status, got.whole, got.events[-1]) == (200, True, b"data: [DONE]")
        assert (got.headers["x-solar-backend"], got.headers["x-solar-attempts"]) == ("b", "2")
        assert (len(a.inference), len(b.inference), gw.in_flight) == (1, 1, 0)
        assert a.inference[0].body == b.inference[0].body == json.dumps(STREAM).encode()


async def test_who_refuses_connections_is_passed_over(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.stop_listening()
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-backend"], got.headers["x-solar-attempts"]) == (200, "b", "2")


async def test_who_does_not_take_connections_is_passed_over_after_the_connect_timeout(gateway):
    async with fakes(2) as (a, b), gateway(backend(a, timeouts=Timeouts(connect=0.1)), backend(b, "b")) as gw:
        a.ignore_connects()
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-backend"], len(a.inference)) == (200, "b", 0)


@pytest.mark.parametrize("fault", [faults.reset_after(1), faults.clean_end_after(1)], ids=repr)
@pytest.mark.parametrize("payload", [STREAM, CHAT])
async def test_never_retries_after_the_first_byte(gateway, fault, payload):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.script(fault)
        await gw.ask(payload)
        assert (len(a.inference), len(b.inference)) == (1, 0)
        assert (await gw.booked()).attempts == 1


@pytest.mark.parametrize("warm", [False, True])
async def test_a_request_that_crashes_engines_stops_after_two(gateway, warm):
    async with fakes(4) as all_four, gateway(*all_four) as gw:
        if warm:  # on kept connections a crash looks like one that died unused
            for _ in range(4):
                assert (await gw.ask()).status == 200
        for fake in all_four:
            fake.always(faults.die())
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-attempts"], got.headers["x-should-retry"]) == (502, "2", "false")
        assert sum(not fake._listener.listens for fake in all_four) == 2


async def test_those_that_never_took_the_request_are_all_tried_once(gateway):
    async with fakes(4) as (a, b, c, d), gateway(a, b, c, d) as gw:
        for fake in (a, b, c):
            fake.stop_listening()
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-backend"], got.headers["x-solar-attempts"]) == (200, "d", "4")
        d.die()
        got = await gw.ask()
        assert (got.status, json.loads(got.body)["error"]["type"]) == (503, "server_error")
        assert int(got.headers["retry-after"]) >= 1


async def test_a_500_from_everyone_passes_through_and_ejects_nobody(gateway):
    async with fakes(3) as (a, b, c), gateway(a, b, c) as gw:
        for fake in (a, b, c):
            fake.always(faults.status(500, body="it was your prompt", headers=(("X-Why", "prompt"),)))
        for _ in range(6):
            got = await gw.ask()
            assert (got.status, got.body, got.headers["x-why"]) == (500, b"it was your prompt", "prompt")
            assert (got.headers["x-solar-attempts"], got.headers["x-should-retry"]) == ("2", "false")
        assert [status.state for status in gw.router.backends] == ["healthy"] * 3


async def test_a_500_counts_once_another_backend_answers_the_same_request(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.always(faults.status(500))
        for _ in range(3):
            assert (await gw.ask()).status == 200
        assert (gw.backend("a").state, gw.backend("b").state) == ("ejected", "healthy")


@pytest.mark.parametrize("payload", [CHAT, STREAM], ids=["json", "stream"])
@pytest.mark.parametrize("code", [400, 401, 404, 408, 413, 422])
async def test_a_4xx_passes_through_untouched_and_counts_against_nobody(gateway, code, payload):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        for fake in (a, b):
            fake.always(faults.status(code, body='{"odd": 1}', headers=(("X-Why", "you"),)))
        for _ in range(8):
            got = await gw.ask(payload)
            assert (got.status, got.body, got.headers["x-why"]) == (code, b'{"odd": 1}', "you")
            assert got.headers["x-solar-attempts"] == "1"
        assert [status.state for status in gw.router.backends] == ["healthy", "healthy"]


async def test_who_asked_for_rest_gets_it(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.script(faults.status(429, retry_after=10))
        for _ in range(3):
            assert (await gw.ask()).headers["x-solar-backend"] == "b"
        assert (len(a.inference), len(b.inference)) == (1, 3)
        gw.later(11)
        assert (await gw.ask()).headers["x-solar-backend"] == "a"


async def test_a_429_without_retry_after_counts_for_that_request_only(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.script(faults.status(429))
        assert (await gw.ask()).headers["x-solar-backend"] == "b"
        assert (await gw.ask()).headers["x-solar-backend"] == "a"


async def test_where_all_rest_the_first_to_return_is_asked_and_answers_for_itself(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.always(faults.status(429, retry_after=20))
        b.always(faults.status(503, retry_after=10, body="busy"))
        for asked in (1, 2, 3):
            got = await gw.ask()
            assert (got.status, got.body, got.headers["retry-after"]) == (503, b"busy", "10")
            assert "x-should-retry" not in got.headers
            assert (len(a.inference), len(b.inference)) == (1, asked)


async def test_the_retry_budget_keeps_a_dying_fleet_from_being_stormed(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.always(faults.status(503, body="dying"))
        statuses = [(await gw.ask()).status for _ in range(250)]
        assert statuses[:100] == [200] * 100
        assert 503 in statuses


async def test_the_retry_budget_counts_what_breaks_too(gateway):
    async with fakes(2) as (a, b), gateway(a, backend(b, "b", priority=1)) as gw:
        a.script(*[faults.garbage(), None] * 250)
        statuses = [(await gw.ask()).status for _ in range(500)]
        assert statuses[:200] == [200] * 200
        assert 502 in statuses


@pytest.mark.parametrize(
    ("faults_of_both", "advice"),
    [
        ((faults.status(500), faults.status(500)), "false"),
        ((faults.status(502), faults.reset_before_head()), "false"),
        ((faults.status(503), faults.status(503)), "false"),
        ((faults.status(503), faults.status(503, retry_after=3)), None),
        ((faults.status(500), faults.status(400)), None),
        ((faults.status(400), None), None),
        ((None, None), None),
    ],
)
async def test_only_a_5xx_after_two_attempts_without_retry_after_forbids_a_retry(gateway, faults_of_both, advice):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.script(faults_of_both[0])
        b.script(faults_of_both[1])
        assert (await gw.ask()).headers.get("x-should-retry") == advice


async def test_a_single_500_leaves_it_to_the_client_to_retry(gateway):
    async with fakes(1) as (a,), gateway(a) as gw:
        a.script(faults.status(500))
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-attempts"]) == (500, "1")
        assert "x-should-retry" not in got.headers


async def test_a_backend_known_to_be_dead_costs_no_attempt(gateway):
    async with fakes(2) as (a, b):
        a.stop_listening()
        async with gateway(a, b) as gw:
            assert gw.backend("a").state == "down"
            for _ in range(3):
                got = await gw.ask()
                assert (got.headers["x-solar-backend"], got.headers["x-solar-attempts"]) == ("b", "1")
