import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.affinity import order
from solar.core.backend import Backend, Model
from solar.core.catalog import Route
from solar.core.decision import Pick
from solar.core.member import Member
from solar.core.queue import WaitingRoom
from solar.core.roster import Refusal, Roster, RosterOptions
from solar.core.select import Candidate


def backend(backend_id: str, port: int, *, models: tuple[str, ...] = ("m",), **facts: object) -> Backend:
    return Backend(backend_id, f"http://box{port}:{port}", models=models, **facts)  # type: ignore[arg-type]


def roster(*backends: Backend, **options: object) -> Roster:
    made = Roster(RosterOptions(**options))  # type: ignore[arg-type]
    for one in backends:
        made.sources.claim(one)
    made.sync()
    return made


def two(**options: object) -> Roster:
    return roster(backend("a", 1), backend("b", 2), **options)


def route_of(rost: Roster, model: str = "m") -> Route:
    route = rost.resolve(model)
    assert route is not None
    return route


def chosen(
    rost: Roster, model: str = "m", *, tried: set[str] | None = None, session: str | None = None, now: float = 0.0
) -> str:
    """The id of the backend that takes the next request, or why nobody does."""
    choice = rost.select(route_of(rost, model), tried or set(), session, now)
    return choice.candidate.backend.id if isinstance(choice, Pick) else choice.why


def eject(member: Member, now: float) -> None:
    for _ in range(3):
        member.breaker.failed(member.breaker.began(now), now)


# --- who is there


def test_members_that_left_drain() -> None:
    rost = two()
    leaving = rost.members["a"]
    rost.sources.drop("static", "a")
    assert rost.sync() == [leaving]
    assert leaving.draining
    assert [c.backend.id for c in route_of(rost).candidates] == ["b"]
    assert repr(rost) == "<Roster 1 backends, 0 waiting>"


def test_a_backend_at_another_address_is_another_backend() -> None:
    rost = two()
    before = rost.members["a"]
    rost.sources.claim(backend("a", 9))
    assert rost.sync() == [before]
    assert rost.members["a"] is not before


def test_new_facts_at_the_same_address_keep_what_is_known() -> None:
    rost = two()
    member = rost.members["a"]
    member.health.passed(0.0, 0.5)
    eject(member, 0.0)
    rost.sources.claim(backend("a", 1, weight=4.0, models=("m", "n"), api_key="new"))
    assert rost.sync() == []
    assert rost.members["a"] is member
    assert (member.breaker.state, member.health.state, member.load.host.weight) == ("open", "healthy", 4.0)
    assert [model.id for model in member.models] == ["m", "n"]
    assert member.health.due(0.0)


def test_unchanged_facts_disturb_nothing() -> None:
    rost = two()
    rost.members["a"].health.passed(0.0, 0.5)
    rost.sources.claim(backend("a", 1))
    rost.sync()
    assert not rost.members["a"].health.due(1.0)


def test_a_name_that_another_source_gives_changes_no_engine() -> None:
    rost = roster(backend("mine", 1), backend("box", 1, source="docker"))
    member = rost.members["mine"]
    member.health.passed(0.0, 0.5)
    rost.sources.drop("static", "mine")
    assert rost.sync() == []
    assert rost.members == {"box": member}
    assert member.health.state == "healthy"


def test_a_model_that_only_the_settings_named_leaves_with_them() -> None:
    rost = roster(backend("a", 1, models=("m", "n")))
    rost.reported(rost.members["a"], [Model("o", facts={"id": "o"})])
    rost.sources.claim(backend("a", 1, models=("m",)))
    rost.sync()
    assert [model.id for model in rost.members["a"].models] == ["o", "m"]


def test_a_type_from_the_settings_comes_before_what_was_found() -> None:
    rost = roster(backend("a", 1))
    rost.members["a"].type = "vllm"
    rost.sources.claim(backend("a", 1, weight=2.0))
    rost.sync()
    assert rost.members["a"].type == "vllm"
    rost.sources.claim(backend("a", 1, type="ollama"))
    rost.sync()
    assert rost.members["a"].type == "ollama"


