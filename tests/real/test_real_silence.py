"""A frozen engine must be found out; one that is only busy with a long prompt must be left alone."""

import asyncio
import time
from itertools import pairwise
from typing import Any

import openai
import pytest
from gateway import backend, chat, finished, read, serving, until
from llama_server import Llamas, LlamaServer

from solar import Timeouts


async def backend_of(client: openai.AsyncOpenAI) -> str:
    answer = await client.chat.completions.with_raw_response.create(**chat(max_tokens=1))
    return str(answer.headers["x-solar-backend"])


async def started(client: openai.AsyncOpenAI, *, max_tokens: int) -> openai.AsyncStream[Any]:
    """A stream of which the first chunk has come, and that ends only at `max_tokens`."""
    asked = chat(stream=True, max_tokens=max_tokens)
    stream = await client.chat.completions.create(**asked, extra_body={"ignore_eos": True})
    await anext(aiter(stream))
    return stream


async def test_a_frozen_engine_is_avoided_then_given_up_and_taken_back_when_it_thaws(llama: Llamas) -> None:
    left, right = llama("left"), llama("right")
    await asyncio.gather(left.ready(), right.ready())
    async with serving(left, right) as gateway, gateway.openai() as client, asyncio.TaskGroup() as group:
        cut = await started(client, max_tokens=900)
        frozen = await gateway.carrier(left, right)
        other = left if frozen is right else right
        frozen.freeze()
        since = time.monotonic()
        whole = await started(client, max_tokens=300)  # on the other: one stream each
        moving = group.create_task(client.chat.completions.with_raw_response.create(**chat()))
        await until(lambda: gateway.status(frozen).in_flight == 2)  # and by turns this one is on the frozen engine

        await gateway.becomes(frozen, "suspect", within=5)
        assert await backend_of(client) == other.name
        await gateway.becomes(frozen, "stalled", "down", within=10)
        assert time.monotonic() - since < 10

        chunks: list[Any] = []
        with pytest.raises(openai.APIError, match="stopped moving"):
            await read(cut, into=chunks)
        assert not finished(chunks)
        moved = await moving
        assert (moved.headers["x-solar-backend"], moved.headers["x-solar-attempts"]) == (other.name, "2")
        assert await backend_of(client) == other.name
        await read(whole, into=chunks)
        assert finished(chunks)

        frozen.thaw()
        await gateway.becomes(frozen, "healthy")
        assert {await backend_of(client), await backend_of(client)} == {left.name, right.name}
    ends = sorted((record.end, record.code) for record in gateway.records if record.end != "success")
    assert ends == [("broken", "upstream_stalled")]


async def test_a_stream_that_pauses_for_anothers_long_prompt_is_neither_cut_nor_moved(
    llama: Llamas, pair: tuple[LlamaServer, LlamaServer]
) -> None:
    busy = llama("busy", "-c", "16384", "-np", "2", "-b", "8192", "-t", "2")  # a whole prompt is one batch
    await busy.ready()
    elsewhere = backend(pair[0], priority=1)  # where to move to, if it were thought stalled
    patient = backend(busy, timeouts=Timeouts(between_bytes=900))  # a slow machine may prefill for minutes
    async with serving(patient, elsewhere) as gateway, gateway.openai() as client, asyncio.TaskGroup() as group:
        await answer_to("Once upon a time, " * 40, client)  # some 200 tokens: the gateway learns how fast it prefills
        prompt = "the sky is blue and " * 1400  # 7,000 tokens: many times the silence that it has seen so far
        paused = group.create_task(longest_pause(await started(client, max_tokens=150)))
        prefilled = group.create_task(answer_to(prompt, client))
        await gateway.becomes(busy, "suspect", within=30)
        assert finished(await prefilled)
        assert await paused > 2.0
        assert gateway.state(busy) == "healthy"
    assert [(record.backend, record.end, record.attempts) for record in gateway.records] == [("busy", "success", 1)] * 3


async def answer_to(prompt: str, client: openai.AsyncOpenAI) -> list[Any]:
    asked = chat(prompt, stream=True, max_tokens=4, stream_options={"include_usage": True})
    return [chunk async for chunk in await client.chat.completions.create(**asked)]


async def longest_pause(stream: openai.AsyncStream[Any]) -> float:
    """Seconds between two chunks of a stream that reaches its end."""
    times = []
    chunks = []
    async for chunk in stream:
        chunks.append(chunk)
        times.append(time.monotonic())
    assert finished(chunks)
    return max(later - earlier for earlier, later in pairwise(times))
