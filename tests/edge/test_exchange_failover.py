"""From one backend to another: when, how often, and who is blamed."""

import json

import pytest
from exchange_bench import EVENT, JSON, SSE, Bench, backends

from solar.core.attempts import Outcome
from solar.core.backend import Timeouts
from solar.core.breaker import Breaker
from solar.core.roster import RosterOptions
from solar.edge.relay import RelayOptions

DONE = b"data: [DONE]\n\n"
UNTAKEN = [Outcome.REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.DIED_UNUSED]
TAKEN = [Outcome.RESET, Outcome.UNREADABLE]


def failures(bench: Bench, backend_id: str) -> int:
    return bench.member(backend_id).breaker._failures


def eject(bench: Bench, *names: str) -> None:
    for name in names:
        breaker = bench.member(name).breaker
        for _ in range(3):
            breaker.failed(breaker.began(bench.clock()), bench.clock())


def on_trial(bench: Bench, name: str) -> Breaker:
    """Its ejection is over: the next request there is its trial."""
    eject(bench, name)
    bench.clock.advance(2.0)
    return bench.member(name).breaker


@pytest.mark.parametrize("outcome", UNTAKEN + TAKEN)
def test_a_request_that_failed_before_its_first_byte_goes_elsewhere(outcome: Outcome) -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].failed(outcome)
    bench.calls[1].answer()
    assert (client.status, client.headers[b"x-solar-attempts"], client.headers[b"x-solar-backend"]) == (200, b"2", b"b")
    assert failures(bench, "a") == 1
    bench.assert_closed()


@pytest.mark.parametrize("outcome", UNTAKEN)
def test_what_nobody_took_may_try_everyone(outcome: Outcome) -> None:
    bench = Bench(*backends("a", "b", "c", "d"))
    _, client = bench.ask()
    for number in range(4):
        bench.calls[number].failed(outcome)
    assert len(bench.calls) == 4
    assert client.status == (502 if outcome is Outcome.DIED_UNUSED else 503)
    bench.assert_closed()


@pytest.mark.parametrize("outcome", TAKEN)
def test_what_crashes_engines_does_not_walk_through_the_fleet(outcome: Outcome) -> None:
    bench = Bench(*backends("a", "b", "c", "d"))
    _, client = bench.ask()
    bench.calls[0].failed(outcome)
    bench.calls[1].failed(outcome)
    assert (len(bench.calls), client.status) == (2, 502)
    assert client.headers[b"x-should-retry"] == b"false"
    bench.assert_closed()


def test_never_retries_after_the_first_byte() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].head(200, JSON, 2)
    bench.calls[0].chunk(b"{")
    bench.calls[0].failed()
    assert (len(bench.calls), client.aborted) == (1, True)


def test_a_stream_that_ends_before_its_first_byte_goes_elsewhere() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask(stream=True)
    bench.calls[0].head(200, SSE)
    bench.calls[0].end()
    bench.calls[1].stream(EVENT, DONE)
    bench.calls[1].end()
    assert (client.body, client.ended, failures(bench, "a")) == (EVENT + DONE, True, 1)


def test_a_spent_budget_stops_the_storm() -> None:
    bench = Bench(*backends("a", "b"))
    bench.roster.budget._tokens = bench.roster.budget.most = 0.0
    _, lost = bench.ask()
    bench.calls[0].failed()
    _, refused = bench.ask()
    bench.calls[1].answer(503)
    assert (len(bench.calls), lost.status, refused.status) == (2, 502, 503)


# --- a failing answer is held while another backend is asked


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failing_answer_is_held_and_forgotten_when_another_answers(status: int) -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].answer(status, JSON, b"a's own words")
    bench.calls[1].answer(200, JSON, b"{}")
    assert (client.status, client.body, client.headers[b"x-solar-backend"]) == (200, b"{}", b"b")
    bench.assert_closed()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_it_is_the_answer_where_nobody_does_better(status: int) -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].answer(status, [*JSON, (b"retry-after", b"7")], b"a's own words")
    bench.calls[1].failed(Outcome.REFUSED)
    assert (client.status, client.body, client.headers[b"content-length"]) == (status, b"a's own words", b"13")
    assert (client.headers[b"retry-after"], client.headers[b"x-solar-backend"]) == (b"7", b"a")
    assert (bench.records[0].backend, bench.records[0].attempts) == ("a", 2)
    bench.assert_closed()


