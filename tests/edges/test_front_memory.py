"""What a request leaves behind: nothing that only the garbage collector could find."""

import gc
from collections import Counter
from typing import Any

import pytest
from frontwire import STREAM, chat
from gateways import reply, until

from solar.edge.connection import Connection
from solar.edge.exchange import Exchange
from solar.edge.frontdoor import FrontDoor
from solar.edge.incoming import Incoming
from solar.testing import FakeBackend

LIVING = (FrontDoor, Incoming, Exchange, Connection)


def alive() -> Counter[str]:
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, LIVING))


@pytest.mark.parametrize("body", [chat(), chat(body=STREAM)])
async def test_a_request_and_its_connection_are_gone_without_the_collectors_help(front: Any, body: bytes) -> None:
    async with FakeBackend(["m"], keepalive_requests=1) as fake, front(fake) as gw:
        async with gw.connect() as wire:  # whatever is made once is made now
            wire.writer.write(body)
            await reply(wire)
        gc.collect()
        before = alive()
        gc.disable()
        try:
            for _ in range(5):
                async with gw.connect() as wire:
                    for _ in range(3):
                        wire.writer.write(body)
                        assert (await reply(wire)).status == 200
            del wire
            await until(lambda: alive() <= before)
        finally:
            gc.enable()
