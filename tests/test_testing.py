"""The fakes do on the wire what they say: read with raw sockets, since a client library would hide it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from contextlib import suppress

import anthropic
import openai
import pytest

from raw_wire import CHAT, NOTHING, STREAM, connected, events
from solar.testing import FakeAgent, FakeBackend, FakeClock, TcpProxy, blackhole, faults

# The truth


async def test_a_stream_ends_with_finish_reason_and_done():
    async with FakeBackend(["m"], tokens=2) as fake, connected(fake.port) as wire:
        wire.ask({**STREAM, "stream_options": {"include_usage": True}})
        head, body = await wire.answer()
        *chunks, done = [event.removeprefix(b"data: ") for event in events(body)]
        role, first, second, finish, usage = map(json.loads, chunks)
    assert "text/event-stream" in head
    assert done == b"[DONE]"
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert [c["choices"][0]["delta"]["content"] for c in (first, second)] == ["word0 ", "word1 "]
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert (finish["usage"], usage["choices"], usage["usage"]["completion_tokens"]) == (None, [], 2)


async def test_the_openai_client_accepts_every_answer():
    async with FakeBackend(["m"]) as fake, openai.AsyncOpenAI(base_url=f"{fake.url}/v1", api_key="k") as client:
        assert [model.id async for model in client.models.list()] == ["m"]
        whole = await client.chat.completions.create(**CHAT)
        streamed = [c async for c in await client.chat.completions.create(**STREAM)]
        assert "".join(c.choices[0].delta.content or "" for c in streamed) == whole.choices[0].message.content
        assert (await client.completions.create(model="m", prompt="a", max_tokens=2)).choices[
            0
        ].finish_reason == "length"
        assert (await client.responses.create(model="m", input="hi")).output_text == whole.choices[0].message.content
        async with client.responses.stream(model="m", input="hi") as stream:
            assert [event.sequence_number async for event in stream] == list(range(13))
        assert (await client.embeddings.create(model="m", input=["a", "b"])).data[1].embedding == [0.5, -0.25, 0.125]
        assert not (await client.moderations.create(model="m", input="a")).results[0].flagged
        file = ("a.wav", b"RIFF\r\n\r\n", "audio/wav")
        assert (await client.audio.transcriptions.create(model="m", file=file)).text.startswith("word0")
        assert fake.requests[-1].header("content-type").startswith("multipart/form-data")
        assert (await client.audio.speech.create(model="m", voice="v", input="a")).content.startswith(b"ID3")
        assert len((await client.images.generate(model="m", prompt="a", n=2)).data) == 2


async def test_the_anthropic_client_accepts_messages():
    async with FakeBackend() as fake, anthropic.AsyncAnthropic(base_url=fake.url, api_key="k") as client:
        asked = {"model": "m", "max_tokens": 9, "messages": CHAT["messages"]}
        whole = await client.messages.create(**asked)
        async with client.messages.stream(**asked) as stream:
            assert (await stream.get_final_message()).content[0].text == whole.content[0].text
        assert (await client.messages.count_tokens(model="m", messages=CHAT["messages"])).input_tokens == 2


@pytest.mark.parametrize(
    ("path", "asked", "key"),
    [
        ("/v1/rerank", {"query": "q", "documents": ["a", "b"], "top_n": 1}, "results"),
        ("/reranking", {"query": "q", "documents": ["a"]}, "results"),
        ("/v1/classify", {"input": "a"}, "choices"),
        ("/tokenize", {"content": "a b"}, "tokens"),
        ("/detokenize", {"tokens": [1]}, "content"),
    ],
)
async def test_the_other_endpoints_answer_in_their_shape(path, asked, key):
    async with FakeBackend() as fake, connected(fake.port) as wire:
        wire.ask(asked, path)
        assert key in json.loads((await wire.answer())[1])


@pytest.mark.parametrize(
    ("kind", "path", "expected"),
    [
        ("llamacpp", "/health", b'{"status":"ok"}'),
        ("llamacpp", "/props", b"total_slots"),
        ("llamacpp", "/v1/models", b'"n_params":7'),
        ("vllm", "/health", b""),
        ("vllm", "/version", b"version"),
        ("vllm", "/v1/models/m", b'"owned_by":"vllm"'),
        ("ollama", "/api/version", b"version"),
        ("ollama", "/api/tags", b'"n_params":7'),
        ("generic", "/props", b"File Not Found"),
    ],
)
async def test_each_kind_of_engine_shows_itself(kind, path, expected):
    async with FakeBackend(["m"], kind=kind, meta={"m": {"n_params": 7}}) as fake, connected(fake.port) as wire:
        wire.ask(path=path)
        assert expected in (await wire.answer())[1]
        assert not fake.requests[0].inference


async def test_a_key_guards_everything_but_health():
    async with FakeBackend(api_key="sesame") as fake, connected(fake.port) as wire:
        for path, head, status in [
            ("/health", "", "200"),
            ("/v1/models", "", "401"),
            ("/v1/models", "Authorization: Bearer wrong\r\n", "401"),
            ("/v1/models", "Authorization: Bearer sesame\r\n", "200"),
            ("/v1/models", "X-API-Key: sesame\r\n", "200"),
        ]:
            wire.ask(path=path, head=head)
            assert (await wire.answer())[0].split()[1] == status


async def test_loading_is_told_by_health_and_inference_alike():
    async with FakeBackend(loading=True) as fake:
        for payload, path in [(None, "/health"), (CHAT, "/v1/chat/completions")]:
            async with connected(fake.port) as wire:
                wire.ask(payload, path)
                raw, end = await wire.rest()
            assert (b"503 " in raw, b"Loading model" in raw, end) == (True, True, "fin")
        fake.loading = False
        async with connected(fake.port) as wire:
            wire.ask(path="/health")
            assert " 200 " in await wire.head()


# What it records


async def test_records_heads_and_bodies_as_they_came():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        wire.writer.write(
            b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: a\r\nX-A:  1 \r\nx-a: 2\r\n"
            b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'
        )
        await wire.answer()
        [seen] = fake.requests
    assert seen.headers[:3] == [(b"host", b"a"), (b"X-A", b"1"), (b"x-a", b"2")]
    assert (seen.head[:5], seen.target, seen.path) == (b"POST ", "/v1/chat/completions?x=1", "/v1/chat/completions")
    assert (seen.body, seen.payload, seen.complete, seen.finished) == (b'{"a":1}', {"a": 1}, True, True)
    assert (seen.all_headers("x-a"), seen.connection, fake.connections) == (["1", "2"], 1, 1)


@pytest.mark.parametrize("fault", [faults.silent(), faults.hang_after_head(), faults.stall_after(1), faults.delay(60)])
async def test_notices_at_once_that_the_client_left(fault):
    async with FakeBackend() as fake:
        fake.always(fault)
        async with connected(fake.port) as wire:
            wire.ask(STREAM)
            await fake.wait_for(lambda: fake.in_flight == 1)
        await fake.wait_for(lambda: fake.requests[0].cancelled, timeout=1)
        await fake.wait_for(lambda: fake.open == 0, timeout=1)
    assert (fake.in_flight, fake.requests[0].finished) == (0, False)


async def test_waiting_for_what_never_happens_says_so():
    async with FakeBackend() as fake:
        with pytest.raises(TimeoutError, match="0 requests, 0 in flight"):
            await fake.wait_for(lambda: fake.requests, timeout=0.01)


# The whole engine


async def test_death_resets_and_refuses_until_it_is_revived():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(faults.silent())
        wire.ask(STREAM)
        await fake.wait_for(lambda: fake.in_flight)
        fake.die()
        assert await wire.rest() == (b"", "rst")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", fake.port)
        fake.revive()
        async with connected(fake.port) as again:
            again.ask(CHAT)
            assert " 200 " in await again.head()


@pytest.mark.parametrize("fake", [FakeBackend(), FakeAgent()], ids=["engine", "agent"])
async def test_who_connects_in_the_moment_of_a_death_hears_of_it(fake: FakeBackend | FakeAgent) -> None:
    async with fake:
        client = socket.create_connection(("127.0.0.1", fake.port), timeout=5)
        fake._listener._accept()  # nobody has begun to serve it
    with client, suppress(ConnectionResetError):
        assert client.recv(1) == b""


async def test_a_frozen_engine_connects_and_says_nothing_until_it_thaws():
    async with FakeBackend() as fake, connected(fake.port) as old:
        old.ask(path="/health")
        await old.answer()
        fake.freeze()
        async with connected(fake.port) as new:
            for wire in (old, new):
                wire.ask(path="/health")
                assert await wire.rest() == (b"", "open")
            assert (len(fake.requests), fake.connections) == (1, 1)
            fake.thaw()
            for wire in (old, new):
                assert " 200 " in await wire.head()


async def test_inference_freezes_while_health_answers():
    async with FakeBackend(token_interval=0.001, tokens=10_000) as fake, connected(fake.port) as wire:
        wire.ask(STREAM)
        await fake.wait_for(lambda: fake.requests and fake.requests[0].events > 3)
        fake.freeze(health_answers=True)
        await wire.rest()
        assert await wire.rest() == (b"", "open")
        async with connected(fake.port) as other:
            other.ask(path="/health")
            assert " 200 " in await other.head()
        fake.thaw()
        assert await asyncio.wait_for(wire.reader.read(1), 5)


@pytest.mark.skipif(sys.platform != "linux", reason="the backlog is full in Linux's way")
async def test_ignored_connects_hang():
    async with FakeBackend() as fake:
        fake.ignore_connects()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.open_connection("127.0.0.1", fake.port), 5 * NOTHING)


async def test_keep_alive_ends_after_so_many_requests_and_so_much_idleness():
    async with FakeBackend(keepalive_requests=2, keepalive_seconds=0.01) as fake, connected(fake.port) as wire:
        for says in ("keep-alive", "close"):
            wire.ask(CHAT)
            assert f"Connection: {says}" in (await wire.answer())[0]
        assert await wire.rest() == (b"", "fin")
        async with connected(fake.port) as idle:
            assert await idle.rest() == (b"", "fin")


async def test_idle_connections_close_on_command():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        wire.ask(CHAT)
        await wire.answer()
        await fake.wait_for(lambda: fake.requests[0].finished)
        fake.close_idle()
        assert await wire.rest() == (b"", "fin")


async def test_runs_as_a_process_of_its_own():
    command = [sys.executable, "-m", "solar.testing", "--models", "a,b", "--kind", "vllm", "--fault-from-model"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=dict(os.environ))
    assert process.stdout is not None
    try:
        url = (await asyncio.wait_for(process.stdout.readline(), 10)).decode().strip()
        async with connected(int(url.rpartition(":")[2])) as wire:
            wire.ask({**CHAT, "model": "fault:reset_before_head"})
            assert await wire.rest() == (b"", "rst")
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 5) == 0


# The others


async def test_a_proxy_passes_swallows_delays_refuses_and_resets():
    async with FakeBackend() as fake, TcpProxy.to(fake.url) as proxy, connected(proxy.port) as wire:
        wire.ask(CHAT)
        assert " 200 " in (await wire.answer())[0]
        proxy.blackhole()
        wire.ask(CHAT)
        assert await wire.rest() == (b"", "open")
        assert len(fake.requests) == 1
        proxy.pass_on()
        assert " 200 " in (await wire.answer())[0]
        proxy.delay(0.02)
        before = asyncio.get_running_loop().time()
        wire.ask(CHAT)
        await wire.answer()
        assert asyncio.get_running_loop().time() - before >= 0.04
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        proxy.reset_all()
        assert await wire.rest() == (b"", "rst")
        await fake.wait_for(lambda: fake.open == 0)


@pytest.mark.parametrize(("fault", "end"), [(faults.reset_after(1), "rst"), (faults.fin_after(1), "fin")])
async def test_a_proxy_passes_the_kind_of_end_on(fault, end):
    async with FakeBackend() as fake, TcpProxy.to(fake.url) as proxy, connected(proxy.port) as wire:
        fake.script(fault)
        wire.ask(STREAM)
        assert (await wire.rest())[1] == end


async def test_a_client_that_leaves_a_proxy_leaves_the_backend():
    async with FakeBackend() as fake, TcpProxy.to(fake.url) as proxy:
        fake.always(faults.silent())
        async with connected(proxy.port) as wire:
            wire.ask(STREAM)
            await fake.wait_for(lambda: fake.in_flight)
        await fake.wait_for(lambda: fake.requests[0].cancelled and not fake.open)


async def test_a_blackhole_swallows_from_the_start():
    async with FakeBackend() as fake, blackhole(fake.url) as hole, connected(hole.port) as wire:
        wire.ask(CHAT)
        assert await wire.rest() == (b"", "open")
        assert not fake.requests


def test_a_clock_moves_only_forward_and_only_when_told():
    clock = FakeClock()
    clock.advance(2.5)
    assert (clock(), clock.now) == (2.5, 2.5)
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
