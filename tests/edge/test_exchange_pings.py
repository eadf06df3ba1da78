"""Comments that a backend sends while it prefills: llama-server writes one each 30 s, whatever its engine does."""

import pytest
from exchange_bench import DONE, EVENT, Bench, backends

from solar.core.stall import StallWatch

PING = b":\n\n"


def test_a_ping_reaches_the_client_and_commits_to_nothing() -> None:
    bench = Bench(*backends("a", "b"))
    exchange, client = bench.ask(stream=True)
    bench.calls[0].stream(PING)
    assert (client.status, client.body) == (200, PING)
    bench.calls[0].failed()
    bench.calls[1].stream(EVENT, DONE)
    bench.calls[1].end()
    assert client.body == PING + EVENT + DONE
    assert client.ended
    assert exchange.record.attempts == 2


def test_a_ping_is_no_first_byte_and_no_sign_that_the_engine_moves() -> None:
    bench = Bench(*backends("a"))
    exchange, _ = bench.ask(stream=True)
    stall: StallWatch = bench.member("a").stall
    for _ in range(3):
        bench.later(10)
        (bench.calls[0].stream if exchange.record.status == 0 else bench.calls[0].chunk)(PING)
    assert exchange.record.first_byte_at is None
    assert not stall.learned
    assert stall.grade == "suspect"


def test_pings_in_the_middle_of_a_stream_do_not_hide_that_nothing_comes() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    for _ in range(5):
        bench.later(10)
        if not client.over:
            bench.calls[0].chunk(PING)
    assert client.aborted
    assert b"upstream_stalled" in client.body


@pytest.mark.parametrize("rest", [b':1,"choices":[]}\n\n', b": no comment\n\n"])
def test_what_goes_on_with_an_event_is_no_ping(rest: bytes) -> None:
    bench = Bench(*backends("a"))
    exchange, client = bench.ask(stream=True)
    bench.calls[0].stream(b'data: {"a"', rest)
    assert exchange.record.first_byte_at is not None
    assert client.body == b'data: {"a"' + rest
