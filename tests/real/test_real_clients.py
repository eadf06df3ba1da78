"""What the official clients see through the gateway, with real engines behind it."""

import asyncio

import anthropic
import openai
import pytest
from gateway import chat, serving
from llama_server import EMBEDDING, MODEL_ID, Llamas, LlamaServer

Pair = tuple[LlamaServer, LlamaServer]
SPOKEN = [{"role": "user", "content": "Say hello."}]


async def test_the_openai_client_chats(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        answer = await client.chat.completions.create(**chat())
    assert answer.choices[0].message.content.startswith("Hello")
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 8
    assert answer.model == MODEL_ID


async def test_the_openai_client_streams_a_chat_to_its_usage(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        stream = await client.chat.completions.create(**chat(stream=True, stream_options={"include_usage": True}))
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("Hello")
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 8
    assert [record.tokens_out for record in gateway.records] == [8]


async def test_no_usage_is_invented_for_a_stream_that_did_not_ask_for_it(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        stream = await client.chat.completions.create(**chat(stream=True))
        chunks = [chunk async for chunk in stream]
    assert all(chunk.choices for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


async def test_the_sync_openai_client_chats_and_streams(pair: Pair) -> None:
    def ask() -> tuple[str, str]:
        with gateway.sync_openai() as client:
            whole = client.chat.completions.create(**chat()).choices[0].message.content
            stream = client.chat.completions.create(**chat(stream=True))
            return whole, "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    async with serving(*pair) as gateway:
        whole, streamed = await asyncio.to_thread(ask)
    assert whole == streamed
    assert whole.startswith("Hello")


async def test_the_raw_response_shows_which_backend_answered(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        raw = await client.chat.completions.with_raw_response.create(**chat())
        assert raw.headers["x-solar-backend"] in {server.name for server in pair}
        assert raw.headers["x-solar-attempts"] == "1"
        assert float(raw.headers["x-solar-overhead-ms"]) < 1000
        assert raw.headers["x-request-id"] == gateway.records[0].id
        assert raw.parse().choices[0].message.content


async def test_the_streaming_response_yields_the_engines_own_lines(pair: Pair) -> None:
    async with (
        serving(*pair) as gateway,
        gateway.openai() as client,
        client.chat.completions.with_streaming_response.create(**chat(stream=True)) as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        lines = [line async for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"


async def test_the_openai_client_completes_and_streams_a_text(pair: Pair) -> None:
    asked = {"model": MODEL_ID, "prompt": "The sky is", "max_tokens": 4, "temperature": 0}
    async with serving(*pair) as gateway, gateway.openai() as client:
        whole = await client.completions.create(**asked)
        stream = await client.completions.create(**asked, stream=True)
        streamed = "".join([chunk.choices[0].text async for chunk in stream])
    assert whole.choices[0].text == streamed
    assert len(streamed) > 4


async def test_the_openai_client_lists_and_retrieves_the_models_of_both_once(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        listed = [model async for model in client.models.list()]
        one = await client.models.retrieve(MODEL_ID)
    assert [model.id for model in listed] == [MODEL_ID]
    assert (one.id, one.object, one.owned_by) == (MODEL_ID, "model", "llamacpp")


async def test_the_openai_client_creates_a_response_and_streams_one(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        whole = await client.responses.create(model=MODEL_ID, input="Say hello.", max_output_tokens=8)
        stream = await client.responses.create(model=MODEL_ID, input="Say hello.", max_output_tokens=8, stream=True)
        kinds = [event.type async for event in stream]
    assert whole.output_text
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


async def test_the_openai_client_tokenizes_by_a_raw_post(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        answer = await client.post("/tokenize", body={"model": MODEL_ID, "content": "the sky"}, cast_to=object)
    assert len(answer["tokens"]) == 2


async def test_the_openai_client_embeds(llama: Llamas) -> None:
    embedder = llama("embedder", *EMBEDDING)
    await embedder.ready()
    async with serving(embedder) as gateway, gateway.openai() as client:
        answer = await client.embeddings.create(model=MODEL_ID, input=["the sky", "the sea"])
    assert [len(item.embedding) for item in answer.data] == [576, 576]


async def test_an_unknown_model_is_not_found(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        with pytest.raises(openai.NotFoundError, match="nobody-has-this") as told:
            await client.chat.completions.create(**chat(model="nobody-has-this"))
    assert told.value.code == "model_not_found"
    assert told.value.param == "model"
    assert told.value.request_id == gateway.records[0].id


async def test_a_wrong_key_is_an_authentication_error_and_a_right_one_answers(pair: Pair) -> None:
    async with serving(*pair, api_keys=["My API Key"]) as gateway:
        async with gateway.openai(api_key="guessed") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.chat.completions.create(**chat())
        async with gateway.openai(api_key="My API Key") as client:
            assert (await client.chat.completions.create(**chat())).choices


async def test_what_the_engine_refuses_passes_through_and_counts_against_nobody(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.openai() as client:
        with pytest.raises(openai.BadRequestError, match="Expected 'messages' to be an array"):
            await client.chat.completions.create(**chat(messages="no list"))
        assert [gateway.state(server) for server in pair] == ["healthy", "healthy"]
    assert gateway.records[0].attempts == 1


async def test_a_body_that_is_no_json_is_refused_before_any_engine_sees_it(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.http() as client:
        answer = await client.post("/v1/chat/completions", content=b'{"model": "x", "messages": [')
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert gateway.records[0].attempts == 0


async def test_the_anthropic_client_creates_a_message(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.anthropic() as client:
        message = await client.messages.create(model=MODEL_ID, max_tokens=8, messages=SPOKEN)
    assert message.role == "assistant"
    assert message.content[0].text
    assert message.usage.output_tokens > 0


async def test_the_anthropic_client_streams_a_message_to_its_stop(pair: Pair) -> None:
    async with (
        serving(*pair) as gateway,
        gateway.anthropic() as client,
        client.messages.stream(model=MODEL_ID, max_tokens=8, messages=SPOKEN) as stream,
    ):
        text = "".join([piece async for piece in stream.text_stream])
        final = await stream.get_final_message()
    assert text == final.content[0].text
    assert final.stop_reason in ("max_tokens", "end_turn")  # a model may say hello in fewer words
    assert gateway.records[0].end == "success"


async def test_the_anthropic_client_counts_tokens(pair: Pair) -> None:
    async with serving(*pair) as gateway, gateway.anthropic() as client:
        counted = await client.messages.count_tokens(model=MODEL_ID, messages=SPOKEN)
    assert 3 < counted.input_tokens < 100


async def test_the_anthropic_client_gets_errors_in_its_own_shape(pair: Pair) -> None:
    async with serving(*pair, api_keys=["right"]) as gateway:
        async with gateway.anthropic(api_key="wrong") as client:
            with pytest.raises(anthropic.AuthenticationError) as refused:
                await client.messages.create(model=MODEL_ID, max_tokens=8, messages=SPOKEN)
        async with gateway.anthropic(api_key="right") as client:
            with pytest.raises(anthropic.NotFoundError) as unknown:
                await client.messages.create(model="nobody-has-this", max_tokens=8, messages=SPOKEN)
    assert refused.value.body["error"]["type"] == "authentication_error"
    assert unknown.value.body["error"]["type"] == "not_found_error"
