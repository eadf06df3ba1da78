"""Faults that break an answer: before its head, inside it, or by an end that comes too early.

For an answer that is no stream, "after n events" means after half of the body.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from solar.testing.answer import Act, Answer, Event, Framing, Step, ending, framed, head, opening, told
from solar.testing.fault import fault
from solar.testing.wires import error, error_event


@fault
def reset_before_head(answer: Answer) -> Iterator[Step]:
    """Takes the request, then resets the connection (RST) without a byte of answer."""
    yield Act.RESET


@fault
def close_before_head(answer: Answer) -> Iterator[Step]:
    """Takes the request, then closes the connection (FIN) without a byte of answer."""
    yield Act.FIN


@fault
def silent(answer: Answer) -> Iterator[Step]:
    """Takes the request and says nothing, until `FakeBackend.release`."""
    yield Act.STALL
    yield from told(answer)


@fault
def hang_after_head(answer: Answer) -> Iterator[Step]:
    """Sends the head, then nothing, until `FakeBackend.release`."""
    steps = told(answer)
    yield next(steps)
    yield Act.STALL
    yield from steps


@fault
def stall_after(answer: Answer, events: int = 1) -> Iterator[Step]:
    """Freezes in the middle of the answer, until `FakeBackend.release`; then the rest follows."""
    yield from opening(answer, events)
    yield Act.STALL
    rest = answer.parts[events:] if answer.streams else (answer.body[len(answer.body) // 2 :],)
    for part in rest:
        yield Event(framed(part, answer.framing)) if answer.streams else part
    yield from ending(answer.framing)


@fault
def reset_after(answer: Answer, events: int = 1) -> Iterator[Step]:
    """Resets the connection (RST) in the middle of the answer."""
    yield from opening(answer, events)
    yield Act.RESET


@fault
def fin_after(answer: Answer, events: int = 1, framing: Framing | None = None) -> Iterator[Step]:
    """Closes the connection (FIN) in the middle of the answer, between two chunks.

    With framing "close" nothing but the wire format itself tells that the answer is not whole.
    """
    yield from opening(answer, events, framing)
    yield Act.FIN


@fault
def clean_end_after(answer: Answer, events: int = 1) -> Iterator[Step]:
    """Ends the HTTP message properly (last chunk, connection kept) before the wire format's own end."""
    yield from opening(answer, events, answer.unmeasured)
    yield from ending(answer.unmeasured)


@fault
def no_done(answer: Answer) -> Iterator[Step]:
    """Sends every event but the last one (`[DONE]`, `message_stop`, ...) and ends the HTTP message properly."""
    yield from opening(answer, len(answer.parts) - 1, answer.unmeasured)
    yield from ending(answer.unmeasured)


@fault
def cut_chunk(answer: Answer, events: int = 1) -> Iterator[Step]:
    """Closes the connection in the middle of a chunk, `events` whole ones after the head."""
    yield from opening(answer, events, "chunked")
    chunk = framed((*answer.parts[events:], b"data: never sent whole\n\n")[0], "chunked")
    yield chunk[: len(chunk) // 2]
    yield Act.FIN


@fault
def short_content_length(answer: Answer, missing: int = 10) -> Iterator[Step]:
    """Declares `missing` bytes more than it sends, then closes."""
    yield head(answer, "length", length=len(answer.body) + missing)
    yield answer.body
    yield Act.FIN


@fault
def tail_without_blank_line(
    answer: Answer, events: int = 1, end: Literal["clean", "fin", "reset"] = "clean"
) -> Iterator[Step]:
    """Ends inside an event: `events` whole ones, then one without its blank line."""
    framing = answer.unmeasured
    yield from opening(answer, events, framing)
    yield framed((*answer.parts[events:], b'data: {"unfinished":\n\n')[0].rstrip(b"\r\n"), framing)
    if end == "clean":
        yield from ending(framing)
    else:
        yield Act.FIN if end == "fin" else Act.RESET


@fault
def own_error_event(answer: Answer, events: int = 1) -> Iterator[Step]:
    """The engine itself reports an error in the stream, in its wire format, then ends the message and closes.

    Where no stream was asked for it answers 500.
    """
    if not answer.streams:
        yield from told(error(500, "the engine ran out of memory", "server_error"))
        yield Act.FIN
        return
    yield from opening(answer, events)
    endpoint = answer.question.endpoint if answer.question is not None else ""
    yield Event(framed(error_event(endpoint, "the engine ran out of memory", events), answer.framing))
    yield from ending(answer.framing)
    yield Act.FIN


@fault
def close_after_answer(answer: Answer) -> Iterator[Step]:
    """Answers in full, promises to keep the connection, and closes it (FIN)."""
    yield from told(answer)
    yield Act.FIN


@fault
def die(answer: Answer, events: int = 0) -> Iterator[Step]:
    """The request crashes the engine: as `FakeBackend.die`, after `events` events (0: before the head)."""
    if events:
        yield from opening(answer, events)
    yield Act.DIE
