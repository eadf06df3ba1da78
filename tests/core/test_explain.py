from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.backend import Backend
from solar.core.decision import Pick
from solar.core.explain import Explanation, explain
from solar.core.roster import Roster, RosterOptions
from solar.core.select import Candidate


def roster(*ids: str, models: tuple[str, ...] = ("m",), options: dict[str, Any] | None = None, **facts: Any) -> Roster:
    made = Roster(RosterOptions(**(options or {})))
    for port, backend_id in enumerate(ids, 1):
        made.sources.claim(Backend(backend_id, f"http://box{port}:{port}", models=models, **facts))
    made.sync()
    return made


def why_not(explanation: Explanation) -> list[tuple[str, str | None]]:
    return [(one.backend, one.why_not) for one in explanation.candidates]


def eject(rost: Roster, backend_id: str, now: float) -> None:
    breaker = rost.members[backend_id].breaker
    for _ in range(breaker.threshold):
        breaker.failed(breaker.began(now), now)


def load(rost: Roster, backend_id: str) -> None:
    rost.members[backend_id].health.loading(0.0, 0.5)


def break_down(rost: Roster, backend_id: str) -> None:
    rost.members[backend_id].health.failed(0.0, "nobody listens", 0.5, refused=True)


# --- who would be taken


STATES = ("free", "busy", "busier", "full", "ejected", "resting", "down", "loading", "stalled", "suspect", "draining")


def bring(rost: Roster, backend_id: str, state: str) -> None:
    member = rost.members[backend_id]
    match state:
        case "busy" | "busier" | "full":
            for _ in range({"busy": 1, "busier": 2, "full": 3}[state]):
                member.load.take(1.0)
        case "ejected":
            eject(rost, backend_id, 0.0)
        case "resting":
            rost.rests.rest(backend_id, "m", 9.0)
        case "down":
            break_down(rost, backend_id)
        case "loading":
            load(rost, backend_id)
        case "stalled":
            member.stall.evidence("silent")
        case "suspect":
            member.stall.grade = "suspect"
        case "draining":
            member.draining = True


@settings(deadline=None, max_examples=150)
@given(states=st.lists(st.sampled_from(STATES), min_size=1, max_size=5), now=st.sampled_from([0.0, 1.0, 2.5, 10.0]))
def test_says_whom_a_request_would_get(states: list[str], now: float) -> None:
    rost = roster(*(f"b{n}" for n in range(len(states))), max_in_flight=3)
    for n, state in enumerate(states):
        bring(rost, f"b{n}", state)
    said = explain(rost, "m", now=now)
    route = rost.resolve("m")
    assert route is not None
    choice = rost.select(route, set(), None, now)
    if isinstance(choice, Pick):
        assert said.taken is not None
        assert (said.gets, said.status, said.taken.backend) == ("sent", None, choice.candidate.backend.id)
    else:
        assert said.taken is None
        assert said.gets == {"full": "queued", "loading": "loading", "none": "unavailable"}[choice.why]
    assert sorted(one.backend for one in said.candidates) == sorted(rost.members)


def test_candidates_stand_in_the_order_in_which_they_would_be_taken() -> None:
    rost = roster("a", "b", "c", "d", "e", "f", "g", max_in_flight=2)
    rost.members["a"].load.take(1.0)
    for backend_id, state in (("c", "down"), ("d", "full"), ("e", "ejected"), ("g", "resting")):
        bring(rost, backend_id, state)
    rost.members["d"].load.in_flight = 2
    said = explain(rost, "m", now=1.0)
    assert why_not(said) == [
        ("b", None),
        ("f", None),
        ("a", None),
        ("d", "full"),
        ("e", "ejected"),
        ("g", "resting"),
        ("c", "down"),
    ]
    assert [one.until for one in said.candidates] == [None, None, None, None, 2.0, 9.0, None]
    assert (said.asked, said.at) == ("m", 1.0)


def test_values_have_names() -> None:
    rost = roster("a", host="box", priority=2, weight=2.0)
    rost.members["a"].load.take(3.0)
    [only] = explain(rost, "m", now=0.0).candidates
    assert dict(only.values) == {
        "priority": 2,
        "suspect": False,
        "affinity": 0,
        "host_busy": True,
        "host_pressure": 1.5,
        "in_flight": 1,
        "turn": 0,
    }
    assert (only.backend, only.host, only.model) == ("a", "box", "m")


def test_a_value_of_ones_own_policy_is_shown_as_it_is() -> None:
    def last_name_first(candidate: Candidate, affinity: int) -> int:
        return -ord(candidate.backend.id)

    said = explain(roster("a", "b", options={"policy": last_name_first}), "m", now=0.0)
    assert [(one.backend, one.value, one.values) for one in said.candidates] == [
        ("b", -98, {"value": -98}),
        ("a", -97, {"value": -97}),
    ]


