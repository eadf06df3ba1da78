"""One request from its body to its end: what client, backend and time may do to it."""

import json

import pytest
from exchange_bench import DONE, EVENT, JSON, SSE, Bench, Call, Transport, backends

from solar.core.attempts import Outcome
from solar.core.backend import Backend, Model, Timeouts
from solar.core.roster import RosterOptions
from solar.edge.relay import RelayOptions


def error_of(body: bytes) -> str:
    return json.loads(body)["error"]["code"]


# --- the usual way


def test_an_answer_passes_as_it_came() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask()
    bench.calls[0].answer(201, [*JSON, (b"x-custom", b"1"), (b"server", b"engine")], b'{"usage":{"prompt_tokens":3}}')
    assert (client.status, client.body, client.ended) == (201, b'{"usage":{"prompt_tokens":3}}', True)
    assert client.headers[b"x-custom"] == b"1"
    assert b"server" not in client.headers
    assert (client.headers[b"content-length"], client.headers[b"x-solar-backend"]) == (b"29", b"a")
    (record,) = bench.records
    assert (record.end, record.status, record.attempts, record.tokens_in) == ("success", 201, 1, 3)
    bench.assert_closed()


def test_the_head_waits_for_the_first_byte_and_the_first_byte_is_the_commit() -> None:
    bench = Bench(*backends("a", "b"))
    _, client = bench.ask(stream=True)
    bench.calls[0].head(200, SSE)
    assert client.status == 0
    bench.calls[0].chunk(EVENT)
    assert (client.status, client.body) == (200, EVENT)
    bench.calls[0].failed()
    assert len(bench.calls) == 1
    assert client.aborted


def test_an_answer_without_a_body_is_an_answer() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask()
    bench.calls[0].head(204, [], 0)
    bench.calls[0].end()
    assert (client.status, client.body, client.ended) == (204, b"", True)
    bench.assert_closed()


def test_a_stream_with_its_end_is_a_success() -> None:
    bench = Bench(*backends("a"))
    exchange, client = bench.ask(stream=True)
    assert repr(exchange) == "<Exchange r1 waiting, <Attempts 1, 0 taken, tried ['a']>>"
    bench.calls[0].stream(EVENT, EVENT[:9], EVENT[9:] + DONE)
    bench.calls[0].end()
    assert (client.body, client.ended) == (EVENT + EVENT + DONE, True)
    assert (bench.records[0].stream, bench.records[0].events, bench.records[0].end) == (True, 3, "success")
    bench.assert_closed()


def test_a_last_event_without_its_blank_line_is_not_lost() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT, b"data: [DONE]")
    bench.calls[0].end()
    assert (client.body, client.ended) == (EVENT + b"data: [DONE]", True)


@pytest.mark.parametrize("end", ["clean", "reset"])
def test_a_stream_without_its_end_says_so_and_is_cut(end: str) -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT, EVENT[:9])
    bench.calls[0].end() if end == "clean" else bench.calls[0].failed()
    assert client.body.startswith(EVENT + b'data: {"error"')
    assert (client.ended, client.aborted) == (False, True)
    assert (bench.records[0].end, bench.records[0].code) == ("broken", "upstream_cut")
    bench.assert_closed()


def test_a_connection_that_is_lost_after_the_streams_own_end_cost_nothing() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT, DONE)
    bench.calls[0].failed()
    assert (client.ended, bench.records[0].end, bench.member("a").breaker.trips) == (True, "success", 0)


def test_a_stream_whose_own_error_came_through_is_told_no_second_one() -> None:
    own = b'data: {"error":{"message":"out of memory"}}\n\n'
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT, own)
    bench.calls[0].failed()
    assert (client.body, client.aborted) == (EVENT + own, True)


def test_no_error_lands_inside_an_event() -> None:
    half = b"data: " + b"x" * 70_000
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(half)
    bench.calls[0].failed()
    assert (client.body, client.aborted) == (half, True)


