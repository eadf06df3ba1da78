from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.dialects import Wire
from solar.sse import HOLD, Usage, Watch, usage_in

EVENT = b'data: {"choices":[{"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


def watched(*pieces: bytes, wire: Wire = "chat") -> tuple[Watch, list[bytes]]:
    """A watch that was fed, and what may be relayed after each piece."""
    watch = Watch(wire)
    return watch, [watch.feed(piece) for piece in pieces]


# --- what may be relayed


def test_whole_events_pass_at_once_as_they_came() -> None:
    watch, out = watched(EVENT, EVENT + EVENT)
    assert out == [EVENT, EVENT + EVENT]
    assert (watch.events, watch.inside) == (3, False)
    assert watch.feed(EVENT) is EVENT


def test_half_an_event_waits_for_its_other_half() -> None:
    watch, out = watched(EVENT + EVENT[:9], EVENT[9:20], EVENT[20:])
    assert out == [EVENT, b"", EVENT]
    assert repr(watch) == "<Watch chat 2 events, 0 bytes held>"


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n", b"\n\r\n"])
def test_a_blank_line_may_come_in_pieces(ending: bytes) -> None:
    for cut in range(1, len(ending)):
        watch, out = watched(b"data: 1" + ending[:cut], ending[cut:])
        assert (out, watch.events) == ([b"", b"data: 1" + ending], 1)


def test_an_event_of_several_lines_is_one_event() -> None:
    watch, out = watched(b"event: x\ndata: 1\n", b"data: 2\nid: 3\n", b"\n")
    assert (out, watch.events) == ([b"", b"", b"event: x\ndata: 1\ndata: 2\nid: 3\n\n"], 1)


def test_an_event_longer_than_the_hold_flows_through_in_pieces() -> None:
    long = b"data: " + b"x" * HOLD
    watch, out = watched(long[:-1], long[-1:] + b"yy", b"zz", b"\n\n" + EVENT)
    assert b"".join(out) == long + b"yyzz\n\n" + EVENT
    assert (watch.events, watch.inside) == (2, False)


def test_while_a_long_event_flows_no_error_may_land_in_it() -> None:
    watch, _ = watched(b"data: " + b"x" * HOLD)
    assert watch.inside


def test_the_end_of_a_long_event_is_seen_where_its_blank_line_comes_in_pieces() -> None:
    for ending in (b"\n\n", b"\r\n\r\n"):
        for cut in range(1, len(ending)):
            watch, _ = watched(b"data: " + b"x" * HOLD, b"y" + ending[:cut])
            assert watch.inside
            assert watch.feed(ending[cut:] + EVENT[:5]).endswith(b"\n")
            assert (watch.inside, watch.events) == (False, 1)


def test_a_line_end_inside_a_long_event_waits_for_what_follows() -> None:
    watch, out = watched(b"data: " + b"x" * HOLD, b"\r", b"\n", b"data: y")
    assert out[1:] == [b"", b"", b"\r\ndata: y"]
    assert watch.inside


def test_a_long_event_behind_whole_ones_keeps_its_place() -> None:
    long = b"data: " + b"x" * HOLD
    watch, out = watched(EVENT + long)
    assert (out, watch.inside, watch.events) == ([EVENT + long], True, 1)


def test_bare_carriage_returns_lose_no_byte() -> None:
    stream = b"data: 1\r\rdata: [DONE]\r\r"
    watch, out = watched(stream[:5], stream[5:])
    assert out == [b"", b""]
    assert watch.finished(clean=True)
    assert watch.rest() == stream
    flood, out = watched(*[b"\r" * 1000] * 80)
    assert b"".join(out) + flood.rest() == b"\r" * 80_000


def test_a_last_line_without_its_blank_line_counts_after_a_clean_end_only() -> None:
    watch, out = watched(EVENT, DONE.rstrip())
    assert out == [EVENT, b""]
    assert watch.finished(clean=True)
    assert not watch.finished(clean=False)
    assert (watch.rest(), watch.rest()) == (DONE.rstrip(), b"")


# --- the end


def test_comments_do_not_push_the_end_out_of_sight() -> None:
    watch, _ = watched(EVENT, DONE, *[b": ping\n\n"] * 20)
    assert watch.finished(clean=False)


def test_an_event_behind_a_comment_in_one_piece_is_seen() -> None:
    watch, _ = watched(*[b": ping\n\n" + EVENT] * 5, b": ping\n\n" + DONE)
    assert watch.finished(clean=False)


def test_a_response_may_end_in_one_very_long_event() -> None:
    head, text = b'event: response.completed\ndata: {"type":"response.completed","text":"', b"x" * 200_000
    tail = b'","usage":{"input_tokens":7,"output_tokens":9}}\n\n'
    pieces = [
        head,
        *(text[n : n + 1400] for n in range(0, len(text), 1400)),
        *(tail[n : n + 5] for n in range(0, len(tail), 5)),
    ]
    watch, _ = watched(*pieces, wire="responses")
    assert watch.finished(clean=False)
    assert watch.usage() == Usage(7, 9)
    cut, _ = watched(*pieces[:-1], wire="responses")
    assert (cut.finished(clean=False), cut.finished(clean=True)) == (False, True)


