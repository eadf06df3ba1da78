"""The kinds of engine that we know: where each listens by itself, and how to tell it from the others by asking."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Engine:
    """One kind of engine."""

    type: str  # a word of BACKEND_TYPES
    port: int  # where it listens unless it is told otherwise
    question: str  # a page that it has and the others have not, or not like this
    told: Callable[[Mapping[str, Any]], bool]  # whether that page's JSON object is this engine's
    port_variables: tuple[str, ...] = ()  # of its environment: they hold a port, or host:port
    owners: tuple[str, ...] = ()  # what its list of models says in `owned_by`
    other_owners: bool = False  # a model of its list may also bear the name of who made it
    sure: bool = False  # that page proves it, even where no list of models does


def _has(*keys: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda page: all(key in page for key in keys)


# In the order in which one asks a server that gives no hint: pages that only one engine has come first.
ENGINES: Mapping[str, Engine] = {
    engine.type: engine
    for engine in (
        Engine(
            "llamacpp",
            8080,
            "/props",
            _has("default_generation_settings"),
            ("LLAMA_ARG_PORT",),
            owners=("llamacpp",),
            sure=True,
        ),
        Engine("llamaswap", 8080, "/running", _has("running"), owners=("llama-swap",)),
        Engine("lmstudio", 1234, "/api/v0/models", _has("data"), owners=("organization_owner",)),
        Engine("sglang", 30000, "/get_model_info", _has("model_path"), owners=("sglang",), sure=True),
        Engine("tgi", 80, "/info", _has("model_id", "max_total_tokens"), ("PORT",), sure=True),
        Engine("localai", 8080, "/system", _has("backends"), ("LOCALAI_ADDRESS", "ADDRESS")),
        Engine(
            "ollama",
            11434,
            "/api/version",
            _has("version"),
            ("OLLAMA_HOST",),
            owners=("library",),
            other_owners=True,
        ),
        Engine("vllm", 8000, "/version", _has("version"), owners=("vllm",)),
    )
}

# KoboldCpp has pages of llama-server's and of Ollama's, and is neither.
OWNERS: Mapping[str, str] = {
    "koboldcpp": "generic",
    **{owner: engine.type for engine in ENGINES.values() for owner in engine.owners},
}
DEFAULT_PORT = 8080  # of what we do not know


def default_port(kind: str) -> int:
    """Where an engine of this type listens unless it is told otherwise."""
    return ENGINES[kind].port if kind in ENGINES else DEFAULT_PORT


def owner_type(owners: Collection[str]) -> str | None:
    """The type that these words of `owned_by` tell; None where they tell none, or more than one."""
    told = {OWNERS[owner] for owner in owners if owner in OWNERS}
    return told.pop() if len(told) == 1 else None


def questions(hint: str, owners: Collection[str] | None) -> tuple[Engine, ...]:
    """Whom to ask for, in order: what it is said to be, then all that it can be whose models name these owners.

    None: it lists no model that could name one.
    """
    engines = sorted(ENGINES.values(), key=lambda engine: engine.type != hint)
    return tuple(engine for engine in engines if owners is None or not engine.owners or engine.other_owners)
