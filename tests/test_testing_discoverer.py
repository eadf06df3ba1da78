import asyncio

import pytest

from solar import Backend, BackendFound, BackendLost, BackendsListed
from solar.testing import FakeDiscoverer

ONE = Backend("one", "http://127.0.0.1:1")


async def test_a_fake_discoverer_tells_changes_in_the_order_in_which_it_was_told_them() -> None:
    fake = FakeDiscoverer("docker")
    fake.found(ONE)
    fake.lost("one")
    fake.listed(ONE)
    changes = fake.watch()
    assert [await anext(changes) for _ in range(3)] == [BackendFound(ONE), BackendLost("one"), BackendsListed((ONE,))]
    assert repr(fake) == "<FakeDiscoverer docker, 0 changes to tell>"


async def test_a_fake_discoverer_fails_once_and_goes_on_for_who_watches_again() -> None:
    fake = FakeDiscoverer()
    fake.fails(OSError("gone"))
    fake.found(ONE)
    with pytest.raises(OSError, match="gone"):
        await anext(fake.watch())
    async with asyncio.timeout(5):
        assert await anext(fake.watch()) == BackendFound(ONE)
    assert fake.watched == 2
