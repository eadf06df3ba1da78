"""What a fake backend says and how that becomes bytes. Pure: a fault is a function from an answer to steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from http.client import responses as REASONS  # noqa: N812  a table, not a class
from typing import Any, Literal

Framing = Literal["length", "chunked", "close"]


class Event(bytes):
    """A step that sends one event of a stream, framed; counted in `Recorded.events`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """A step that sends nothing for `seconds`."""

    seconds: float


class Act(Enum):
    """A step that is no bytes."""

    RESET = "RST at once"
    FIN = "everything sent so far, then FIN"
    STALL = "nothing, until the fake is told to release"
    DONE = "the answer is over: what follows is extra"
    DIE = "the whole engine crashes"


Step = bytes | Wait | Act


@dataclass(frozen=True, slots=True)
class Question:
    """One inference request, as far as an answer depends on it."""

    endpoint: str  # "/chat/completions": without base path and /v1
    payload: Mapping[str, Any]
    model: str
    kind: str = "generic"
    number: int = 1  # of the request on its fake, for ids
    words: tuple[str, ...] = ()  # one token each
    cut: bool = False  # the client asked for fewer tokens than the fake has
    prompt_tokens: int = 1
    stream: bool = False
    usage: str = "asked"  # see faults.usage_variants
    interval: float = 0.0  # seconds between two events

    @property
    def text(self) -> str:
        return "".join(self.words)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole and truthful answer, before any fault touches it."""

    status: int = 200
    content_type: str = "application/json"
    parts: tuple[bytes, ...] = (b"",)  # the events of a stream; else the body, in one part
    streams: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    close: bool = False  # the connection ends with this answer, and its head says so
    old_client: bool = False  # HTTP/1.0: no chunked framing
    bodiless: bool = False  # to a HEAD request: the head alone
    question: Question | None = None
    tell: Callable[[Question], Answer] | None = None  # what made this answer of the question

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def framing(self) -> Framing:
        if not self.streams:
            return "length"
        return self.unmeasured

    @property
    def unmeasured(self) -> Framing:
        """A framing that declares no length, for bodies of another size than the truth."""
        return "close" if self.old_client else "chunked"

    def retold(self, **changes: Any) -> Answer:
        """The answer to the same question with some of its fields changed; itself where nothing was asked."""
        if self.question is None or self.tell is None:
            return self
        question = replace(self.question, **changes)
        return replace(
            self.tell(question), close=self.close, old_client=self.old_client, question=question, tell=self.tell
        )


def head(
    answer: Answer,
    framing: Framing,
    *,
    length: int | None = None,
    version: str = "HTTP/1.1",
    extra: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """The status line and headers. `length` is the declared one where it is not the truth."""
    reason = REASONS.get(answer.status, "Unknown")
    lines = [f"{version} {answer.status} {reason}", "Server: fake", f"Content-Type: {answer.content_type}"]
    if answer.streams:
        lines.append("Cache-Control: no-cache")
    lines += [f"{name}: {value}" for name, value in (*answer.headers, *extra)]
    if framing == "length":
        lines.append(f"Content-Length: {len(answer.body) if length is None else length}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
    closes = answer.close or framing == "close"
    lines.append(f"Connection: {'close' if closes else 'keep-alive'}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def framed(data: bytes, framing: Framing) -> bytes:
    """`data` as one chunk, or as it is."""
    return b"%x\r\n%b\r\n" % (len(data), data) if framing == "chunked" and data else data


def opening(answer: Answer, n: int, framing: Framing | None = None) -> Iterator[Step]:
    """The head and the first `n` events; of an answer that is no stream, the head and half of the body."""
    framing = framing or answer.framing
    yield head(answer, framing)
    if answer.streams:
        yield from events(answer, answer.parts[:n], framing)
    else:
        yield framed(answer.body[: len(answer.body) // 2], framing)


def events(answer: Answer, parts: tuple[bytes, ...], framing: Framing) -> Iterator[Step]:
    """Parts of the body, each framed and at the pace of the fake."""
    pause = answer.question.interval if answer.question is not None and answer.streams else 0.0
    for part in parts:
        yield Event(framed(part, framing)) if answer.streams else framed(part, framing)
        if pause:
            yield Wait(pause)


def ending(framing: Framing) -> Iterator[Step]:
    """What tells the reader that the body is whole."""
    if framing == "chunked":
        yield b"0\r\n\r\n"
    elif framing == "close":
        yield Act.FIN


def told(answer: Answer, framing: Framing | None = None) -> Iterator[Step]:
    """The whole answer without any fault."""
    framing = framing or answer.framing
    yield head(answer, framing)
    if not answer.bodiless:
        yield from events(answer, answer.parts, framing)
        yield from ending(framing)
    if answer.close and framing != "close":
        yield Act.FIN
