from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.wire import numbering
from solar.wire.lines import Entry, Line
from solar.wire.numbering import Numbering


def entries(first: int, last: int, *, at: int = 0, text: str = "line") -> list[Entry]:
    """Lines `first` to `last`; each was written a second after the one before it."""
    return [Entry(n, f"{at + n:06}", f"{text} {n}") for n in range(first, last + 1)]


def numbers(lines: tuple[Line, ...]) -> list[int]:
    return [line.seq for line in lines]


def test_a_poll_that_tells_what_was_told_gives_only_what_is_new() -> None:
    log = Numbering()
    assert numbers(log.take(entries(0, 4))) == [0, 1, 2, 3, 4]
    assert numbers(log.take(entries(2, 6))) == [5, 6]
    assert log.take(entries(0, 6)) == ()
    assert repr(log) == "<Numbering epoch 0, agent at 7, we at 7>"


def test_a_line_keeps_its_time_and_text_and_gets_its_level() -> None:
    (line,) = Numbering().take([Entry(0, "2025-11-09T10:00:00Z", "error: no model")])
    assert line == Line(0, "2025-11-09T10:00:00Z", "error: no model", epoch=0)
    assert line.level == "error"


def test_missing_lines_are_a_jump_in_the_numbers() -> None:
    log = Numbering()
    assert numbers(log.take(entries(5, 6))) == [5, 6]
    assert numbers(log.take(entries(9, 9))) == [9]


def test_a_late_line_is_given_once() -> None:
    log = Numbering()
    log.take(entries(0, 2))
    assert numbers(log.take(entries(4, 4))) == [4]
    late = log.take(entries(3, 3))
    assert [(line.seq, line.text, line.epoch) for line in late] == [(5, "line 3", 0)]
    assert log.take(entries(0, 4)) == ()


def test_a_number_that_falls_back_to_another_line_is_a_new_epoch() -> None:
    log = Numbering()
    log.take(entries(0, 4))
    again = log.take(entries(0, 1, at=100))
    assert [(line.seq, line.epoch) for line in again] == [(5, 1), (6, 1)]
    assert numbers(log.take(entries(0, 2, at=100))) == [7]


def test_the_same_text_at_another_time_is_another_line() -> None:
    log = Numbering()
    log.take([Entry(0, "1", "starting")])
    assert [line.epoch for line in log.take([Entry(0, "9", "starting")])] == [1]


def test_who_knows_of_a_restart_that_the_numbers_do_not_show_says_so() -> None:
    log = Numbering()
    log.take(entries(0, 4))
    log.restarted()
    assert log.take(entries(3, 4)) == ()  # the old one's, once more
    again = log.take(entries(7, 8, at=100))
    assert [(line.seq, line.epoch) for line in again] == [(12, 1), (13, 1)]


def test_nothing_restarts_before_the_first_line() -> None:
    log = Numbering()
    log.restarted()
    assert [line.epoch for line in log.take(entries(0, 0))] == [0]


def test_lines_older_than_what_is_remembered_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbering, "WINDOW", 4)
    log = Numbering()
    log.take(entries(0, 9))
    assert numbers(log.take(entries(0, 10))) == [10]
    assert [line.epoch for line in log.take(entries(2, 2, at=100))] == [1]


def test_a_late_line_before_all_that_is_known_began_a_new_epoch_unless_it_is_older() -> None:
    log = Numbering()
    log.take(entries(5, 6))
    assert log.take(entries(3, 3)) == ()  # its gap was shown
    assert [line.epoch for line in log.take(entries(4, 4, at=100))] == [1]


def from_file(first: int, last: int, *, text: str = "line") -> list[Entry]:
    """The same lines as an agent reads them from a log file: counted from 0, all with the file's time."""
    return [Entry(n - first, "999999", f"{text} {n}") for n in range(first, last + 1)]


def test_lines_that_were_read_from_the_log_file_go_on_where_the_ring_stood() -> None:
    log = Numbering()
    log.take(entries(0, 4))
    assert [(line.seq, line.text, line.epoch) for line in log.take(from_file(0, 6))] == [
        (5, "line 5", 0),
        (6, "line 6", 0),
    ]
    assert log.take(from_file(0, 6)) == ()
    assert log.take(from_file(3, 6)) == ()


def test_the_end_of_a_long_log_file_goes_on_where_the_ring_stood() -> None:
    log = Numbering()
    log.take(entries(0, 99))
    assert [(line.seq, line.text) for line in log.take(from_file(10, 100))] == [(100, "line 100")]


