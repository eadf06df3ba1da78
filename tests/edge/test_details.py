"""What engines tell of their models in pages of their own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from exchange_bench import Call, Transport

from solar.core.attempts import Outcome
from solar.core.backend import Backend, Model
from solar.edge.details import SHOWN_AT_ONCE
from solar.edge.probe import probe

A = Backend("a", "http://a")


class Says(Transport):
    """Answers each target with a page; what it has none for, with 404. Keeps who was asked for what."""

    def __init__(self, **pages: Any) -> None:
        super().__init__()
        self.pages = {"/" + name.replace("_", "/"): page for name, page in pages.items()}
        self.asked: list[str] = []
        self.answers = self.page

    def page(self, call: Call) -> None:
        target = call.request.target.decode()
        if target == "/api/show":
            target += "/" + msgspec.json.decode(call.request.body)["model"]
        self.asked.append(target)
        page = self.pages.get(target)
        call.answer(200 if page is not None else 404, body=msgspec.json.encode(page))


def listed(*names: str, owner: str = "x", **facts: Any) -> dict[str, Any]:
    return {"data": [{"id": name, "owned_by": owner, **facts} for name in names]}


async def models(says: Says, kind: str = "auto", contexts: dict[str, int | None] | None = None) -> tuple[Model, ...]:
    finding = await probe(says, A, kind, seconds=1.0, contexts=contexts)
    assert finding.state == "healthy"
    return finding.models or ()


@pytest.mark.parametrize(
    "facts",
    [
        {"max_model_len": 8192},
        {"context_length": 8192},
        {"context_window": 8192},
        {"max_context_length": 8192},
        {"meta": {"n_ctx": 8192, "n_ctx_train": 131072}},
    ],
)
async def test_a_list_may_tell_the_context_under_several_names(facts: dict[str, Any]) -> None:
    (model,) = await models(Says(v1_models=listed("m", **facts)))
    assert model.context == 8192


async def test_what_a_model_was_trained_with_is_not_what_its_server_takes() -> None:
    (model,) = await models(Says(v1_models=listed("m", meta={"n_ctx_train": 131072})))
    assert model.context is None


async def test_of_llama_server_the_context_of_one_slot_counts() -> None:
    props = {"total_slots": 4, "default_generation_settings": {"n_ctx": 1024}}
    facts = {"n_ctx": 4096, "n_params": 7e9}
    (model,) = await models(Says(v1_models=listed("m", owner="llamacpp", meta=facts), props=props))
    assert (model.size, model.context) == (7.0, 1024)


@pytest.mark.parametrize(
    "props", [{}, {"default_generation_settings": {"n_ctx": 0}}, {"default_generation_settings": 3}]
)
async def test_a_llama_server_that_does_not_tell_changes_nothing(props: dict[str, Any]) -> None:
    (model,) = await models(Says(v1_models=listed("m", owner="llamacpp", meta={"n_ctx": 512}), props=props))
    assert model.context == 512


async def test_a_llama_server_of_many_models_speaks_for_none() -> None:
    props = {"default_generation_settings": {"n_ctx": 1024}}
    found = await models(Says(v1_models=listed("m", "n", owner="llamacpp"), props=props))
    assert [model.context for model in found] == [None, None]


async def test_lm_studio_tells_the_context_that_is_loaded_before_the_largest() -> None:
    own = {"data": [{"id": "m", "max_context_length": 131072, "loaded_context_length": 4096}]}
    own["data"].append({"id": "n", "max_context_length": 131072})
    found = await models(Says(v1_models=listed("m", "n", "o", owner="organization_owner"), api_v0_models=own))
    assert [model.context for model in found] == [4096, 131072, None]


async def test_tgi_tells_what_its_model_takes() -> None:
    (model,) = await models(Says(v1_models=listed("m"), info={"model_id": "m", "max_total_tokens": 2048}), "tgi")
    assert model.context == 2048


def ollama(*names: str, running: dict[str, int] | None = None, **shows: Any) -> Says:
    tags = [{"name": name, "digest": f"sha-{name}", "details": {"parameter_size": "7.6B"}} for name in names]
    ps = [{"name": name, "context_length": context} for name, context in (running or {}).items()]
    says = Says(v1_models=listed(*names, owner="library"), api_tags={"models": tags}, api_ps={"models": ps})
    says.pages.update({f"/api/show/{name}": page for name, page in shows.items()})
    return says


INFO = {"general.architecture": "qwen2", "qwen2.context_length": 32768}


async def test_ollama_tells_what_a_model_is_set_to_before_what_it_could_take() -> None:
    says = ollama(
        "m", "n", m={"model_info": INFO}, n={"model_info": INFO, "parameters": "stop  x\nnum_ctx    8192\ntop_k 3"}
    )
    found = await models(says, contexts={})
    assert [(model.size, model.context) for model in found] == [(7.6, 32768), (7.6, 8192)]


async def test_while_ollama_has_a_model_loaded_what_it_was_loaded_with_counts() -> None:
    (model,) = await models(ollama("m", running={"m": 4096}, m={"model_info": INFO}), contexts={})
    assert model.context == 4096


async def test_ollama_is_asked_once_for_each_model_and_few_at_a_time() -> None:
    names = [f"m{n}" for n in range(SHOWN_AT_ONCE + 3)]
    says, contexts = ollama(*names), dict[str, int | None]()
    for shown in (SHOWN_AT_ONCE, 3, 0):
        says.asked.clear()
        await models(says, contexts=contexts)
        assert sum(target.startswith("/api/show") for target in says.asked) == shown


async def test_what_could_not_be_asked_is_asked_again() -> None:
    says, contexts = ollama("m", m={"model_info": INFO}), dict[str, int | None]()
    answers = says.page

    def loses_show(call: Call) -> None:
        if call.request.target == b"/api/show":
            call.failed(Outcome.RESET, "lost")
        else:
            answers(call)

    says.answers = loses_show
    assert (await models(says, contexts=contexts))[0].context is None
    says.answers = answers
    assert (await models(says, contexts=contexts))[0].context == 32768


async def test_without_a_place_to_keep_it_ollama_is_not_asked_model_by_model() -> None:
    says = ollama("m", m={"model_info": INFO})
    await models(says)
    assert "/api/show/m" not in says.asked


@pytest.mark.parametrize(("total", "slots"), [(4, 4), (0, None), (-1, None), ("x", None)])
async def test_a_llama_server_tells_how_many_it_works_on_at_once(total: object, slots: int | None) -> None:
    says = Says(v1_models=listed("m", owner="llamacpp"), props={"total_slots": total})
    assert (await probe(says, A, "auto", seconds=1.0)).slots == slots
