"""Streams reach the client byte for byte, however they were cut on their way, and the official clients read them."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack

import anthropic
import openai
import pytest
from gateways import reply

from raw_wire import CHAT, STREAM, connected
from solar.testing import FakeBackend, Fault, faults

TOLD_APART = rb'"(id|created|created_at|item_id)":("[a-z]+[-_]\d+"|\d+)'  # what differs between two equal answers
SHAPES = [
    None,
    faults.split(1),
    faults.split(7),
    faults.joined(),
    faults.crlf_events(),
    faults.no_space_data(),
    faults.comments(),
    faults.usage_variants("own_chunk"),
    faults.usage_variants("with_choices"),
    faults.usage_variants("last_chunk"),
    faults.usage_variants("every_chunk"),
    faults.big_event(100_000),
    faults.big_event(1_500_000),
    faults.big(300_000),
    faults.event_stream_with_content_length(),
    faults.close_delimited(),
    faults.http10(),
]
MESSAGES = [{"role": "user", "content": "say it"}]
WORDS = "word0 word1 word2 word3 word4 "


def told(body: bytes) -> bytes:
    return re.sub(TOLD_APART, b"", body)


def client(gw):
    return openai.AsyncOpenAI(base_url=gw.v1, api_key="any", max_retries=0)


@pytest.mark.parametrize("fault", SHAPES, ids=repr)
async def test_the_bytes_of_a_stream_pass_untouched(gateway, fault):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(fault, fault)
        async with connected(fake.port) as direct:
            direct.ask(STREAM)
            expected = await reply(direct)
        got = await gw.ask(STREAM)
        assert got.whole
        assert got.body.replace(b" ", b"").rstrip().endswith(b"data:[DONE]")
        assert told(got.body) == told(expected.body)


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/responses", "/v1/messages"])
@pytest.mark.parametrize("fault", [faults.split(1), faults.joined(), faults.crlf_events()], ids=repr)
@pytest.mark.doors("uvicorn")
async def test_every_wire_format_passes_untouched(gateway, path, fault):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(None, fault)
        whole, cut = await gw.ask(STREAM, path), await gw.ask(STREAM, path)
        assert (whole.whole, cut.whole) == (True, True)
        assert told(cut.body.replace(b"\r\n", b"\n")) == told(whole.body)


async def test_a_stream_says_that_no_cache_may_keep_it_and_no_proxy_may_hold_it(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        got = await gw.ask(STREAM)
        assert got.headers["content-type"] == "text/event-stream"
        assert got.headers["cache-control"] == "no-cache"
        assert got.headers["x-accel-buffering"] == "no"
        assert (got.headers["x-solar-backend"], got.headers["x-solar-attempts"]) == ("a", "1")
        assert got.headers["x-request-id"].startswith("req_")


async def test_the_first_event_does_not_wait_for_the_second(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.stall_after(1))
        async with gw.connect() as wire:
            wire.ask(STREAM)
            await wire.head()
            assert b'"role":"assistant"' in await wire.reader.readuntil(b"\n\n")
            fake.release()
            assert b"[DONE]" in (await wire.rest())[0]


@pytest.mark.parametrize(
    ("fault", "payload", "kind"),
    [
        (faults.bare_json_for_stream(), STREAM, "application/json"),
        (faults.other_stream(), CHAT, "text/event-stream"),
    ],
)
async def test_the_content_type_is_the_backends_whatever_stream_said(gateway, fault, payload, kind):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(fault)
        got = await gw.ask(payload)
        assert (got.status, got.headers["content-type"]) == (200, kind)


async def test_an_unknown_event_stream_is_judged_by_its_framing_alone(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.always(faults.other_stream())
        got = await gw.ask({"model": "m", "input": "x"}, "/v1/embeddings")
        assert (got.body, got.whole) == (b'data: {"something":"else"}\n\n' * 3, True)
        assert (await gw.booked()).end == "success"


async def test_the_openai_client_reads_a_stream(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, client(gw) as ai:
        stream = await ai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == WORDS
        assert fake.inference[0].payload == {"model": "m", "messages": MESSAGES, "stream": True}


@pytest.mark.doors("uvicorn")
async def test_the_openai_client_reads_a_stream_without_asyncio(gateway):
    def read(url: str) -> str:
        with openai.OpenAI(base_url=url, api_key="any", max_retries=0) as ai:
            stream = ai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        assert await asyncio.to_thread(read, gw.v1) == WORDS


@pytest.mark.doors("uvicorn")
async def test_the_openai_client_shows_our_headers_beside_its_answer(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, client(gw) as ai:
        raw = await ai.chat.completions.with_raw_response.create(model="m", messages=MESSAGES)
        assert raw.parse().choices[0].message.content == WORDS
        assert raw.headers["x-solar-backend"] == "a"
        assert raw.request_id == raw.headers["x-request-id"]


@pytest.mark.doors("uvicorn")
async def test_the_openai_client_gets_the_usage_that_it_asked_for_in_the_last_frame(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, client(gw) as ai:
        stream = await ai.chat.completions.create(
            model="m", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        *before, last = [chunk async for chunk in stream]
        assert all(chunk.usage is None and chunk.choices for chunk in before)
        assert (last.choices, last.usage.completion_tokens) == ([], 5)
        record = await gw.booked()
        assert (record.tokens_in, record.tokens_out) == (2, 5)


@pytest.mark.doors("uvicorn")
async def test_no_usage_frame_is_injected_for_a_client_that_did_not_ask(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        got = await gw.ask(STREAM)
        assert b"usage" not in got.body
        assert "stream_options" not in fake.inference[0].payload


@pytest.mark.doors("uvicorn")
async def test_the_openai_client_reads_a_responses_stream(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, client(gw) as ai:
        kinds, text = [], ""
        async for event in await ai.responses.create(model="m", input="say it", stream=True):
            kinds.append(event.type)
            if event.type == "response.output_text.delta":
                text += event.delta
        assert (kinds[0], kinds[-1], text) == ("response.created", "response.completed", WORDS)


@pytest.mark.doors("uvicorn")
async def test_the_anthropic_client_reads_a_messages_stream(gateway):
    async with (
        FakeBackend(["m"]) as fake,
        gateway(fake) as gw,
        anthropic.AsyncAnthropic(base_url=gw.url, api_key="any", max_retries=0) as claude,
    ):
        async with claude.messages.stream(model="m", max_tokens=50, messages=MESSAGES) as stream:
            text = "".join([piece async for piece in stream.text_stream])
            final = await stream.get_final_message()
        assert (text, final.stop_reason) == (WORDS, "end_turn")


class Told(Fault):
    """Says its own name, a byte at a time."""

    def steps(self, answer):
        return faults.split(1).steps(answer.retold(words=(self.name,)))


async def test_letters_of_many_bytes_survive_being_split(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, client(gw) as ai:
        fake.script(Told("é 漢字 🙂"))
        stream = await ai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "é 漢字 🙂"


@pytest.mark.parametrize("where", ["own_chunk", "with_choices", "last_chunk", "every_chunk"])
@pytest.mark.doors("uvicorn")
async def test_tokens_are_counted_wherever_the_engine_reports_them(gateway, where):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.usage_variants(where))
        assert (await gw.ask(STREAM)).whole
        record = await gw.booked()
        assert (record.tokens_in, record.tokens_out) == (2, 5)


@pytest.mark.doors("uvicorn")
async def test_three_hundred_streams_flow_at_once(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw, AsyncExitStack() as stack:
        fake.always(faults.stall_after(2))
        wires = [await stack.enter_async_context(gw.connect()) for _ in range(300)]
        for wire in wires:
            wire.ask(STREAM)
        await fake.wait_for(lambda: sum(recorded.events for recorded in fake.inference) == 600)
        assert gw.in_flight == 300
        fake.release()
        assert all([(await reply(wire)).whole for wire in wires])
        assert (gw.in_flight, fake.in_flight) == (0, 0)


@pytest.mark.doors("uvicorn")
async def test_an_answer_with_fields_that_nobody_knows_passes_untouched(gateway):
    odd = '{"id" : 1e3, "choices":[{"message":{"content":null,"reasoning_content":"\\u00e9"}}],"x_odd":{"a":[]}}'
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.status(200, body=odd))
        assert (await gw.ask()).body == odd.encode()


@pytest.mark.doors("uvicorn")
async def test_a_request_with_fields_that_nobody_knows_passes_untouched(gateway):
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    odd = {
        "model": "m",
        "messages": [{"role": "user", "content": [image]}, {"role": "assistant", "content": None}],
        "chat_template_kwargs": {"deep": [1, {"x": None}]},
        "stop": "one",
        "logit_bias": {"1": 0.5},
    }
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        assert (await gw.ask(odd)).status == 200
        assert fake.inference[0].body == json.dumps(odd).encode()