def test_without_another_backend_it_passes_at_once() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask()
    bench.calls[0].head(503, JSON, 2)
    bench.calls[0].chunk(b"{}")
    assert (client.status, client.body) == (503, b"{}")


def test_one_that_is_ejected_or_rests_is_no_better() -> None:
    bench = Bench(*backends("a", "b", "c"))
    eject(bench, "b")
    bench.roster.rests.rest("c", "m", bench.clock() + 10)
    _, client = bench.ask()
    bench.calls[0].answer(503)
    assert (len(bench.calls), client.status) == (1, 503)


@pytest.mark.parametrize("how", ["too large", "too slow", "cut"])
def test_one_that_does_not_arrive_is_not_waited_for(how: str) -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].head(503, JSON)
    bench.calls[0].chunk(b"x" * 1000)
    if how == "too large":
        bench.calls[0].chunk(b"x" * 70_000)
    elif how == "too slow":
        bench.later(5.5)
    else:
        bench.calls[0].failed()
    assert bench.calls[0].over
    bench.calls[1].failed(Outcome.REFUSED)
    assert (client.status, json.loads(client.body)["error"]["code"]) == (503, "no_backend_available")
    bench.assert_closed()


def test_a_client_that_leaves_meanwhile_leaves_both() -> None:
    bench = Bench(*backends("a", "b"))
    exchange, client = bench.ask()
    bench.calls[0].head(500, JSON)
    client.left = True
    exchange.client_gone()
    assert (bench.calls[0].aborted, len(bench.calls)) == (True, 1)
    bench.assert_closed()


def test_a_drained_client_that_leaves_meanwhile_is_sent_nowhere_else() -> None:
    bench = Bench(*backends("a", "b", cancel="drain"))
    exchange, client = bench.ask()
    bench.calls[0].head(500, JSON)
    client.left = True
    exchange.client_gone()
    bench.calls[0].end()
    assert (len(bench.calls), bench.records[0].end) == (1, "client_gone")
    bench.assert_closed()


def test_a_model_that_leaves_meanwhile_costs_no_answer() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].answer(500, JSON, b"a's own words")
    for name in "ab":
        bench.roster.sources.drop("static", name)
    bench.roster.sync()
    bench.calls[1].failed(Outcome.REFUSED)
    assert (client.status, client.body) == (500, b"a's own words")


# --- 429 and 503 let a model rest


def test_a_busy_model_rests_for_as_long_as_it_asks() -> None:
    bench = Bench(*backends("a", "b"))
    bench.ask()
    bench.calls[0].answer(429, [*JSON, (b"retry-after", b"20")])
    bench.calls[1].answer()
    for number in range(2, 5):
        bench.ask()
        assert bench.calls[number].backend == "b"
        bench.calls[number].answer()
    bench.clock.advance(20.0)
    bench.ask()
    assert bench.calls[5].backend == "a"
    assert failures(bench, "a") == 0


def test_a_date_and_milliseconds_are_understood() -> None:
    for header in ((b"retry-after-ms", b"4000"), (b"retry-after", b"Fri, 15 Jan 2027 08:00:04 GMT")):
        bench = Bench(*backends("a"))
        bench.ask()
        bench.calls[0].answer(429, [*JSON, header])
        assert bench.roster.rests.until("a", "m", bench.clock()) == bench.clock() + 4.0


def test_if_all_rest_the_first_to_return_is_asked() -> None:
    bench = Bench(*backends("a", "b"))
    bench.roster.rests.rest("a", "m", bench.clock() + 20)
    bench.roster.rests.rest("b", "m", bench.clock() + 10)
    _, client = bench.ask()
    assert bench.calls[0].backend == "b"
    bench.calls[0].answer(429, [*JSON, (b"retry-after", b"10")], b"b's own words")
    assert (client.status, client.body, client.headers[b"retry-after"]) == (429, b"b's own words", b"10")


def test_a_503_makes_a_probe_look_at_once() -> None:
    bench = Bench(*backends("a"))
    bench.member("a").health.passed(bench.clock(), 0.5)
    bench.ask()
    bench.calls[0].answer(503)
    assert bench.member("a").health.due(bench.clock())


# --- who is blamed for a 500


def test_a_500_counts_where_another_backend_answers() -> None:
    bench = Bench(*backends("a", "b"))
    bench.ask()
    bench.calls[0].answer(500)
    assert failures(bench, "a") == 0
    bench.calls[1].head(200, JSON)
    assert failures(bench, "a") == 0
    bench.calls[1].chunk(b"{")
    assert failures(bench, "a") == 1


