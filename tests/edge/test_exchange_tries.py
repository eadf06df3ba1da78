"""What the books tell of a request's way: every backend that it left, and what was weighed."""

import logging

import pytest
from exchange_bench import Bench, backends

from solar.core.attempts import Outcome
from solar.core.backend import Backend
from solar.core.decision import Try
from solar.core.roster import RosterOptions


def told(tries: tuple[Try, ...]) -> list[tuple[str, str, float, float]]:
    return [(one.backend, one.outcome, one.sent_at, one.ended_at) for one in tries]


def test_a_request_that_needs_one_attempt_has_no_tries() -> None:
    bench = Bench(*backends("a", "b"))
    bench.ask()
    bench.calls[0].answer()
    [record] = bench.records
    assert record.tries == ()
    assert [(one.backend, one.why_not) for one in record.considered] == [("a", None), ("b", None)]


def test_every_backend_that_a_request_left_is_in_its_books() -> None:
    bench = Bench(*backends("a", "b", "c"))
    bench.ask()
    bench.clock.advance(2.0)
    bench.calls[0].failed(Outcome.REFUSED, "nobody listens")
    bench.clock.advance(1.0)
    bench.calls[1].failed(Outcome.CONNECT_TIMEOUT)
    bench.calls[2].answer()
    [record] = bench.records
    assert told(record.tries) == [("a", "refused", 1000.0, 1002.0), ("b", "connect timeout", 1002.0, 1003.0)]
    assert record.tries[0].detail == "a: nobody listens"
    assert (record.backend, record.attempts) == ("c", 3)
    assert [one.backend for one in record.tries[0].considered] == ["a", "b", "c"]
    assert [(one.backend, one.why_not) for one in record.considered] == [("c", None), ("a", "tried"), ("b", "tried")]


def test_the_last_attempt_is_no_try_even_where_it_failed() -> None:
    bench = Bench(*backends("a", "b"))
    bench.ask()
    bench.calls[0].failed(Outcome.RESET)
    bench.calls[1].failed(Outcome.RESET)
    [record] = bench.records
    assert [one.backend for one in record.tries] == ["a"]
    assert (record.backend, record.attempts, record.end) == ("b", 2, "failed")


def test_an_answer_that_was_held_tells_of_the_attempt_behind_it() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].answer(status=500)
    bench.calls[1].failed(Outcome.RESET)
    [record] = bench.records
    assert client.status == 500
    assert [(one.backend, one.outcome) for one in record.tries] == [("a", "failed"), ("b", "reset")]
    assert (record.backend, record.attempts) == ("a", 2)


def test_an_answer_that_was_held_is_of_the_model_as_its_backend_calls_it() -> None:
    bench = Bench(
        Backend("a", "http://a:80", models=("m-q4",), aliases={"m": "m-q4"}),
        Backend("b", "http://b:80", models=("m-q8",), aliases={"m": "m-q8"}),
    )
    bench.ask()
    bench.calls[0].answer(status=500)
    bench.calls[1].failed(Outcome.RESET)
    [record] = bench.records
    assert (record.backend, record.resolved) == ("a", "m-q4")


def test_who_waits_after_a_failure_keeps_it_in_the_books() -> None:
    bench = Bench(*backends("a", "b", max_in_flight=1), roster=RosterOptions(queue_seconds=5.0))
    bench.ask()
    bench.ask()
    bench.calls[1].failed(Outcome.REFUSED)
    bench.clock.advance(6.0)
    bench.relay.tick(bench.clock())
    [record] = bench.records
    assert (record.code, record.attempts, [one.backend for one in record.tries]) == ("queue_timeout", 1, ["b"])
    assert [(one.backend, one.why_not) for one in record.considered] == [("a", "full"), ("b", "tried")]


def test_a_failure_is_written_down_once_however_long_it_waits() -> None:
    bench = Bench(*backends("a", "b", max_in_flight=1))
    bench.ask()
    bench.ask()
    bench.calls[1].failed(Outcome.REFUSED)
    bench.calls[0].answer()
    bench.calls[2].answer()
    record = bench.records[-1]
    assert (record.backend, record.attempts, [one.backend for one in record.tries]) == ("a", 2, ["b"])


def test_who_could_not_be_sent_knows_why_the_others_were_not_taken() -> None:
    bench = Bench(*backends("a", "b"))
    for name in ("a", "b"):
        bench.member(name).health.failed(0.0, "nobody listens", 0.5, refused=True)
    bench.ask()
    assert [(one.backend, one.why_not) for one in bench.records[0].considered] == [("a", "down"), ("b", "down")]


def test_a_large_fleet_leaves_a_small_record() -> None:
    bench = Bench(*backends(*(f"b{n:02}" for n in range(40))))
    bench.ask()
    bench.calls[0].answer()
    assert len(bench.records[0].considered) == 16


# --- who is told


class Heard:
    """What the hooks of a bench were told, in order."""

    def __init__(self, bench: Bench) -> None:
        self.all: list[tuple[str, str]] = []
        bench.hooks.on_start = lambda record: self.all.append(("start", record.model))
        bench.hooks.on_routed = lambda record: self.all.append(("routed", record.backend))
        bench.hooks.on_reroute = lambda record, left: self.all.append(("reroute", left.backend))
        bench.hooks.on_record = lambda record: self.all.append((record.end, record.backend))


def test_hooks_hear_of_a_request_as_it_goes() -> None:
    bench = Bench(*backends("a", "b"))
    heard = Heard(bench)
    bench.ask()
    assert heard.all == [("start", "m"), ("routed", "a")]
    bench.calls[0].failed(Outcome.REFUSED)
    bench.calls[1].answer()
    assert heard.all[2:] == [("reroute", "a"), ("routed", "b"), ("success", "b")]


def test_who_waits_has_started_and_is_not_routed() -> None:
    bench = Bench(*backends("a", max_in_flight=1))
    bench.ask()
    heard = Heard(bench)
    bench.ask()
    assert heard.all == [("start", "m")]
    bench.calls[0].answer()
    assert heard.all[1:] in ([("routed", "a"), ("success", "a")], [("success", "a"), ("routed", "a")])


def test_it_is_routed_before_the_backend_can_answer() -> None:
    bench = Bench(*backends("a"))
    seen: list[tuple[int, float | None, int]] = []
    bench.hooks.on_routed = lambda record: seen.append((record.attempts, record.sent_at, len(bench.calls)))
    bench.ask()
    assert seen == [(1, 1000.0, 0)]


@pytest.mark.parametrize("hook", ["on_start", "on_routed", "on_reroute", "on_record"])
def test_a_hook_that_raises_harms_no_request(hook: str, caplog: pytest.LogCaptureFixture) -> None:
    def raises(*_: object) -> None:
        raise ValueError("no use")

    bench = Bench(*backends("a", "b"))
    setattr(bench.hooks, hook, raises)
    with caplog.at_level(logging.ERROR, "solar"):
        _, client = bench.ask()
        bench.calls[0].failed(Outcome.REFUSED)
        bench.calls[1].answer()
    assert client.status == 200
    assert [record.end for record in bench.records] == ["success"]
    assert "hook failed" in caplog.text
    assert "no use" in caplog.text
    bench.assert_closed()