def test_an_answer_that_is_no_stream_is_cut_without_a_word() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask()
    bench.calls[0].head(200, JSON, 100)
    bench.calls[0].chunk(b'{"half":')
    bench.calls[0].failed()
    assert (client.body, client.aborted) == (b'{"half":', True)
    assert bench.records[0].end == "broken"


def test_a_compressed_stream_passes_as_it_came() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.calls[0].head(200, [*SSE, (b"content-encoding", b"gzip")])
    bench.calls[0].chunk(b"\x1f\x8b\x00")
    assert client.body == b"\x1f\x8b\x00"
    bench.calls[0].end()
    assert client.ended


@pytest.mark.parametrize(("status", "end"), [(400, "rejected"), (404, "rejected"), (500, "failed"), (501, "failed")])
def test_a_status_passes_with_its_body(status: int, end: str) -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask()
    bench.calls[0].answer(status, JSON, b'{"detail":"as it came"}')
    assert (client.status, client.body) == (status, b'{"detail":"as it came"}')
    assert (bench.records[0].end, bench.records[0].code) == (end, f"upstream_{status}")
    assert bench.member("a").breaker.state == "closed"


def test_a_4xx_never_counts_against_a_backend() -> None:
    bench = Bench(*backends("a"))
    for _ in range(9):
        bench.ask()
        bench.calls[-1].answer(400)
    assert repr(bench.member("a").breaker) == "<Breaker closed, 0 failures in a row, 0 trips>"


def test_an_unknown_model_is_404_and_none_is_400() -> None:
    bench = Bench(*backends("a"))
    _, unknown = bench.ask(model="phi")
    _, nameless = bench.ask(model="")
    assert (unknown.status, error_of(unknown.body)) == (404, "model_not_found")
    assert nameless.status == 400
    bench.assert_closed()


def test_the_books_of_the_body_close_at_the_first_byte() -> None:
    bench = Bench(*backends("a"))
    exchange, _ = bench.ask(prompt="x" * 1000)
    assert bench.relay.buffered > 1000
    bench.calls[0].stream(EVENT)
    assert (bench.relay.buffered, exchange.request.body) == (0, b"")


# --- the client


def test_a_client_that_leaves_takes_its_backend_along() -> None:
    for moment in ("waiting", "head", "answering"):
        bench = Bench(*backends("a"))
        exchange, client = bench.ask(stream=True)
        if moment != "waiting":
            bench.calls[0].head(200, SSE)
        if moment == "answering":
            bench.calls[0].chunk(EVENT)
        client.left = True
        exchange.client_gone()
        exchange.client_gone()
        assert (bench.calls[0].aborted, exchange.closed) == (True, True)
        (record,) = bench.records
        assert (record.end, record.status) == ("client_gone", 200 if moment == "answering" else 499)
        bench.assert_closed()


def test_a_client_that_leaves_the_queue_frees_nobodys_place() -> None:
    bench = Bench(*backends("a", max_in_flight=1))
    bench.ask()
    waiting, client = bench.ask()
    client.left = True
    waiting.client_gone()
    assert (len(bench.calls), len(bench.roster.room), bench.records[0].end) == (1, 0, "client_gone")
    bench.calls[0].answer()
    bench.assert_closed()


def test_a_client_that_leaves_says_nothing_about_its_backend() -> None:
    bench = Bench(*backends("a"))
    for _ in range(9):
        exchange, client = bench.ask()
        client.left = True
        exchange.client_gone()
    assert bench.member("a").breaker.state == "closed"


def test_a_backend_that_must_not_be_interrupted_is_read_to_its_end() -> None:
    bench = Bench(*backends("a", cancel="drain"))
    exchange, client = bench.ask(stream=True)
    client.left = True
    exchange.client_gone()
    bench.calls[0].stream(EVENT, DONE)
    assert (bench.calls[0].aborted, exchange.closed) == (False, False)
    bench.calls[0].end()
    (record,) = bench.records
    assert (record.end, record.status, record.bytes_out) == ("client_gone", 499, 0)
    bench.assert_closed()


