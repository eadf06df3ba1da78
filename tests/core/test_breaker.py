from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.breaker import Breaker


def ejected(now: float = 0.0) -> Breaker:
    breaker = Breaker(threshold=3, base=2.0, longest=60.0)
    for _ in range(3):
        breaker.failed(breaker.began(now), now)
    return breaker


def test_trips_after_three_failures_in_a_row() -> None:
    breaker = Breaker(threshold=3, base=2.0)
    assert [breaker.failed(breaker.began(10.0), 10.0) for _ in range(3)] == [False, False, True]
    assert (breaker.state, breaker.returns_at, breaker.trips, breaker.epoch) == ("open", 12.0, 1, 1)
    assert not breaker.admits(11.9)
    assert breaker.admits(12.0)


def test_a_success_forgives_the_failures_before_it() -> None:
    breaker = Breaker(threshold=2)
    assert not breaker.failed(breaker.began(0.0), 0.0)
    breaker.succeeded(breaker.began(1.0), 1.0)
    assert not breaker.failed(breaker.began(2.0), 2.0)
    assert breaker.state == "closed"
    assert breaker.admits(2.0)


def test_after_the_ejection_exactly_one_trial_goes_out() -> None:
    breaker = ejected()
    assert breaker.admits(2.0)
    breaker.began(2.0)
    assert breaker.state == "half-open"
    assert not breaker.admits(100.0)


def test_a_trial_that_succeeds_closes_the_circuit() -> None:
    breaker = ejected()
    breaker.succeeded(breaker.began(2.0), 2.5)
    assert (breaker.state, breaker.returns_at) == ("closed", 0.0)
    assert breaker.admits(2.5)


def test_a_failed_trial_doubles_the_ejection_up_to_the_longest() -> None:
    breaker = Breaker(threshold=1, base=2.0, longest=10.0)
    breaker.failed(breaker.began(0.0), 0.0)
    lengths = []
    for _ in range(4):
        now = breaker.returns_at
        assert breaker.failed(breaker.began(now), now)
        lengths.append(breaker.returns_at - now)
    assert lengths == [4.0, 8.0, 10.0, 10.0]
    assert breaker.trips == 5


def test_an_abandoned_trial_is_given_back() -> None:
    breaker = ejected()
    breaker.abandoned(breaker.began(3.0), 4.0)
    assert (breaker.state, breaker.admits(4.0)) == ("open", True)
    breaker.began(4.0)
    assert (breaker.state, breaker.admits(4.0)) == ("half-open", False)


def test_an_abandoned_attempt_says_nothing_while_closed_or_open() -> None:
    breaker = Breaker(threshold=1)
    breaker.abandoned(breaker.began(0.0), 0.0)
    assert (breaker.state, breaker.epoch) == ("closed", 0)
    breaker.failed(breaker.began(0.0), 0.0)
    breaker.abandoned(breaker.began(0.5), 0.6)
    assert (breaker.state, breaker.returns_at, breaker.epoch) == ("open", 2.0, 1)


def test_a_late_answer_cannot_speak_for_a_new_state() -> None:
    breaker = Breaker(threshold=1, base=2.0)
    slow = breaker.began(0.0)
    breaker.failed(breaker.began(0.0), 0.0)
    breaker.succeeded(slow, 1.0)
    assert not breaker.admits(1.0)
    breaker.succeeded(breaker.began(2.0), 2.0)
    assert not breaker.failed(slow, 3.0)
    assert breaker.admits(3.0)


def test_the_least_bad_that_answers_while_ejected_is_back_at_once() -> None:
    breaker = ejected()
    epoch = breaker.began(0.5)
    assert (breaker.state, epoch) == ("open", breaker.epoch)
    breaker.succeeded(epoch, 0.8)
    assert breaker.state == "closed"


def test_the_least_bad_that_fails_while_ejected_changes_nothing() -> None:
    breaker = ejected()
    assert not breaker.failed(breaker.began(0.5), 0.8)
    assert (breaker.state, breaker.returns_at, breaker.trips) == ("open", 2.0, 1)


def test_while_a_trial_is_out_only_the_trial_decides() -> None:
    breaker = ejected()
    trial, other = breaker.began(2.0), breaker.began(2.1)
    breaker.succeeded(other, 2.2)
    assert not breaker.failed(other, 2.2)
    breaker.abandoned(other, 2.2)
    assert not breaker.admits(2.2)
    breaker.succeeded(trial, 2.3)
    assert breaker.state == "closed"


def test_growth_is_forgotten_after_ten_quiet_ejections() -> None:
    breaker = Breaker(threshold=1, base=2.0)
    breaker.failed(breaker.began(0.0), 0.0)
    breaker.succeeded(breaker.began(2.0), 2.0)
    breaker.failed(breaker.began(21.9), 21.9)
    assert breaker.returns_at == 21.9 + 4.0
    breaker.succeeded(breaker.began(30.0), 30.0)
    breaker.failed(breaker.began(70.0), 70.0)
    assert breaker.returns_at == 70.0 + 2.0


def test_tells_its_state_in_its_repr() -> None:
    assert repr(Breaker()) == "<Breaker closed, 0 failures in a row, 0 trips>"
    assert repr(ejected()) == "<Breaker open until 2.0, 0 failures in a row, 1 trips>"


STEPS = st.tuples(
    st.sampled_from(["began", "succeeded", "failed", "abandoned"]),
    st.floats(0.0, 30.0),
    st.integers(0, 5),
)


@given(st.lists(STEPS, max_size=60))
@settings(deadline=None, max_examples=200)
def test_no_interleaving_sends_a_second_trial_or_gets_stuck(steps: list[tuple[str, float, int]]) -> None:
    breaker = Breaker(threshold=2, base=1.0, longest=20.0)
    now, epoch = 0.0, 0
    out: list[tuple[int, bool]] = []  # epoch, and whether it was the trial of its epoch
    for step, passed, which in steps:
        now += passed
        if step == "began":
            admitted, before = breaker.admits(now), breaker.state
            began = breaker.began(now)
            trial = before == "open" and breaker.state == "half-open"
            assert trial == (admitted and before == "open")
            out.append((began, trial))
        elif out:
            began, _ = out.pop(which % len(out))
            getattr(breaker, step)(began, now)
        assert breaker.epoch >= epoch
        epoch = breaker.epoch
        trials = [began for began, trial in out if trial and began == epoch]
        assert len(trials) == (breaker.state == "half-open")
    for began, _ in out:
        breaker.abandoned(began, now)
    assert breaker.admits(max(now, breaker.returns_at))