def test_a_backend_may_move_to_another_host_while_it_works() -> None:
    rost = roster(backend("a", 1))
    slot = rost.members["a"].load.take(7.0)
    rost.sources.claim(backend("a", 1, host="rack"))
    rost.sync()
    assert rost.members["a"].load.host.id == "rack"
    slot.give_back()
    assert rost.members["a"].load.host.in_flight == 0


def test_backends_on_one_loopback_share_a_host_and_its_greatest_weight() -> None:
    rost = roster(
        Backend("a", "http://localhost:1", models=("m",), weight=2.0),
        Backend("b", "http://127.0.0.1:2", models=("m",), weight=3.0),
        Backend("c", "http://[::1]:3", models=("m",)),
    )
    hosts = {member.load.host for member in rost.members.values()}
    assert [(host.id, host.weight) for host in hosts] == [("localhost", 3.0)]
    rost.sources.drop("static", "b")
    rost.sync()
    assert rost.members["a"].load.host.weight == 2.0


def test_what_a_backend_reports_is_added_to_what_it_was_given() -> None:
    rost = roster(backend("a", 1, models=("m", "n")))
    assert rost.reported(rost.members["a"], [Model("n", size=7.0), Model("x")])
    assert [model.id for model in rost.members["a"].models] == ["n", "x", "m"]
    assert {candidate.size for candidate in route_of(rost, "x").candidates} == {7.0}


def test_the_same_report_again_changes_no_catalog() -> None:
    rost = roster(backend("a", 1, models=()))
    assert rost.reported(rost.members["a"], [Model("x", facts={"id": "x", "n": 1})])
    catalog = rost.catalog
    assert not rost.reported(rost.members["a"], [Model("x", facts={"id": "x", "n": 1})])
    assert rost.catalog is catalog
    assert rost.reported(rost.members["a"], [Model("x", facts={"id": "x", "n": 2})])


def test_a_model_whose_engine_says_that_it_was_created_just_now_is_no_news() -> None:
    rost = two()
    assert rost.reported(rost.members["a"], [Model("x", facts={"id": "x", "created": 100})])
    catalog = rost.catalog
    assert not rost.reported(rost.members["a"], [Model("x", facts={"id": "x", "created": 105})])
    assert rost.catalog is catalog
    assert rost.members["a"].models[0].facts["created"] == 100


# --- what a name resolves to


def test_the_default_backend_takes_what_nobody_has() -> None:
    rost = two(default_backend="b")
    route = route_of(rost, "unheard-of")
    assert [(c.backend.id, c.model) for c in route.candidates] == [("b", "unheard-of")]
    assert [c.backend.id for c in route_of(rost, "m").candidates] == ["a", "b"]
    nameless = rost.resolve("")
    assert nameless is not None
    assert nameless.name == ""


def test_a_default_backend_that_is_not_there_takes_nothing() -> None:
    assert two(default_backend="gone").resolve("unheard-of") is None
    assert two().resolve("") is None


# --- selection: free hosts; the least size for the weight; the fewest requests; in turn


def test_a_free_host_goes_first() -> None:
    rost = roster(
        Backend("a", "http://x:1", models=("m",)),
        Backend("b", "http://x:2", models=("m",)),
        Backend("c", "http://y:1", models=("m",)),
    )
    rost.members["a"].load.take(0.001)
    rost.members["c"].turn = 99
    assert chosen(rost) == "c"


def test_among_busy_hosts_the_least_size_for_its_weight_takes_it() -> None:
    rost = roster(backend("a", 1, weight=4.0), backend("b", 2))
    rost.members["a"].load.take(70.0)
    rost.members["b"].load.take(20.0)
    assert chosen(rost) == "a"
    rost.members["a"].load.take(20.0)
    assert chosen(rost) == "b"


