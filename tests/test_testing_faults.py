"""Each fault does on the wire what it says."""

from __future__ import annotations

import asyncio
import gzip
import re
from dataclasses import replace

import pytest

from raw_wire import CHAT, STREAM, connected, events
from solar.testing import FakeBackend, Fault, fault_named, faults
from solar.testing.answer import Question
from solar.testing.endpoints import ENDPOINTS
from solar.testing.fault import names

TOLD_APART = rb'"(id|created)":("chatcmpl-)?\d+"?'  # what differs between two equal answers


async def said(fault: Fault | None, payload: object = STREAM, **settings: object) -> tuple[bytes, str]:
    """What one request gets, raw, and how the connection is left."""
    async with FakeBackend(["m"], **settings) as fake, connected(fake.port) as wire:  # type: ignore[arg-type]
        fake.script(fault)
        wire.ask(payload)
        return await wire.rest()


@pytest.mark.parametrize(
    ("fault", "expected_events", "end"),
    [
        (faults.reset_before_head(), 0, "rst"),
        (faults.close_before_head(), 0, "fin"),
        (faults.silent(), 0, "open"),
        (faults.hang_after_head(), 0, "open"),
        (faults.stall_after(2), 2, "open"),
        (faults.reset_after(2), 2, "rst"),
        (faults.fin_after(2), 2, "fin"),
        (faults.fin_after(2, "close"), 2, "fin"),
        (faults.die(1), 1, "rst"),
        (faults.close_after_answer(), 8, "fin"),
        (None, 8, "open"),
    ],
)
async def test_breaks_exactly_there(fault, expected_events, end):
    raw, ended = await said(fault)
    assert (raw.count(b"data: "), ended) == (expected_events, end)
    assert raw.endswith(b"0\r\n\r\n") == (expected_events == 8)


async def test_a_clean_end_is_clean_for_http_and_wrong_for_the_wire_format():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(faults.clean_end_after(2), faults.no_done(), None)
        for count in (2, 7, 8):
            wire.ask(STREAM)
            assert len(events((await wire.answer())[1])) == count
        assert fake.connections == 1


@pytest.mark.parametrize("fault", [faults.cut_chunk(1), faults.short_content_length(), faults.fin_after(0)])
async def test_framing_that_is_cut_short_is_seen_as_such(fault):
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(fault)
        wire.ask(STREAM)
        with pytest.raises(asyncio.IncompleteReadError):
            await wire.answer()


@pytest.mark.parametrize(("end", "left"), [("clean", "open"), ("fin", "fin"), ("reset", "rst")])
async def test_a_tail_lacks_its_blank_line(end, left):
    raw, ended = await said(faults.tail_without_blank_line(1, end))
    assert (raw.count(b"data: "), raw.count(b"\n\n"), ended) == (2, 1, left)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/chat/completions", b'data: {"error":'),
        ("/v1/messages", b"event: error\ndata: "),
        ("/v1/responses", b"event: response.failed\ndata: "),
    ],
)
async def test_the_engines_own_error_speaks_its_wire_format(path, expected):
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(faults.own_error_event(2))
        wire.ask(STREAM, path)
        assert events((await wire.answer())[1])[2].startswith(expected)
        assert await wire.rest() == (b"", "fin")


async def test_an_answer_that_is_no_stream_breaks_in_its_middle():
    raw, ended = await said(faults.reset_after(1), CHAT)
    head, body = raw.split(b"\r\n\r\n")
    assert ended == "rst"
    assert 0 < len(body) < int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])


async def test_a_stall_goes_on_when_released():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(faults.stall_after(1))
        wire.ask(STREAM)
        await fake.wait_for(lambda: fake.requests and fake.requests[0].events == 1)
        fake.release()
        assert events((await wire.answer())[1])[-1] == b"data: [DONE]"


async def test_a_status_comes_with_its_headers_and_body():
    fault = faults.status(429, retry_after=2, body="full", headers=(("X-Why", "quota"),))
    raw, ended = await said(fault)
    assert raw.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"X-Why: quota\r\nRetry-After: 2\r\n" in raw
    assert (raw.endswith(b"\r\n\r\nfull"), ended) == (True, "open")


