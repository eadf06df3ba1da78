"""A backend that fails is ejected for a while that grows; if all are, the least bad is asked."""

from __future__ import annotations

import pytest
from gateways import fakes, until

from raw_wire import STREAM
from solar.testing import faults

pytestmark = pytest.mark.doors("uvicorn")

FAILURES = [faults.reset_before_head(), faults.garbage(), faults.status(502), faults.status(504)]


async def fail(gw, fake, fault, times=3):
    fake.script(*[fault] * times)
    for _ in range(times):
        assert (await gw.ask()).headers["x-solar-backend"] == "b"


@pytest.mark.parametrize("fault", FAILURES, ids=repr)
async def test_three_failures_in_a_row_eject(gateway, fault):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        await fail(gw, a, fault, times=2)
        assert gw.backend("a").state == "healthy"
        await fail(gw, a, fault, times=1)
        assert gw.backend("a").state == "ejected"
        for _ in range(5):
            await gw.ask()
        assert (len(a.inference), len(b.inference)) == (3, 8)


@pytest.mark.parametrize("fault", [faults.reset_after(2), faults.clean_end_after(2)], ids=repr)
async def test_a_break_in_mid_stream_counts(gateway, fault):
    async with fakes(1) as (fake,), gateway(fake) as gw:
        fake.script(fault, fault, fault)
        for _ in range(3):
            assert not (await gw.ask(STREAM)).whole
        assert gw.backend("a").state == "ejected"


@pytest.mark.parametrize("fault", [faults.status(503), faults.status(429), faults.status(400)], ids=repr)
async def test_what_is_busy_or_right_to_refuse_is_not_ejected(gateway, fault):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.always(fault)
        for _ in range(8):
            await gw.ask()
        assert gw.backend("a").state == "healthy"


@pytest.mark.parametrize("fault", [faults.status(503), faults.status(429)], ids=repr)
async def test_what_says_nothing_does_not_forgive_either(gateway, fault):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.script(faults.garbage(), faults.garbage(), fault, faults.garbage())
        for _ in range(4):
            assert (await gw.ask()).headers["x-solar-backend"] == "b"
        assert gw.backend("a").state == "ejected"


async def test_after_its_time_one_trial_tells_whether_it_is_back(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        await fail(gw, a, faults.reset_before_head())
        gw.later(2.1)
        a.script(faults.stall_after(1))
        async with gw.connect() as trial:
            trial.ask(STREAM)
            await trial.reader.readuntil(b"data: ")
            assert len(a.inference) == 4
            assert gw.backend("a").state == "healthy"  # its first byte is enough, however long the answer takes
            a.release()
            assert b"[DONE]" in (await trial.rest())[0]


async def test_while_the_trial_is_out_nobody_else_goes_there(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        await fail(gw, a, faults.reset_before_head())
        gw.later(2.1)
        a.script(faults.silent())
        async with gw.connect() as trial:
            trial.ask(STREAM)
            await a.wait_for(lambda: len(a.inference) == 4)
            for _ in range(3):
                assert (await gw.ask()).headers["x-solar-backend"] == "b"


async def test_a_trial_that_fails_ejects_for_longer(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        await fail(gw, a, faults.reset_before_head())
        gw.later(2.1)
        await fail(gw, a, faults.reset_before_head(), times=1)
        gw.later(2.1)
        assert (await gw.ask()).headers["x-solar-backend"] == "b"
        gw.later(2.1)
        assert (await gw.ask()).headers["x-solar-backend"] == "a"


async def test_if_all_are_ejected_the_least_bad_is_asked(gateway):
    async with fakes(2) as (a, b), gateway(a, b) as gw:
        a.always(faults.reset_before_head())
        b.always(faults.reset_before_head())
        for _ in range(3):
            assert (await gw.ask()).status == 502
        await until(lambda: [status.state for status in gw.router.backends] == ["ejected", "ejected"])
        a.always(None)
        b.always(None)
        got = await gw.ask()
        assert (got.status, got.headers["x-solar-attempts"]) == (200, "1")
        assert gw.backend(got.headers["x-solar-backend"]).state == "healthy"
