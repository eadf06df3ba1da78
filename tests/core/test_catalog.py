import pytest

from solar.core.backend import Backend, Model
from solar.core.breaker import Breaker
from solar.core.catalog import Catalog, PrefixFallback, canonical, known_sizes, told_of
from solar.core.health import Health
from solar.core.load import HostLoad
from solar.core.member import Member
from solar.core.stall import StallWatch


def member(backend_id: str, *models: str | Model, aliases: dict[str, str] | None = None) -> Member:
    backend = Backend(backend_id, f"http://{backend_id}:8000", aliases=aliases or {})
    health = Health(interval=30.0, listed=True)
    found = Member(backend, HostLoad(backend.host_id), health=health, breaker=Breaker(), stall=StallWatch())
    found.models = tuple(model if isinstance(model, Model) else Model(model) for model in models)
    return found


def served_by(catalog: Catalog, name: str, fallback: PrefixFallback = "off") -> dict[str, str]:
    """backend -> its own name for the model; nothing where the name resolves to nobody."""
    route = catalog.resolve(name, fallback)
    return {c.backend.id: c.model for c in route.candidates} if route is not None else {}


def test_a_model_is_served_by_everyone_who_has_it() -> None:
    catalog = Catalog.build([member("a", "llama", "qwen"), member("b", "llama")])
    assert served_by(catalog, "llama") == {"a": "llama", "b": "llama"}
    assert served_by(catalog, "qwen") == {"a": "qwen"}
    assert served_by(catalog, "phi") == {}
    assert (len(catalog), repr(catalog)) == (2, "<Catalog 2 names on 2 backends>")


def test_an_alias_is_sent_as_the_backends_own_name() -> None:
    catalog = Catalog.build([member("a", "llama-3", aliases={"gpt-4": "llama-3"}), member("b", "gpt-4")])
    assert served_by(catalog, "gpt-4") == {"a": "llama-3", "b": "gpt-4"}


def test_a_model_goes_before_an_alias_of_the_same_name() -> None:
    catalog = Catalog.build([member("a", "x", "y", aliases={"x": "y"})])
    assert served_by(catalog, "x") == {"a": "x"}


def test_latest_is_no_other_model() -> None:
    catalog = Catalog.build([member("a", "llama:latest"), member("b", "llama")])
    for name in ("llama", "llama:latest"):
        assert served_by(catalog, name) == {"a": "llama:latest", "b": "llama"}
    assert canonical("llama:8b") == "llama:8b"


def test_of_two_spellings_on_one_backend_the_first_is_asked() -> None:
    catalog = Catalog.build([member("a", "llama:latest", "llama")])
    assert served_by(catalog, "llama") == {"a": "llama:latest"}
    assert catalog.names_on("a") == ("llama",)


def test_names_on_a_backend_are_what_it_serves() -> None:
    catalog = Catalog.build([member("a", "x", aliases={"y": "x"}), member("b", "z")])
    assert (catalog.names_on("a"), catalog.names_on("b"), catalog.names_on("c")) == (("x", "y"), ("z",), ())
    assert [route.name for route in catalog.routes()] == ["x", "y", "z"]


# --- prefixes: the original's rules, and where ours differ on purpose

GPT = ("gpt-oss:120b", "gpt-oss:20b", "gpt-oss-safe:20b")


@pytest.mark.parametrize(
    ("asked", "first", "unique"),
    [
        ("gpt-oss:20b", "gpt-oss:20b", "gpt-oss:20b"),  # exact comes before everything
        ("gpt-oss", "gpt-oss-safe:20b", None),  # alphabetically first there; here three models are too many
        ("gpt-oss:", "gpt-oss:120b", None),
        ("gpt-oss:1", "gpt-oss:120b", None),  # here a prefix ends where a part of the name ends
        ("gpt-oss:20b-", None, None),
        ("gpt-oss-safe", "gpt-oss-safe:20b", "gpt-oss-safe:20b"),
        ("gpt-oss-safe:", "gpt-oss-safe:20b", "gpt-oss-safe:20b"),
        ("GPT-OSS-SAFE", None, None),  # case counts
        ("phi", None, None),
        ("", None, None),  # matched everything there; an empty name is a mistake
    ],
)
def test_a_prefix_resolves_only_where_that_is_wanted(asked: str, first: str | None, unique: str | None) -> None:
    catalog = Catalog.build([member("a", *GPT)])
    exact = {"a": asked} if asked in GPT else {}
    assert served_by(catalog, asked, "off") == exact
    assert served_by(catalog, asked, "first") == ({"a": first} if first else {})
    assert served_by(catalog, asked, "unique") == ({"a": unique} if unique else {})


def test_an_alias_beside_its_model_is_no_second_model() -> None:
    catalog = Catalog.build([member("a", "qwen3:8b-q4", aliases={"qwen3:8b": "qwen3:8b-q4"})])
    assert served_by(catalog, "qwen3", "unique") == {"a": "qwen3:8b-q4"}


def test_one_model_on_many_backends_is_unique() -> None:
    catalog = Catalog.build([member("a", "qwen3:8b"), member("b", "qwen3:8b")])
    assert served_by(catalog, "qwen3", "unique") == {"a": "qwen3:8b", "b": "qwen3:8b"}


def test_what_clients_make_up_does_not_fill_the_memory() -> None:
    catalog = Catalog.build([member("a", "qwen3:8b")])
    for number in range(3000):
        assert catalog.resolve(f"made-up-{number}", "unique") is None
        assert len(catalog._prefixes) <= 1024
    assert catalog.resolve("qwen3", "unique") is catalog.resolve("qwen3", "unique") is not None


# --- sizes


def sizes(*members: Member) -> dict[tuple[str, str], float]:
    """(name, backend) -> billions of parameters."""
    return {(r.name, c.backend.id): c.size for r in Catalog.build(members).routes() for c in r.candidates}


def test_a_size_is_told_by_the_engine_then_the_name_then_the_alias_then_the_mean() -> None:
    told, named = Model("llama-70b", size=69.5), "qwen:7b"
    found = sizes(member("a", told, named, "tuned", "other", aliases={"my-13b": "tuned"}))
    assert found["llama-70b", "a"] == 69.5
    assert found["qwen:7b", "a"] == 7.0
    assert found["my-13b", "a"] == 13.0
    assert found["tuned", "a"] == found["other", "a"] == (69.5 + 7.0) / 2


def test_without_any_size_every_model_weighs_the_same() -> None:
    assert set(sizes(member("a", "x", "y"), member("b", "z")).values()) == {1.0}


def test_a_size_of_zero_is_no_size() -> None:
    assert sizes(member("a", Model("x", size=0.0), "y:0b", "z:2b")) == {
        ("x", "a"): 2.0,
        ("y:0b", "a"): 2.0,
        ("z:2b", "a"): 2.0,
    }
    assert known_sizes([member("a", Model("x", size=0.0))]) == {}


def test_the_backends_own_facts_of_a_model_are_found() -> None:
    catalog = Catalog.build([member("a", Model("x", facts={"id": "x", "owned_by": "me"}), "z", aliases={"y": "gone"})])
    facts = {route.name: dict(told_of(route.candidates[0]).facts) for route in catalog.routes()}
    assert facts == {"x": {"id": "x", "owned_by": "me"}, "y": {}, "z": {}}
