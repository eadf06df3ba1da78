import pytest

from solar.core.backend import Backend
from solar.core.decision import Pick
from solar.core.roster import Roster, RosterOptions


def pick_among(number: int, *, busy: int) -> Pick:
    """The decision between so many backends, of which the first `busy` have work."""
    roster = Roster(RosterOptions())
    for n in range(number):
        roster.sources.claim(Backend(f"b{n:02}", f"http://box{n}:1", models=("m",)))
    roster.sync()
    for n in range(busy):
        roster.members[f"b{n:02}"].load.take(1.0)
    route = roster.resolve("m")
    assert route is not None
    choice = roster.select(route, set(), None, 0.0)
    assert isinstance(choice, Pick)
    return choice


def test_few_are_kept_as_they_are() -> None:
    choice = pick_among(16, busy=0)
    assert choice.weighed.bounded(choice.candidate) is choice.weighed


@pytest.mark.parametrize("busy", [0, 1, 15, 16, 20, 39])
def test_of_many_the_one_that_was_taken_is_always_kept(busy: int) -> None:
    choice = pick_among(40, busy=busy)
    kept = choice.weighed.bounded(choice.candidate).considered()
    assert kept[0].backend == choice.candidate.backend.id == f"b{busy:02}"
    assert len({one.backend for one in kept}) == 16


def test_of_many_that_nobody_could_take_some_are_kept() -> None:
    assert len(pick_among(40, busy=0).weighed.bounded().considered()) == 16


def test_what_was_weighed_stays_as_it_was() -> None:
    choice = pick_among(2, busy=0)
    choice.candidate.member.load.take(5.0)
    choice.candidate.member.turn = 7
    taken = choice.weighed.considered()[0]
    assert (taken.backend, taken.values["in_flight"], taken.values["turn"]) == ("b00", 0, 0)
