"""Engines that are killed, told to stop, started again, and still loading."""

import asyncio
from typing import Any

import anthropic
import httpx
import openai
import pytest
from gateway import Gateway, backend, chat, finished, read, serving, until
from llama_server import MODEL_ID, Llamas, LlamaServer

ENDLESS = {"ignore_eos": True, "max_tokens": 900}  # until the context is full
LONG_PROMPT = "the sky is blue and " * 80  # 400 tokens: a prefill of seconds on one thread


@pytest.fixture
async def engines(llama: Llamas) -> tuple[LlamaServer, LlamaServer]:
    """Two ready engines that a test may kill."""
    left, right = llama("left"), llama("right")
    await asyncio.gather(left.ready(), right.ready())
    return left, right


async def carriers(gateway: Gateway, *engines: LlamaServer) -> tuple[LlamaServer, LlamaServer]:
    """The engine that has the request, and the other one."""
    carrier = await gateway.carrier(*engines)
    return carrier, next(engine for engine in engines if engine is not carrier)


async def test_a_kill_in_mid_stream_is_an_error_and_the_next_request_goes_to_the_other(
    engines: tuple[LlamaServer, LlamaServer],
) -> None:
    async with serving(*engines) as gateway, gateway.openai() as client:
        stream = await client.chat.completions.create(**chat(stream=True), extra_body=ENDLESS)
        await anext(aiter(stream))
        killed, other = await carriers(gateway, *engines)
        killed.kill()
        chunks: list[Any] = []
        with pytest.raises(openai.APIError, match="cut short"):
            await read(stream, into=chunks)
        assert not finished(chunks)
        await gateway.idle(1.0)
        assert [(record.end, record.code) for record in gateway.records] == [("broken", "upstream_cut")]
        answer = await client.chat.completions.with_raw_response.create(**chat())
        assert answer.headers["x-solar-backend"] == other.name
        await gateway.becomes(killed, "down", within=1.0)


async def test_the_anthropic_client_is_told_of_a_kill_in_mid_stream(llama: Llamas) -> None:
    engine = llama()
    await engine.ready()
    asked = {"model": MODEL_ID, "max_tokens": 900, "messages": chat()["messages"], "stream": True}
    async with serving(engine) as gateway, gateway.anthropic() as client:
        stream = await client.messages.create(**asked, extra_body={"ignore_eos": True})
        await anext(aiter(stream))
        engine.kill()
        events: list[Any] = []
        with pytest.raises(anthropic.APIStatusError, match="cut short"):
            await read(stream, into=events)
        assert "message_stop" not in [event.type for event in events]


async def test_a_response_whose_engine_is_killed_has_failed(llama: Llamas) -> None:
    engine = llama()
    await engine.ready()
    asked = {"model": MODEL_ID, "max_output_tokens": 900, "input": "Count.", "stream": True}
    async with serving(engine) as gateway, gateway.openai() as client:
        stream = await client.responses.create(**asked, extra_body={"ignore_eos": True})
        await anext(aiter(stream))
        engine.kill()
        events: list[Any] = []
        with pytest.raises(openai.APIError):
            await read(stream, into=events)
        assert events[-1].type == "response.failed"
        assert events[-1].response.status == "failed"


async def test_a_killed_engines_stream_ends_with_the_error_and_without_the_last_chunk(
    engines: tuple[LlamaServer, LlamaServer],
) -> None:
    asked = chat(stream=True, **ENDLESS)
    async with (
        serving(*engines) as gateway,
        gateway.http() as client,
        client.stream("POST", "/v1/chat/completions", json=asked) as answer,
    ):
        pieces = answer.aiter_bytes()
        parts = [await anext(pieces)]
        (await gateway.carrier(*engines)).kill()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked read"):
            await read(pieces, into=parts)
    body = b"".join(parts)
    *relayed, last = [event for event in body.split(b"\n\n") if event]
    assert all(event.startswith(b'data: {"choices":[') for event in relayed)
    assert last.startswith(b'data: {"error":{')
    assert b"[DONE]" not in body


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_kill_before_the_first_byte_is_answered_by_the_other_engine(
    engines: tuple[LlamaServer, LlamaServer], streaming: bool
) -> None:
    asked = chat(LONG_PROMPT, stream=streaming, max_tokens=2)
    async with serving(*engines) as gateway, gateway.http() as client, asyncio.TaskGroup() as group:
        asking = group.create_task(client.post("/v1/chat/completions", json=asked))
        killed, other = await carriers(gateway, *engines)
        await until(lambda: killed.taken() == 1)
        killed.kill()
        answer = await asking
        assert answer.status_code == 200
        assert (answer.headers["x-solar-backend"], answer.headers["x-solar-attempts"]) == (other.name, "2")
        assert b'"finish_reason":"length"' in answer.content
        assert gateway.records[0].end == "success"