def test_on_one_host_the_backend_with_the_fewest_requests_takes_it() -> None:
    rost = roster(Backend("a", "http://x:1", models=("m",)), Backend("b", "http://x:2", models=("m",)))
    rost.members["a"].load.take(1.0)
    rost.members["a"].load.take(1.0)
    rost.members["b"].load.take(70.0)
    rost.members["b"].turn = 99
    assert chosen(rost) == "b"


def test_what_was_carried_and_given_back_leaves_no_dust_that_breaks_a_tie() -> None:
    models = ("m-0.6b", "n-1.7b")
    rost = roster(backend("a", 1, models=models), backend("b", 2, models=models))
    small = {candidate.backend.id: candidate for candidate in route_of(rost, "m-0.6b").candidates}
    large = {candidate.backend.id: candidate for candidate in route_of(rost, "n-1.7b").candidates}
    first = small["a"].member.load.take(small["a"].size)
    large["a"].member.load.take(large["a"].size)
    first.give_back()
    large["b"].member.load.take(large["b"].size)
    rost.picked(small["b"])
    rost.picked(small["a"])
    assert chosen(rost, "m-0.6b") == "b"


def test_turns_never_restart_when_the_catalog_changes() -> None:
    rost = two()
    taken = []
    for number in range(12):
        choice = rost.select(route_of(rost), set(), None, 0.0)
        assert isinstance(choice, Pick)
        rost.picked(choice.candidate)
        taken.append(choice.candidate.backend.id)
        if number % 2:
            rost.rebuild()
        else:
            rost.reported(rost.members["a"], [Model(f"new{number}")])
    assert taken == ["a", "b"] * 6


def test_a_lower_tier_goes_first_while_it_is_available() -> None:
    rost = roster(backend("spare", 1, priority=1), backend("usual", 2))
    rost.members["usual"].load.take(500.0)
    assert chosen(rost) == "usual"
    rost.members["usual"].draining = True
    assert chosen(rost) == "spare"


def test_a_suspect_gets_nothing_new_while_another_is_available() -> None:
    rost = two()
    silent = rost.members["a"].stall
    silent.sent(0.0, streaming=True, prompt_tokens=1)
    assert silent.check(3.0) == "suspect"
    assert chosen(rost, now=3.0) == "b"
    assert chosen(rost, tried={"b"}, now=3.0) == "a"


def test_a_policy_of_your_own_decides() -> None:
    def largest_id(candidate: Candidate, affinity: int) -> tuple[int, int]:
        return (-ord(candidate.backend.id), affinity)

    assert chosen(two(policy=largest_id)) == "b"


def test_a_policy_may_look_at_everything_that_ours_looks_at() -> None:
    rost = roster(backend("a", 1, weight=2.0))
    rost.members["a"].load.take(7.0)
    (candidate,) = route_of(rost).candidates
    rost.picked(candidate)
    seen = (candidate.in_flight, candidate.host_in_flight, candidate.host_pressure, candidate.suspect, candidate.turn)
    assert seen == (1, 1, 3.5, False, 1)
    assert repr(candidate) == "<Candidate m on a>"


# --- sessions


def test_a_session_stays_with_its_backend_whatever_the_load() -> None:
    rost = roster(*(backend(name, port) for port, name in enumerate("abc", 1)))
    preferred = order("s1", "abc")[0]
    rost.members[preferred].load.take(500.0)
    assert chosen(rost, session="s1") == preferred


def test_a_session_that_must_move_says_so_and_goes_to_its_next() -> None:
    rost = roster(*(backend(name, port) for port, name in enumerate("abc", 1)))
    first, second, _ = order("s1", "abc")
    rost.members[first].draining = True
    choice = rost.select(route_of(rost), set(), "s1", 0.0)
    assert isinstance(choice, Pick)
    assert (choice.candidate.backend.id, choice.session_broken) == (second, True)


def test_a_session_never_prefers_a_higher_tier() -> None:
    for spare in "abc":
        rost = roster(*(backend(name, port, priority=int(name == spare)) for port, name in enumerate("abc", 1)))
        for session in ("s1", "s2", "s3", "s4", "s5"):
            choice = rost.select(route_of(rost), set(), session, 0.0)
            assert isinstance(choice, Pick)
            expected = next(name for name in order(session, "abc") if name != spare)
            assert (choice.candidate.backend.id, choice.session_broken) == (expected, False)


