"""Stopping a router whose owner does not wait for it."""

import asyncio

import pytest

from asgi_call import Reply, post
from solar import Backend, Router
from solar.testing import FakeBackend, faults


async def test_a_stop_that_is_cut_short_ends_everything_all_the_same() -> None:
    async with FakeBackend(["m"]) as fake:
        fake.always(faults.silent())
        router = Router([Backend("one", fake.url)], drain_seconds=60.0)
        await router.start()

        async def lose_patience() -> None:
            await fake.wait_for(lambda: fake.in_flight == 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await router.stop()

        answered: Reply
        answered, _ = await asyncio.gather(post(router), lose_patience())
        assert (answered.status, repr(router)) == (503, "<Router 1 backends (1 available), 0 in flight>")
        await fake.wait_for(lambda: fake.open == 0)
        with pytest.raises(RuntimeError, match="was not started"):
            await post(router)


async def test_a_router_may_be_started_again() -> None:
    async with FakeBackend(["m"]) as fake:
        router = Router([Backend("one", fake.url)])
        for _ in range(2):
            async with router:
                assert (await post(router)).status == 200
            await router.stop()
        await fake.wait_for(lambda: fake.open == 0)
