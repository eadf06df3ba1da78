from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from solar.core.backend import Backend
from solar.core.roster import Roster, RosterOptions
from solar.core.sources import PRECEDENCE, Sources


def named(source: str, backend_id: str, port: int = 8000, *, host: str = "gpu") -> Backend:
    return Backend(backend_id, f"http://{host}:{port}", source=source)


def sources(*backends: Backend) -> Sources:
    found = Sources()
    for backend in backends:
        found.claim(backend)
    return found


def told(found: Sources) -> dict[str, tuple[str, int]]:
    """id -> its source and port."""
    return {name: (backend.source, backend.origin.port) for name, backend in found.effective().items()}


def test_one_address_from_several_sources_is_one_backend() -> None:
    found = sources(named("local", "here"), named("docker", "box"), named("static", "mine"))
    assert told(found) == {"mine": ("static", 8000)}
    assert len(found) == 3


def test_spellings_of_loopback_are_one_address() -> None:
    found = sources(
        Backend("a", "http://localhost:8000/v1", source="static"),
        Backend("b", "http://127.0.0.1:8000", source="docker"),
        Backend("c", "http://[::1]:8000/", source="local"),
    )
    assert list(found.effective()) == ["a"]


@pytest.mark.parametrize(("first", "second"), list(pairwise((*PRECEDENCE, "consul"))))
def test_the_earlier_source_speaks_for_an_address(first: str, second: str) -> None:
    found = sources(named(second, "b"), named(first, "a"))
    assert told(found) == {"a": (first, 8000)}


def test_a_file_of_backends_comes_before_what_was_found() -> None:
    found = sources(named("docker", "box"), named("file:/etc/more.toml", "mine"), named("dns:llm.lan", "record", 8001))
    assert told(found) == {"mine": ("file:/etc/more.toml", 8000), "record": ("dns:llm.lan", 8001)}


def test_of_sources_without_a_place_one_speaks_too() -> None:
    found = sources(named("k8s", "pod"), named("consul", "service"))
    assert told(found) == {"service": ("consul", 8000)}


def test_a_source_that_leaves_keeps_the_others() -> None:
    found = sources(named("static", "mine"), named("docker", "box"))
    assert found.drop("static", "mine")
    assert told(found) == {"box": ("docker", 8000)}
    assert not found.drop("static", "mine")


def test_one_source_may_name_an_address_twice() -> None:
    found = sources(named("static", "small"), named("static", "large"), named("docker", "box"))
    assert told(found) == {"small": ("static", 8000), "large": ("static", 8000)}


def test_two_addresses_under_one_id_are_told_apart_by_their_source() -> None:
    found = sources(named("docker", "a", 8001), named("static", "a", 8000), named("local", "a", 8002))
    assert told(found) == {"a": ("static", 8000), "a@docker": ("docker", 8001), "a@local": ("local", 8002)}


def test_a_name_that_looks_like_another_sources_displaces_nobody() -> None:
    found = sources(named("static", "a", 1), named("static", "a@docker", 2), named("docker", "a", 3))
    assert told(found) == {"a": ("static", 1), "a@docker": ("static", 2), "a@docker@docker": ("docker", 3)}


def test_a_list_replaces_what_its_source_named_and_nothing_else() -> None:
    found = sources(named("docker", "old", 1), named("static", "mine", 2))
    found.replace("docker", [named("docker", "new", 3)])
    assert told(found) == {"mine": ("static", 2), "new": ("docker", 3)}


def test_claiming_again_gives_new_facts() -> None:
    found = sources(named("static", "a", 1), named("static", "a", 2))
    assert told(found) == {"a": ("static", 2)}


def test_tells_who_names_an_id() -> None:
    found = sources(named("static", "a", 1), named("docker", "a", 2), named("docker", "b", 3))
    assert found.claimants("a") == ("static", "docker")
    assert found.claimants("c") == ()


NAMES = st.tuples(st.sampled_from(["static", "docker", "local", "consul", "k8s"]), st.sampled_from("ab"))
STEPS = st.lists(st.tuples(st.sampled_from(["claim", "claim", "drop"]), NAMES, st.integers(1, 3)), max_size=30)


@given(STEPS)
@example(  # both of one source's names for one address change at once
    [
        ("claim", ("static", "b"), 2),
        ("claim", ("docker", "a"), 2),
        ("claim", ("local", "a"), 1),
        ("claim", ("local", "b"), 1),
        ("drop", ("static", "b"), 2),
    ]
)
@settings(deadline=None, max_examples=150)
def test_members_are_always_what_the_sources_say_and_keep_their_state(
    steps: list[tuple[str, tuple[str, str], int]],
) -> None:
    roster = Roster(RosterOptions())
    for step, (source, backend_id), port in steps:
        before = {id(member): member.backend.address for member in roster.members.values()}
        if step == "claim":
            roster.sources.claim(named(source, backend_id, port))
        else:
            roster.sources.drop(source, backend_id)
        gone = roster.sync()
        wanted = roster.sources.effective()
        assert {name: member.backend for name, member in roster.members.items()} == wanted
        assert not any(member.draining for member in roster.members.values())
        assert all(member.draining for member in gone)
        addresses = [member.backend.address for member in roster.members.values()]
        for member in gone:  # only who has no place any more leaves
            assert list(before.values()).count(member.backend.address) > addresses.count(member.backend.address)
        assert {id(m) for m in roster.members.values()} | {id(m) for m in gone} >= before.keys()


def also(source: str, backend_id: str, port: int, *others: int) -> Backend:
    urls = tuple(f"http://gpu:{other}/v1" for other in others)
    return Backend(backend_id, f"http://gpu:{port}", source=source, other_urls=urls)


def test_an_engine_that_answers_at_two_addresses_is_one_backend() -> None:
    found = sources(also("docker", "box", 8080, 28080), named("local", "here", 28080))
    assert told(found) == {"box": ("docker", 8080)}


def test_the_earlier_source_speaks_for_an_engine_at_whichever_address_it_names() -> None:
    found = sources(also("docker", "box", 8080, 28080), named("static", "mine", 28080))
    assert told(found) == {"mine": ("static", 28080)}


def test_two_addresses_of_one_engine_are_one_even_where_nobody_else_says_so() -> None:
    found = sources(named("static", "mine", 1), also("docker", "box", 1, 2), named("local", "here", 2))
    assert told(found) == {"mine": ("static", 1)}
