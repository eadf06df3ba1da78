"""What `solar doctor` looks at: the machine, what discovery sees, then each backend."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from solar.control.app import FILES_WANTED, allow_files, url_of
from solar.control.built import is_compiled, is_editable
from solar.control.certificate import Certificate
from solar.control.configuration import Configuration
from solar.control.diagnosis import TIMEOUT, Diagnosis, diagnose_backend
from solar.control.discovery import finders
from solar.control.extra import missing
from solar.control.listen import listen
from solar.control.survey import View, routed, surveying
from solar.core.backend import Backend
from solar.edge.fetch import FetchFailed, fetch
from solar.edge.tasks import Tasks
from solar.edge.upstream import HttpUpstream
from solar.errors import InvalidSettings, MissingExtra
from solar.store.state import trouble

FILES_NEEDED = 4096
EXPIRES_SOON = 14  # days
_COMPILE = (
    "install a C compiler and Python's headers, then Solar again; SOLAR_COMPILE=1 insists and says what is missing"
)
_FIND_THEM = "let them be found with --discover local or --discover docker"


async def checkup(configuration: Configuration) -> list[Diagnosis]:
    """Look at everything that a configuration needs."""
    tasks = Tasks(logging.getLogger("solar"))
    upstream = HttpUpstream(tasks)
    try:
        port, seen = await asyncio.gather(_port(configuration, upstream), _discovered(configuration))
        backends = routed(seen, configuration.backends)
        examined = await asyncio.gather(*(diagnose_backend(backend, upstream) for backend in backends))
    finally:
        await upstream.close()
        await tasks.stop()
    examined = [*(diagnosis for view in seen for diagnosis in diagnose_view(view)), *examined]
    if not backends:
        named = "name one with --backend NAME=URL, SOLAR_BACKEND, or [[backends]] in solar.toml"
        look = "look what was tried: solar discover" if configuration.discover else _FIND_THEM
        advice = f"{look}; or {named}"
        examined = [*examined, Diagnosis("backends", False, "there is none to route to", advice)]
    shown = [diagnose_certificate(configuration.certificate, time.time())] if configuration.certificate else []
    data_dir = Path(configuration.settings.data_dir)
    machine = [_data_dir(data_dir), diagnose_store(data_dir), _packages(), _hot_path(), _loop(), _files()]
    return [port, *shown, *machine, *examined]


async def _discovered(configuration: Configuration) -> tuple[View, ...]:
    try:
        looking = finders(configuration)
    except MissingExtra as error:
        return (View("discovery", (), error.message),)
    async with surveying() as survey:
        return await survey.look(looking)


def diagnose_view(view: View) -> Iterator[Diagnosis]:
    """What one discoverer sees that somebody can do something about."""
    if view.wrong:
        found, _, advice = view.wrong.partition("; ")
        yield Diagnosis(view.source, False, found, advice)
    for seen in view.seen:
        sighting = seen.sighting
        if sighting.advice:
            tried = [f"{one.address.url}: {one.outcome}" for one in sighting.tried]
            found = "; ".join(filter(None, (sighting.reason, *tried))) or "it is not routed to"
            yield Diagnosis(f"{view.source} {sighting.name}", sighting.backend is not None, found, sighting.advice)


async def _port(configuration: Configuration, upstream: HttpUpstream) -> Diagnosis:
    host, port = configuration.settings.host, configuration.settings.port
    tls = configuration.certificate is not None
    try:
        sockets = listen(host, port)  # never with --reuse-port: clients of a running gateway would land here
    except InvalidSettings as error:
        found, _, advice = error.message.partition("; ")
        if "in use" in found and await _is_solar(host, port, upstream, tls=tls):
            return Diagnosis("port", True, f"a Solar gateway serves on {host} port {port}")
        return Diagnosis("port", False, found, advice)
    url = url_of(sockets[0], tls=tls)
    for sock in sockets:
        sock.close()
    return Diagnosis("port", True, f"{url} is free")


async def _is_solar(host: str, port: int, upstream: HttpUpstream, *, tls: bool) -> bool:
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    place = f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}"
    gateway = Backend("gateway", f"{'https' if tls else 'http'}://{place}", verify=False)
    try:
        answer = await fetch(upstream, gateway, "GET", "/health", seconds=TIMEOUT)
    except FetchFailed:
        return False
    return b'"backends_total"' in answer.body


def diagnose_certificate(certificate: Certificate, now: float) -> Diagnosis:
    """What clients will say of it; `now` in seconds since 1970."""
    if certificate.flaw or certificate.expires is None:
        found = f"clients refuse the one in {certificate.cert}: {certificate.flaw}"
        return Diagnosis("certificate", False, found, "put another in its place: a running gateway takes it at once")
    days = (certificate.expires - now) / 86_400
    until = f"{certificate.cert} is valid until {datetime.fromtimestamp(certificate.expires, UTC):%Y-%m-%d}"
    if days < EXPIRES_SOON:
        return Diagnosis("certificate", True, f"{until}, {int(days)} days from now", "renew it")
    return Diagnosis("certificate", True, until)


def _data_dir(path: Path) -> Diagnosis:
    there = next((place for place in (path, *path.absolute().parents) if place.exists()), Path("/"))
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return Diagnosis("data directory", True, f"{path} can be written")
    return Diagnosis(
        "data directory", False, f"{there} cannot be written", "choose another with --data-dir, or change its owner"
    )


def diagnose_store(data_dir: Path) -> Diagnosis:
    """Whether the records there can be read; nothing is changed."""
    path = data_dir / "solar.db"
    if not path.exists():
        return Diagnosis("records", True, f"there are none yet in {path}")
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (hosts,) = connection.execute("SELECT count(*) FROM hosts").fetchone()
            (requests,) = connection.execute("SELECT count(*) FROM requests").fetchone()
    except sqlite3.Error as error:
        advice = "the gateway routes without them; it sets a damaged file aside, its log says more"
        return Diagnosis("records", False, f"{path}: {trouble(error).reason}", advice)
    return Diagnosis("records", True, f"{path} holds {hosts} hosts and {requests} requests")


def _packages() -> Diagnosis:
    absent = missing()
    if absent:
        return Diagnosis("packages", False, f"not installed: {', '.join(absent)}", "pip install '.[server]'")
    return Diagnosis("packages", True, "the extra 'server' is installed")


def _hot_path() -> Diagnosis:
    if is_compiled():
        return Diagnosis("hot path", True, "compiled")
    if is_editable():
        return Diagnosis("hot path", True, "interpreted, as in every editable install")
    return Diagnosis("hot path", True, "interpreted: it was not compiled, which is faster", _COMPILE)


def _loop() -> Diagnosis:
    if missing(("uvloop",)):
        advice = "pip install uvloop, where there is one for this platform"
        return Diagnosis("event loop", True, "asyncio's own: uvloop, which is faster, is not installed", advice)
    return Diagnosis("event loop", True, "uvloop")


def _files() -> Diagnosis:
    allowed = allow_files(FILES_WANTED)
    if allowed < FILES_NEEDED:
        found = f"{allowed} at most: enough for {allowed // 2} streams at a time"
        return Diagnosis("open files", False, found, f"raise the limit: ulimit -n {FILES_WANTED}")
    return Diagnosis("open files", True, f"{allowed} at most")
