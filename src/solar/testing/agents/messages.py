"""One request to a fake agent, and one answer of it, as bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import msgspec

from solar.testing.recorded import Recorded

_REASONS = {
    101: "Switching Protocols",
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    422: "Unprocessable Entity",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Answered:
    """What an agent answers."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = field(default="application/json")

    def wire(self, *, close: bool) -> bytes:
        """The answer as HTTP/1.1 writes it."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}",
            "server: uvicorn",
            f"content-length: {len(self.body)}",
            f"content-type: {self.content_type}",
            *(f"{name}: {value}" for name, value in self.headers),
            *(["connection: close"] if close else []),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


def json_answer(value: Any, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Answered:
    """`value` as JSON."""
    return Answered(status, msgspec.json.encode(value), headers)


def detail(status: int, text: Any) -> Answered:
    """A refusal as the originals' framework writes it."""
    return json_answer({"detail": text}, status)


def missing(*where: str, given: Any) -> Answered:
    """A body that lacks something."""
    return detail(422, [{"type": "missing", "loc": ["body", *where], "msg": "Field required", "input": given}])


NO_JSON = detail(
    422,
    [
        {
            "type": "json_invalid",
            "loc": ["body", 1],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": "Expecting property name enclosed in double quotes"},
        }
    ],
)


def query_of(recorded: Recorded) -> dict[str, str]:
    """What stands after the question mark, the last of each name."""
    return {name: values[-1] for name, values in parse_qs(recorded.target.partition("?")[2]).items()}
