"""What an agent tells of its machine and of an instance at work: memory, runtime state, the last generation."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from solar.wire.reading import Fields, decode_object

PHASES = ("idle", "prefill", "generating")


class Memory(msgspec.Struct, frozen=True, omit_defaults=False):
    """One machine's memory: of its GPUs together, or main memory. In GiB, and in percent from 0 to 100."""

    used_gb: float
    total_gb: float
    percent: float
    memory_type: str  # VRAM or RAM


class State(msgspec.Struct, frozen=True):
    """What an instance is doing, as its agent reads it out of the engine's log."""

    busy: bool = False
    phase: str = "idle"  # one of PHASES
    prefill_progress: float | None = None  # from 0 to 1
    active_slots: int = 0
    slot_id: int | None = None
    task_id: int | None = None
    prefill_prompt_tokens: int | None = None
    generated_tokens: int | None = None
    decode_tps: float | None = None  # tokens a second
    decode_ms_per_token: float | None = None
    checkpoint_index: int | None = None
    checkpoint_total: int | None = None


class Generation(msgspec.Struct, frozen=True):
    """The last answer that an instance finished, whoever asked for it."""

    prompt_tokens: int | None = None
    generated_tokens: int | None = None
    decode_tps: float | None = None
    decode_ms_per_token: float | None = None
    started_at: str | None = None
    finished_at: str | None = None


def memory_of(record: Mapping[str, object]) -> Memory | None:
    """The memory that an object tells of, or None where its figures are missing or wrong."""
    fields = Fields(record, "memory")
    used, total = fields.number("used_gb"), fields.number("total_gb")
    if used is None or total is None:
        return None
    percent = fields.number("percent")
    if percent is None:
        percent = round(100 * used / total, 2) if total > 0 else 0.0
    return Memory(used, total, percent, fields.name("memory_type") or "RAM")


def read_memory(body: bytes) -> Memory | None:
    """The answer of GET /memory. Raises Unreadable."""
    return memory_of(decode_object(body))


def state_of(record: Mapping[str, object]) -> State:
    """The state that an object tells of. What is wrong or missing is as when nothing runs."""
    fields = Fields(record, "state")
    phase = fields.text("phase")
    return State(
        busy=fields.flag("busy"),
        phase=phase if phase in PHASES else "idle",
        prefill_progress=fields.number("prefill_progress"),
        active_slots=fields.whole("active_slots") or 0,
        slot_id=fields.whole("slot_id"),
        task_id=fields.whole("task_id"),
        prefill_prompt_tokens=fields.whole("prefill_prompt_tokens"),
        generated_tokens=fields.whole("generated_tokens"),
        decode_tps=fields.number("decode_tps"),
        decode_ms_per_token=fields.number("decode_ms_per_token"),
        checkpoint_index=fields.whole("checkpoint_index"),
        checkpoint_total=fields.whole("checkpoint_total"),
    )


def read_state(body: bytes) -> State:
    """The answer of GET /instances/{id}/state. Raises Unreadable.

    The originals' phase is always idle there: whoever wants it reads the stream.
    """
    return state_of(decode_object(body))


def read_generation(body: bytes) -> Generation:
    """The answer of GET /instances/{id}/last-generation. Raises Unreadable."""
    fields = Fields(decode_object(body), "generation")
    return Generation(
        prompt_tokens=fields.whole("prompt_tokens"),
        generated_tokens=fields.whole("generated_tokens"),
        decode_tps=fields.number("decode_tps"),
        decode_ms_per_token=fields.number("decode_ms_per_token"),
        started_at=fields.text("started_at"),
        finished_at=fields.text("finished_at"),
    )
