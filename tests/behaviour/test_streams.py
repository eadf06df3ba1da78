"""Streams reach the client byte for byte."""

from __future__ import annotations

from raw_wire import STREAM
from solar.testing import FakeBackend


async def test_a_stream_reaches_the_client(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        got = await gw.ask(STREAM)
        assert (got.status, got.whole, got.events[-1]) == (200, True, b"data: [DONE]")
        assert gw.in_flight == 0