def test_a_drained_backend_is_read_again_once_its_slow_client_has_left() -> None:
    bench = Bench(*backends("a", cancel="drain"))
    exchange, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    exchange.client_full()
    assert bench.calls[0].paused
    client.left = True
    exchange.client_gone()
    assert not bench.calls[0].paused
    bench.calls[0].failed()
    assert bench.records[0].end == "client_gone"
    bench.assert_closed()


def test_a_drained_request_that_fails_goes_nowhere_else() -> None:
    for fails in ("503", "reset"):
        bench = Bench(*backends("a", "b", cancel="drain"))
        exchange, client = bench.ask()
        client.left = True
        exchange.client_gone()
        bench.calls[0].answer(503) if fails == "503" else bench.calls[0].failed()
        assert (len(bench.calls), bench.records[0].end, bench.records[0].status) == (1, "client_gone", 499)
        bench.assert_closed()


def test_a_client_that_leaves_after_the_streams_own_end_was_served() -> None:
    bench = Bench(*backends("a"))
    exchange, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT, DONE)
    client.left = True
    exchange.client_gone()
    assert not bench.calls[0].aborted
    bench.calls[0].end()
    assert bench.records[0].end == "success"
    bench.assert_closed()


def test_a_slow_client_that_leaves_at_the_streams_own_end_stops_no_reading() -> None:
    bench = Bench(*backends("a"))
    exchange, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT, DONE)
    exchange.client_full()
    client.left = True
    exchange.client_gone()
    assert not bench.calls[0].paused


def test_a_backend_that_does_not_end_behind_the_streams_own_end_is_not_waited_for() -> None:
    bench = Bench(*backends("a", timeouts=Timeouts(between_bytes=5.0)))
    left, client = bench.ask(stream=True)
    _, stays = bench.ask(stream=True)
    for call in bench.calls:
        call.stream(EVENT, DONE)
    client.left = True
    left.client_gone()
    bench.later(1.5)
    assert (bench.calls[0].aborted, bench.calls[1].aborted) == (True, False)
    bench.later(5.0)
    assert (stays.body, stays.ended) == (EVENT + DONE, True)
    assert [record.end for record in bench.records] == ["success", "success"]
    assert bench.member("a").breaker.state == "closed"
    bench.assert_closed()


def test_a_slow_client_stops_the_reading_and_its_silence_is_not_the_backends() -> None:
    bench = Bench(*backends("a", timeouts=Timeouts(between_bytes=5.0)))
    exchange, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    exchange.client_full()
    bench.later(100.0)
    assert bench.member("a").stall.grade == "moving"
    exchange.client_ready()
    assert not bench.calls[0].paused
    bench.calls[0].chunk(DONE)
    bench.calls[0].end()
    assert client.ended


def test_a_client_that_leaves_while_it_is_told_is_booked_once() -> None:
    for status, body in ((200, b"{}"), (503, b"{}")):
        bench = Bench(*backends("a"))
        exchange, client = bench.ask()
        client.on_write = exchange.client_gone
        bench.calls[0].answer(status, body=body)
        assert len(bench.records) == 1
        bench.assert_closed()


# --- time


def test_no_first_byte_in_time_is_a_504_and_is_not_tried_again() -> None:
    bench = Bench(*backends("a", "b", timeouts=Timeouts(first_byte=5.0)))
    _, client = bench.ask()
    bench.calls[0].head(200, JSON)
    bench.later(5.5)
    assert (client.status, error_of(client.body), len(bench.calls)) == (504, "upstream_timeout", 1)
    assert bench.calls[0].aborted
    bench.assert_closed()


def test_a_pause_between_bytes_breaks_a_stream() -> None:
    bench = Bench(*backends("a", timeouts=Timeouts(between_bytes=5.0)))
    _, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    bench.later(4.0)
    bench.calls[0].chunk(EVENT)
    bench.later(4.0)
    assert not client.over
    bench.later(1.5)
    assert (bench.records[0].code, client.aborted) == ("upstream_timeout", True)
    bench.assert_closed()