ODD = [
    (faults.garbage(), lambda raw: not raw.startswith(b"HTTP")),
    (faults.huge_head(70_000), lambda raw: raw.index(b"\r\n\r\n") > 70_000),
    (faults.informational(100), lambda raw: raw.startswith(b"HTTP/1.1 100 ") and b"HTTP/1.1 200 OK" in raw),
    (faults.switching_protocols(), lambda raw: raw.startswith(b"HTTP/1.1 101 ") and b"200 OK" not in raw),
    (faults.second_answer(), lambda raw: raw.count(b"HTTP/1.1 200 OK") == 2),
    (faults.trailing_bytes(), lambda raw: raw.endswith(b"0\r\n\r\n\r\n")),
    (faults.trailers(), lambda raw: raw.endswith(b"\r\n0\r\nX-Trailer: yes\r\n\r\n")),
    (faults.http10(), lambda raw: raw.startswith(b"HTTP/1.0 200") and raw.endswith(b"[DONE]\n\n")),
    (faults.close_delimited(), lambda raw: b"chunked" not in raw and b"Content-Length" not in raw),
    (faults.no_content(), lambda raw: raw.startswith(b"HTTP/1.1 204") and raw.endswith(b"here")),
    (faults.crlf_events(), lambda raw: raw.count(b"}\r\n\r\n\r\n") == 7),
    (faults.no_space_data(), lambda raw: b"data: " not in raw and raw.count(b"data:") == 8),
    (faults.comments(), lambda raw: raw.count(b": ping\n\ndata: ") == 8),
    (faults.usage_variants("every_chunk"), lambda raw: raw.count(b'"usage":{') == 7),
    (faults.usage_variants("with_choices"), lambda raw: b'"delta":{}}],"usage":{' in raw),
    (faults.usage_variants("last_chunk"), lambda raw: b'"finish_reason":"stop"}],"usage":{' in raw),
    (faults.big_event(5000), lambda raw: b"x" * 5000 in raw),
    (faults.big(5000), lambda raw: raw.count(b"x" * 1000) == 5),
    (faults.bare_json_for_stream(), lambda raw: b"application/json" in raw and b'"message"' in raw),
    (faults.event_stream_with_content_length(), lambda raw: b"event-stream" in raw and b"Content-Length: " in raw),
    (faults.duplicate_content_length(), lambda raw: raw.count(b"Content-Length: ") == 2),
    (faults.length_and_chunked(), lambda raw: b"Content-Length: 5\r\nTransfer-Encoding: chunked" in raw),
    (faults.lf_only(), lambda raw: b"\r\n" not in raw.split(b"\n\n")[0]),
    (faults.other_stream(), lambda raw: raw.count(b'data: {"something":"else"}') == 3),
    (faults.slow(500, 0.001), lambda raw: raw.endswith(b"0\r\n\r\n")),
    (faults.delay(0.001), lambda raw: raw.endswith(b"0\r\n\r\n")),
    (faults.delay_first_byte(0.001), lambda raw: raw.endswith(b"0\r\n\r\n")),
    (faults.loading(), lambda raw: b"Loading model" in raw),
]


@pytest.mark.parametrize(("fault", "so"), ODD, ids=lambda value: value.name if isinstance(value, Fault) else "")
async def test_odd_answers_are_odd_just_so(fault, so):
    raw, _ = await said(fault)
    assert so(raw), raw[:2000]


async def test_a_wrong_length_leaves_bytes_over():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(faults.wrong_content_length(3))
        wire.ask(CHAT)
        await wire.answer()
        assert await wire.rest() == (b'":7}}'[-3:], "open")


async def test_compressed_bytes_are_the_same_answer():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(faults.gzip())
        wire.ask(STREAM)
        head, body = await wire.answer()
    assert "Content-Encoding: gzip" in head
    assert gzip.decompress(body).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("fault", [faults.split(1), faults.split(7), faults.joined()])
async def test_other_chunks_are_the_same_bytes(fault):
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(None, fault)
        bodies = []
        for _ in range(2):
            wire.ask(STREAM)
            bodies.append((await wire.answer())[1])
    assert re.sub(TOLD_APART, b"", bodies[0]) == re.sub(TOLD_APART, b"", bodies[1])
    assert bodies[0].endswith(b"data: [DONE]\n\n")


async def test_unsolicited_bytes_come_on_the_idle_connection():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.script(faults.unsolicited())
        wire.ask(STREAM)
        await wire.answer()
        await fake.wait_for(lambda: fake.requests[0].finished)
        fake.release()
        assert (await wire.head()).startswith("HTTP/1.1 408 ")


async def test_the_script_comes_before_always_and_each_fault_once():
    async with FakeBackend() as fake, connected(fake.port) as wire:
        fake.always(faults.status(500))
        fake.script(faults.status(503), None)
        for code in ("503", "200", "500", "500"):
            wire.ask(CHAT)
            assert (await wire.answer())[0].split()[1] == code
        fake.always(None)
        wire.ask(CHAT)
        assert " 200 " in (await wire.answer())[0]


async def test_a_model_name_picks_its_fault():
    async with FakeBackend(fault_from_model=True) as fake, connected(fake.port) as wire:
        for model, code in [("fault:status:429:retry_after=1", "429"), ("fault:nonsense", "400"), ("m", "200")]:
            wire.ask({**CHAT, "model": model})
            assert (await wire.answer())[0].split()[1] == code


def test_a_fault_has_a_name_arguments_and_a_value():
    assert repr(faults.reset_after(3)) == "faults.reset_after(3)"
    assert fault_named("reset_after:3") == faults.reset_after(events=3)
    with pytest.raises(ValueError, match="no fault is named 'nope'"):
        fault_named("nope")
    with pytest.raises(ValueError, match="too many positional arguments"):
        fault_named("silent:1")


@pytest.mark.parametrize("name", names())
def test_every_fault_is_public_explained_and_fits_every_endpoint(name):
    make = getattr(faults, name)
    assert name in faults.__all__
    assert make.__doc__
    for endpoint, tell in ENDPOINTS.items():
        for stream in (True, False):
            question = Question(endpoint, {}, "m", words=("a ", "b "), stream=stream)
            answer = replace(tell(question), question=question, tell=tell)
            assert list(make().steps(answer))
