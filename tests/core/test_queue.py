import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.queue import WaitingRoom


def test_first_come_first_served() -> None:
    room: WaitingRoom[str] = WaitingRoom()
    for waiter in ("ann", "bob", "cleo"):
        assert room.join("llama", waiter, 0.0)
    assert (room.first("llama"), room.waiting("llama"), len(room)) == ("ann", 3, 3)
    assert room.leave("ann")
    assert room.first("llama") == "bob"


def test_a_full_queue_takes_nobody_and_other_models_do_not_notice() -> None:
    room: WaitingRoom[str] = WaitingRoom(limit=1)
    assert room.join("llama", "ann", 0.0)
    assert not room.join("llama", "bob", 0.0)
    assert room.join("qwen", "cleo", 0.0)
    assert not room.leave("bob")


def test_who_leaves_the_middle_disturbs_nobody() -> None:
    room: WaitingRoom[str] = WaitingRoom()
    for waiter in ("ann", "bob", "cleo"):
        room.join("llama", waiter, 0.0)
    room.leave("bob")
    assert not room.leave("bob")
    room.leave("ann")
    assert room.first("llama") == "cleo"


def test_an_empty_queue_has_nobody_first() -> None:
    room: WaitingRoom[str] = WaitingRoom()
    room.join("llama", "ann", 0.0)
    room.leave("ann")
    assert (room.first("llama"), room.waiting("llama"), room.earliest(["llama"]), len(room)) == (None, 0, [], 0)


def test_the_heads_of_several_models_come_in_order_of_arrival() -> None:
    room: WaitingRoom[str] = WaitingRoom()
    room.join("qwen", "ann", 0.0)
    room.join("llama", "bob", 0.0)
    room.join("qwen", "cleo", 0.0)
    assert room.earliest(["llama", "qwen", "gemma", "llama"]) == ["ann", "bob"]
    room.leave("ann")
    assert room.earliest(["llama", "qwen"]) == ["bob", "cleo"]


def test_nobody_waits_longer_than_the_longest() -> None:
    room: WaitingRoom[str] = WaitingRoom(longest=60.0)
    room.join("llama", "ann", 0.0)
    room.join("qwen", "bob", 1.0)
    room.join("llama", "cleo", 2.0)
    assert room.expired(59.9) == []
    assert room.expired(61.0) == ["ann", "bob"]
    assert (room.first("llama"), room.waiting("qwen")) == ("cleo", 0)


def test_nobody_waits_twice() -> None:
    room: WaitingRoom[str] = WaitingRoom()
    room.join("llama", "ann", 0.0)
    with pytest.raises(ValueError, match="'ann' waits already"):
        room.join("qwen", "ann", 1.0)


def test_tells_who_waits_in_its_repr() -> None:
    room: WaitingRoom[str] = WaitingRoom()
    room.join("llama", "ann", 0.0)
    room.join("qwen", "bob", 0.0)
    assert repr(room) == "<WaitingRoom 2 waiting for 2 models>"


STEPS = st.one_of(
    st.tuples(st.just("join"), st.sampled_from("abc"), st.integers(0, 30)),
    st.tuples(st.just("leave"), st.just(""), st.integers(0, 30)),
    st.tuples(st.just("expire"), st.just(""), st.integers(0, 30)),
)


@given(st.lists(STEPS, max_size=80))
@settings(deadline=None, max_examples=200)
def test_no_interleaving_disturbs_the_order(steps: list[tuple[str, str, int]]) -> None:
    room: WaitingRoom[int] = WaitingRoom(limit=4, longest=50.0)
    seats: list[tuple[str, int, float]] = []  # the plain truth: model, waiter, joined at
    now = 0.0
    for step, model, number in steps:
        if step == "join" and all(waiter != number for _, waiter, _ in seats):
            free = sum(m == model for m, _, _ in seats) < 4
            assert room.join(model, number, now) == free
            seats += [(model, number, now)] if free else []
        elif step == "leave":
            assert room.leave(number) == any(waiter == number for _, waiter, _ in seats)
            seats = [seat for seat in seats if seat[1] != number]
        elif step == "expire":
            now += number
            assert room.expired(now) == [waiter for _, waiter, at in seats if at + 50.0 <= now]
            seats = [seat for seat in seats if seat[2] + 50.0 > now]
        assert len(room) == len(seats)
        lines = {m: [waiter for model, waiter, _ in seats if model == m] for m in "abc"}
        assert {m: room.waiting(m) for m in "abc"} == {m: len(line) for m, line in lines.items()}
        heads = {m: line[0] for m, line in lines.items() if line}
        assert {m: room.first(m) for m in heads} == heads
        assert room.earliest("abc") == [waiter for _, waiter, _ in seats if waiter in heads.values()]
