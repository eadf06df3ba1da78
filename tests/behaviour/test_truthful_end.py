"""A stream that broke says so: whole events, one error in its own wire format, and never an end that looks well."""

from __future__ import annotations

import anthropic
import msgspec
import openai
import pytest
from gateways import backend

from raw_wire import CHAT, STREAM
from solar.core.backend import Timeouts
from solar.testing import FakeBackend, Fault, faults
from solar.testing.answer import Act

ERRORS = {
    "/v1/chat/completions": b'data: {"error":',
    "/v1/completions": b'data: {"error":',
    "/v1/responses": b"event: response.failed\ndata: ",
    "/v1/messages": b"event: error\ndata: ",
}
BREAKS = [
    faults.reset_after(2),
    faults.clean_end_after(2),
    faults.fin_after(2),
    faults.fin_after(2, "close"),
    faults.cut_chunk(2),
    faults.tail_without_blank_line(2, "clean"),
    faults.tail_without_blank_line(2, "fin"),
    faults.tail_without_blank_line(2, "reset"),
    faults.die(2),
]
ENDS = (b"[DONE]", b'"finish_reason":"stop"', b"response.completed", b"message_stop")
MESSAGES = [{"role": "user", "content": "say it"}]
every_wire = pytest.mark.parametrize("path", ERRORS)
here = pytest.mark.doors("uvicorn")


def assert_truthful(got, path, whole_events):
    """`whole_events`, then one error in the form of that path, and no end of any kind."""
    assert (got.status, got.whole) == (200, False)
    assert got.body.endswith(b"\n\n")
    *told, error = got.events
    assert len(told) == whole_events
    assert error.startswith(ERRORS[path])
    msgspec.json.decode(error.partition(b"data: ")[2])
    assert not any(end in got.body for end in ENDS)


async def collect(stream, into):
    """Keeps what came before a stream raises, too."""
    async for event in stream:
        into.append(event)


@every_wire
@pytest.mark.parametrize("fault", BREAKS, ids=repr)
async def test_a_broken_stream_ends_with_one_error_and_without_its_last_chunk(gateway, path, fault):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(fault)
        assert_truthful(await gw.ask(STREAM, path), path, 2)
        record = await gw.booked()
        assert (record.end, record.code, gw.in_flight) == ("broken", "upstream_cut", 0)


@here
@every_wire
async def test_a_stream_that_stalls_ends_truthfully(gateway, path):
    async with FakeBackend(["m"]) as fake:
        slow = backend(fake, timeouts=Timeouts(between_bytes=0.2))
        async with gateway(slow) as gw:
            fake.script(faults.stall_after(2))
            assert_truthful(await gw.ask(STREAM, path), path, 2)
            assert (await gw.booked()).code == "upstream_timeout"
            await fake.wait_for(lambda: fake.inference[0].cancelled)


@every_wire
async def test_an_error_of_the_backends_own_is_not_followed_by_a_second(gateway, path):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.own_error_event(2))
        got = await gw.ask(STREAM, path)
        assert len(got.events) == 3
        assert got.events[2].startswith(ERRORS[path])
        assert b"the engine ran out of memory" in got.events[2]


class OwnErrorThenReset(Fault):
    """The engine says that it fails, and then it is gone."""

    def steps(self, answer):
        *told, _last_chunk, _fin = faults.own_error_event(2).steps(answer)
        yield from (*told, Act.RESET)


@every_wire
async def test_an_error_of_its_own_before_it_breaks_is_not_followed_by_a_second(gateway, path):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(OwnErrorThenReset("own"))
        got = await gw.ask(STREAM, path)
        assert len(got.events) == 3
        assert got.events[2].startswith(ERRORS[path])


class CutInABigEvent(Fault):
    """Breaks in the middle of the second event, which is as long as the name says."""

    def steps(self, answer):
        return faults.cut_chunk(1).steps(answer.retold(words=("x" * int(self.name),)))


