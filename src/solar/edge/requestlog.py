"""One line a finished request."""

from __future__ import annotations

import logging
from typing import Final

from solar.core.record import Record
from solar.edge.lines import RequestLine
from solar.edge.linewriter import BatchedLines

_LEVELS: Final = {"broken": logging.WARNING, "failed": logging.WARNING}


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
