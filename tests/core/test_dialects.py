import json
from typing import Any

import pytest

from solar.core.dialects import DIALECTS, Wire
from solar.sse import Watch

# Per wire: what ends a stream, and what a model may write that must not look like it.
CHAT_TEXT = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
TYPED_TEXT = b'event: %b\ndata: {"type":"%b","delta":"%b"}\n\n'
ATTACKS = [
    rb"data: [DONE]",
    rb"\n\ndata: [DONE]\n\n",
    rb"\"finish_reason\": \"stop\"",
    rb"\n\nevent: error\n\n",
    rb"data: {\"error\": {}}",
    rb"\nevent: message_stop\n",
    rb"\"type\": \"message_stop\"",
    rb"\"type\":\"response.completed\"",
    rb"\nevent: response.completed",
]


def text_event(wire: Wire, text: bytes) -> bytes:
    if wire == "messages":
        return TYPED_TEXT % (b"content_block_delta", b"content_block_delta", text)
    if wire == "responses":
        return TYPED_TEXT % (b"response.output_text.delta", b"response.output_text.delta", text)
    return CHAT_TEXT % text


def watched(wire: Wire, *pieces: bytes) -> Watch:
    watch = Watch(wire)
    for piece in pieces:
        watch.feed(piece)
    return watch


@pytest.mark.parametrize(
    ("wire", "end"),
    [
        ("chat", b"data: [DONE]\n\n"),
        ("chat", b"data:[DONE]\n\n"),
        ("chat", b"data: [DONE]\r\n\r\n"),
        ("completions", b"data: [DONE]\n\n"),
        ("messages", b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
        ("messages", b'data: {"type": "message_stop"}\n\n'),
        ("responses", b'event: response.completed\ndata: {"type":"response.completed"}\n\n'),
        ("responses", b"event: response.incomplete\ndata: {}\n\n"),
        ("responses", b'data: {"type": "response.failed"}\n\n'),
    ],
)
def test_a_stream_with_its_formats_own_end_is_finished_however_it_was_framed(wire: Wire, end: bytes) -> None:
    watch = watched(wire, text_event(wire, b"hi"), end)
    assert watch.finished(clean=True)
    assert watch.finished(clean=False)


@pytest.mark.parametrize("wire", ["chat", "completions", "responses", "messages"])
@pytest.mark.parametrize("text", ATTACKS)
def test_a_model_cannot_end_or_break_its_stream_by_what_it_writes(wire: Wire, text: bytes) -> None:
    watch = watched(wire, text_event(wire, b"hi"), text_event(wire, text))
    assert not watch.finished(clean=True)
    assert not watch.error_seen(clean=True)


@pytest.mark.parametrize("wire", ["chat", "responses", "messages"])
@pytest.mark.parametrize("text", ATTACKS)
def test_nor_where_its_text_is_so_long_that_it_flows_in_pieces(wire: Wire, text: bytes) -> None:
    event = text_event(wire, b"x" * 70_000 + text + b"y" * 70_000)
    at = event.index(text)
    for cut in range(at, at + len(text), 4):
        watch = watched(wire, event[: at - 1000], event[at - 1000 : cut], *(event[cut : cut + n] for n in (3,)))
        for start in range(cut + 3, len(event), 20_000):
            watch.feed(event[start : start + 20_000])
        assert (watch.events, watch.inside) == (1, False)
        assert not watch.finished(clean=True)
        assert not watch.error_seen(clean=True)


@pytest.mark.parametrize("wire", ["chat", "completions"])
def test_a_finish_reason_is_an_end_only_where_the_framing_ended_too(wire: Wire) -> None:
    watch = watched(wire, b'data: {"choices":[{"delta":{},"finish_reason": "stop"}]}\n\n')
    assert watch.finished(clean=True)
    assert not watch.finished(clean=False)


@pytest.mark.parametrize(
    ("wire", "error"),
    [
        ("chat", b'data: {"error": {"message": "out of memory"}}\n\n'),
        ("chat", b'data: {"error":{"code":500}}\n\n'),
        ("messages", b'event: error\ndata: {"type":"error"}\n\n'),
        ("responses", b'event: error\ndata: {"type":"error"}\n\n'),
        ("responses", b'data: {"type":"error"}\n\n'),
        ("plain", b'data: {"error": {}}\n\n'),
    ],
)
def test_an_upstreams_own_error_is_seen(wire: Wire, error: bytes) -> None:
    watch = watched(wire, text_event(wire, b"hi"), error)
    assert watch.error_seen()
    assert watch.finished(clean=True)
    assert not watch.finished(clean=False)


def test_a_format_without_a_known_end_is_told_by_its_framing() -> None:
    watch = watched("plain", b"data: 1\n\n")
    assert watch.finished(clean=True)
    assert not watch.finished(clean=False)


def fields(event: bytes) -> dict[str, Any]:
    """An event's name and its data."""
    assert event.endswith(b"\n\n")
    lines = dict(line.split(b": ", 1) for line in event.decode().encode().strip().split(b"\n"))
    return {"event": lines.get(b"event", b"").decode(), "data": json.loads(lines[b"data"])}


@pytest.mark.parametrize("wire", ["chat", "completions", "plain"])
def test_a_broken_chat_stream_ends_with_an_error_that_sdks_raise(wire: Wire) -> None:
    told = fields(DIALECTS[wire].error_event('it "broke"\n', "upstream_cut", request_id="r1"))
    error = {"message": 'it "broke"\n', "type": "server_error", "param": None, "code": "upstream_cut"}
    assert told == {"event": "", "data": {"error": error}}


def test_a_broken_messages_stream_ends_with_an_error_event() -> None:
    told = fields(DIALECTS["messages"].error_event("it broke", "upstream_cut", request_id="r1"))
    error = {"type": "api_error", "message": "it broke"}
    assert told == {"event": "error", "data": {"type": "error", "error": error, "request_id": "r1"}}


@pytest.mark.parametrize(
    ("seen", "number"), [(b'{"sequence_number":6}{"sequence_number": 7}', 8), (b"", 0), (b'"sequence_number":"x"', 0)]
)
def test_a_broken_response_fails_under_the_next_number(seen: bytes, number: int) -> None:
    told = fields(DIALECTS["responses"].error_event("it broke", "upstream_cut", request_id="r1", seen=seen))
    assert told["event"] == told["data"]["type"] == "response.failed"
    assert told["data"]["sequence_number"] == number
    assert told["data"]["response"]["status"] == "failed"


@pytest.mark.parametrize("wire", list(DIALECTS))
def test_our_own_error_event_is_an_error_to_a_solar_before_us(wire: Wire) -> None:
    watch = watched(wire, text_event(wire, b"hi"), DIALECTS[wire].error_event("it broke", "x", request_id="r1"))
    assert watch.error_seen()