def test_the_whole_answer_has_a_limit_that_starts_with_the_first_attempt() -> None:
    limit = Timeouts(total=5.0)
    bench = Bench(*backends("a", timeouts=limit, max_in_flight=1))
    bench.ask(stream=True)
    _, queued = bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    bench.later(4.0)
    bench.calls[0].chunk(DONE)
    bench.calls[0].end()
    bench.calls[1].stream(EVENT)
    bench.later(4.0)
    assert not queued.over
    bench.calls[1].chunk(EVENT)
    bench.later(1.5)
    assert queued.aborted


def test_who_waits_too_long_for_a_place_is_told_to_come_back() -> None:
    bench = Bench(*backends("a", max_in_flight=1), roster=RosterOptions(queue_seconds=10.0))
    bench.ask()
    _, client = bench.ask()
    bench.later(9.5)
    assert not client.over
    bench.later(0.75)
    assert (client.status, error_of(client.body), client.headers[b"retry-after"]) == (429, "queue_timeout", b"5")
    assert bench.records[0].queued == pytest.approx(10.0, abs=0.3)
    bench.calls[0].answer()
    bench.assert_closed()


def test_a_full_queue_refuses_at_once() -> None:
    bench = Bench(*backends("a", max_in_flight=1), roster=RosterOptions(queue_limit=1))
    bench.ask()
    bench.ask()
    _, client = bench.ask()
    assert (client.status, error_of(client.body)) == (429, "queue_full")


def test_waiting_requests_go_out_in_the_order_in_which_they_came() -> None:
    bench = Bench(*backends("a", max_in_flight=1))
    for number in range(4):
        bench.ask(user=f"u{number}")
    for number in range(4):
        assert json.loads(bench.calls[number].request.body)["user"] == f"u{number}"
        bench.calls[number].answer()
    assert [record.id for record in bench.records] == ["r1", "r2", "r3", "r4"]
    bench.assert_closed()


def test_nobody_overtakes_those_who_wait() -> None:
    bench = Bench(*backends("a", max_in_flight=1))
    bench.ask(user="first")
    bench.ask(user="second")
    bench.roster.members["a"].load.in_flight -= 1  # a place that nobody was told of
    bench.ask(user="third")
    bench.roster.members["a"].load.in_flight += 1
    assert len(bench.calls) == 1
    bench.calls[0].answer()
    assert json.loads(bench.calls[1].request.body)["user"] == "second"


def test_who_waits_for_a_model_that_leaves_is_told_so() -> None:
    bench = Bench(*backends("a", max_in_flight=1))
    bench.ask()
    _, client = bench.ask()
    bench.roster.sources.drop("static", "a")
    bench.roster.sync()
    bench.later(0.25)
    assert (client.status, error_of(client.body)) == (404, "model_not_found")


def loading(bench: Bench) -> Bench:
    bench.member("a").health.loading(bench.clock(), 0.5)
    return bench


def test_a_loading_model_is_a_503_unless_it_is_waited_for() -> None:
    bench = loading(Bench(*backends("a")))
    _, client = bench.ask()
    assert (client.status, error_of(client.body), client.headers[b"retry-after"]) == (503, "model_loading", b"2")
    patient = loading(Bench(*backends("a"), options=RelayOptions(hold_while_loading=True)))
    _, client = patient.ask()
    patient.member("a").health.passed(patient.clock(), 0.5)
    patient.later(0.25)
    patient.calls[0].answer()
    assert client.ended
    patient.assert_closed()


def test_a_name_that_nobody_knows_may_belong_to_one_that_loads() -> None:
    silent = Backend("a", "http://a")
    bench = loading(Bench(silent))
    _, client = bench.ask(model="soon")
    assert (client.status, error_of(client.body)) == (503, "model_loading")
    patient = loading(Bench(silent, options=RelayOptions(hold_while_loading=True)))
    _, known = patient.ask(model="soon")
    _, unknown = patient.ask(model="never")
    patient.member("a").health.passed(patient.clock(), 0.5)
    patient.roster.reported(patient.member("a"), [Model("soon")])
    patient.later(0.25)
    patient.calls[0].answer()
    assert (known.status, unknown.status) == (200, 404)
    patient.assert_closed()


