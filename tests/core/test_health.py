import pytest

from solar.core.health import Health, says_loading

MIDDLE = 0.5  # the jitter that changes nothing


def healthy(interval: float = 30.0) -> Health:
    health = Health(interval=interval)
    health.passed(0.0, MIDDLE)
    return health


def test_is_asked_at_once_and_unusable_until_it_answers() -> None:
    health = Health(interval=30.0)
    assert (health.state, health.usable, health.ever_asked, health.due(0.0)) == ("unknown", False, False, True)


def test_models_from_the_settings_need_no_probe() -> None:
    health = Health(interval=30.0, listed=True)
    assert health.usable
    health.failed(1.0, "nobody listens", MIDDLE, refused=True)
    assert not health.usable


@pytest.mark.parametrize("before", ["unknown", "loading", "down"])
def test_one_pass_makes_it_healthy(before: str) -> None:
    health = Health(interval=30.0)
    if before == "loading":
        health.loading(1.0, MIDDLE)
    elif before == "down":
        health.failed(1.0, "no answer", MIDDLE)
    assert health.state == before
    health.passed(5.0, MIDDLE)
    assert (health.state, health.usable, health.reason, health.since) == ("healthy", True, "", 5.0)
    assert (health.next_at, health.ever_asked) == (35.0, True)


def test_the_healthy_are_asked_once_an_interval_with_jitter() -> None:
    health = Health(interval=10.0)
    health.passed(100.0, 0.0)
    assert health.next_at == pytest.approx(109.0)
    health.passed(100.0, 1.0)
    assert health.next_at == pytest.approx(111.0)


def test_two_failures_in_a_row_take_the_healthy_down() -> None:
    health = healthy()
    health.failed(30.0, "timed out", MIDDLE)
    assert (health.state, health.reason, health.next_at) == ("healthy", "", 30.25)
    health.failed(30.25, "timed out again", MIDDLE)
    assert (health.state, health.reason, health.since) == ("down", "timed out again", 30.25)


def test_a_pass_between_two_failures_forgives_the_first() -> None:
    health = healthy()
    health.failed(30.0, "timed out", MIDDLE)
    health.passed(30.25, MIDDLE)
    health.failed(60.0, "timed out", MIDDLE)
    assert health.state == "healthy"


def test_where_nobody_listens_it_is_down_at_once() -> None:
    health = healthy()
    health.failed(30.0, "nobody listens", MIDDLE, refused=True)
    assert (health.state, health.reason) == ("down", "nobody listens")


def test_what_was_never_healthy_is_down_at_the_first_failure() -> None:
    health = Health(interval=30.0)
    health.failed(0.0, "no answer", MIDDLE)
    assert health.state == "down"


def test_a_probe_timeout_says_nothing_while_answers_move() -> None:
    health = healthy()
    for now in (30.0, 31.0, 32.0, 33.0):
        health.failed(now, "timed out", MIDDLE, moving=True)
    assert health.state == "healthy"
    health.failed(34.0, "timed out", MIDDLE)
    assert health.state == "healthy"


def test_a_refused_probe_counts_even_while_answers_move() -> None:
    health = healthy()
    health.failed(30.0, "nobody listens", MIDDLE, moving=True, refused=True)
    assert health.state == "down"


def test_the_down_are_asked_again_soon_and_then_ever_more_seldom() -> None:
    health = Health(interval=1.5)
    waits = []
    for _ in range(5):
        health.failed(10.0, "no answer", MIDDLE)
        waits.append(health.next_at - 10.0)
    assert waits == [0.25, 0.5, 1.0, 1.5, 1.5]


def test_a_short_interval_is_also_the_longest_wait() -> None:
    health = Health(interval=0.1)
    health.failed(0.0, "no answer", MIDDLE)
    assert health.next_at == pytest.approx(0.1)


def test_a_server_that_says_loading_is_loading_and_unusable() -> None:
    health = healthy()
    health.loading(30.0, MIDDLE)
    assert (health.state, health.usable, health.reason) == ("loading", False, "the model is loading")
    assert health.next_at == 30.25


def test_a_change_of_state_is_watched_closely_again() -> None:
    health = Health(interval=30.0)
    for now in range(10):
        health.failed(float(now), "no answer", MIDDLE)
    assert health.next_at == 39.0
    health.loading(39.0, MIDDLE)
    assert health.next_at == 39.25


def test_a_suspect_that_passes_is_asked_again_soon() -> None:
    health = healthy()
    waits = []
    for _ in range(3):
        health.passed(30.0, MIDDLE, suspect=True)
        waits.append(health.next_at - 30.0)
    assert waits == [0.25, 0.5, 1.0]
    health.passed(31.0, MIDDLE)
    assert health.next_at == 61.0


def test_a_passive_failure_asks_at_once_without_a_verdict() -> None:
    health = healthy()
    health.doubted(7.0)
    assert health.due(7.0)
    assert health.state == "healthy"


def test_many_passive_failures_do_not_storm_the_backend() -> None:
    health = healthy()
    health.doubted(7.0)
    health.passed(7.01, MIDDLE)
    for now in (7.02, 7.05, 7.1):
        health.doubted(now)
    assert not health.due(7.1)
    assert health.next_at == 7.25


def test_doubt_never_delays_a_probe() -> None:
    health = healthy()
    health.next_at = 6.0
    health.doubted(7.0)
    assert health.next_at == 6.0


def test_tells_its_state_in_its_repr() -> None:
    health = healthy()
    assert repr(health) == "<Health healthy since 0.0, next probe at 30.0>"
    health.failed(2.0, "nobody listens", MIDDLE, refused=True)
    assert repr(health) == "<Health down (nobody listens) since 2.0, next probe at 2.2>"


@pytest.mark.parametrize(
    ("body", "loading"),
    [(b'{"error":{"message":"Loading model"}}', True), (b"server is starting", True), (b"too busy", False)],
)
def test_some_503_say_that_the_model_is_on_its_way(body: bytes, loading: bool) -> None:
    assert says_loading(body) is loading
