"""Reads solar.toml and the certificate again, on SIGHUP and when they changed: whole or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from solar.config.files import Stamp, stamp
from solar.control.configuration import Configuration, changed
from solar.errors import InvalidSettings

LOOK_EVERY = 1.0  # seconds between two looks at the files
SETTLE = 0.2  # seconds that a file must stay as it is: one that is being written may read as a shorter one


class FileWatch:
    """Follows the files of a running gateway. `apply` gets the whole new configuration."""

    def __init__(
        self, configuration: Configuration, apply: Callable[[Configuration], None], log: logging.Logger
    ) -> None:
        self._started = configuration  # what the process runs with until it is restarted
        self._current = configuration
        self._apply = apply
        self._log = log
        self._asked = asyncio.Event()

    def __repr__(self) -> str:
        return f"<FileWatch {', '.join(map(str, self._current.read)) or 'no file'}>"

    def ask(self) -> None:
        """Read again now, changed or not: what SIGHUP means."""
        self._asked.set()

    async def run(self) -> None:
        """Watch until cancelled."""
        done = self._current.stamp
        while True:
            asked = await self._wait(LOOK_EVERY)
            seen = await self._stamp_now()
            while not asked and seen != done:
                asked = await self._wait(SETTLE)
                before, seen = seen, await self._stamp_now()
                if seen == before:
                    break
            if asked or seen != done:
                done = self._current.stamp if await self._read() else seen

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
        if not self._current.read:
            self._log.warning("nothing to read again: no solar.toml was there at the start")
            return False
        try:
            fresh = await asyncio.to_thread(self._current.read_again)
        except InvalidSettings as error:
            self._log.error("config not reloaded, everything stays as it was: %s", error)
            return False
        self._current = fresh
        self._apply(fresh)
        file, certificate = fresh.file, fresh.certificate
        self._log.info(
            "config reloaded file=%s backends=%d certificate=%s",
            file.path if file else "none",
            len(file.backends) if file else 0,
            certificate.cert if certificate else "none",
        )
        for warning in fresh.warnings:
            self._log.warning("%s", warning)
        if waiting := changed(self._started, fresh):
            self._log.warning("config has changes that need a restart: %s", ", ".join(waiting))
        return True

    async def _stamp_now(self) -> Stamp:
        read = self._current.read
        return await asyncio.to_thread(stamp, read) if read else ()
