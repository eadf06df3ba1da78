"""One instance of a fake agent: its record, its log, and the fake engine that it runs."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from solar.testing.backend import FakeBackend
from solar.testing.recorded import Recorded

_KINDS = {"llamacpp": "llamacpp"}

# What an instance is doing when it does nothing: every field of the originals' runtime state but id and time.
IDLE: Mapping[str, Any] = {
    "busy": False,
    "phase": "idle",
    "prefill_progress": None,
    "active_slots": 0,
    "slot_id": None,
    "task_id": None,
    "prefill_prompt_tokens": None,
    "generated_tokens": None,
    "decode_tps": None,
    "decode_ms_per_token": None,
    "checkpoint_index": None,
    "checkpoint_total": None,
}


class Engine(FakeBackend):
    """A fake engine that logs what it is asked, as llama-server does."""

    def __init__(self, say: Callable[[str], None], models: list[str], **settings: Any) -> None:
        super().__init__(models, **settings)
        self._say = say
        self._tasks_begun = 0

    def _request_began(self, recorded: Recorded) -> None:
        super()._request_began(recorded)
        if recorded.inference:
            self._say(f"0.00.001.000 I slot launch_slot_: id  0 | task {self._tasks_begun} | processing task")
            self._tasks_begun += 1


class FakeInstance:
    """An instance as its agent keeps it. Read everything; change it through the agent."""

    def __init__(self, identity: str, config: dict[str, Any], created_at: str, buffer: int) -> None:
        self.id = identity
        self.config = config
        self.status = "stopped"
        self.port: int | None = None
        self.pid: int | None = None
        self.created_at = created_at
        self.started_at: str | None = None
        self.error_message: str | None = None
        self.retry_count = 0
        self.engine: Engine | None = None  # while its process lives
        self.ready = asyncio.Event()  # its engine has loaded its model
        self.state: dict[str, Any] = dict(IDLE)
        self.lines: deque[dict[str, Any]] = deque(maxlen=buffer)  # as the agent tells them
        self.seq = 0  # of its next line
        self.file_time: str | None = None  # its lines are read from a log file of that time

    def __repr__(self) -> str:
        return f"<FakeInstance {self.alias!r} {self.status}, port {self.port}>"

    @property
    def alias(self) -> str:
        """The name that clients ask for."""
        return str(self.config["alias"])

    @property
    def kind(self) -> str:
        """Which FakeBackend it runs."""
        return _KINDS.get(self.config.get("backend_type", "llamacpp"), "generic")

    def write(self, text: str, at: str) -> dict[str, Any]:
        """Its process wrote a line."""
        line = {"seq": self.seq, "timestamp": at, "line": text}
        self.seq += 1
        self.lines.append(line)
        return line

    def page_of_lines(self) -> list[dict[str, Any]]:
        """What GET .../logs tells."""
        if self.file_time is None:
            return list(self.lines)
        return [{**line, "seq": n, "timestamp": self.file_time} for n, line in enumerate(self.lines)]

    def forget_lines(self) -> None:
        """Its agent has no lines of it any more, and counts from 0."""
        self.lines.clear()
        self.seq = 0

    def last_generation(self) -> dict[str, Any] | None:
        """The last answer that its engine finished."""
        engine = self.engine
        finished = [one for one in engine.inference if one.finished] if engine else []
        if engine is None or not finished:
            return None
        asked = asyncio.get_running_loop().time() - finished[-1].at
        at = (datetime.now(UTC) - timedelta(seconds=asked)).isoformat()
        return {
            "instance_id": self.id,
            "slot_id": 0,
            "task_id": len(finished) - 1,
            "prompt_tokens": 1,
            "generated_tokens": engine.tokens,
            "decode_tps": 100.0,
            "decode_ms_per_token": 10.0,
            "started_at": at,
            "finished_at": at,
        }