def test_a_session_shows_its_place_and_whether_it_must_move() -> None:
    rost = roster("a", "b")
    first, second = explain(rost, "m", session="s", now=0.0).candidates
    assert (first.values["affinity"], second.values["affinity"]) == (0, 1)
    assert not explain(rost, "m", session="s", now=0.0).session_broken
    rost.members[first.backend].draining = True
    assert explain(rost, "m", session="s", now=0.0).session_broken


# --- what a name leads to


@pytest.mark.parametrize(
    ("asked", "found", "model"),
    [
        ("llama:8b", "exact", "llama:8b"),
        ("llama:8b:latest", "exact", "llama:8b"),
        ("gpt", "alias", "gpt"),
        ("llama", "prefix", "llama:8b"),
        ("other", "default", "other"),
        ("other:latest", "default", "other:latest"),
        ("", "default", ""),
    ],
)
def test_says_how_a_name_led_to_its_model(asked: str, found: str, model: str) -> None:
    options = {"prefix_fallback": "first", "default_backend": "a"}
    rost = roster("a", models=("llama:8b",), aliases={"gpt": "llama:8b"}, options=options)
    said = explain(rost, asked, now=0.0)
    assert (said.found, said.model, said.gets) == (found, model, "sent")


def test_a_name_that_one_backend_has_and_another_calls_so_is_exact() -> None:
    rost = roster("a", models=("m", "n"))
    rost.sources.claim(Backend("b", "http://box9:9", models=("k",), aliases={"n": "k"}))
    rost.sync()
    said = explain(rost, "n", now=0.0)
    assert (said.found, [one.model for one in said.candidates]) == ("exact", ["n", "k"])


# --- what a request gets that nobody takes


def test_a_model_that_nobody_has_is_unknown() -> None:
    said = explain(roster("a"), "other", now=0.0)
    assert (said.gets, said.status, said.found, said.model, said.candidates) == (
        "no_such_model",
        404,
        "nowhere",
        None,
        (),
    )


def test_naming_no_model_is_the_clients_error() -> None:
    assert explain(roster("a"), "", now=0.0).status == 400


@pytest.mark.parametrize(("hold", "gets", "status"), [(False, "loading", 503), (True, "queued", None)])
def test_what_loads_is_refused_or_waited_for(hold: bool, gets: str, status: int | None) -> None:
    rost = roster("a")
    load(rost, "a")
    said = explain(rost, "m", hold_while_loading=hold, now=0.0)
    assert (said.gets, said.status, why_not(said)) == (gets, status, [("a", "loading")])


@pytest.mark.parametrize(("hold", "gets"), [(False, "loading"), (True, "queued")])
def test_a_model_may_be_on_its_way_where_a_backend_loads_that_has_not_said_which(hold: bool, gets: str) -> None:
    rost = roster("a", models=())
    load(rost, "a")
    said = explain(rost, "m", hold_while_loading=hold, now=0.0)
    assert (said.gets, said.found) == (gets, "nowhere")


def test_where_all_are_down_nobody_is_available() -> None:
    rost = roster("a")
    break_down(rost, "a")
    assert explain(rost, "m", now=0.0).status == 503


class Somebody:
    def place_freed(self) -> bool:
        raise NotImplementedError


def test_nobody_overtakes_those_who_wait() -> None:
    rost = roster("a", options={"queue_limit": 1})
    rost.room.join("m", Somebody(), 0.0)
    said = explain(rost, "m", now=0.0)
    assert (said.gets, said.status, said.waiting, said.taken) == ("queue_full", 429, 1, None)
    assert why_not(said) == [("a", None)]


def test_those_who_wait_for_a_model_that_nobody_has_yet_are_not_overtaken_either() -> None:
    rost = roster("a", models=())
    rost.room.join("", Somebody(), 0.0)
    assert explain(rost, "m", now=0.0).gets == "queued"


@pytest.mark.parametrize(
    ("path", "gets", "status"),
    [
        ("/v1/chat/completions", "sent", None),
        ("/v1/models", "page", None),
        ("/v1/nothing", "no_such_path", 404),
    ],
)
def test_the_path_decides_whether_a_backend_is_asked_at_all(path: str, gets: str, status: int | None) -> None:
    said = explain(roster("a"), "m", path=path, now=0.0)
    assert (said.gets, said.status) == (gets, status)


def test_asking_changes_nothing() -> None:
    rost = roster("a", "b")
    assert [explain(rost, "m", now=0.0) for _ in range(3)] == [explain(rost, "m", now=0.0)] * 3
    assert [member.turn for member in rost.members.values()] == [0, 0]
    assert rost.members["a"].load.in_flight == 0
