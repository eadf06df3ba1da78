import pytest

from solar.core.backend import Backend
from solar.core.breaker import Breaker
from solar.core.health import Health
from solar.core.load import HostLoad
from solar.core.member import Member
from solar.core.stall import StallWatch


def member(*, max_in_flight: int | None = None) -> Member:
    backend = Backend("a", "http://gpu:8000", models=("m",), max_in_flight=max_in_flight)
    health = Health(interval=30.0)
    health.passed(0.0, 0.5)
    return Member(backend, HostLoad("gpu"), health=health, breaker=Breaker(threshold=1), stall=StallWatch())


def test_a_healthy_member_is_available_and_has_the_models_that_it_was_given() -> None:
    healthy = member()
    assert healthy.why_not(0.0) is None
    assert [model.id for model in healthy.models] == ["m"]
    assert repr(healthy) == "<Member a healthy, 0 in flight>"


def test_a_draining_member_takes_nothing_new() -> None:
    leaving = member()
    leaving.draining = True
    assert leaving.why_not(0.0) == "draining"


def test_a_loading_member_is_not_down() -> None:
    loading = member()
    loading.health.loading(1.0, 0.5)
    assert loading.why_not(1.0) == "loading"


@pytest.mark.parametrize("listed", [True, False])
def test_before_the_first_probe_only_listed_models_make_it_available(listed: bool) -> None:
    unknown = member()
    unknown.health = Health(interval=30.0, listed=listed)
    assert unknown.why_not(0.0) == (None if listed else "down")


def test_a_member_that_fails_its_probes_is_down() -> None:
    down = member()
    down.health.failed(1.0, "nobody listens", 0.5, refused=True)
    assert down.why_not(1.0) == "down"


def test_a_stalled_member_is_not_asked_and_a_suspect_one_may_be() -> None:
    silent = member()
    silent.stall.moved(0.0, silent.stall.sent(0.0, streaming=True, prompt_tokens=1))
    silent.stall.check(3.0)
    assert (silent.stall.streaming, silent.stall.grade, silent.why_not(3.0)) == (True, "suspect", None)
    silent.stall.check(31.0)
    assert silent.why_not(31.0) == "stalled"


def test_an_ejected_member_returns_when_its_time_is_over() -> None:
    ejected = member()
    ejected.breaker.failed(ejected.breaker.began(0.0), 0.0)
    assert ejected.why_not(1.9) == "ejected"
    assert ejected.why_not(2.0) is None


def test_a_member_at_its_limit_is_full_until_a_slot_comes_back() -> None:
    limited = member(max_in_flight=1)
    slot = limited.load.take(1.0)
    assert limited.why_not(0.0) == "full"
    slot.give_back()
    assert limited.why_not(0.0) is None
