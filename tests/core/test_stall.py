import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.stall import StallWatch, Watched


def stream(watch: StallWatch, now: float, tokens: int = 20) -> Watched:
    """A stream that was sent and answered at `now`."""
    watched = watch.sent(now, streaming=True, prompt_tokens=tokens)
    watch.moved(now, watched)
    return watched


def taught(now: float = 0.0) -> StallWatch:
    """A watch that has learned 500 tokens/s, with nothing in flight."""
    watch = StallWatch()
    watched = watch.sent(now - 1.0, streaming=True, prompt_tokens=500)
    watch.moved(now, watched)
    watch.closed(now, watched)
    assert (watch.learned, watch.rate) == (True, 500.0)
    return watch


def test_two_silent_seconds_with_a_stream_in_flight_are_suspect() -> None:
    watch = StallWatch()
    stream(watch, 100.0)
    assert (watch.check(101.9), watch.check(102.0), watch.grade) == ("moving", "suspect", "suspect")


def test_a_stream_without_a_first_byte_is_suspect_too() -> None:
    watch = StallWatch()
    watch.sent(100.0, streaming=True, prompt_tokens=20)
    assert watch.check(102.0) == "suspect"


def test_a_suspect_is_forgiven_at_once_when_anything_moves() -> None:
    watch = StallWatch()
    stream(watch, 100.0)
    watch.check(103.0)
    watch.moved(103.5, None)
    assert watch.grade == "moving"
    assert watch.check(104.0) == "moving"


def test_a_backend_that_is_known_to_pause_gets_that_pause() -> None:
    watch = taught()
    watched = stream(watch, 100.0)
    watch.moved(105.0, watched)
    assert watch.longest_pause == 5.0
    assert (watch.check(109.9), watch.check(110.0)) == ("moving", "suspect")


def test_no_pause_is_so_long_that_stalled_comes_before_suspect() -> None:
    watch = taught()
    watched = stream(watch, 100.0)
    watch.moved(190.0, watched)
    assert (watch.check(199.9), watch.check(200.0), watch.check(200.1)) == ("moving", "suspect", "stalled")


def test_a_stall_that_ended_by_itself_is_no_habit() -> None:
    watch = taught()
    a = stream(watch, 100.0)
    assert watch.check(160.0) == "stalled"
    watch.moved(160.0, a)
    assert watch.check(162.0) == "suspect"


def test_idle_time_between_streams_is_no_pause() -> None:
    watch = StallWatch()
    watch.closed(1.0, stream(watch, 0.0))
    stream(watch, 1000.0)
    assert watch.longest_pause == 0.0
    assert watch.check(1001.0) == "moving"


def test_an_idle_backend_is_not_silent() -> None:
    watch = StallWatch()
    assert (watch.check(1000.0), watch.silent_for(1000.0)) == ("moving", 0.0)
    stream(watch, 1000.0)
    assert watch.silent_for(1003.0) == 3.0


def test_the_silence_of_a_request_that_does_not_stream_is_no_evidence() -> None:
    watch = StallWatch()
    watch.sent(0.0, streaming=False, prompt_tokens=20)
    assert watch.check(500.0) == "moving"
    watch.sent(500.0, streaming=True, prompt_tokens=20)
    assert watch.check(501.0) == "moving"


def test_ten_seconds_stall_a_backend_whose_rate_is_known() -> None:
    watch = taught()
    stream(watch, 100.0)
    assert (watch.check(110.0), watch.check(110.1)) == ("suspect", "stalled")
    assert watch.stalled
    assert watch.stalled_reason == "nothing moved for 10 s with 1 streams in flight"


def test_thirty_seconds_stall_a_backend_whose_rate_is_unknown() -> None:
    watch = StallWatch()
    stream(watch, 100.0)
    assert (watch.check(130.0), watch.check(130.1)) == ("suspect", "stalled")


def test_a_long_prefill_is_not_mistaken_for_a_stall() -> None:
    watch = StallWatch()
    a = stream(watch, 0.0)
    watch.sent(1.0, streaming=True, prompt_tokens=7000)
    grades = {watch.check(1.0 + tenth / 10) for tenth in range(240)}
    assert grades == {"moving", "suspect"}
    watch.moved(25.0, a)
    assert watch.check(25.0) == "moving"


