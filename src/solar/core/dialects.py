"""How each wire format says finished, broken and error. The table in docs/api.md is drawn from this one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import msgspec

Wire = Literal["chat", "completions", "responses", "messages", "plain"]

_DONE = re.compile(rb"(?:^|[\r\n])data: ?\[DONE\]")
_FINISH_REASON = re.compile(rb'"finish_reason": ?"')
_ERROR_DATA = re.compile(rb'(?:^|[\r\n])data: ?\{"error":')
_ERROR_EVENT = re.compile(rb"(?:^|[\r\n])event: ?error")
_RESPONSES_END = re.compile(
    rb"(?:^|[\r\n])event: ?response\.(?:completed|incomplete|failed)"
    rb'|"type": ?"response\.(?:completed|incomplete|failed)"'
)
_RESPONSES_ERROR = re.compile(rb'(?:^|[\r\n])event: ?(?:error|response\.failed)|"type": ?"(?:error|response\.failed)"')
_MESSAGES_END = re.compile(rb'(?:^|[\r\n])event: ?message_stop|"type": ?"message_stop"')
_SEQUENCE = re.compile(rb'"sequence_number": ?(\d{1,12})')


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one wire format's event stream looks like at its end.

    A JSON string cannot hold an unescaped quote or a line break, so these marks never match a model's own text.
    """

    wire: Wire
    end: re.Pattern[bytes] | None  # the format's own end; None: framing alone tells
    weak_end: re.Pattern[bytes] | None = None  # enough only when the framing ended cleanly too
    error: re.Pattern[bytes] | None = None  # the upstream's own word that it failed: an end as well
    anywhere: bool = False  # the end mark may stand at the head of one very long event

    def error_event(self, message: str, code: str, *, request_id: str, seen: bytes = b"") -> bytes:
        """The event that tells a client of this format that its stream broke; `seen` is the end of what it got."""
        if self.wire == "messages":
            error = {"type": "api_error", "message": message}
            return _event("error", {"type": "error", "error": error, "request_id": request_id})
        if self.wire == "responses":
            numbers = _SEQUENCE.findall(seen)
            response = {
                "id": f"resp_{request_id}",
                "object": "response",
                "status": "failed",
                "error": {"code": "server_error", "message": message},
            }
            number = int(numbers[-1]) + 1 if numbers else 0
            return _event(
                "response.failed", {"type": "response.failed", "sequence_number": number, "response": response}
            )
        error_object = {"message": message, "type": "server_error", "param": None, "code": code}
        return b"data: " + msgspec.json.encode({"error": error_object}) + b"\n\n"


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"


DIALECTS: dict[Wire, Dialect] = {
    "chat": Dialect("chat", end=_DONE, weak_end=_FINISH_REASON, error=_ERROR_DATA),
    "completions": Dialect("completions", end=_DONE, weak_end=_FINISH_REASON, error=_ERROR_DATA),
    "responses": Dialect("responses", end=_RESPONSES_END, error=_RESPONSES_ERROR, anywhere=True),
    "messages": Dialect("messages", end=_MESSAGES_END, error=_ERROR_EVENT),
    "plain": Dialect("plain", end=None, error=_ERROR_DATA),
}
