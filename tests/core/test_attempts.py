import pytest

from solar.core.attempts import Attempts, Outcome, RetryBudget, after_replacement, died_unused, outcome_of_status

NEVER_TAKEN = [Outcome.REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.BUSY, Outcome.DIED_UNUSED]
TAKEN = [Outcome.RESET, Outcome.UNREADABLE, Outcome.FAILED, Outcome.STALLED]


@pytest.mark.parametrize("status", [200, 204, 307, 400, 401, 404, 408, 422, 501, 505, 599])
def test_every_status_that_is_not_a_known_fault_passes_through(status: int) -> None:
    assert outcome_of_status(status) is Outcome.ANSWERED


def test_the_known_faults_among_the_statuses() -> None:
    assert {outcome_of_status(status) for status in (429, 503)} == {Outcome.BUSY}
    assert {outcome_of_status(status) for status in (500, 502, 504)} == {Outcome.FAILED}
    assert outcome_of_status(101) is Outcome.UNREADABLE


@pytest.mark.parametrize("outcome", NEVER_TAKEN)
def test_what_no_backend_took_may_try_every_candidate(outcome: Outcome) -> None:
    attempts = Attempts()
    for backend in "abcdef":
        attempts.began(backend)
        assert attempts.may_retry(outcome, committed=False)
    assert (attempts.count, attempts.taken, attempts.tried) == (6, 0, set("abcdef"))


@pytest.mark.parametrize("second", TAKEN)
@pytest.mark.parametrize("first", TAKEN)
def test_what_a_backend_took_is_tried_once_more_in_all(first: Outcome, second: Outcome) -> None:
    attempts = Attempts()
    attempts.began("a")
    assert attempts.may_retry(first, committed=False)
    attempts.began("b")
    assert not attempts.may_retry(second, committed=False)
    assert attempts.taken == 2


def test_a_refusal_in_between_does_not_use_up_the_second_try() -> None:
    attempts = Attempts()
    verdicts = []
    for outcome in (Outcome.BUSY, Outcome.RESET, Outcome.REFUSED, Outcome.BUSY, Outcome.RESET):
        attempts.began("any")
        verdicts.append(attempts.may_retry(outcome, committed=False))
    assert verdicts == [True, True, True, True, False]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_never_retries_after_the_commit(outcome: Outcome) -> None:
    attempts = Attempts()
    attempts.began("a")
    assert not attempts.may_retry(outcome, committed=True)


@pytest.mark.parametrize("outcome", [Outcome.ANSWERED, Outcome.BROKEN, Outcome.TIMEOUT])
def test_never_retries_what_was_answered_or_broke_or_took_too_long(outcome: Outcome) -> None:
    attempts = Attempts()
    attempts.began("a")
    assert not attempts.may_retry(outcome, committed=False)


def test_asking_twice_about_one_attempt_gives_the_same_answer() -> None:
    attempts = Attempts()
    attempts.began("a")
    assert [attempts.may_retry(Outcome.RESET, committed=False) for _ in range(3)] == [True, True, True]
    assert attempts.taken == 1


def test_only_what_never_reached_an_engine_counts_as_not_taken() -> None:
    assert [outcome for outcome in Outcome if not outcome.taken] == [
        Outcome.REFUSED,
        Outcome.CONNECT_TIMEOUT,
        Outcome.DIED_UNUSED,
        Outcome.BUSY,
    ]


def test_a_pooled_connection_lost_at_once_without_a_byte_died_unused() -> None:
    assert died_unused(reused=True, answered_bytes=0, waited=1.0)


@pytest.mark.parametrize(("reused", "answered", "waited"), [(False, 0, 0.0), (True, 1, 0.0), (True, 0, 1.1)])
def test_any_other_lost_connection_had_the_request(reused: bool, answered: int, waited: float) -> None:
    assert not died_unused(reused, answered, waited)


def test_an_engine_that_refuses_the_replacement_crashed_with_the_request_in_hand() -> None:
    assert after_replacement(Outcome.REFUSED, replaced=True) is Outcome.RESET
    assert after_replacement(Outcome.REFUSED, replaced=False) is Outcome.REFUSED
    assert after_replacement(Outcome.BUSY, replaced=True) is Outcome.BUSY


def test_a_crashing_request_meets_two_engines_even_on_pooled_connections() -> None:
    attempts = Attempts()
    attempts.began("a")
    assert attempts.may_retry(after_replacement(Outcome.REFUSED, replaced=True), committed=False)
    attempts.began("b")
    assert not attempts.may_retry(after_replacement(Outcome.REFUSED, replaced=True), committed=False)


def test_the_budget_runs_dry_and_refills_with_time() -> None:
    budget = RetryBudget(ratio=0.2, floor=10.0)
    assert [budget.withdraw(50.0) for _ in range(101)] == [True] * 100 + [False]
    assert [budget.withdraw(50.5) for _ in range(6)] == [True] * 5 + [False]


def test_five_requests_bring_one_retry() -> None:
    budget = RetryBudget(ratio=0.2, floor=10.0)
    while budget.withdraw(50.0):
        pass
    for _ in range(6):
        budget.deposit()
    assert [budget.withdraw(50.0) for _ in range(2)] == [True, False]


def test_the_budget_never_holds_more_than_ten_seconds_worth() -> None:
    budget = RetryBudget(ratio=0.5, floor=2.0)
    for _ in range(1000):
        budget.deposit()
    assert sum(budget.withdraw(9999.0) for _ in range(100)) == 20


def test_tell_their_state_in_their_repr() -> None:
    attempts = Attempts()
    attempts.began("b")
    attempts.began("a")
    assert repr(attempts) == "<Attempts 2, 0 taken, tried ['a', 'b']>"
    assert repr(RetryBudget()) == "<RetryBudget 100.0 of 100>"
