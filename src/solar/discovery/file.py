"""Backends that a file names, followed while it changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from solar.config.backends import read_backend_file
from solar.config.files import Stamp, stamp
from solar.core.backend import Backend
from solar.discovery.asking import Asked, Asker
from solar.discovery.base import BackendsListed, Change
from solar.discovery.rounds import blind
from solar.discovery.sighting import Address, Sighting, Tried
from solar.errors import InvalidSettings


class FileDiscoverer:
    """Names the backends of the file at `path`: `[[backends]]` as in solar.toml, or `{"backends": [...]}` in a .json.

    A file is read whole or not at all: with a mistake in it, or while it is gone, what it had named stays.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.name = f"file:{path}"
        self.every = 1.0  # seconds between two looks at the file
        self.settle = 0.2  # seconds that it must stay as it is: one that is being written may read as a shorter one
        self._told: tuple[object, str] | None = None  # the last mistake, and the stamp of the file that had it

    def __repr__(self) -> str:
        return f"<FileDiscoverer {self.path}>"

    async def watch(self) -> AsyncIterator[Change]:
        """Lists what the file names, first and after each change. Raises InvalidSettings, once for each mistake."""
        files: tuple[Path, ...] = (self.path,)  # and the key files that it names
        done: Stamp | None = None  # of the last good reading; None: read again, as a key file may be what is missing
        listed: tuple[Backend, ...] | None = None
        seen = await _stamp_of(files)
        while True:
            try:
                tables = await asyncio.to_thread(read_backend_file, self.path)
            except InvalidSettings as error:
                await asyncio.sleep(self.settle)
                if await _stamp_of(files[:1]) == seen[:1]:
                    self._tell(seen[0], error)
                done = None
            else:
                if await _stamp_of(files[:1]) == seen[:1]:  # it was not written meanwhile
                    self._told = None
                    files, done = (self.path, *tables.read), seen[:1] + tables.stamp
                    backends = tuple(replace(backend, source=self.name) for backend in tables.backends)
                    if backends != listed:
                        listed = backends
                        yield BackendsListed(backends)
            seen = await self._changed(files, done)

    async def _changed(self, files: tuple[Path, ...], done: Stamp | None) -> Stamp:
        """Returns once the stamp of `files` is another than `done`, and has settled."""
        await asyncio.sleep(self.every)
        while (seen := await _stamp_of(files)) == done:  # noqa: ASYNC110  # a file tells nobody that it changed
            await asyncio.sleep(self.every)
        await asyncio.sleep(self.settle)
        while (again := await _stamp_of(files)) != seen:
            seen = again
            await asyncio.sleep(self.settle)
        return seen

    def _tell(self, of_file: object, error: InvalidSettings) -> None:
        """Raise the mistake, unless this file was told of it already."""
        message = error.message
        if of_file is None:
            message = f"there is no {self.path}; what it had named stays until it is there again"
        if self._told != (of_file, message):
            self._told = (of_file, message)
            raise InvalidSettings(message)

    async def look(self) -> tuple[Sighting, ...]:
        """Each backend of the file, asked."""
        try:
            tables = await asyncio.to_thread(read_backend_file, self.path)
        except InvalidSettings as error:
            return blind(error, self.name, "a file of backends", otherwise="correct the file, or its path")
        async with Asker() as asker:
            asked = await asyncio.gather(*(asker.ask_backend(one, hint=one.type) for one in tables.backends))
        return tuple(self._sighting(backend, one) for backend, one in zip(tables.backends, asked, strict=True))

    def _sighting(self, backend: Backend, asked: Asked) -> Sighting:
        why = "named in the file"
        return Sighting(
            name=backend.id,
            where=self.name,
            why=why,
            tried=(Tried(Address(backend.url, why), asked.answered, asked.outcome, asked.failed),),
            backend=replace(backend, source=self.name),
            reason="" if asked.models else asked.outcome,
            advice=_ADVICE.get("locked" if asked.locked else asked.failed or "", ""),
        )


_ADVICE = {
    "refused": "is it started, and does it listen on this port for others too (--host 0.0.0.0)?",
    "locked": "write its key into the file: api_key or api_key_file",
    "foreign": "correct its url; if its API stands under another path, set base_path",
    "unknown name": "correct its url",
}


async def _stamp_of(files: tuple[Path, ...]) -> Stamp:
    return await asyncio.to_thread(stamp, files)