def test_after_a_gap_too_a_log_file_goes_on_where_the_ring_stood() -> None:
    log = Numbering()
    log.take(entries(0, 20))
    log.take(entries(30, 32))
    assert [(line.seq, line.text) for line in log.take(from_file(25, 34))] == [(33, "line 33"), (34, "line 34")]


def test_equal_lines_of_a_log_file_are_counted() -> None:
    log = Numbering()
    log.take([Entry(n, str(n), "x") for n in range(3)])
    assert numbers(log.take([Entry(n, "999999", "x") for n in range(5)])) == [3, 4]


def test_the_log_file_of_another_run_is_a_new_epoch() -> None:
    log = Numbering()
    log.take(entries(0, 4))
    assert {line.epoch for line in log.take(from_file(0, 6, text="other"))} == {1}
    assert {line.epoch for line in log.take(from_file(0, 6, text="third"))} == {2}


def test_a_log_that_begins_with_a_file_is_known_again() -> None:
    log = Numbering()
    assert numbers(log.take(from_file(0, 3))) == [0, 1, 2, 3]
    assert log.take(from_file(0, 3)) == ()
    assert [line.epoch for line in log.take(entries(0, 0))] == [1]


class Agent:
    """An agent as the originals are: a ring, pushes that may get lost or come late, polls that may be old."""

    def __init__(self, ring: int) -> None:
        self.epoch = 0
        self.clock = 0
        self.seq = 0
        self.ring: deque[Entry] = deque(maxlen=ring)
        self.pushes: list[Entry] = []
        self.snapshot: list[Entry] = []

    def write(self) -> None:
        self.clock += 1
        entry = Entry(self.seq, f"{self.clock:06}", f"{self.epoch}:{self.seq}")
        self.seq += 1
        self.ring.append(entry)
        self.pushes.append(entry)

    def restart(self) -> None:
        ring = self.ring.maxlen
        self.epoch += 1
        self.seq = 0
        self.ring = deque(maxlen=ring)
        self.pushes.clear()
        self.snapshot = []


OPS = ("write", "write", "write", "poll", "push", "push last", "lose", "look", "old poll", "restart")


def play(ops: list[str], ring: int, *, noticed: bool) -> list[Line]:
    agent, log, given_out = Agent(ring), Numbering(), []
    for op in ops:
        told: list[Entry] = []
        match op:
            case "write":
                agent.write()
            case "poll":
                told = list(agent.ring)
            case "push":
                told, agent.pushes = agent.pushes, []
            case "push last":
                told = [agent.pushes.pop()] if agent.pushes else []
            case "lose":
                del agent.pushes[:2]
            case "look":
                agent.snapshot = list(agent.ring)
            case "old poll":
                told = agent.snapshot
            case "restart":
                agent.restart()
                if noticed:
                    log.restarted()
        given_out += log.take(told)
    return given_out


def check(lines: list[Line]) -> None:
    """No line twice; and a line that is missing below one that was given is a jump just there."""
    newest: dict[str, int] = {}
    given_out: set[str] = set()
    previous = -1
    for line in lines:
        epoch, _, number = line.text.partition(":")
        assert line.text not in given_out
        given_out.add(line.text)
        expected = newest.get(epoch, -1) + 1
        assert line.seq - previous - 1 == max(0, int(number) - expected)
        newest[epoch] = max(newest.get(epoch, -1), int(number))
        previous = line.seq


@given(st.lists(st.sampled_from(OPS), max_size=60), st.integers(1, 6))
@settings(deadline=None, max_examples=150)
def test_no_line_is_repeated_and_none_is_lost_in_silence(ops: list[str], ring: int) -> None:
    check(play(ops, ring, noticed=True))


@given(st.lists(st.sampled_from(("write", "poll", "look", "old poll", "restart")), max_size=60))
@settings(deadline=None, max_examples=150)
def test_a_restart_shows_by_the_numbers_where_the_whole_ring_is_told(ops: list[str]) -> None:
    check(play(ops, 100, noticed=False))


@given(st.lists(st.sampled_from(("write", "push", "push", "restart")), max_size=60))
@settings(deadline=None, max_examples=50)
def test_pushes_that_all_arrive_need_no_poll(ops: list[str]) -> None:
    check(play([op for o in ops for op in (("push", o) if o == "restart" else (o,))], 1, noticed=False))


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["", "1", "2"]), st.sampled_from("ab")), max_size=40))
@settings(deadline=None)
def test_whatever_an_agent_counts_our_numbers_grow(told: list[tuple[int, str, str]]) -> None:
    log, previous = Numbering(), -1
    for first in range(0, len(told), 3):
        for line in log.take([Entry(*entry) for entry in told[first : first + 3]]):
            assert line.seq > previous
            previous = line.seq