# --- keep-alive comments

COMMENT = b": keep-alive\n\n"


def test_comments_fill_the_silence_of_a_stream_that_has_begun() -> None:
    bench = Bench(*backends("a"))
    _, client = bench.ask(stream=True)
    bench.later(20.0)
    assert client.status == 0
    bench.calls[0].head(200, SSE)
    bench.later(1.0)
    assert (client.status, client.body) == (200, COMMENT)
    bench.later(14.0)
    assert client.body == COMMENT
    bench.calls[0].chunk(EVENT + EVENT[:9])
    bench.later(15.25)
    assert client.body == COMMENT + EVENT + COMMENT


@pytest.mark.parametrize("seconds", [0.0, 15.0])
def test_no_comment_where_none_is_wanted_or_none_may_stand(seconds: float) -> None:
    bench = Bench(*backends("a"), options=RelayOptions(keepalive_seconds=seconds))
    _, plain = bench.ask()
    _, inside = bench.ask(stream=True)
    bench.calls[1].stream(b"data: " + b"x" * 70_000)
    bench.calls[0].head(200, JSON)
    bench.later(19.0)
    assert (plain.body, inside.body.count(COMMENT)) == (b"", 0)


def patient_bench() -> Bench:
    return Bench(*backends("a", "b"), options=RelayOptions(keepalive_seconds=1.0, keepalive_while_waiting=True))


def test_comments_before_an_answer_are_a_choice_and_a_promise_of_200() -> None:
    bench = patient_bench()
    _, client = bench.ask(stream=True)
    bench.later(1.0)
    assert (client.status, client.headers[b"content-type"], client.body) == (200, b"text/event-stream", COMMENT)
    bench.calls[0].failed()
    bench.calls[1].stream(EVENT, DONE)
    bench.calls[1].end()
    assert (client.body, client.ended) == (COMMENT + EVENT + DONE, True)
    bench.assert_closed()


@pytest.mark.parametrize("answer", [200, 400, 500])
def test_an_answer_that_is_no_stream_after_that_is_an_error_event(answer: int) -> None:
    bench = patient_bench()
    _, client = bench.ask(stream=True)
    bench.later(1.0)
    for call in (0, 1)[: 2 if answer == 500 else 1]:
        bench.calls[call].head(answer, JSON, 2)
        if not bench.calls[call].over:
            bench.calls[call].end()
    assert client.body.startswith(COMMENT + b'data: {"error"')
    assert client.aborted
    assert bench.records[0].end == "broken"
    bench.assert_closed()


def test_a_comment_is_not_written_to_a_client_that_does_not_read() -> None:
    bench = patient_bench()
    exchange, client = bench.ask(stream=True)
    bench.calls[0].stream(EVENT)
    exchange.client_full()
    bench.later(5.0)
    assert client.body == EVENT


# --- stopping


def test_a_gateway_that_stops_takes_nothing_new() -> None:
    bench = Bench(*backends("a"))
    bench.relay.stopping = True
    _, client = bench.ask()
    assert (client.status, error_of(client.body), len(bench.calls)) == (503, "shutdown", 0)


def test_whatever_is_open_ends_truthfully() -> None:
    bench = Bench(*backends("a", max_in_flight=3))
    _, waiting = bench.ask()
    _, streaming = bench.ask(stream=True)
    _, plain = bench.ask()
    queued = [bench.ask()[1] for _ in range(3)]
    bench.calls[1].stream(EVENT)
    bench.calls[2].head(200, JSON, 10)
    bench.calls[2].chunk(b"{")
    bench.relay.shut()
    assert [client.status for client in (waiting, *queued)] == [503] * 4
    assert streaming.body.startswith(EVENT + b'data: {"error"')
    assert streaming.aborted
    assert (plain.body, plain.aborted) == (b"{", True)
    assert len(bench.calls) == 3  # nobody was sent to a place that only this freed
    bench.assert_closed()