@here
async def test_an_unfinished_event_is_held_back_so_that_the_error_comes_after_a_whole_one(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(CutInABigEvent("100000"))
        assert_truthful(await gw.ask(STREAM), "/v1/chat/completions", 1)


@here
async def test_an_error_never_lands_inside_half_an_event(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(CutInABigEvent("400000"))
        got = await gw.ask(STREAM)
        assert (got.whole, len(got.events)) == (False, 2)
        assert got.body.endswith(b"xxx")


async def test_a_stream_with_a_length_is_just_cut(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.short_content_length())
        got = await gw.ask(STREAM)
        assert (got.status, got.whole, b'"error"' in got.body) == (200, False, False)
        assert got.headers["content-length"] == str(len(got.body) + 10)


@pytest.mark.parametrize("fault", [faults.short_content_length(), faults.reset_after(1)], ids=repr)
async def test_a_json_answer_that_broke_is_cut_and_never_ended(gateway, fault):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(fault)
        got = await gw.ask(CHAT)
        assert (got.status, got.whole, b'"error"' in got.body) == (200, False, False)
        assert (await gw.booked()).end == "broken"


async def test_what_was_done_stays_done_though_the_connection_is_reset_after_it(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.reset_after(8))
        got = await gw.ask(STREAM)
        assert (got.whole, got.events[-1]) == (True, b"data: [DONE]")
        assert (await gw.booked()).end == "success"


@here
async def test_a_finish_reason_without_done_is_an_end_when_the_framing_ends_too(gateway):
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.no_done(), faults.fin_after(7))
        assert (await gw.ask(STREAM)).whole
        got = await gw.ask(STREAM)
        assert (got.whole, got.events[-1].startswith(b'data: {"error":')) == (False, True)


@here
async def test_a_stream_of_an_unknown_format_is_broken_only_when_its_framing_is(gateway):
    speech = {"model": "m", "input": "x", "stream_format": "sse"}
    async with FakeBackend(["m"]) as fake, gateway(fake) as gw:
        fake.script(faults.clean_end_after(1), faults.reset_after(1))
        assert (await gw.ask(speech, "/v1/audio/speech")).whole
        got = await gw.ask(speech, "/v1/audio/speech")
        assert (got.whole, got.events[1].startswith(b'data: {"error":')) == (False, True)


@pytest.mark.parametrize("fault", [faults.reset_after(2), faults.clean_end_after(2)], ids=repr)
async def test_the_openai_client_raises_when_a_stream_broke(gateway, fault):
    async with (
        FakeBackend(["m"]) as fake,
        gateway(fake) as gw,
        openai.AsyncOpenAI(base_url=gw.v1, api_key="any", max_retries=0) as ai,
    ):
        fake.script(fault)
        stream = await ai.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        chunks = []
        with pytest.raises(openai.APIError, match="the stream was cut short"):
            await collect(stream, chunks)
        assert len(chunks) == 2


@here
async def test_the_openai_client_sees_a_response_fail(gateway):
    async with (
        FakeBackend(["m"]) as fake,
        gateway(fake) as gw,
        openai.AsyncOpenAI(base_url=gw.v1, api_key="any", max_retries=0) as ai,
    ):
        fake.script(faults.clean_end_after(3))
        stream = await ai.responses.create(model="m", input="x", stream=True)
        seen = []
        with pytest.raises(openai.APIConnectionError):
            await collect(stream, seen)
        assert (seen[-1].type, seen[-1].response.status) == ("response.failed", "failed")
        assert [event.sequence_number for event in seen] == [0, 1, 2, 3]


@here
async def test_the_anthropic_client_raises_when_a_stream_broke(gateway):
    async with (
        FakeBackend(["m"]) as fake,
        gateway(fake) as gw,
        anthropic.AsyncAnthropic(base_url=gw.url, api_key="any", max_retries=0) as claude,
    ):
        fake.script(faults.reset_after(3))
        with pytest.raises(anthropic.APIError, match="the stream was cut short"):
            async with claude.messages.stream(model="m", max_tokens=50, messages=MESSAGES) as stream:
                await stream.get_final_message()
