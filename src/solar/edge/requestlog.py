"""One line a request, and a handler that writes lines in batches. No key, no prompt and no answer is ever in a line."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, TextIO, TypeVar

from solar.core.record import Record

_LONGEST = 200  # characters of a value that is not ours
_AT_MOST = 64 * 1024  # characters that wait to be written
_A_LINE = 300  # characters that a request's line has, more or less
_EVERY = 0.2  # seconds

_LEVELS = {"broken": logging.WARNING, "failed": logging.WARNING}
_WORDS = {logging.INFO: "INFO", logging.WARNING: "WARNING"}
_PLAIN = re.compile(r"[!#-<>-\[\]-~]+").fullmatch  # printable ASCII without space, quote, equals sign and backslash

Fields = dict[str, str | int | float]


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
    """The same as the fields, written out: three times as fast as joining pairs, and paid for each request."""
    first, tokens_in, tokens_out = record.first_byte_at, record.tokens_in, record.tokens_out
    line = (
        f"request id={_quoted(record.id)}{_place(record.endpoint, record.model, record.backend)}"
        f" status={record.status} end={record.end} attempts={record.attempts} queued_ms={record.queued * 1000:.1f}"
        f" duration_ms={(record.ended_at - record.started_at) * 1000:.1f}"
        f" bytes_in={record.bytes_in} bytes_out={record.bytes_out} client={_often(record.client)}"
    )
    if first is not None:
        line += f" ttft_ms={(first - record.started_at) * 1000:.1f} overhead_ms={record.overhead * 1000:.2f}"
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


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."


def _quoted(value: str) -> str:
    """A value that cannot end its line, nor pass for another field, nor reach a terminal's controls."""
    if len(value) > _LONGEST:
        value = _short(value)
    return value if _PLAIN(value) else json.dumps(value)


_often = lru_cache(maxsize=1000)(_quoted)  # for what has few values


@lru_cache(maxsize=1000)
def _place(endpoint: str, model: str, backend: str) -> str:
    """What many lines share."""
    return f" endpoint={endpoint} model={_quoted(model)} backend={_quoted(backend)}"


class RequestLog:
    """Logs each finished request once: at INFO, or at WARNING where it failed or broke."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def __repr__(self) -> str:
        return f"<RequestLog {self._logger.name}>"

    def closed(self, record: Record) -> None:
        """The books on a request are closed."""
        logger = self._logger
        level = _LEVELS.get(record.end, logging.INFO)
        if not logger.isEnabledFor(level):
            return
        if (lines := _only_lines(logger)) is not None:
            lines.request(record, level, logger.name)
        else:
            # Not logger.log(): it would search the stack for its caller, which is always this line.
            said = logger.makeRecord(logger.name, level, __file__, 0, RequestLine(record), (), None, "closed")
            logger.handle(said)


def _only_lines(logger: logging.Logger) -> BatchedLines | None:
    """Where a line of `logger` would end up, if that is one handler of ours and nobody else wants to see it."""
    found: BatchedLines | None = None
    above: logging.Logger | None = logger
    while above is not None:
        if above.filters and above is logger:
            return None
        for handler in above.handlers:
            if found is not None or type(handler) is not BatchedLines or handler.filters or handler.level:
                return None
            found = handler
        above = above.parent if above.propagate else None
    return found


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


def _text_line(record: logging.LogRecord) -> str:
    line = f"{_time(record.created)} {record.levelname} {_printable(record.getMessage())}\n"
    if record.exc_info:
        told = _tracebacks.formatException(record.exc_info).splitlines()
        line += "".join([f"    {_printable(part)}\n" for part in told])
    return line


def _json_line(record: logging.LogRecord) -> str:
    said: dict[str, object] = {"time": _time(record.created), "level": record.levelname, "logger": record.name}
    if isinstance(record.msg, RequestLine):
        said["message"] = "request"
        said |= record.msg.fields()
    else:
        said["message"] = record.getMessage()
    if record.exc_info:
        said["exception"] = _tracebacks.formatException(record.exc_info)
    return json.dumps(said) + "\n"


_Finished = tuple[float, int, str, Record]  # when (seconds since 1970), level, name of the logger


def _finished_text(created: float, level: int, name: str, record: Record) -> str:
    del name
    return f"{_time(created)} {_WORDS[level]} {text_of(record)}\n"


def _finished_json(created: float, level: int, name: str, record: Record) -> str:
    said: dict[str, object] = {"time": _time(created), "level": _WORDS[level], "logger": name, "message": "request"}
    return json.dumps(said | RequestLine(record).fields()) + "\n"


H = TypeVar("H", bound=logging.Handler)


def _of_python(handler: type[H]) -> type[H]:
    """A class with a decorator stays one of Python's, when this module is compiled.

    A native class may not have a base of Python's whose objects are weakly referenced, as logging does with its
    handlers: its objects would end without telling, and whoever looks then, reads memory that is gone.
    """
    return handler


@_of_python
class BatchedLines(logging.Handler):
    """Writes lines in batches: a write for each line would cost more than the request that it tells of.

    A line waits for 0.2 s at most; a warning takes along all that waits. Where no event loop runs, nothing waits.
    Requests wait as they are, and become lines together: one after the other costs half as much as one by one.
    The write is a plain one: a reader of the stream that stops reading stops the program too, as with print().
    """

    def __init__(self, stream: TextIO, log_format: Literal["text", "json"] = "text") -> None:
        super().__init__()
        self.told: Callable[[str], None] | None = None  # called with each batch, of any thread; it must not log
        self._stream = stream
        self._json = log_format == "json"
        self._waiting: list[str | _Finished] = []
        self._size = 0
        self._timed_on: asyncio.AbstractEventLoop | None = None  # the loop whose timer will write what waits

    def __repr__(self) -> str:
        return f"<BatchedLines {len(self._waiting)} waiting>"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _json_line(record) if self._json else _text_line(record)
        except (TypeError, ValueError, KeyError):  # arguments that do not fit their message
            self.handleError(record)
            return
        self._add(line, len(line), record.levelno)

    def request(self, record: Record, level: int, name: str) -> None:
        """The same for the line of a request, without a record of the logging module's: a third of the cost."""
        with self.lock:  # type: ignore[union-attr]  # as `handle` does for emit: another thread may be writing now
            self._add((time.time(), level, name, record), _A_LINE, level)

    def _add(self, item: str | _Finished, size: int, level: int) -> None:
        self._waiting.append(item)
        self._size += size
        if level >= logging.WARNING or self._size >= _AT_MOST:
            self.flush()
            return
        if self._timed_on is not None and self._timed_on.is_running():
            return
        try:
            loop = asyncio.get_running_loop()  # asks the kernel for our process id, each time
        except RuntimeError:
            self.flush()
            return
        self._timed_on = loop
        loop.call_later(_EVERY, self._due)

    def _due(self) -> None:
        self._timed_on = None
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self.lock:  # type: ignore[union-attr]
            waiting, self._waiting, self._size = self._waiting, [], 0
            if not waiting:
                return
            finished = _finished_json if self._json else _finished_text
            text = "".join([item if isinstance(item, str) else finished(*item) for item in waiting])
            if self.told is not None:
                self.told(text)
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads it any more, its disk is full, or it is closed
                return

    def close(self) -> None:
        self.flush()
        super().close()
