"""What is wrong with a backend: looked at step by step, until something is."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass, replace

import msgspec

from solar.core.attempts import Outcome
from solar.core.backend import Backend, Origin
from solar.edge.connection import key_of
from solar.edge.fetch import Answer, FetchFailed, fetch
from solar.edge.probe import HEALTH_PATHS, probe
from solar.edge.upstream import HttpUpstream

TIMEOUT = 5.0  # seconds for each question
_SLOTS = (
    "it works on {0} at a time: with max_in_flight = {0} the others wait in the gateway's queue, "
    "from which they may go to another backend"
)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    about: str
    well: bool
    found: str
    advice: str = ""  # what to do; a thing that is well may have some too


async def diagnose_backend(backend: Backend, upstream: HttpUpstream) -> Diagnosis:
    """Resolve, connect, ask for its health and for its models; the first thing that is wrong is the diagnosis."""
    about = f"backend {backend.id}"
    if backend.upstream is not None:
        return Diagnosis(about, True, "has a transport of its own")
    wrong = await _connect(backend, upstream)
    if wrong is not None:
        return Diagnosis(about, False, *wrong)
    try:
        health_path = HEALTH_PATHS.get(backend.type, "/health")
        if health_path is not None:
            health = await fetch(upstream, backend, "GET", backend.root + health_path, seconds=TIMEOUT)
            if health.status == 503:
                return Diagnosis(about, False, "is loading its model: its health answers 503", "wait until it is ready")
        listed = await fetch(upstream, backend, "GET", f"{backend.prefix}/models", seconds=TIMEOUT)
    except FetchFailed as error:
        return Diagnosis(about, False, *_no_answer(backend, error))
    found = _models(backend, listed)
    if found.well:  # some engines guard less than others: the router's own look has the last word
        seen = await probe(upstream, backend, backend.type, seconds=TIMEOUT)
        if seen.state == "failed":
            return Diagnosis(about, False, seen.reason, "until this is so no longer, no request is sent to it")
        if seen.slots and backend.max_in_flight is None:
            return replace(found, advice=_SLOTS.format(seen.slots))
    return found


async def _connect(backend: Backend, upstream: HttpUpstream) -> tuple[str, str] | None:
    """What is wrong on the way to it, and what to do."""
    wrong = await _reach(backend.origin, None)
    context = upstream.context(key_of(backend))
    return wrong if wrong is not None or context is None else await _reach(backend.origin, context)


async def _reach(origin: Origin, tls: ssl.SSLContext | None) -> tuple[str, str] | None:
    where = origin.authority
    no_tls = "write http:// in its url instead of https://"
    try:
        async with asyncio.timeout(TIMEOUT):
            _, writer = await asyncio.open_connection(origin.hostname, origin.port, ssl=tls)
    except socket.gaierror as error:
        return f"the name {origin.hostname} is unknown ({error.strerror})", "correct its url, or write an IP address"
    except ConnectionRefusedError:
        return f"nothing listens on {where}", (
            "start the server, or correct the port in its url; inside a container 127.0.0.1 is the container itself"
        )
    except TimeoutError:
        if tls is not None:
            return f"{where} does not speak TLS within {TIMEOUT:g} s", no_tls
        return (
            f"no connection to {where} within {TIMEOUT:g} s",
            "is the machine on, and does a firewall let you through?",
        )
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}", (
            "set ca_file to the bundle that signs it; verify = false accepts any certificate"
        )
    except ssl.SSLError as error:
        return f"{where} does not speak TLS ({error.reason})", no_tls
    except OSError as error:
        return f"no connection to {where}: {(error.strerror or str(error)).lower()}", "correct its url, or the network"
    writer.close()
    return None


def _no_answer(backend: Backend, error: FetchFailed) -> tuple[str, str]:
    if error.outcome is Outcome.UNREADABLE:
        return f"it listens, and does not speak HTTP: {error.detail}", "correct the port in its url"
    if error.outcome is Outcome.TIMEOUT:
        return f"it accepts connections and says nothing: {error.detail}", "look whether it hangs; restart it"
    other = "http" if backend.origin.scheme == "https" else "https"
    return error.detail, f"look into its own log; if it speaks {other}, write {other}:// in its url"


def _models(backend: Backend, answer: Answer) -> Diagnosis:
    about = f"backend {backend.id}"
    where = f"{backend.prefix}/models"
    status = answer.status
    if status in (401, 403):
        if backend.api_key is None:
            return Diagnosis(
                about, False, f"it wants a key ({status})", "set its api_key or api_key_file in solar.toml"
            )
        return Diagnosis(about, False, f"it refuses the key ({status})", "correct its api_key")
    if status == 503:
        return Diagnosis(about, False, "is loading its model: it answers 503", "wait until it is ready")
    if status == 404 and backend.models:
        return Diagnosis(about, True, f"answers; it lists no models, you name {len(backend.models)}")
    if status == 404:
        return Diagnosis(about, False, f"there is no {where} (404)", "if its API stands elsewhere, set base_path")
    if 300 <= status < 400:
        location = dict(answer.headers).get(b"location", b"").decode("latin-1")
        return Diagnosis(about, False, f"{where} is moved to {location!r} ({status})", "write the new place as its url")
    if status != 200:
        return Diagnosis(about, False, f"{where} answered {status}", "look into its own log")
    names = _names(answer.body)
    if names is None:
        return Diagnosis(about, False, f"{where} is no list of models", "if its API stands elsewhere, set base_path")
    return _compare(backend, names)


def _compare(backend: Backend, names: list[str]) -> Diagnosis:
    """Whether what the settings say of its models is what it has."""
    about = f"backend {backend.id}"
    listed = f"answers, with {', '.join(names) or 'no model yet'}"
    wanted = (*backend.models, *backend.aliases.values(), *backend.model_timeouts)
    unknown = [name for name in dict.fromkeys(wanted) if name not in names and f"{name}:latest" not in names]
    if unknown:
        return Diagnosis(about, False, f"{listed}; not among them: {', '.join(unknown)}", "correct models and aliases")
    return Diagnosis(about, True, listed)


def _names(body: bytes) -> list[str] | None:
    try:
        listing = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    items = listing.get("data") if isinstance(listing, dict) else listing
    if not isinstance(items, list):
        return None
    return [item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]
