"""What `GET /v1/models` says of a model beyond its name."""

from typing import Any

import pytest

from asgi_call import get
from solar import Backend, Router
from solar.testing import FakeBackend


async def listed(*backends: Backend) -> dict[str, dict[str, Any]]:
    async with Router(backends) as router:
        return {model["id"]: model for model in (await get(router, "/v1/models")).json["data"]}


async def test_context_and_size_are_added_where_the_engine_tells_them() -> None:
    told = {"n_params": 134_515_008, "n_ctx": 8192}
    async with FakeBackend(["m"], kind="llamacpp", meta={"m": told}) as fake:
        model = (await listed(Backend("a", fake.url, aliases={"x": "m"})))["x"]
    assert (model["context_length"], model["max_model_len"], model["parameter_size"]) == (8192, 8192, "134.52M")
    assert model["meta"]["n_ctx"] == 8192


async def test_what_is_not_known_is_not_listed() -> None:
    async with FakeBackend(["m"], kind="generic") as fake:
        model = (await listed(Backend("a", fake.url)))["m"]
    assert not {"context_length", "max_model_len", "parameter_size"} & set(model)


async def test_a_backends_own_word_for_it_stays() -> None:
    facts = {"context_length": 7, "parameter_size": "seven", "max_model_len": 8192}
    async with FakeBackend(["m"], kind="vllm", meta={"m": facts}) as fake:
        model = (await listed(Backend("a", fake.url)))["m"]
    assert model | facts == model


async def test_where_several_have_a_model_its_context_fits_into_each_of_them() -> None:
    async with (
        FakeBackend(["m"], kind="vllm", meta={"m": {"max_model_len": 32768}}) as large,
        FakeBackend(["m"], kind="vllm", meta={"m": {"max_model_len": 8192}}) as small,
    ):
        model = (await listed(Backend("a", large.url), Backend("b", small.url)))["m"]
    assert (model["max_model_len"], model["context_length"]) == (32768, 8192)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [(7e9, "7B"), (7_615_616_512, "7.6B"), (671e9, "671B"), (500e6, "500M"), (22_713_216, "22.71M")],
)
async def test_a_size_is_written_as_ollama_writes_it(parameters: float, words: str) -> None:
    async with FakeBackend(["m"], kind="llamacpp", meta={"m": {"n_params": parameters}}) as fake:
        assert (await listed(Backend("a", fake.url)))["m"]["parameter_size"] == words
