"""Faults of shape: answers that are odd but valid, and answers that no HTTP client should take for one."""

from __future__ import annotations

import gzip as gzip_format
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from solar.testing.answer import Act, Answer, Step, Wait, ending, events, framed, head, told
from solar.testing.fault import fault
from solar.testing.wires import error as error_answer
from solar.testing.wires import event


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


@fault
def status(
    answer: Answer,
    code: int = 503,
    retry_after: float | str | None = None,
    body: str | bytes | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Iterator[Step]:
    """Answers with that status and OpenAI's error envelope, or `body`. `retry_after`: seconds or a date."""
    kind = "invalid_request_error" if code < 500 else "server_error"
    said = error_answer(code, f"the fake was told to answer {code}", kind)
    if body is not None:
        said = replace(said, parts=(_bytes(body),))
    if retry_after is not None:
        headers = (
            *headers,
            ("Retry-After", f"{retry_after:g}" if isinstance(retry_after, float) else f"{retry_after}"),
        )
    yield from told(replace(said, headers=headers, close=answer.close, old_client=answer.old_client))


@fault
def loading(answer: Answer) -> Iterator[Step]:
    """503 as llama-server gives it while its model loads."""
    yield from told(replace(loading_answer(), old_client=answer.old_client))


def loading_answer() -> Answer:
    """llama-server's answer while its model loads; it closes the connection after it."""
    return replace(
        error_answer(503, "Loading model"),
        parts=(b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}',),
        content_type="application/json; charset=utf-8",
        close=True,
    )


@fault
def garbage(answer: Answer, text: str | bytes = b"\x00\xffSSH-2.0-not-http\r\n\r\n") -> Iterator[Step]:
    """Sends bytes that are no HTTP, then closes."""
    yield _bytes(text)
    yield Act.FIN


@fault
def huge_head(answer: Answer, size: int = 70_000) -> Iterator[Step]:
    """Sends one header of `size` bytes, then the answer."""
    yield from told(replace(answer, headers=(*answer.headers, ("X-Huge", "h" * size))))


@fault
def informational(answer: Answer, code: int = 103) -> Iterator[Step]:
    """Sends a 1xx answer with a header of its own (100, 102 or 103) before the real one."""
    yield b"HTTP/1.1 %d Interim\r\nX-Interim: yes\r\n\r\n" % code
    yield from told(answer)


@fault
def switching_protocols(answer: Answer) -> Iterator[Step]:
    """Answers 101 although nobody asked for an upgrade, then talks something else."""
    yield b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    yield b"\x81\x05hello"


@fault
def second_answer(answer: Answer) -> Iterator[Step]:
    """Sends the answer twice, back to back."""
    yield b"".join(step for _ in range(2) for step in told(answer) if isinstance(step, bytes))


@fault
def trailing_bytes(answer: Answer, text: str | bytes = b"\r\n") -> Iterator[Step]:
    """Sends bytes right after the end of the answer, in one write with its last bytes."""
    *before, last = (step for step in told(answer) if isinstance(step, bytes))
    yield from before
    yield last + _bytes(text)


@fault
def unsolicited(answer: Answer, text: str | bytes = b"HTTP/1.1 408 Request Timeout\r\n\r\n") -> Iterator[Step]:
    """Answers in full, and on `FakeBackend.release` sends bytes that nobody asked for on the idle connection."""
    yield from told(answer)
    yield Act.DONE
    yield Act.STALL
    yield _bytes(text)


@fault
def trailers(answer: Answer, lines: str | bytes = b"X-Trailer: yes\r\n") -> Iterator[Step]:
    """Sends header lines after the last chunk."""
    yield head(answer, "chunked", extra=(("Trailer", "X-Trailer"),))
    yield from events(answer, answer.parts, "chunked")
    yield b"0\r\n" + _bytes(lines) + b"\r\n"


@fault
def http10(answer: Answer) -> Iterator[Step]:
    """Answers as HTTP/1.0: no length, no chunks, the end is the FIN."""
    yield head(answer, "close", version="HTTP/1.0")
    yield from events(answer, answer.parts, "close")
    yield Act.FIN


@fault
def close_delimited(answer: Answer) -> Iterator[Step]:
    """Answers HTTP/1.1 without a length and without chunks: the end is the FIN."""
    yield from told(answer, "close")


@fault
def no_content(answer: Answer, text: str | bytes = b"a body that may not be here") -> Iterator[Step]:
    """Answers 204 and sends body bytes all the same."""
    yield head(replace(answer, status=204, streams=False, parts=(_bytes(text),)), "length")
    yield _bytes(text)


@fault
def gzip(answer: Answer) -> Iterator[Step]:
    """Compresses the body although the client may have asked for identity."""
    packed = gzip_format.compress(answer.body, mtime=0)
    headers = (*answer.headers, ("Content-Encoding", "gzip"))
    yield from told(replace(answer, parts=(packed,), headers=headers))


@fault
def slow(answer: Answer, bytes_per_write: int = 1, interval: float = 0.01) -> Iterator[Step]:
    """Sends everything, the head included, a few bytes at a time, with `interval` seconds between."""
    for step in told(answer):
        if not isinstance(step, bytes):
            yield step
            continue
        for start in range(0, len(step), bytes_per_write):
            yield step[start : start + bytes_per_write]
            yield Wait(interval)


@fault
def split(answer: Answer, every: int = 1) -> Iterator[Step]:
    """Cuts the body every `every` bytes, each piece a chunk and a write of its own: events split anywhere."""
    framing = answer.unmeasured
    yield head(answer, framing)
    body = answer.body
    for start in range(0, len(body), every):
        yield framed(body[start : start + every], framing)
    yield from ending(framing)


@fault
def joined(answer: Answer) -> Iterator[Step]:
    """Sends the head and the whole body in one write and one chunk."""
    steps = list(told(replace(answer, parts=(answer.body,))))
    yield b"".join(step for step in steps if isinstance(step, bytes))
    yield from (step for step in steps if isinstance(step, Act))


@fault
def crlf_events(answer: Answer) -> Iterator[Step]:
    r"""Ends the lines of its events with \r\n."""
    yield from told(replace(answer, parts=tuple(part.replace(b"\n", b"\r\n") for part in answer.parts)))


@fault
def no_space_data(answer: Answer) -> Iterator[Step]:
    """Writes `data:{...}`, without the space that most servers put there."""
    parts = tuple(b"data:".join(part.split(b"data: ", 1)) if answer.streams else part for part in answer.parts)
    yield from told(replace(answer, parts=parts))


@fault
def comments(answer: Answer, text: str = ": ping") -> Iterator[Step]:
    """Puts a comment, which keeps an idle reader alive, before every event."""
    line = text.encode() + b"\n\n"
    yield from told(replace(answer, parts=tuple(line + p for p in answer.parts)) if answer.streams else answer)


@fault
def usage_variants(
    answer: Answer,
    where: Literal["own_chunk", "with_choices", "last_chunk", "every_chunk", "never"] = "with_choices",
) -> Iterator[Step]:
    """Reports usage in another place of a chat or completion stream, asked for or not.

    own_chunk: a last chunk with `choices: []`. with_choices: a last chunk whose one choice has an empty delta.
    last_chunk: beside the finish_reason. every_chunk: everywhere. never: nowhere.
    """
    yield from told(answer.retold(usage=where))


@fault
def big(answer: Answer, size: int = 1_000_000) -> Iterator[Step]:
    """Answers with `size` bytes of text; in a stream, 1000 an event."""
    words = ("x" * 1000,) * (size // 1000) + (("x" * (size % 1000),) if size % 1000 else ())
    yield from told(answer.retold(words=words))


@fault
def big_event(answer: Answer, size: int = 200_000) -> Iterator[Step]:
    """Answers with `size` bytes of text in a single event."""
    yield from told(answer.retold(words=("x" * size,)))


@fault
def delay(answer: Answer, seconds: float = 0.1) -> Iterator[Step]:
    """Waits before the head."""
    yield Wait(seconds)
    yield from told(answer)


@fault
def delay_first_byte(answer: Answer, seconds: float = 0.1) -> Iterator[Step]:
    """Waits between the head and the first byte of the body."""
    steps = told(answer)
    yield next(steps)
    yield Wait(seconds)
    yield from steps


@fault
def bare_json_for_stream(answer: Answer) -> Iterator[Step]:
    """Answers with one JSON body although the request said `stream: true`."""
    yield from told(answer.retold(stream=False))


@fault
def event_stream_with_content_length(answer: Answer) -> Iterator[Step]:
    """Sends a stream with its length declared, all of it known beforehand."""
    yield from told(answer, "length")


@fault
def wrong_content_length(answer: Answer, missing: int = 10) -> Iterator[Step]:
    """Declares `missing` bytes fewer than it sends; the connection stays open."""
    yield head(answer, "length", length=max(0, len(answer.body) - missing))
    yield answer.body


@fault
def duplicate_content_length(answer: Answer, second: int | None = None) -> Iterator[Step]:
    """Declares Content-Length twice; `second` is the other value (default: one more than the truth)."""
    other = len(answer.body) + 1 if second is None else second
    yield head(answer, "length", extra=(("Content-Length", str(other)),))
    yield answer.body


@fault
def length_and_chunked(answer: Answer) -> Iterator[Step]:
    """Declares a Content-Length and chunked framing at once, and sends chunks."""
    yield head(answer, "chunked", extra=(("Content-Length", "5"),))
    yield from events(answer, answer.parts, "chunked")
    yield from ending("chunked")


@fault
def lf_only(answer: Answer) -> Iterator[Step]:
    r"""Ends the lines of its head with a bare \n."""
    steps = told(answer)
    first = next(steps)
    assert isinstance(first, bytes)  # noqa: S101  the head
    yield first.replace(b"\r\n", b"\n")
    yield from steps


@fault
def other_stream(answer: Answer, data: str = '{"something":"else"}', count: int = 3) -> Iterator[Step]:
    """Answers with an event stream of no known wire format: `count` equal events and a proper end."""
    parts = (event(data.encode()),) * count
    yield from told(replace(answer, content_type="text/event-stream", parts=parts, streams=True))
