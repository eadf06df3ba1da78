"""The engine itself, asked without a gateway: if these fail, look at the machine before looking at Solar."""

import json

import httpx
from llama_server import EMBEDDING, MODEL_ID, Llamas, LlamaServer


def ask(server: LlamaServer, path: str, **body: object) -> bytes:
    answer = httpx.post(f"{server.url}{path}", json={"model": MODEL_ID, **body}, timeout=60, trust_env=False)
    return answer.raise_for_status().content


def test_two_servers_stream_a_chat_to_its_end(pair: tuple[LlamaServer, LlamaServer]) -> None:
    for server in pair:
        hello = [{"role": "user", "content": "Say hello."}]
        asked = {"messages": hello, "max_tokens": 8, "ignore_eos": True, "stream": True}
        events = ask(server, "/v1/chat/completions", **asked).split(b"\n\n")
        assert len(events) > 4
        assert events[0].startswith(b'data: {"choices":[{')
        assert events[-2:] == [b"data: [DONE]", b""]


async def test_a_server_started_for_embeddings_embeds(llama: Llamas) -> None:
    embedder = llama("embedder", *EMBEDDING)
    await embedder.ready()
    vector = json.loads(ask(embedder, "/v1/embeddings", input="the sky"))["data"][0]["embedding"]
    assert len(vector) == 576


async def test_a_frozen_server_answers_nothing_until_it_is_thawed(llama: Llamas) -> None:
    server = llama()
    await server.ready()
    server.freeze()
    assert server.health(within=0.2) is None
    server.thaw()
    assert server.health() == 200


async def test_a_killed_server_leaves_its_port(llama: Llamas) -> None:
    server = llama()
    await server.ready()
    server.kill()
    assert not server.is_running()
    assert server.health() is None