# --- when nobody is available


def test_who_is_full_is_waited_for() -> None:
    rost = roster(backend("a", 1, max_in_flight=1), backend("b", 2))
    rost.members["a"].load.take(1.0)
    eject(rost.members["b"], 0.0)
    refusal = rost.select(route_of(rost), set(), None, 0.0)
    assert refusal[:3] == ("full", 1.0, "a is full, b is ejected")


def test_where_all_rest_the_first_to_return_is_asked() -> None:
    rost = two()
    rost.rests.rest("a", "m", 20.0)
    rost.rests.rest("b", "m", 10.0)
    assert chosen(rost) == "b"
    assert chosen(rost, now=9.0, tried={"b"}) == "a"


def test_one_model_rests_alone() -> None:
    rost = roster(backend("a", 1, models=("m", "n")), backend("b", 2, models=("m", "n")))
    rost.rests.rest("a", "m", 20.0)
    assert (chosen(rost, "m"), chosen(rost, "n")) == ("b", "a")


def test_where_all_are_ejected_the_least_bad_is_asked() -> None:
    rost = two()
    eject(rost.members["a"], 5.0)
    eject(rost.members["b"], 4.0)
    assert chosen(rost, now=5.0) == "b"


def test_who_is_down_is_not_asked_even_when_nobody_else_is_there() -> None:
    rost = two()
    for member in rost.members.values():
        member.health.failed(0.0, "nobody listens", 0.5, refused=True)
    assert rost.select(route_of(rost), set(), None, 0.0)[:3] == ("none", 1.0, "a is down, b is down")


def test_who_loads_is_said_to_load() -> None:
    rost = two()
    rost.members["a"].health.loading(0.0, 0.5)
    rost.members["b"].health.failed(0.0, "nobody listens", 0.5, refused=True)
    assert chosen(rost) == "loading"


def test_a_second_backend_is_asked_only_where_it_is_available() -> None:
    rost = two()
    route = route_of(rost)
    assert rost.may_go_elsewhere(route, {"a"}, 0.0)
    assert not rost.may_go_elsewhere(route, {"a", "b"}, 0.0)
    rost.rests.rest("b", "m", 10.0)
    assert not rost.may_go_elsewhere(route, {"a"}, 0.0)
    assert rost.may_go_elsewhere(route, {"a"}, 10.0)
    eject(rost.members["b"], 10.0)
    assert not rost.may_go_elsewhere(route, {"a"}, 11.0)


# --- the queue


class Waits:
    """Takes a place where there is one."""

    def __init__(self, rost: Roster, model: str, served: list[str], name: str) -> None:
        self.roster, self.model, self.served, self.name = rost, model, served, name

    def place_freed(self) -> bool:
        choice = self.roster.select(route_of(self.roster, self.model), set(), None, 0.0)
        if isinstance(choice, Refusal):
            return False
        self.roster.room.leave(self)
        choice.candidate.member.load.take(1.0)
        self.served.append(self.name)
        return True


def wait_for(rost: Roster, served: list[str], **models: str) -> None:
    for name, model in models.items():
        assert rost.room.join(model, Waits(rost, model, served, name), 0.0)


def test_a_freed_place_goes_to_who_waited_longest_whatever_the_name() -> None:
    rost = roster(backend("a", 1, models=("m", "n"), max_in_flight=2))
    slots = [rost.members["a"].load.take(1.0) for _ in range(2)]
    served: list[str] = []
    wait_for(rost, served, ann="n", bob="m", cleo="n")
    rost.freed(rost.members["a"])
    assert served == []
    slots[0].give_back()
    rost.freed(rost.members["a"])
    assert served == ["ann"]
    slots[1].give_back()
    rost.freed(rost.members["a"])
    assert (served, len(rost.room)) == (["ann", "bob"], 1)