async def test_with_both_dead_it_is_503_with_retry_after_and_one_that_returns_is_used(
    engines: tuple[LlamaServer, LlamaServer],
) -> None:
    async with serving(*engines) as gateway, gateway.openai() as client:
        for engine in engines:
            engine.kill()
        for _ in range(2):  # the first time it is found out, the second time it is known
            with pytest.raises(openai.InternalServerError) as told:
                await client.chat.completions.create(**chat())
            assert told.value.status_code == 503
            assert int(told.value.response.headers["retry-after"]) >= 1
            for engine in engines:
                await gateway.becomes(engine, "down")
        engines[0].restart()
        await engines[0].ready()
        await gateway.becomes(engines[0], "healthy", within=4)  # the pace of probes here is 2 s at most
        answer = await client.chat.completions.with_raw_response.create(**chat())
        assert (answer.headers["x-solar-backend"], answer.headers["x-solar-attempts"]) == (engines[0].name, "1")


async def test_an_engine_that_is_told_to_stop_in_mid_stream_is_no_clean_end(llama: Llamas) -> None:
    # llama-server falls silent at SIGTERM, closes 30 s later, and sends no [DONE].
    engine = llama()
    await engine.ready()
    async with serving(engine) as gateway, gateway.openai() as client:
        taught = await client.chat.completions.create(**chat(LONG_PROMPT, stream=True))
        assert [chunk async for chunk in taught]  # a known rate of prefill: silence is judged after 10 s
        stream = await client.chat.completions.create(**chat(stream=True), extra_body=ENDLESS)
        await anext(aiter(stream))
        engine.process.terminate()
        chunks: list[Any] = []
        with pytest.raises(openai.APIError, match="cut short"):
            await read(stream, into=chunks)
        assert not finished(chunks)
        assert gateway.records[-1].end == "broken"
        await gateway.becomes(engine, "down", "stalled", within=1.0)


async def test_while_the_only_engine_loads_it_is_503_and_then_it_is_used(llama: Llamas) -> None:
    held = llama.hold_model()
    engine = llama("slow", *held.flags)
    async with serving(backend(engine, models=(MODEL_ID,))) as gateway, gateway.openai() as client:
        await gateway.becomes(engine, "loading")
        with pytest.raises(openai.InternalServerError, match="still loading") as told:
            await client.chat.completions.create(**chat())
        assert (told.value.status_code, told.value.code) == (503, "model_loading")
        assert int(told.value.response.headers["retry-after"]) >= 1
        held.release()
        await gateway.becomes(engine, "healthy")
        assert (await client.chat.completions.create(**chat())).choices


async def test_a_request_waits_for_the_loading_engine_if_the_gateway_is_to_hold_it(llama: Llamas) -> None:
    held = llama.hold_model()
    engine = llama("slow", *held.flags)
    listed = backend(engine, models=(MODEL_ID,))
    async with serving(listed, hold_while_loading=True) as gateway, gateway.openai() as client:
        await gateway.becomes(engine, "loading")
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(client.chat.completions.create(**chat()))

            async def waiting() -> bool:
                return await gateway.metric("solar_requests_waiting") == 1

            await until(waiting)
            held.release()
            assert (await asking).choices
        assert gateway.records[0].queued > 0
        assert gateway.records[0].attempts == 1


async def test_an_engine_gets_requests_as_soon_as_it_has_loaded_and_none_before(
    llama: Llamas, pair: tuple[LlamaServer, LlamaServer]
) -> None:
    held = llama.hold_model()
    loading, ready = llama("slow", *held.flags), pair[0]

    async def answered_by(client: openai.AsyncOpenAI) -> str:
        answer = await client.chat.completions.with_raw_response.create(**chat(max_tokens=1))
        assert answer.headers["x-solar-attempts"] == "1"
        return answer.headers["x-solar-backend"]

    async with serving(loading, ready) as gateway, gateway.openai() as client:
        await gateway.becomes(loading, "loading")
        assert [await answered_by(client) for _ in range(3)] == [ready.name] * 3
        held.release()
        await gateway.becomes(loading, "healthy")
        assert {await answered_by(client), await answered_by(client)} == {loading.name, ready.name}
