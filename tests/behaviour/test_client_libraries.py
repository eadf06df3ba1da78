"""What the official clients make of forms, sounds, keys and refusals."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anthropic
import openai
import pytest
from gateways import Gateway, Serves

from solar import Backend
from solar.testing import FakeBackend, Fault, faults

pytestmark = pytest.mark.doors("uvicorn")
SOUND = b"RIFF\x00\xff" + bytes(range(256)) * 2000
KEY = "My API Key"


@asynccontextmanager
async def client(gw: Gateway, key: str = KEY, retries: int = 0) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gw.v1, api_key=key, max_retries=retries) as ai:
        yield ai


@pytest.fixture
async def fake() -> AsyncIterator[FakeBackend]:
    async with FakeBackend(["whisper-1", "org/model:8b"]) as fake:
        yield fake


@pytest.fixture
async def gw(gateway: Serves, fake: FakeBackend) -> AsyncIterator[Gateway]:
    backend = Backend("a", fake.url, models=fake.models, aliases={"ears": "whisper-1"})
    async with gateway(backend, api_keys=[KEY]) as gw:
        yield gw


async def test_a_sound_is_transcribed_under_an_alias(gw: Gateway, fake: FakeBackend) -> None:
    async with client(gw) as ai:
        told = await ai.audio.transcriptions.create(model="ears", file=("a.wav", SOUND), language="en")
    assert told.text.startswith("word0")
    assert SOUND in fake.inference[-1].body
    assert b'name="model"\r\n\r\nwhisper-1\r\n' in fake.inference[-1].body


async def test_a_transcription_streams(gw: Gateway) -> None:
    async with client(gw) as ai:
        stream = await ai.audio.transcriptions.create(model="ears", file=("a.wav", SOUND), stream=True)
        assert [event.type async for event in stream][-1] == "transcript.text.done"


async def test_speech_comes_back_as_sound(gw: Gateway) -> None:
    async with client(gw) as ai:
        spoken = await ai.audio.speech.create(model="whisper-1", voice="alloy", input="hello")
        assert spoken.response.headers["content-type"] == "audio/mpeg"
        assert spoken.content.startswith(b"ID3")


async def test_an_image_is_edited(gw: Gateway, fake: FakeBackend) -> None:
    async with client(gw) as ai:
        edited = await ai.images.edit(model="ears", image=("a.png", SOUND), prompt="make it blue")
        assert edited.data
    assert fake.inference[-1].target == "/v1/images/edits"


async def test_numbers_come_back_as_they_were_packed(gw: Gateway) -> None:
    async with client(gw) as ai:
        answer = await ai.embeddings.create(model="whisper-1", input=["a", "b"])  # asks for base64 by itself
        assert [item.embedding for item in answer.data] == [[0.5, -0.25, 0.125]] * 2


async def test_a_model_with_a_slash_is_retrieved(gw: Gateway) -> None:
    async with client(gw) as ai:
        assert (await ai.models.retrieve("org/model:8b")).id == "org/model:8b"
        assert [model.id async for model in ai.models.list()] == ["ears", "org/model:8b", "whisper-1"]
        with pytest.raises(openai.NotFoundError):
            await ai.models.retrieve("other")


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (faults.status(400), openai.BadRequestError),
        (faults.status(403), openai.PermissionDeniedError),
        (faults.status(404), openai.NotFoundError),
        (faults.status(409), openai.ConflictError),
        (faults.status(422), openai.UnprocessableEntityError),
        (faults.status(429), openai.RateLimitError),
        (faults.status(500), openai.InternalServerError),
        (faults.reset_before_head(), openai.InternalServerError),
    ],
    ids=repr,
)
async def test_a_refusal_is_the_exception_that_its_status_means(
    gw: Gateway, fake: FakeBackend, fault: Fault, raised: type[openai.APIStatusError]
) -> None:
    fake.always(fault)
    async with client(gw) as ai:
        with pytest.raises(raised) as error:
            await ai.embeddings.create(model="whisper-1", input="a", extra_headers={"X-Request-ID": "mine"})
    assert error.value.request_id == "mine"
    assert error.value.body is not None


async def test_a_client_obeys_when_it_is_told_when_to_come_back(gw: Gateway, fake: FakeBackend) -> None:
    fake.script(faults.status(503, headers=(("Retry-After-Ms", "1"),)))
    async with client(gw, retries=1) as ai:
        assert (await ai.embeddings.create(model="whisper-1", input="a")).data
    assert len(fake.inference) == 2


async def test_a_wrong_key_is_an_authentication_error(gw: Gateway) -> None:
    async with client(gw, key="wrong") as ai:
        with pytest.raises(openai.AuthenticationError, match="incorrect API key"):
            await ai.models.list()
        assert await ai.with_options(default_headers={"X-API-Key": KEY}).models.list()


async def test_the_anthropic_client_shows_its_key_in_its_own_header(gw: Gateway, fake: FakeBackend) -> None:
    async with anthropic.AsyncAnthropic(base_url=gw.url, api_key=KEY, max_retries=0) as ai:
        counted = await ai.messages.count_tokens(model="ears", messages=[{"role": "user", "content": "a b c"}])
        assert counted.input_tokens == 3
        assert fake.inference[-1].header("anthropic-version")
        with pytest.raises(anthropic.NotFoundError, match="no backend has the model"):
            await ai.messages.count_tokens(model="other", messages=[{"role": "user", "content": "a"}])


async def test_the_anthropic_client_reads_its_own_errors(gw: Gateway) -> None:
    async with anthropic.AsyncAnthropic(base_url=gw.url, api_key="wrong", max_retries=0) as ai:
        with pytest.raises(anthropic.AuthenticationError) as error:
            await ai.messages.create(model="ears", max_tokens=5, messages=[{"role": "user", "content": "a"}])
    assert error.value.body["type"] == "error"  # type: ignore[index]