def test_nothing_at_all_is_no_finished_stream() -> None:
    watch = Watch()
    assert not watch.finished(clean=True)
    assert watch.usage() == Usage(None, None)
    assert watch.error_event("it broke", "x", request_id="r").startswith(b'data: {"error"')


# --- usage


@pytest.mark.parametrize(
    ("text", "usage"),
    [
        (b'{"usage":{"prompt_tokens":3,"completion_tokens": 5}}', (3, 5)),
        (b'{"usage": {"input_tokens": 3, "output_tokens":5}}', (3, 5)),
        (b'{"usage":{"prompt_tokens":3,"total_tokens":3}}', (3, None)),
        (b'"completion_tokens":1 "completion_tokens":2', (None, 2)),
        (b'{"usage":null}', (None, None)),
        (b'{"prompt_tokens":-1,"completion_tokens":1e3}', (None, 1)),
    ],
)
def test_reads_usage_as_engines_write_it(text: bytes, usage: tuple[int | None, int | None]) -> None:
    assert usage_in(text) == usage


def test_the_last_usage_of_a_stream_counts() -> None:
    running = [b'data: {"usage":{"prompt_tokens":3,"completion_tokens":%d}}\n\n' % n for n in range(9)]
    watch, _ = watched(*running, DONE)
    assert watch.usage() == Usage(3, 8)


def test_usage_in_a_last_line_without_a_blank_line_counts() -> None:
    watch, _ = watched(EVENT, b'data: {"usage":{"prompt_tokens":3,"completion_tokens":5}}\n')
    watch.rest()
    assert watch.usage() == Usage(3, 5)


def test_anthropics_input_tokens_stand_in_the_first_event() -> None:
    start = b'event: message_start\ndata: {"message":{"usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    middle = b'event: content_block_delta\ndata: {"type":"content_block_delta"}\n\n'
    end = b'event: message_delta\ndata: {"usage":{"output_tokens":15}}\n\nevent: message_stop\ndata: {}\n\n'
    watch, _ = watched(b": hello\n\n", start, *[middle] * 9, end, wire="messages")
    assert watch.usage() == Usage(25, 15)


# --- any chunking

TEXT = st.text(max_size=40) | st.sampled_from(
    ["data: [DONE]", '"finish_reason": "stop"', "\n\nevent: error\n\n", "é" * 30]
)
SIZES = st.sampled_from([0, 0, 0, 0, 0, 0, 70_000])


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Events as servers write them, each with its blank line; perhaps the last one without."""
    newline = draw(st.sampled_from([b"\n", b"\r\n"]))
    made = []
    for text, size, kind in draw(st.lists(st.tuples(TEXT, SIZES, st.sampled_from("dddemc")), max_size=6)):
        content = msgspec.json.encode({"choices": [{"delta": {"content": text + "x" * size}, "finish_reason": None}]})
        lines = {
            "d": [b"data: " + content],
            "e": [b"event: chunk", b"data: " + content],
            "m": [b"data: [", b"data: " + content, b"data: ]"],
            "c": [b": ping"],
        }[kind]
        made.append(newline.join([*lines, b"", b""]))
    if draw(st.booleans()):
        made.append(b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5}}' + 2 * newline)
    if draw(st.booleans()):
        made.append(b"data: [DONE]" + 2 * newline)
    if made and draw(st.booleans()):
        made[-1] = made[-1].rstrip(b"\r\n")
    return made


@given(streams(), st.data())
@settings(deadline=None, max_examples=150)
def test_any_chunking_relays_the_same_bytes_at_the_same_borders(made: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(made)
    borders = {len(b"".join(made[:n])) for n in range(len(made) + 1)}
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    near = data.draw(st.lists(st.tuples(st.sampled_from(sorted(borders)), st.integers(-4, 4)), max_size=6))
    edges = sorted({0, len(stream), *cuts, *(min(max(b + off, 0), len(stream)) for b, off in near)})
    whole, parts = Watch(), Watch()
    whole.feed(stream)
    relayed = 0
    for start, end in pairwise(edges):
        relayed += len(out := parts.feed(stream[start:end]))
        assert stream[relayed - len(out) : relayed] == out
        assert parts.inside or relayed in borders
        assert not parts.inside or relayed not in borders - {len(stream)}
    assert parts.finished(clean=True) == whole.finished(clean=True) == (b"data: [DONE]" in {e.strip() for e in made})
    assert parts.finished(clean=False) == whole.finished(clean=False)
    assert parts.events == whole.events
    rest = parts.rest()
    assert relayed + len(rest) == len(stream)
    assert stream[relayed:] == rest
    assert parts.usage() == whole.usage()