def test_a_long_prefill_is_not_mistaken_where_the_rate_is_known() -> None:
    watch = taught()
    stream(watch, 100.0)
    watch.sent(100.0, streaming=True, prompt_tokens=7000)
    # 4 x 14 s, and more for a prompt 14 times as long as the one that taught the rate: attention is not linear.
    assert (watch.check(309.5), watch.check(309.6)) == ("suspect", "stalled")


def test_a_prompt_as_long_as_one_that_was_seen_gets_four_times_what_that_one_took() -> None:
    watch = StallWatch()
    watch.moved(14.0, watch.sent(0.0, streaming=True, prompt_tokens=7000))
    watch.sent(100.0, streaming=True, prompt_tokens=7000)
    watch.moved(100.0, None)
    assert (watch.check(156.0), watch.check(156.1)) == ("suspect", "stalled")


def test_a_slow_engine_is_given_the_time_it_has_shown_to_need() -> None:
    watch = StallWatch()
    watch.moved(10.0, watch.sent(0.0, streaming=True, prompt_tokens=1000))
    assert watch.rate == 100.0
    watch.sent(10.0, streaming=True, prompt_tokens=1000)
    assert (watch.check(50.0), watch.check(50.1)) == ("suspect", "stalled")


def test_a_prompt_whose_client_left_still_explains_the_silence() -> None:
    watch = taught()
    stream(watch, 100.0)
    b = watch.sent(100.0, streaming=True, prompt_tokens=7000)
    watch.closed(120.0, b)
    assert (watch.check(124.0), watch.check(309.6)) == ("suspect", "stalled")


def test_once_something_moved_a_prompt_that_left_explains_nothing() -> None:
    watch = taught()
    a = stream(watch, 100.0)
    watch.closed(101.0, watch.sent(100.0, streaming=True, prompt_tokens=7000))
    watch.moved(102.0, a)
    assert watch.check(112.1) == "stalled"


def test_prompts_queued_ahead_count_for_the_rate() -> None:
    watch = StallWatch()
    first = watch.sent(0.0, streaming=True, prompt_tokens=600)
    second = watch.sent(0.0, streaming=True, prompt_tokens=200)
    watch.moved(2.0, first)
    watch.moved(4.0, second)
    assert watch.rate == 800 / 4.0


def test_short_prompts_and_plain_requests_teach_no_rate() -> None:
    watch = StallWatch()
    watch.moved(5.0, watch.sent(0.0, streaming=True, prompt_tokens=127))
    watch.moved(9.0, watch.sent(5.0, streaming=False, prompt_tokens=5000))
    watch.moved(9.0, watch.sent(9.0, streaming=True, prompt_tokens=5000))
    assert (watch.learned, watch.rate) == (False, 500.0)


def test_a_stall_teaches_no_rate() -> None:
    watch = StallWatch()
    b = watch.sent(0.0, streaming=True, prompt_tokens=200)
    assert watch.check(60.0) == "stalled"
    watch.moved(61.0, b)
    assert (watch.learned, watch.grade) == (False, "moving")


def test_cached_prompts_raise_the_rate_only_slowly() -> None:
    watch = taught()
    for number in range(10):
        now = 10.0 * number
        watched = watch.sent(now, streaming=True, prompt_tokens=7000)
        watch.moved(now + 0.1, watched)
        watch.closed(now + 0.1, watched)
    assert watch.rate == pytest.approx(500.0 * 1.01**10)


def test_a_stream_that_waits_behind_a_plain_request_may_only_be_queued() -> None:
    watch = taught()
    plain = watch.sent(100.0, streaming=False, prompt_tokens=20)
    watch.sent(101.0, streaming=True, prompt_tokens=20)
    assert watch.check(160.0) == "suspect"
    watch.closed(160.0, plain)
    assert (watch.check(170.0), watch.check(170.1)) == ("suspect", "stalled")


def test_a_stream_that_was_answered_waits_behind_nobody() -> None:
    watch = taught()
    watch.sent(100.0, streaming=False, prompt_tokens=20)
    stream(watch, 101.0)
    assert watch.check(111.1) == "stalled"