def test_a_request_whose_client_left_is_shut_without_a_word() -> None:
    bench = Bench(*backends("a", cancel="drain"))
    exchange, client = bench.ask()
    client.left = True
    exchange.client_gone()
    bench.relay.shut()
    exchange.shut()
    assert (bench.records[0].end, bench.records[0].status) == ("client_gone", 499)
    bench.assert_closed()


# --- transports that are early, or late


def test_what_comes_after_the_end_is_not_heard() -> None:
    bench = Bench(*backends("a"))
    exchange, client = bench.ask()
    bench.calls[0].answer()
    exchange.head(500, [], None)
    exchange.chunk(b"more")
    exchange.end()
    bench.calls[0].failed()
    bench.later(1.0)
    assert (client.body, len(bench.records)) == (b"{}", 1)
    bench.assert_closed()


def answers_at_once(call: Call) -> None:
    if call.backend == "a":
        call.failed(Outcome.REFUSED)
    elif call.backend == "b":
        call.answer(503, [*JSON, (b"retry-after", b"5")])
    else:
        call.stream(EVENT, DONE)
        call.end()


def test_a_transport_may_answer_before_send_returns() -> None:
    bench = Bench(*backends("a", "b", "c"))
    bench.transport.answers = answers_at_once
    clients = [bench.ask(stream=True)[1] for _ in range(5)]
    assert {client.body for client in clients} == {EVENT + DONE}
    assert all(client.ended for client in clients)
    bench.assert_closed()


def test_a_call_that_was_given_up_before_it_was_known_is_aborted() -> None:
    bench = patient_bench()
    _, client = bench.ask(stream=True)
    bench.later(1.0)
    bench.transport.answers = lambda call: call.head(400, JSON, 2)
    bench.calls[0].failed()
    assert client.aborted
    assert bench.calls[1].aborted
    bench.assert_closed()


def test_an_early_answer_that_is_too_large_to_hold_is_not_mixed_with_the_next() -> None:
    def answer(call: Call) -> None:
        if call.backend == "a":
            call.head(503, JSON)
            for _ in range(3):
                call.chunk(b"x" * 60_000)
            call.end()
        else:
            call.answer(200, JSON, b"{}")

    bench = Bench(*backends("a", "b"))
    bench.transport.answers = answer
    _, client = bench.ask()
    assert (client.status, client.body) == (200, b"{}")
    bench.assert_closed()


def test_a_client_that_is_full_before_send_returns_pauses_the_call() -> None:
    def answer(call: Call) -> None:
        call.stream(EVENT)
        call.sink.client_full()  # type: ignore[attr-defined]  # the sink is the exchange

    bench = Bench(*backends("a"))
    bench.transport.answers = answer
    exchange, client = bench.ask(stream=True)
    assert (bench.calls[0].paused, client.body) == (True, EVENT)
    exchange.client_ready()
    assert not bench.calls[0].paused


def test_a_backend_may_have_a_transport_of_its_own() -> None:
    own = Transport()
    bench = Bench(Backend("a", "http://a", models=("m",), upstream=own))
    _, client = bench.ask()
    own.calls[0].answer()
    assert (client.ended, bench.calls) == (True, [])


def test_a_backend_sees_its_own_name_key_and_path() -> None:
    bench = Bench(
        Backend("a", "http://a/api", api_key="k1", models=("llama",), aliases={"m": "llama"}, base_path="v9"),
    )
    bench.ask(headers=[(b"authorization", b"Bearer client"), (b"content-type", b"application/json")])
    bench.ask(path="/v1/messages", headers=[(b"anthropic-version", b"1")])
    bench.ask(path="/tokenize")
    chat, messages, tokenize = (call.request for call in bench.calls)
    assert (chat.target, messages.target, tokenize.target) == (
        b"/api/v9/chat/completions",
        b"/api/v9/messages",
        b"/api/tokenize",
    )
    assert json.loads(chat.body) == {"model": "llama", "stream": False}
    assert (dict(chat.headers)[b"authorization"], dict(messages.headers)[b"x-api-key"]) == (b"Bearer k1", b"k1")
    assert dict(chat.headers)[b"x-request-id"] == b"r1"
    assert b"x-api-key" not in dict(chat.headers)
