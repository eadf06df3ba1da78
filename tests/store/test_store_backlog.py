from hypothesis import given, settings
from hypothesis import strategies as st
from kept import asked

from solar.store.backlog import Backlog


def test_the_oldest_is_given_up_when_it_is_full_and_counted() -> None:
    backlog = Backlog(2)
    assert [backlog.push(asked(number)) for number in (1, 2, 3)] == [1, 2, 2]
    assert backlog.lost == 1
    assert backlog.take(9) == [asked(2), asked(3)]


def test_what_could_not_be_written_goes_back_to_its_place_as_far_as_there_is_room() -> None:
    backlog = Backlog(3)
    for number in (1, 2, 3):
        backlog.push(asked(number))
    batch = backlog.take(2)
    backlog.push(asked(4))
    backlog.give_back(batch)
    assert repr(backlog) == "<Backlog 3 of 3, 1 lost>"
    assert backlog.take(9) == [asked(2), asked(3), asked(4)]


@given(limit=st.integers(1, 6), steps=st.lists(st.sampled_from(["push", "push", "push", "fail", "write"]), max_size=40))
@settings(deadline=None)
def test_everything_is_written_once_in_order_or_waits_or_was_lost(limit: int, steps: list[str]) -> None:
    backlog, pushed, written = Backlog(limit), 0, []
    for step in steps:
        if step == "push":
            backlog.push(asked(pushed))
            pushed += 1
            continue
        batch = backlog.take(2)
        if step == "write":
            backlog.written(0)
            written += batch
            continue
        backlog.push(asked(pushed))
        pushed += 1
        backlog.give_back(batch)
    assert len(backlog) <= limit
    rest = backlog.take(limit)
    numbers = [int(entry.request_id.partition("-")[2]) for entry in written + rest]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + backlog.lost == pushed