def test_a_loading_model_may_be_silent() -> None:
    watch = StallWatch()
    watch.sent(0.0, streaming=True, prompt_tokens=20)
    assert {watch.check(float(now), loading=True) for now in range(200)} == {"moving"}
    assert (watch.check(200.9), watch.check(201.0)) == ("moving", "suspect")


def test_evidence_stalls_at_once() -> None:
    watch = StallWatch()
    watch.sent(0.0, streaming=False, prompt_tokens=20)
    watch.evidence("41 bytes were not acknowledged for 5 s")
    assert watch.stalled
    watch.evidence("something else")
    assert watch.stalled_reason == "41 bytes were not acknowledged for 5 s"


def test_evidence_stalls_a_suspect() -> None:
    watch = StallWatch()
    stream(watch, 0.0)
    watch.check(2.0)
    watch.evidence("the control endpoint does not answer")
    assert watch.check(2.2) == "stalled"


def test_evidence_against_an_idle_backend_is_left_to_the_probes() -> None:
    watch = StallWatch()
    watch.evidence("the control endpoint does not answer")
    assert watch.grade == "moving"


def test_a_stalled_backend_stays_so_until_a_probe_brings_it_back() -> None:
    watch = StallWatch()
    a = stream(watch, 0.0)
    watch.check(31.0)
    watch.closed(31.0, a)
    assert watch.check(500.0, loading=True) == "stalled"
    watch.revived(500.0)
    assert (watch.check(500.0), watch.stalled, watch.stalled_reason) == ("moving", False, "")


def test_a_stall_that_a_probe_ended_was_no_pause() -> None:
    watch = StallWatch()
    a = stream(watch, 0.0)
    watch.check(31.0)
    watch.revived(40.0)
    watch.moved(41.0, a)
    assert watch.longest_pause == 1.0


def test_a_suspect_without_work_in_flight_is_forgiven() -> None:
    watch = StallWatch()
    a = stream(watch, 0.0)
    watch.check(5.0)
    watch.closed(5.0, a)
    assert watch.grade == "moving"


def test_closing_twice_and_a_byte_after_closing_change_no_books() -> None:
    watch = StallWatch()
    a = watch.sent(0.0, streaming=True, prompt_tokens=20)
    watch.closed(1.0, a)
    watch.closed(1.0, a)
    watch.moved(1.0, a)
    assert repr(watch) == "<StallWatch moving, 0 in flight (0 streams), 0 tokens queued, 500 tokens/s assumed>"


def test_tell_their_state_in_their_repr() -> None:
    watch = taught()
    a = stream(watch, 0.0)
    b = watch.sent(1.0, streaming=False, prompt_tokens=70)
    watch.check(2.5)
    assert repr(watch) == "<StallWatch suspect, 2 in flight (1 streams), 70 tokens queued, 500 tokens/s>"
    assert repr(a) == "<Watched stream of 20 tokens, first byte at 0.0>"
    assert repr(b) == "<Watched request of 70 tokens, first byte at None>"


STEPS = st.tuples(
    st.sampled_from(["stream", "plain", "moved", "closed", "check", "revived", "evidence"]),
    st.floats(0.0, 20.0),
    st.integers(0, 400),
)


@given(st.lists(STEPS, max_size=60))
@settings(deadline=None, max_examples=200)
def test_any_interleaving_leaves_the_books_at_zero(steps: list[tuple[str, float, int]]) -> None:
    watch = StallWatch()
    now = 0.0
    sent: list[Watched] = []
    for step, passed, number in steps:
        now += passed
        if step in ("stream", "plain"):
            sent.append(watch.sent(now, streaming=step == "stream", prompt_tokens=number))
        elif step == "check":
            watch.check(now)
        elif step == "revived":
            watch.revived(now)
        elif step == "evidence":
            watch.evidence("proof")
        elif sent:
            getattr(watch, step)(now, sent[number % len(sent)])
            assert step == "closed" or watch.grade == "moving"
        assert watch.rate > 0
        assert watch.grade != "suspect" or any(w.open and w.streaming for w in sent)
    for watched in sent:
        watch.closed(now, watched)
    assert "0 in flight (0 streams), 0 tokens queued" in repr(watch)
    assert watch.silent_for(now) == 0.0
