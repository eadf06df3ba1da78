"""The original coordinator's rules as tables. Where ours differ on purpose a case says `ours`, and why stands there."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest

from solar.core.backend import Backend
from solar.core.catalog import PrefixFallback
from solar.core.decision import Pick
from solar.core.roster import Roster, RosterOptions
from solar.core.size import size_of
from solar.wire.address import agent_url, instance_url


def case(said: str, original: Any, ours: Any = ...) -> Any:
    """A row: what goes in, what the original made of it, and what we make of it if that is something else."""
    differs = ours is not ...
    assert ours != original
    return pytest.param(said, ours if differs else original, id=f"{said or 'nothing'}{' (ours)' * differs}")


@pytest.mark.parametrize(
    ("registered", "instance"),
    [
        case("http://192.168.1.100:8001", "http://192.168.1.100:3500"),
        case("http://[::1]:8001", "http://[::1]:3500"),
        case("http://gpu1:8001/", "http://gpu1:3500"),  # there it was refused: //health is no page
        # It cut the URL at the last colon, which made an address of no machine.
        case("http://gpu1", "http:3500", "http://gpu1:3500"),
        case("https://h/base", "https:3500", "http://h:3500"),
        # It took the agent's scheme; an engine behind it speaks plain HTTP.
        case("https://gpu1:8001", "https://gpu1:3500", "http://gpu1:3500"),
    ],
)
def test_an_instances_address_follows_from_its_agents(registered: str, instance: str) -> None:
    assert instance_url(agent_url(registered), 3500) == instance


@pytest.mark.parametrize(
    ("alias", "billions"),
    [
        case("gpt-oss:120b", 120),
        case("mixtral:8x7b", 56),
        case("tiny:13m", 0.013),
        case("phi-2:2.7b", 2.7),
        case("70b", 70),
        case("a:b:7B", 7),
        case("m:8 x 7 b", 56),
        case("m:latest", None),
        case("m:", None),
        # The whole word after the last colon had to be the size. What it could not read weighed nothing.
        case("8X7b", None, 56),
        case("m:.5b", None, 0.5),
        case("m:30b-a3b", None, 30),
        case("m:7B-instruct", None, 7),
        case("llama-3:8b-q4", None, 8),
        case("llama-70b", None, 70),
        case("meta-llama/Llama-3.3-70B-Instruct", None, 70),
    ],
)
def test_a_models_size_is_read_from_its_name(alias: str, billions: float | None) -> None:
    assert size_of(alias) == (None if billions is None else pytest.approx(billions))


GPT = ("gpt-oss:120b", "gpt-oss:20b", "gpt-oss-safe:20b")


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        case("gpt-oss:20b", "gpt-oss:20b"),
        case("gpt-oss:", "gpt-oss:120b"),  # the alphabetically first, not the smallest
        case("gpt-oss:1", "gpt-oss:120b"),
        case("gpt-oss-s", "gpt-oss-safe:20b"),
        case("gpt", "gpt-oss-safe:20b"),
        case("GPT-OSS", None),  # case counts
        case("oss", None),
        case("gpt-oss:20b:latest", None, "gpt-oss:20b"),  # Ollama's default tag is no other model
        case("", "gpt-oss-safe:20b", None),  # matched everything: an empty name is a mistake
    ],
)
def test_a_prefix_finds_the_alphabetically_first_where_that_is_wanted(asked: str, found: str | None) -> None:
    assert resolved(asked, "first") == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        case("gpt-oss:20b", "gpt-oss:20b"),
        case("gpt-oss-safe", "gpt-oss-safe:20b"),
        # It had no switch, and took the first of several. Unless told otherwise, we take what is meant beyond doubt.
        case("gpt-oss", "gpt-oss-safe:20b", None),
        case("gpt-oss:1", "gpt-oss:120b", None),
    ],
)
def test_unless_told_otherwise_a_prefix_must_mean_one_model(asked: str, found: str | None) -> None:
    assert resolved(asked, "unique") == found


def resolved(asked: str, fallback: PrefixFallback) -> str | None:
    roster = Roster(RosterOptions(prefix_fallback=fallback))
    roster.sources.claim(Backend("a", "http://a:1", models=GPT))
    roster.sync()
    route = roster.resolve(asked)
    return route.candidates[0].model if route is not None else None


class Choice(NamedTuple):
    """Requests for one model, one after another, and who takes them."""

    said: str
    instances: str  # host/instance, each with the model
    original: str  # who took them there
    ours: str | None = None  # who takes them here, where that differs
    model: str = "m:7b"
    busy: Mapping[str, float] = {}  # instance -> billions of parameters of a request that lasts
    lasting: bool = True  # each request lasts longer than all of them
    refreshed: bool = False  # the registry is read anew before each

    def __str__(self) -> str:
        return f"{self.said}{' (ours)' * (self.ours is not None)}"


CHOICES = [
    Choice("free hosts take turns", "a/1 b/1 c/1", "a/1 b/1 c/1 a/1 b/1", lasting=False),
    Choice("free goes before turn", "a/1 b/1 c/1", "b/1 b/1", busy={"a/1": 0.1, "c/1": 0.1}, lasting=False),
    Choice("another model makes a host busy too", "a/1 a/2 b/1", "b/1", busy={"a/2": 0.1}),
    Choice("no free host: the least in flight", "a/1 b/1", "b/1", busy={"a/1": 120, "b/1": 20}),
    Choice("parameters count, not requests", "a/1 a/2 b/1", "a/1", busy={"a/1": 8, "a/2": 8, "b/1": 20}),
    Choice("on one host the least active", "a/1 a/2", "a/2", busy={"a/1": 1}),
    Choice("a host with two instances takes no more than one with one", "a/1 a/2 b/1", "a/1 b/1 a/2 b/1"),
    Choice("hosts fill evenly", "a/1 b/1", "a/1 b/1 a/1 b/1"),
    # Ties went to the alphabetically first host, for ever.
    Choice(
        "ties take turns", "a/1 b/1", "a/1 a/1 a/1 a/1", "a/1 b/1 a/1 b/1", busy={"a/1": 7, "b/1": 7}, lasting=False
    ),
    # What had no size weighed nothing, so that all hosts were equals and the first took seven of eight.
    Choice("unsized models weigh something", "a/1 b/1", "a/1 b/1 a/1 a/1 a/1", "a/1 b/1 a/1 b/1 a/1", model="m"),
    # A registry that was read anew had no turns yet.
    Choice("turns survive a refresh", "a/1 b/1", "a/1 a/1 a/1", "a/1 b/1 a/1", lasting=False, refreshed=True),
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_who_takes_a_request(choice: Choice) -> None:
    roster = Roster(RosterOptions())
    for place in choice.instances.split():
        host, _, number = place.partition("/")
        roster.sources.claim(Backend(place, f"http://{host}:350{number}", host=host, models=(choice.model,)))
    roster.sync()
    for place, size in choice.busy.items():
        roster.members[place].load.take(size)
    taken = []
    for _ in choice.original.split():
        if choice.refreshed:
            roster.rebuild()
        route = roster.resolve(choice.model)
        assert route is not None
        pick = roster.select(route, set(), None, 0.0)
        assert isinstance(pick, Pick)
        roster.picked(pick.candidate)
        slot = pick.candidate.member.load.take(pick.candidate.size)
        if not choice.lasting:
            slot.give_back()
        taken.append(pick.candidate.backend.id)
    assert " ".join(taken) == (choice.ours or choice.original)
