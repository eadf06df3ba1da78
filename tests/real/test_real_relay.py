"""What passes through the gateway, and what it does to the engines behind it."""

import asyncio
import re

import openai
import pytest
from gateway import backend, chat, serving, until
from llama_server import MODEL_ID, Llamas, LlamaServer

Pair = tuple[LlamaServer, LlamaServer]
# What an engine never says twice: names, times, and how fast it was.
OWN_WORDS = re.compile(rb'"(id|item_id)":"[^"]*"|"(created|created_at|completed_at)":\d+|"timings":\{[^}]*\}')
UNCACHED = {"cache_prompt": False}
GRAMMAR = 'root ::= "yes"'
ENDLESS = {"ignore_eos": True, "max_tokens": 900}  # until the context is full


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat(**UNCACHED, logprobs=True, top_logprobs=3)),
        ("/v1/chat/completions", chat(**UNCACHED, stream=True, stream_options={"include_usage": True})),
        ("/v1/completions", {"model": MODEL_ID, "prompt": "One, two,", "max_tokens": 5, "temperature": 0, **UNCACHED}),
        ("/v1/completions", {"model": MODEL_ID}),
        ("/v1/embeddings", {"model": MODEL_ID, "input": "not offered here"}),
        ("/tokenize", {"model": MODEL_ID, "content": "Grüße 🌞", "with_pieces": True}),
    ],
)
async def test_an_answer_is_the_engines_byte_for_byte(pair: Pair, path: str, body: dict[str, object]) -> None:
    engine = pair[0]
    async with serving(engine) as gateway, gateway.http() as client:
        through = await client.post(path, json=body)
        direct = await client.post(f"{engine.url}{path}", json=body)
    assert OWN_WORDS.sub(b"", through.content) == OWN_WORDS.sub(b"", direct.content)
    assert through.status_code == direct.status_code
    assert through.headers["content-type"] == direct.headers["content-type"]


async def test_fields_that_only_the_engine_knows_reach_it(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        bound = await client.chat.completions.create(**chat(), extra_body={"grammar": GRAMMAR})
        assert bound.choices[0].message.content == "yes"
        probed = await client.completions.create(
            model=MODEL_ID, prompt="The sky is", max_tokens=1, extra_body={"n_probs": 4}
        )
        assert len(probed.choices[0].logprobs.content[0]["top_logprobs"]) == 4


async def test_a_prompt_is_cached_only_if_the_client_lets_the_engine(pair: Pair) -> None:
    async with serving(pair[0]) as gateway, gateway.openai() as client:
        cached = []
        for allowed in (True, True, False):
            answer = await client.chat.completions.create(**chat("Count to ten."), extra_body={"cache_prompt": allowed})
            cached.append(answer.usage.prompt_tokens_details.cached_tokens > 20)
    assert cached[1:] == [True, False]


async def test_an_alias_is_spliced_and_nothing_else_changes(pair: Pair) -> None:
    named = backend(pair[0], aliases={"small": MODEL_ID})
    async with serving(named) as gateway, gateway.openai() as client:
        answer = await client.chat.completions.create(**chat(model="small"), extra_body={"grammar": GRAMMAR})
    assert answer.model == MODEL_ID
    assert answer.choices[0].message.content == "yes"


async def test_two_engines_share_what_comes_at_once(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        asked = [client.chat.completions.with_raw_response.create(**chat(max_tokens=48)) for _ in range(6)]
        answers = await asyncio.gather(*asked)
        carriers = sorted(answer.headers["x-solar-backend"] for answer in answers)
        assert carriers == ["left"] * 3 + ["right"] * 3
        await gateway.idle()


async def test_the_size_of_a_model_is_the_one_that_its_engine_tells(pair: Pair) -> None:
    async with serving(pair[0]) as gateway:
        (model,) = gateway.status(pair[0]).models
    assert model.size == pytest.approx(0.1345, abs=0.0001)  # billions; its name says 135m
    assert model.context == 1024


async def test_connections_that_the_engine_closes_after_100_requests_cost_no_attempt(pair: Pair) -> None:
    tiny = {"model": MODEL_ID, "prompt": "a", "max_tokens": 1}
    async with serving(pair[0]) as gateway, gateway.http() as client:
        for _ in range(250):
            answer = await client.post("/v1/completions", json=tiny)
            assert (answer.status_code, answer.headers["x-solar-attempts"]) == (200, "1")


async def test_a_connection_that_the_engine_closed_for_idleness_is_replaced(pair: Pair) -> None:
    async with serving(pair[0], health_check_interval=60.0) as gateway, gateway.http() as client:

        async def emptied() -> bool:
            return await gateway.metric("solar_upstream_connections") == 0

        await client.post("/tokenize", json={"model": MODEL_ID, "content": "a"})
        assert not await emptied()
        await until(emptied, 10)  # llama-server closes after 5 s
        answer = await client.post("/tokenize", json={"model": MODEL_ID, "content": "a"})
        assert (answer.status_code, answer.headers["x-solar-attempts"]) == (200, "1")


async def test_a_client_that_leaves_its_stream_frees_the_slot_within_a_second(pair: Pair) -> None:
    engine = pair[0]

    async def free() -> bool:
        return await asyncio.to_thread(engine.busy_slots) == 0

    async with serving(engine) as gateway, gateway.openai() as client:
        stream = await client.chat.completions.create(**chat(stream=True), extra_body=ENDLESS)
        await anext(aiter(stream))
        assert not await free()
        await stream.close()
        await until(free, 1.0)
        assert gateway.state(engine) == "healthy"
    assert [record.end for record in gateway.records] == ["client_gone"]


async def test_a_client_that_leaves_an_answer_that_is_no_stream_leaves_no_connection_to_the_engine(pair: Pair) -> None:
    # What this build of llama-server makes of it is its own business: without a stream it generates to the end.
    engine = pair[0]
    before = engine.taken()
    async with serving(engine, health_check_interval=60.0) as gateway, gateway.http() as client:
        async with asyncio.TaskGroup() as group:
            leaving = group.create_task(client.post("/v1/chat/completions", json=chat(max_tokens=64)))
            await until(lambda: engine.taken() > before)
            assert engine.connections() == 1
            leaving.cancel()
        await until(lambda: engine.connections() == 0, 0.5)
        await gateway.idle(0.5)
        assert gateway.state(engine) == "healthy"
    assert [record.end for record in gateway.records] == ["client_gone"]
    await until(lambda: asyncio.to_thread(lambda: not engine.busy_slots()))


async def test_a_guarded_engine_gets_the_key_of_its_backend_and_never_the_clients(llama: Llamas) -> None:
    engine = llama("guarded", "--api-key", "sesame")
    await engine.ready()
    knowing = backend(engine, api_key="sesame")
    async with serving(knowing, api_keys=["ours"]) as gateway, gateway.openai(api_key="ours") as client:
        assert (await client.chat.completions.create(**chat())).choices
    for key, told in ((None, "it wants a key: set api_key"), ("guess", "its api_key is wrong")):
        async with serving(backend(engine, api_key=key)) as gateway, gateway.openai() as client:
            assert gateway.state(engine) == "down"
            assert told in gateway.status(engine).reason
            with pytest.raises(openai.InternalServerError) as refused:
                await client.chat.completions.create(**chat())
            assert refused.value.status_code == 503
