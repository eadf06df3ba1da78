import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.affinity import order

sessions = st.text(max_size=20)
ids = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8, unique=True)


@given(sessions, ids, st.randoms())
@settings(deadline=None, max_examples=50)
def test_order_does_not_depend_on_the_order_of_the_ids(session, backends, random):
    shuffled = list(backends)
    random.shuffle(shuffled)

    assert order(session, shuffled) == order(session, backends)
    assert sorted(order(session, backends)) == sorted(backends)


@given(sessions, ids, st.text(min_size=1, max_size=8))
@settings(deadline=None, max_examples=50)
def test_a_new_id_moves_only_the_sessions_that_go_to_it(session, backends, new):
    before = order(session, [id_ for id_ in backends if id_ != new])
    after = order(session, {*backends, new})

    assert [id_ for id_ in after if id_ != new] == before


def test_every_process_orders_alike():
    known = ["gpu-1", "gpu-2", "gpu-3"]
    program = f"from solar.core.affinity import order; print(*order('alice', {known}))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert other.stdout.split() == order("alice", known) == ["gpu-1", "gpu-3", "gpu-2"]


def test_sessions_spread_over_the_ids():
    first = [order(f"session-{n}", ["a", "b", "c", "d"])[0] for n in range(1000)]

    assert all(200 < first.count(id_) < 300 for id_ in "abcd")