@pytest.mark.parametrize("second", [400, 500, 503])
def test_a_500_that_nobody_contradicts_is_the_requests_own(second: int) -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].answer(500)
    bench.calls[1].answer(second)
    assert client.status == second
    assert (failures(bench, "a"), failures(bench, "b")) == (0, 0)
    bench.assert_closed()


def test_502_and_504_count_at_once() -> None:
    for status in (502, 504):
        bench = Bench(*backends("a"))
        bench.ask()
        bench.calls[0].answer(status)
        assert failures(bench, "a") == 1


# --- trials of an ejected backend


@pytest.mark.parametrize("second", ["200", "400", "500", "503", "refused", "reset", "broken", "left", "late", "shut"])
@pytest.mark.parametrize("first", [429, 500, 502, 503])
def test_no_trial_is_lost_whatever_comes_after_its_failing_answer(first: int, second: str) -> None:
    bench = Bench(*backends("a", "b", timeouts=Timeouts(first_byte=3.0)))
    breaker = on_trial(bench, "a")
    exchange, client = bench.ask()
    assert (bench.calls[0].backend, breaker.state) == ("a", "half-open")
    bench.calls[0].answer(first)
    if second.isdigit():
        bench.calls[1].answer(int(second))
    elif second == "left":
        client.left = True
        exchange.client_gone()
    elif second == "broken":
        bench.calls[1].head(500, JSON, 9)
        bench.calls[1].chunk(b"{")
        bench.calls[1].failed()
    elif second == "late":
        bench.later(4.0)
    elif second == "shut":
        bench.relay.shut()
    else:
        bench.calls[1].failed(Outcome.REFUSED if second == "refused" else Outcome.RESET)
    assert exchange.closed
    assert breaker.admits(breaker.returns_at)
    bench.assert_closed()


def test_a_trial_that_begins_to_answer_has_passed_however_long_it_takes() -> None:
    bench = Bench(*backends("a"))
    breaker = on_trial(bench, "a")
    bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    assert breaker.state == "closed"


def test_who_is_asked_beside_a_trial_does_not_speak_for_it() -> None:
    bench = Bench(*backends("a"))
    breaker = on_trial(bench, "a")
    bench.ask(stream=True)
    beside, client = bench.ask(stream=True)  # the least bad of all that are ejected
    bench.calls[1].stream(EVENT)
    client.left = True
    beside.client_gone()
    assert (breaker.state, breaker.admits(bench.clock())) == ("half-open", False)
    bench.calls[0].stream(EVENT)
    assert breaker.state == "closed"


def test_breaking_streams_eject_and_a_trial_brings_back() -> None:
    bench = Bench(*backends("a"))
    for _ in range(3):
        bench.ask(stream=True)
        bench.calls[-1].stream(EVENT)
        bench.calls[-1].failed()
    assert bench.member("a").breaker.state == "open"
    bench.clock.advance(2.0)
    bench.ask()
    bench.calls[-1].answer()
    assert bench.member("a").breaker.state == "closed"


# --- stalls


def silent(bench: Bench, seconds: float = 40.0) -> None:
    bench.later(seconds)
    assert bench.member("a").stall.stalled


def test_a_request_without_a_first_byte_moves_from_a_stalled_backend_once() -> None:
    bench = Bench(*backends("a", "b", "c"))
    _, client = bench.ask(stream=True)
    silent(bench)
    assert (bench.calls[0].aborted, bench.calls[1].backend) == (True, "b")
    bench.later(40.0)
    assert bench.member("b").stall.stalled
    assert (len(bench.calls), bench.calls[1].aborted) == (2, False)
    bench.calls[1].stream(EVENT, DONE)
    bench.calls[1].end()
    assert client.ended
    bench.assert_closed()


def test_where_nobody_else_is_it_stays_and_may_still_be_answered() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    silent(bench)
    bench.calls[0].stream(EVENT, DONE)
    bench.calls[0].end()
    assert client.ended
    assert bench.member("a").stall.grade == "moving"


def test_an_open_stream_on_a_stalled_backend_ends_truthfully() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    silent(bench)
    assert client.body.startswith(EVENT)
    assert b'data: {"error"' in client.body
    assert (bench.records[0].code, client.aborted, bench.calls[0].aborted) == ("upstream_stalled", True, True)
    bench.assert_closed()


