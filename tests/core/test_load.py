from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.load import BackendLoad, HostLoad, Slot


def test_a_host_carries_what_each_of_its_backends_takes() -> None:
    host = HostLoad("box")
    a, b = BackendLoad(host), BackendLoad(host)
    a.take(7.0)
    b.take(20.0)
    b.take(20.0)
    assert (a.in_flight, b.in_flight, host.in_flight, host.size) == (1, 2, 3, 47.0)


def test_a_stronger_host_feels_the_same_size_less() -> None:
    host = HostLoad("box")
    host.weight = 4.0
    BackendLoad(host).take(20.0)
    assert host.pressure == 5.0


def test_a_slot_that_is_given_back_twice_counts_once() -> None:
    load = BackendLoad(HostLoad("box"))
    first, second = load.take(7.0), load.take(7.0)
    first.give_back()
    first.give_back()
    assert (load.in_flight, load.host.in_flight, load.host.size) == (1, 1, 7.0)
    second.give_back()
    assert (load.in_flight, load.host.in_flight) == (0, 0)


def test_a_backend_that_moves_to_another_host_takes_only_new_requests_along() -> None:
    old, new = HostLoad("old"), HostLoad("new")
    load = BackendLoad(old)
    slot = load.take(7.0)
    load.host = new
    load.take(8.0)
    slot.give_back()
    assert (old.in_flight, old.size) == (0, 0.0)
    assert (new.in_flight, new.size, load.in_flight) == (1, 8.0, 1)


def test_a_host_tells_its_load_in_its_repr() -> None:
    host = HostLoad("box")
    BackendLoad(host).take(0.5)
    assert repr(host) == "<HostLoad box 1 in flight, 0.5B / 1>"


STEPS = st.lists(
    st.tuples(st.sampled_from(["take", "give back", "move"]), st.integers(0, 3), st.floats(0.001, 700.0)), max_size=60
)


@given(STEPS)
@settings(deadline=None, max_examples=150)
def test_any_interleaving_leaves_every_table_at_zero(steps: list[tuple[str, int, float]]) -> None:
    hosts = [HostLoad("x"), HostLoad("y")]
    loads = [BackendLoad(hosts[0]), BackendLoad(hosts[0]), BackendLoad(hosts[1])]
    slots: list[Slot] = []
    for step, which, size in steps:
        if step == "take":
            slots.append(loads[which % 3].take(size))
        elif step == "move":
            loads[which % 3].host = hosts[which % 2]
        elif slots:
            slots[which % len(slots)].give_back()  # some of them for the second time
        assert all(load.in_flight >= 0 for load in loads)
        assert sum(load.in_flight for load in loads) == sum(host.in_flight for host in hosts)
    for slot in slots * 2:
        slot.give_back()
    assert [load.in_flight for load in loads] == [0, 0, 0]
    assert [(host.in_flight, host.size) for host in hosts] == [(0, 0.0), (0, 0.0)]
