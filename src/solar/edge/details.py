"""What engines tell of their models beyond the OpenAI list, each in its own words. No question here loads a model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from solar.core.backend import Backend, Model
from solar.core.size import size_of
from solar.edge.fetch import Answer, FetchFailed, Sends, fetch

SHOWN_AT_ONCE = 8  # Ollama's models that one probe asks for more
_ABSURD = 1e18  # parameters, or tokens
_NUM_CTX = re.compile(r"^num_ctx\s+([0-9]{1,9})\s*$", re.MULTILINE)

Models = tuple[Model, ...]
# What a model can take, by the digest of its content: asked once. None: it was asked, and did not tell.
Contexts = dict[str, int | None]
Page = TypeVar("Page")


class Told(NamedTuple):
    """What an engine's own page says."""

    models: Models
    slots: int | None = None  # requests that it works on at once; the others wait inside of it


def positive(value: object) -> float | None:
    """A number that can be one: integers in JSON may be larger than any float."""
    return float(value) if isinstance(value, int | float) and value is not True and 0 < value < _ABSURD else None


def tokens(*values: object) -> int | None:
    """The first of `values` that can be a length of context."""
    return next((int(number) for value in values if (number := positive(value)) and number >= 1), None)


def read(answer: Answer, kind: type[Page]) -> Page | None:
    """The page that it holds; None where it is none, or not of this shape."""
    if answer.status != 200:
        return None
    try:
        return msgspec.json.decode(answer.body, type=kind)
    except (msgspec.DecodeError, RecursionError):
        return None


class _Slot(Struct):
    n_ctx: int = 0


class _Props(Struct):
    total_slots: int = 0
    default_generation_settings: _Slot = msgspec.field(default_factory=_Slot)


def of_llama_server(answer: Answer, models: Models) -> Told:
    """What fits into a request is the context of one slot, and not that of all of them together."""
    props = read(answer, _Props)
    if props is None or len(models) != 1:  # several: it starts one server for each, and speaks for none
        return Told(models)
    context = tokens(props.default_generation_settings.n_ctx)
    return Told((_with(models[0], context=context),), props.total_slots if props.total_slots > 0 else None)


class _Loadable(Struct):
    id: str
    loaded_context_length: int | None = None  # only while it is loaded
    max_context_length: int | None = None


class _Loadables(Struct):
    data: list[_Loadable]


def of_lmstudio(answer: Answer, models: Models) -> Told:
    """LM Studio's own list: with how much context a model is loaded, or could be."""
    page = read(answer, _Loadables)
    told = {one.id: tokens(one.loaded_context_length, one.max_context_length) for one in page.data} if page else {}
    return Told(tuple(_with(model, context=told.get(model.id)) for model in models))


class _Info(Struct):
    max_total_tokens: int = 0


def of_tgi(answer: Answer, models: Models) -> Told:
    """Its one model takes this much, the answer included."""
    info = read(answer, _Info)
    context = tokens(info.max_total_tokens) if info else None
    return Told(tuple(_with(model, context=context) for model in models))


# An engine's own page, and what it says of the models. llama-server shows its health and its list to everybody: only
# this page tells whether the key is right.
PAGES: Mapping[str, tuple[str, Callable[[Answer, Models], Told]]] = {
    "llamacpp": ("/props", of_llama_server),
    "lmstudio": ("/api/v0/models", of_lmstudio),
    "tgi": ("/info", of_tgi),
}


class _Details(Struct):
    parameter_size: str = ""


class _Tag(Struct):
    name: str
    digest: str = ""
    details: _Details = msgspec.field(default_factory=_Details)


class _Tags(Struct):
    models: list[_Tag] = msgspec.field(default_factory=list)


class _Running(Struct):
    name: str
    context_length: int = 0


class _Ps(Struct):
    models: list[_Running] = msgspec.field(default_factory=list)


class _Show(Struct):
    parameters: str = ""
    model_info: dict[str, Any] = msgspec.field(default_factory=dict)


async def of_ollama(
    upstream: Sends, backend: Backend, models: Models, contexts: Contexts | None, *, seconds: float
) -> Models:
    """Sizes, and contexts: what a model was loaded with while it is loaded, else what it is set to, or can take.

    `contexts` keeps the latter; without it nobody is asked for it.
    """
    tags = read(await fetch(upstream, backend, "GET", backend.root + "/api/tags", seconds=seconds), _Tags)
    if tags is None:
        return models
    named = {tag.name: tag for tag in tags.models}
    ps = read(await fetch(upstream, backend, "GET", backend.root + "/api/ps", seconds=seconds), _Ps)
    loaded = {one.name: tokens(one.context_length) for one in ps.models} if ps else {}
    if contexts is not None:
        await _learn(upstream, backend, [named[model.id] for model in models if model.id in named], contexts, seconds)
    return tuple(
        _with(
            model,
            size=size_of(tag.details.parameter_size),
            context=loaded.get(tag.name) or (contexts or {}).get(tag.digest),
        )
        if (tag := named.get(model.id))
        else model
        for model in models
    )


async def _learn(upstream: Sends, backend: Backend, tags: Sequence[_Tag], contexts: Contexts, seconds: float) -> None:
    async def show(tag: _Tag) -> None:
        body = msgspec.json.encode({"model": tag.name})
        try:
            answer = await fetch(upstream, backend, "POST", backend.root + "/api/show", body=body, seconds=seconds)
        except FetchFailed:  # asked again at the next look
            return
        contexts[tag.digest] = _shown(read(answer, _Show))

    unknown = {tag.digest: tag for tag in tags if tag.digest and tag.digest not in contexts}
    await asyncio.gather(*map(show, list(unknown.values())[:SHOWN_AT_ONCE]))


def _shown(page: _Show | None) -> int | None:
    if page is None:
        return None
    told = _NUM_CTX.search(page.parameters)
    architecture = page.model_info.get("general.architecture")
    return tokens(int(told[1]) if told else None, page.model_info.get(f"{architecture}.context_length"))


def _with(model: Model, *, size: float | None = None, context: int | None = None) -> Model:
    return Model(model.id, size or model.size, context or model.context, model.facts)