def test_an_open_answer_that_is_no_stream_is_left_to_its_timeouts() -> None:
    bench = Bench(*backends("a", "b"))
    bench.ask(stream=True)
    plain, _ = bench.ask()
    bench.calls[1].head(200, JSON, 9)
    bench.calls[1].chunk(b"{")
    bench.member("b").stall.evidence("proof")
    bench.relay.stalled(bench.member("b"), bench.clock())
    assert not plain.closed


def test_a_held_answer_of_a_stalled_backend_is_given_up_by_its_own_clock() -> None:
    bench = Bench(*backends("a", "b"))
    exchange, _ = bench.ask()
    bench.calls[0].head(500, JSON)
    exchange.stalled(bench.clock(), "proof")
    assert (len(bench.calls), bench.calls[0].aborted) == (1, False)


def test_bytes_that_nobody_acknowledges_are_evidence_at_once() -> None:
    bench = Bench(*backends("a", "b"))
    bench.ask(stream=True)
    bench.calls[0].silent = True
    bench.later(3.5)
    assert bench.member("a").stall.stalled_reason == "bytes that were sent to it stay unacknowledged"
    assert bench.calls[1].backend == "b"


def test_one_that_moves_again_is_forgiven() -> None:
    bench = Bench(*backends("a", "b"))
    bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    bench.later(3.0)
    assert bench.member("a").stall.grade == "suspect"
    bench.calls[0].chunk(EVENT)
    assert bench.member("a").stall.grade == "moving"


# --- places


def test_a_request_that_lost_its_backend_waits_for_a_full_one() -> None:
    bench = Bench(*backends("a", "b", max_in_flight=1), roster=RosterOptions(queue_seconds=10.0))
    bench.ask()
    _, client = bench.ask()
    bench.calls[0].failed(Outcome.REFUSED)
    assert len(bench.roster.room) == 1
    bench.calls[1].answer()
    bench.calls[2].answer()
    assert (client.ended, bench.calls[2].backend) == (True, "b")
    bench.assert_closed()


def test_however_many_wait_a_transport_that_fails_at_once_fails_them_all_in_turn() -> None:
    bench = Bench(*backends("a", max_in_flight=1))
    clients = [bench.ask()[1] for _ in range(600)]
    bench.transport.answers = lambda call: call.failed(Outcome.RESET)
    bench.calls[0].failed(Outcome.RESET)
    assert [record.id for record in bench.records] == [*(f"r{n}" for n in range(2, 601)), "r1"]
    assert {client.status for client in clients} == {502}
    bench.assert_closed()


def test_unacknowledged_bytes_move_a_request_that_does_not_stream() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    (call,) = bench.calls
    call.silent = True
    bench.later(1.0)
    assert not call.aborted
    bench.later(2.0)
    assert call.aborted
    bench.calls[1].answer()
    assert (client.status, client.headers[b"x-solar-attempts"]) == (200, b"2")


# --- a 503 that says "loading" before any probe does

LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


def test_an_engines_own_loading_answer_is_waited_for_where_that_is_wanted() -> None:
    bench = Bench(*backends("a"), options=RelayOptions(hold_while_loading=True))
    exchange, client = bench.ask()
    bench.calls[0].answer(503, JSON, LOADING)
    assert (client.status, bench.member("a").health.state) == (0, "loading")
    bench.member("a").health.passed(bench.clock(), 0.0)
    bench.later(0.25)
    bench.calls[1].answer()
    assert (client.status, exchange.record.attempts) == (200, 2)
    bench.assert_closed()


@pytest.mark.parametrize(("hold", "body"), [(False, LOADING), (True, b"no room")])
def test_any_other_503_passes_through_where_nobody_else_is_there(hold: bool, body: bytes) -> None:
    bench = Bench(*backends("a"), options=RelayOptions(hold_while_loading=hold))
    _, client = bench.ask()
    bench.calls[0].answer(503, JSON, body)
    assert (client.status, client.body, client.ended) == (503, body, True)


def test_only_a_request_that_really_went_elsewhere_counts_as_retried() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask()
    bench.calls[0].failed(Outcome.REFUSED)
    bench.calls[1].failed(Outcome.REFUSED)
    assert client.status == 503
    text = bench.relay.metrics.render(None)[0].decode()
    assert [line for line in text.splitlines() if line.startswith("solar_retries_total{")] == [
        'solar_retries_total{backend="a",outcome="refused"} 1'
    ]
