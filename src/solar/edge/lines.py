"""What a line of the log says, of a request or whatever was logged. No key, no prompt and no answer is ever in one."""

from __future__ import annotations

import json
import logging
import re
import time
from functools import lru_cache
from typing import Final

from solar.core.record import Record

_LONGEST = 200  # characters of a value that is not ours

_WORDS: Final = {logging.INFO: "INFO", logging.WARNING: "WARNING"}
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+").fullmatch  # printable ASCII without space, quote, equals sign and backslash

Fields = dict[str, str | int | float]
Finished = tuple[float, int, str, Record]  # when (seconds since 1970), level, name of the logger


class RequestLine:
    """A finished request as a log message. It becomes text, or fields, only where a handler wants them."""

    __slots__ = ("record",)

    def __init__(self, record: Record) -> None:
        self.record = record

    def __repr__(self) -> str:
        return f"<RequestLine {self.record.id}>"

    def fields(self) -> Fields:
        """What is known of the request, by name. Times are milliseconds."""
        record = self.record
        first = record.first_token
        fields: Fields = {
            "id": _short(record.id),
            "endpoint": record.endpoint,
            "model": _short(record.model),
            "backend": record.backend,
            "status": record.status,
            "end": record.end,
            "attempts": record.attempts,
            "queued_ms": round(record.queued * 1000, 1),
            "duration_ms": round(record.duration * 1000, 1),
            "bytes_in": record.bytes_in,
            "bytes_out": record.bytes_out,
            "client": record.client,
        }
        if first is not None:
            fields["ttft_ms"] = round(first * 1000, 1)
            fields["overhead_ms"] = round(record.overhead * 1000, 2)
        if record.tokens_in is not None:
            fields["tokens_in"] = record.tokens_in
        if record.tokens_out is not None:
            fields["tokens_out"] = record.tokens_out
        if record.stream:
            fields["events"] = record.events
        if record.resolved != record.model and record.resolved:
            fields["resolved"] = _short(record.resolved)
        if record.session_broken:
            fields["session"] = "broken"
        if record.code is not None:
            fields["code"] = record.code
        if record.detail:
            fields["detail"] = _short(record.detail)
        return fields

    def __str__(self) -> str:
        return text_of(self.record)


def text_of(record: Record) -> str:
    """The same as the fields, written out: several times as fast as joining pairs, and paid for each request."""
    first, tokens_in, tokens_out = record.first_byte_at, record.tokens_in, record.tokens_out
    name = record.id
    if not (name.isidentifier() and name.isascii()):  # ours always is, and needs no quotes
        name = _quoted(name)
    line = (
        f"request id={name}"
        f"{_place(record.endpoint, record.model, record.backend, record.status, record.end, record.attempts)}"
        f" queued_ms={_ms(record.queued) if record.queued else '0.0'}"
        f" duration_ms={_ms(record.ended_at - record.started_at)}"
        f" bytes_in={record.bytes_in} bytes_out={record.bytes_out} client={_often(record.client)}"
    )
    if first is not None:
        line += f" ttft_ms={_ms(first - record.started_at)} overhead_ms={_hundredths(int(record.overhead * 1e5 + 0.5))}"
    if tokens_in is not None:
        line += f" tokens_in={tokens_in}"
    if tokens_out is not None:
        line += f" tokens_out={tokens_out}"
    if record.stream:
        line += f" events={record.events}"
    if record.resolved != record.model and record.resolved:
        line += f" resolved={_quoted(record.resolved)}"
    if record.session_broken:
        line += " session=broken"
    if record.code is not None:
        line += f" code={_quoted(record.code)}"
    if record.detail:
        line += f" detail={_quoted(record.detail)}"
    return line


def _ms(seconds: float) -> str:
    """Milliseconds, with one digit behind the point."""
    return _tenths(int(max(0.0, seconds) * 10_000 + 0.5))


# Short times come again and again, and writing a float is dear.


@lru_cache(maxsize=1000)
def _tenths(number: int) -> str:
    return f"{number // 10}.{number % 10}"


@lru_cache(maxsize=1000)
def _hundredths(number: int) -> str:
    return f"{number / 100:.2f}"


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."


def _quoted(value: str) -> str:
    """A value that cannot end its line, nor pass for another field, nor reach a terminal's controls."""
    if len(value) > _LONGEST:
        value = _short(value)
    return value if _PLAIN(value) else json.dumps(value)


_often = lru_cache(maxsize=1000)(_quoted)  # for what has few values


@lru_cache(maxsize=1000)
def _place(endpoint: str, model: str, backend: str, status: int, end: str, attempts: int) -> str:
    """What many lines share."""
    where = f" endpoint={endpoint} model={_quoted(model)} backend={_quoted(backend)}"
    return f"{where} status={status} end={end} attempts={attempts}"


_tracebacks = logging.Formatter()


@lru_cache(maxsize=2)
def _second(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))


@lru_cache(maxsize=2)  # lines come in their order, and under load many in one millisecond
def _millisecond(ms: int) -> str:
    return f"{_second(ms // 1000)}.{ms % 1000:03d}Z"


def _time(created: float) -> str:
    return _millisecond(int(created * 1000))


def _printable(text: str) -> str:
    """Text that stays on its line, whoever wrote it."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])


def text_line(record: logging.LogRecord) -> str:
    """What somebody logged, as text."""
    line = f"{_time(record.created)} {record.levelname} {_printable(record.getMessage())}\n"
    if record.exc_info:
        told = _tracebacks.formatException(record.exc_info).splitlines()
        line += "".join([f"    {_printable(part)}\n" for part in told])
    return line


def json_line(record: logging.LogRecord) -> str:
    """The same as JSON."""
    said: dict[str, object] = {"time": _time(record.created), "level": record.levelname, "logger": record.name}
    if isinstance(record.msg, RequestLine):
        said["message"] = "request"
        said |= record.msg.fields()
    else:
        said["message"] = record.getMessage()
    if record.exc_info:
        said["exception"] = _tracebacks.formatException(record.exc_info)
    return json.dumps(said) + "\n"


def finished_text(created: float, level: int, name: str, record: Record) -> str:
    """A finished request, as text."""
    del name
    return f"{_time(created)} {_WORDS[level]} {text_of(record)}\n"


def finished_json(created: float, level: int, name: str, record: Record) -> str:
    """The same as JSON."""
    said: dict[str, object] = {"time": _time(created), "level": _WORDS[level], "logger": name, "message": "request"}
    return json.dumps(said | RequestLine(record).fields()) + "\n"
