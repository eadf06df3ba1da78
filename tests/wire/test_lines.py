import json
from contextlib import suppress

import pytest
from any_json import bodies
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.wire.lines import MAX_TEXT, Entry, Line, Ring, entries_of, level_of, read_entries, read_entry
from solar.wire.reading import Unreadable


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("0.03.112.400 I srv  update_slots: all slots are idle", "info"),
        ("0.03.112.400 W srv  load_model: n_ctx is larger", "warning"),
        ("0.00.001 E main: failed to load", "error"),
        ("0.00.001 D main: token", "debug"),
        ("llama_model_load: error loading model: file not found", "info"),
        ("srv    load_model: error: failed to load model", "error"),
        ("error: invalid argument: --x", "error"),
        ("warning: no usable GPU found", "warning"),
        ("main: server is listening on http://127.0.0.1:3500", "info"),
        ("INFO 11-22 04:00:00 [api_server.py:1] Starting vLLM", "info"),
        ("(EngineCore_0 pid=77) WARNING 11-22 04:00:00 [x.py:2] slow", "warning"),
        ("CRITICAL:root:no", "error"),
        ("2025-11-22 04:00:00,000 - httpx - DEBUG - connect", "debug"),
        ('INFO:     127.0.0.1 - "POST /v1/chat/completions HTTP/1.1" 500 Internal Server Error', "info"),
        ('{"time": 1, "level": "warn", "msg": "error"}', "warning"),
        ("[ERROR] out of memory", "error"),
        ("[REQUEST] model=m endpoint=/v1/chat/completions", "info"),
        ("Traceback (most recent call last):", "error"),
        ("ValueError: no such model", "error"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", "error"),
        ("UserWarning: deprecated", "warning"),
        ("KeyboardInterruptException", "error"),
        ("", "info"),
        ("x" * 500 + " ERROR ", "info"),
    ],
)
def test_a_line_says_how_serious_it_is(text: str, level: str) -> None:
    assert level_of(text) == level


def test_the_agents_page_of_lines_is_read_without_those_that_are_none() -> None:
    page = [
        {"seq": 0, "timestamp": "t", "line": "a"},
        {"seq": "x", "line": "b"},
        7,
        {"seq": 2, "line": "c"},
        {"seq": 3},
    ]
    assert read_entries(json.dumps(page).encode()) == (Entry(0, "t", "a"), Entry(2, "", "c"))
    assert entries_of([]) == ()
    with pytest.raises(Unreadable):
        read_entries(b"{}")


def test_a_frame_of_the_log_stream_is_a_line_or_the_agents_refusal() -> None:
    assert read_entry('{"seq": 4, "timestamp": "t", "line": "a"}') == Entry(4, "t", "a")
    with pytest.raises(Unreadable, match="Instance not found"):
        read_entry('{"error": "Instance not found"}')
    with pytest.raises(Unreadable, match="a log line was expected"):
        read_entry(b'{"type": "keepalive"}')


def test_a_long_line_is_cut_and_says_so() -> None:
    (entry,) = entries_of([{"seq": 0, "line": "x" * (MAX_TEXT + 1)}])
    assert len(entry.text) == MAX_TEXT
    assert entry.text.endswith("x [cut]")


def ring_of(*numbers: int, lines: int = 3, characters: int = 100) -> Ring:
    ring = Ring(lines, characters)
    for number in numbers:
        ring.add(Line(number, "t", "text"))
    return ring


def test_a_ring_keeps_the_newest_and_says_what_a_reader_missed() -> None:
    ring = ring_of(0, 1, 2, 3, 4)
    assert ring.since(3) == (0, (Line(4, "t", "text"),))
    assert [line.seq for line in ring.since().lines] == [2, 3, 4]
    assert ring.since().missed == 2
    assert ring.since(0).missed == 1
    assert ring.since(4) == (0, ())
    assert repr(ring) == "<Ring 3 lines up to 4, 12 characters>"


def test_a_ring_is_bounded_by_its_size_and_keeps_the_last_line_whatever_it_is() -> None:
    ring = ring_of(0, 1, characters=5)
    assert [line.seq for line in ring.since().lines] == [1]
    assert len(ring_of(7, characters=1)) == 1


def test_an_empty_ring_has_missed_nothing() -> None:
    assert ring_of().since(17) == (0, ())


def test_a_reader_with_a_number_of_another_life_gets_everything() -> None:
    assert [line.seq for line in ring_of(5, 9).since(1000).lines] == [5, 9]
    assert ring_of(5, 9).since(1000).missed == 0


def test_numbers_only_grow() -> None:
    with pytest.raises(ValueError, match="line 3 comes after line 3"):
        ring_of(3, 3)


@given(st.lists(st.integers(1, 4), max_size=20), st.integers(1, 5), st.integers(-1, 90))
@settings(deadline=None)
def test_what_a_reader_gets_and_what_it_missed_is_all_there_was(steps: list[int], size: int, seq: int) -> None:
    ring, numbers, number = Ring(size), [], -1
    for step in steps:
        number += step
        numbers.append(number)
        ring.add(Line(number, "t", "x"))
    replay = ring.since(seq)
    got = [line.seq for line in replay.lines]
    assert got == [n for n in numbers[-size:] if n > seq or seq > number]
    if got and seq <= number:
        assert replay.missed == max(0, numbers[-size:][0] - 1 - seq)


@given(bodies, st.text())
@settings(deadline=None)
def test_any_bytes_are_lines_or_unreadable(body: bytes, text: str) -> None:
    assert level_of(text) in ("debug", "info", "warning", "error")
    for read in (read_entries, read_entry):
        with suppress(Unreadable):
            read(body)