def test_who_waits_for_another_model_does_not_hold_up_the_line() -> None:
    rost = roster(backend("a", 1, models=("m",), max_in_flight=1), backend("b", 2, models=("n",), max_in_flight=1))
    rost.members["a"].load.take(1.0)
    served: list[str] = []
    wait_for(rost, served, ann="m", bob="n")
    rost.changed()
    assert (served, rost.room.by_model()) == (["bob"], {"m": 1})


def test_every_place_that_is_free_is_given_at_once() -> None:
    rost = roster(backend("a", 1, max_in_flight=3))
    served: list[str] = []
    wait_for(rost, served, ann="m", bob="m", cleo="m", dan="m")
    rost.changed()
    assert served == ["ann", "bob", "cleo"]


def test_who_gives_its_place_back_at_once_passes_it_on_without_a_deeper_call() -> None:
    class Fails(Waits):
        def place_freed(self) -> bool:
            took = super().place_freed()
            self.roster.members["a"].load.in_flight = 0
            self.roster.freed(self.roster.members["a"])
            return took

    rost = roster(backend("a", 1, max_in_flight=1), queue_limit=2000)
    served: list[str] = []
    for number in range(2000):
        rost.room.join("m", Fails(rost, "m", served, str(number)), 0.0)
    rost.changed()
    assert served == [str(number) for number in range(2000)]


def test_who_waits_for_the_default_backend_hears_of_its_places() -> None:
    rost = roster(backend("a", 1, max_in_flight=1), default_backend="a")
    slot = rost.members["a"].load.take(1.0)
    served: list[str] = []
    wait_for(rost, served, ann="unheard-of")
    slot.give_back()
    rost.freed(rost.members["a"])
    assert served == ["ann"]


def test_nobody_is_asked_where_nobody_waits() -> None:
    rost = two()
    assert isinstance(rost.room, WaitingRoom)
    rost.freed(rost.members["a"])
    rost.changed()


def test_a_backend_that_serves_nothing_frees_no_place() -> None:
    rost = roster(backend("a", 1, max_in_flight=1), backend("b", 2, models=()))
    served: list[str] = []
    wait_for(rost, served, ann="m")
    rost.freed(rost.members["b"])
    assert served == []


def test_a_model_may_appear_while_a_backend_loads_and_has_not_said_what() -> None:
    rost = roster(backend("a", 1), backend("b", 2, models=()))
    assert not rost.may_appear()
    rost.members["a"].health.loading(0.0, 0.5)
    assert not rost.may_appear()
    rost.members["b"].health.loading(0.0, 0.5)
    assert rost.may_appear()


@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 50.0), st.integers(0, 9)), max_size=40))
@settings(deadline=None, max_examples=100)
def test_a_free_host_is_never_left_idle_while_a_busy_one_is_given_more(steps: list[tuple[bool, float, int]]) -> None:
    rost = roster(*(backend(name, port) for port, name in enumerate("abc", 1)))
    slots = []
    for takes, size, which in steps:
        if takes:
            choice = rost.select(route_of(rost), set(), None, 0.0)
            assert isinstance(choice, Pick)
            member = choice.candidate.member
            if member.load.host.in_flight:
                assert all(other.load.host.in_flight for other in rost.members.values())
                assert member.load.host.pressure == min(m.load.host.pressure for m in rost.members.values())
            rost.picked(choice.candidate)
            slots.append(member.load.take(size))
        elif slots:
            slots.pop(which % len(slots)).give_back()
    for slot in slots:
        slot.give_back()
    assert all(member.load.host.size == 0.0 for member in rost.members.values())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_equals_take_turns(count: int) -> None:
    names = "abcde"[:count]
    rost = roster(*(backend(name, port) for port, name in enumerate(names, 1)))
    taken = []
    for _ in range(2 * count):
        choice = rost.select(route_of(rost), set(), None, 0.0)
        assert isinstance(choice, Pick)
        rost.picked(choice.candidate)
        taken.append(choice.candidate.backend.id)
    assert taken == [*names] * 2
