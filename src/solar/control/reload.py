"""Reads solar.toml again on SIGHUP and when it changed: whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from solar.control.configfile import Stamp, stamp
from solar.control.configuration import Configuration, changed
from solar.core.backend import Backend
from solar.errors import InvalidSettings

LOOK_EVERY = 1.0  # seconds between two looks at the file
SETTLE = 0.2  # seconds that a file must stay as it is: one that is being written may read as a shorter one


class FileWatch:
    """Follows the file of a running gateway. `apply` gets the whole new list of backends."""

    def __init__(
        self, configuration: Configuration, apply: Callable[[Sequence[Backend]], None], log: logging.Logger
    ) -> None:
        self._started = configuration.settings  # what the process runs with until it is restarted
        self._current = configuration
        self._apply = apply
        self._log = log
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"<FileWatch {self._current.file.path if self._current.file else 'no file'}>"

    def ask(self) -> None:
        """Read again now, changed or not: what SIGHUP means."""
        self._asked.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        done = self._stamp_of_read()
        while True:
            asked = await self._wait(LOOK_EVERY)
            seen = await self._stamp_now()
            while not asked and seen != done:
                asked = await self._wait(SETTLE)
                before, seen = seen, await self._stamp_now()
                if seen == before:
                    break
            if asked or seen != done:
                done = self._stamp_of_read() if await self._read() else seen

    async def _wait(self, seconds: float) -> bool:
        """Whether somebody asked within that time."""
        try:
            async with asyncio.timeout(seconds):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _read(self) -> bool:
        """Whether it was read, and applied."""
        file = self._current.file
        if file is None:
            self._log.warning("nothing to read again: no solar.toml was there at the start")
            return False
        try:
            fresh = await asyncio.to_thread(self._current.read_again)
        except InvalidSettings as error:
            self._log.error("config not reloaded, everything stays as it was: %s", error)
            return False
        self._current = fresh
        self._apply(fresh.backends)
        listed = len(fresh.file.backends) if fresh.file else 0
        self._log.info("config reloaded file=%s backends=%d", file.path, listed)
        for warning in fresh.file.warnings if fresh.file else ():
            self._log.warning("%s", warning)
        if waiting := changed(self._started, fresh.settings):
            self._log.warning("config has changes that need a restart: %s", ", ".join(waiting))
        return True

    def _stamp_of_read(self) -> Stamp:
        return self._current.file.stamp if self._current.file else ()

    async def _stamp_now(self) -> Stamp:
        return await asyncio.to_thread(stamp, self._current.file.read) if self._current.file else ()
