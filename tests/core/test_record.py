from copy import copy

from solar.core.decision import NOBODY, Try
from solar.core.record import Record


def record() -> Record:
    return Record("r1", method="POST", path="/v1/chat/completions", endpoint="chat", client="::1", started_at=100.0)


def test_a_request_that_nobody_closed_has_failed() -> None:
    begun = record()
    assert (begun.end, begun.status, begun.duration) == ("failed", 0, 0.0)
    assert repr(begun) == "<Record r1 chat '' 0 failed after 0 attempts>"


def test_our_own_part_is_what_neither_queue_nor_backend_took() -> None:
    answered = record()
    answered.queued = 1.0
    answered.upstream_seconds = 2.0
    answered.first_byte_at = 103.5
    answered.ended_at = 110.0
    assert (answered.overhead, answered.first_token, answered.duration) == (0.5, 3.5, 10.0)


def test_without_a_first_byte_the_end_counts() -> None:
    unanswered = record()
    unanswered.ended_at = 101.0
    assert (unanswered.overhead, unanswered.first_token) == (1.0, None)


def test_clocks_that_round_never_make_it_negative() -> None:
    rounded = record()
    rounded.upstream_seconds = 0.1 + 0.2
    rounded.first_byte_at = 100.3
    assert rounded.overhead == 0.0


def test_nothing_was_considered_before_a_decision() -> None:
    begun = record()
    assert (begun.considered, begun.tries) == ((), ())
    left = Try("a", "m", 100.0, 101.0, "reset", "it broke", begun.weighed)
    assert left.considered == ()


def test_a_copy_is_the_record_as_it_was() -> None:
    over = record()
    over.tokens_in, over.tries = 3, (Try("a", "m", 100.0, 101.0, "busy", "", NOBODY),)
    kept = copy(over)
    over.status = 200
    assert (kept.id, kept.tokens_in, kept.tries, kept.status) == ("r1", 3, over.tries, 0)
    assert copy(over.tries[0]) == over.tries[0]
