"""A handler that writes lines in batches. Never compiled: logging refers weakly to its handlers, and no native class
whose base is Python's own can bear that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Final, Literal, TextIO

from solar.core.record import Record
from solar.edge.lines import Finished, finished_json, finished_text, json_line, text_line

_A_LINE: Final = 300  # characters that a request's line has, more or less
_AT_MOST: Final = 100 * _A_LINE  # characters that wait to be written: the more wait, the more memory is cold by then
_EVERY = 0.2  # seconds


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
        self._waiting: list[str | Finished] = []
        self._size = 0
        self._timed_on: asyncio.AbstractEventLoop | None = None  # the loop whose timer will write what waits

    def __repr__(self) -> str:
        return f"<BatchedLines {len(self._waiting)} waiting>"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = json_line(record) if self._json else text_line(record)
        except (TypeError, ValueError, KeyError):  # arguments that do not fit their message
            self.handleError(record)
            return
        self._add(line, len(line), record.levelno)

    def request(self, record: Record, level: int, name: str) -> None:
        """The same for the line of a request, without a record of the logging module's: a third of the cost."""
        with self.lock:  # type: ignore[union-attr]  # as `handle` does for emit: another thread may be writing now
            self._add((time.time(), level, name, record), _A_LINE, level)

    def _add(self, item: str | Finished, size: int, level: int) -> None:
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
            finished = finished_json if self._json else finished_text
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
