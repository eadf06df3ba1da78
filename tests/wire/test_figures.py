import json
from contextlib import suppress

import pytest
from any_json import bodies
from hypothesis import given, settings

from solar.wire.figures import Generation, Memory, State, read_generation, read_memory, read_state
from solar.wire.reading import Unreadable


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_memory_is_read_with_or_without_what_newer_agents_add() -> None:
    told = {"used_gb": 10, "total_gb": 40.0, "percent": 25.0, "memory_type": "VRAM"}
    assert read_memory(body(**told, available_gb=30.0)) == Memory(10.0, 40.0, 25.0, "VRAM")


def test_percent_is_worked_out_where_it_is_missing() -> None:
    assert read_memory(body(used_gb=1, total_gb=3)) == Memory(1.0, 3.0, 33.33, "RAM")
    assert read_memory(body(used_gb=0, total_gb=0)) == Memory(0.0, 0.0, 0.0, "RAM")


@pytest.mark.parametrize("wrong", [{}, {"used_gb": 1}, {"used_gb": "much", "total_gb": True}, {"total_gb": 1e300}])
def test_memory_without_figures_is_none(wrong: dict[str, object]) -> None:
    assert read_memory(body(**wrong)) is None


def test_a_state_keeps_what_is_right_of_it() -> None:
    told = body(busy=True, phase="prefill", prefill_progress=0.5, active_slots=2, slot_id="one", decode_tps=17.5)
    assert read_state(told) == State(True, "prefill", 0.5, 2, decode_tps=17.5)
    assert read_state(body(busy="yes", phase="dreaming", active_slots=None)) == State()


def test_a_generation_is_read() -> None:
    told = body(instance_id="x", prompt_tokens=30, generated_tokens=8, decode_tps=110.0, finished_at="2025-11-09")
    assert read_generation(told) == Generation(30, 8, 110.0, finished_at="2025-11-09")


@given(bodies)
@settings(deadline=None)
def test_any_bytes_are_figures_or_unreadable(body: bytes) -> None:
    for read in (read_memory, read_state, read_generation):
        with suppress(Unreadable):
            read(body)
