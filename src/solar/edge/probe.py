"""Asks backends how they are and which models they have; each kind of engine in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from solar.core.attempts import Outcome
from solar.core.backend import LOADS_ON_DEMAND, Backend, Model
from solar.core.health import says_loading
from solar.edge.details import PAGES, Contexts, of_ollama, positive, tokens
from solar.edge.fetch import Answer, FetchFailed, Sends, fetch

HEALTH_PATHS: Mapping[str, str | None] = {
    "ollama": None,  # has none: its list of models is the proof of life
    "lmstudio": None,
    "localai": "/readyz",
}
_OWNERS = {
    "llamacpp": "llamacpp",
    "vllm": "vllm",
    "library": "ollama",
    "sglang": "sglang",
    "organization_owner": "lmstudio",
}
# What lists call the length of context: vLLM and SGLang, OpenRouter, Groq, Mistral.
_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")


class Finding(NamedTuple):
    """What one probe found."""

    state: Literal["healthy", "loading", "failed"]
    reason: str = ""
    models: tuple[Model, ...] | None = None  # None: it did not say
    type: str | None = None  # what the engine is, where it told
    timed_out: bool = False
    refused: bool = False
    slots: int | None = None  # requests that it works on at once, where it told


async def probe(
    upstream: Sends, backend: Backend, kind: str, *, seconds: float, contexts: Contexts | None = None
) -> Finding:
    """One look at a backend: is it up, is it loading, what does it serve. `seconds` is for each question.

    `contexts` keeps what models told once, from one look to the next.
    """
    try:
        health_path = HEALTH_PATHS.get(kind, "/health")
        if health_path is not None:
            health = await fetch(upstream, backend, "GET", backend.root + health_path, seconds=seconds)
            if health.status == 503:
                return await _with_names(upstream, backend, _not_ready(health), seconds)
            if health.status >= 500 and health.status != 501:
                return Finding("failed", f"{health_path} answered {health.status}")
        listed = await fetch(upstream, backend, "GET", backend.prefix + "/models", seconds=seconds)
        finding = _read_list(backend, listed)
        if finding.state == "healthy":
            engine = finding.type or "" if kind == "auto" else kind
            finding = await _with_details(upstream, backend, engine, finding, contexts, seconds)
    except FetchFailed as error:
        return Finding(
            "failed",
            error.detail,
            timed_out=error.outcome in (Outcome.TIMEOUT, Outcome.CONNECT_TIMEOUT),
            refused=error.outcome is Outcome.REFUSED,
        )
    return finding


async def _with_details(
    upstream: Sends, backend: Backend, engine: str, finding: Finding, contexts: Contexts | None, seconds: float
) -> Finding:
    """What its list does not say of its models; and whether our key is right, where the list is open to everybody."""
    models, slots = finding.models or (), None
    if engine == "ollama":
        models = await of_ollama(upstream, backend, models, contexts, seconds=seconds)
    elif engine in PAGES:
        where, tells = PAGES[engine]
        page = await fetch(upstream, backend, "GET", backend.root + where, seconds=seconds)
        if page.status in (401, 403):
            return finding._replace(state="failed", reason=_locked(backend, backend.root + where, page.status))
        models, slots = tells(page, models)
    return finding._replace(models=models or finding.models, slots=slots)


def _not_ready(answer: Answer) -> Finding:
    if says_loading(answer.body):
        return Finding("loading", "it answers 503: loading")
    return Finding("failed", "its health endpoint answered 503")


def _locked(backend: Backend, where: str, status: int) -> str:
    return f"{where} answered {status}: {'its api_key is wrong' if backend.api_key else 'it wants a key: set api_key'}"


async def _with_names(upstream: Sends, backend: Backend, finding: Finding, seconds: float) -> Finding:
    """What is loading, where the engine tells already: its clients then hear "loading", not "no such model"."""
    if finding.state != "loading":
        return finding
    listed = _read_list(backend, await fetch(upstream, backend, "GET", backend.prefix + "/models", seconds=seconds))
    return finding._replace(models=listed.models, type=listed.type) if listed.models else finding


def _read_list(backend: Backend, answer: Answer) -> Finding:
    where = f"{backend.prefix}/models"
    if answer.status in (401, 403):
        return Finding("failed", _locked(backend, where, answer.status))
    if answer.status == 503:
        return _not_ready(answer)
    if answer.status == 404 and backend.models:
        return Finding("healthy")  # it lists nothing, and the settings say what it has
    if answer.status != 200:
        hint = "; if its API stands under another path, set base_path" if answer.status == 404 else ""
        return Finding("failed", f"{where} answered {answer.status}{hint}")
    try:
        listing = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, RecursionError):
        return Finding("failed", f"{where} did not answer in JSON")
    data = listing.get("data", ...) if isinstance(listing, dict) else listing
    if data is None and isinstance(listing, dict):  # how an Ollama without a model writes an empty list
        data = []
    if not isinstance(data, list):
        return Finding("failed", f"{where} has no list `data`")
    models = tuple(_model(item) for item in data if isinstance(item, dict) and _name(item))
    owners = {_OWNERS.get(str(model.facts.get("owned_by"))) for model in models}
    return Finding("healthy", models=models, type=owners.pop() if len(owners) == 1 else None)


def _name(item: Mapping[str, Any]) -> bool:
    name = item.get("id")
    return isinstance(name, str) and 0 < len(name) <= 512 and name.isprintable()


def _model(item: dict[str, Any]) -> Model:
    told = item.get("meta")
    meta: dict[str, Any] = told if isinstance(told, dict) else {}
    params = positive(meta.get("n_params"))
    # Not n_ctx_train: what a model was trained with says nothing of what its server takes.
    context = tokens(*(item.get(name) for name in _CONTEXT_KEYS), meta.get("n_ctx"))
    return Model(item["id"], size=params / 1e9 if params else None, context=context, facts=item)


def may_be_woken(backend: Backend, kind: str) -> bool:
    """Whether a tiny inference may be asked of it as a probe: never where that loads a model, or may cost money."""
    return kind not in LOADS_ON_DEMAND and backend.origin.scheme == "http"


async def try_inference(upstream: Sends, backend: Backend, model: str, *, seconds: float) -> bool:
    """Whether a request of one token is answered, with whatever status: only silence says that an engine is stuck."""
    body = msgspec.json.encode(
        {"model": model, "max_tokens": 1, "stream": False, "messages": [{"role": "user", "content": "."}]}
    )
    try:
        await fetch(upstream, backend, "POST", backend.prefix + "/chat/completions", body=body, seconds=seconds)
    except FetchFailed:
        return False
    return True
