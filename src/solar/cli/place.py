"""Where the gateway is that a command asks, and with which key: flags, the environment, or what is said here."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from solar.cli.options import configuration_from
from solar.control.keys import LOOPBACK_NAMES, read_key

if TYPE_CHECKING:
    from solar.control.configuration import Configuration

_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_WRITE = "write http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Place:
    """A gateway, and how to get in."""

    hostname: str  # IPv6 without brackets
    port: int
    path: str = ""  # "" or "/base"
    context: ssl.SSLContext | None = field(default=None, repr=False)  # None: plain HTTP
    key: str | None = field(default=None, repr=False)
    key_from: str = ""  # who said it

    def __str__(self) -> str:
        hostname = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{'https' if self.context else 'http'}://{hostname}:{self.port}{self.path}"


def find_place(url: str | None, key: str | None) -> Place:
    """The gateway at `url`, or the one that `solar serve` runs in this directory. Ends the command where there is none.

    A key that files here hold is the key of the gateway that runs here: no other one is told it.
    """
    if url and key:
        return _named(url, key, "--api-key")
    configuration = configuration_from({})
    place = _named(url) if url else _own(configuration)
    if key:
        return _with_key(place, key, "--api-key")
    settings, said = configuration.settings, configuration.said_by.get("api_keys", "")
    here = not url or _local(place.hostname) or place.hostname == settings.host
    in_file = configuration.file is not None and said.startswith(f"{configuration.file.path}:")
    if settings.api_keys and (here or not in_file):
        return _with_key(place, settings.api_keys[0], said)
    if here and not settings.api_keys:
        path = Path(settings.data_dir) / "api_key"
        try:
            kept = read_key(path)
        except OSError:  # another user's gateway: whoever needs the key will be told
            kept = None
        if kept is not None:
            return _with_key(place, kept, str(path))
    return place


def _own(configuration: Configuration) -> Place:
    settings = configuration.settings
    if settings.port == 0:
        raise click.UsageError("the settings let the gateway take a free port; name its address with --url")
    hostname = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104
    certificate = configuration.certificate
    return Place(hostname, settings.port, context=_trusting(certificate.cert) if certificate else None)


def _named(url: str, key: str | None = None, key_from: str = "") -> Place:
    try:
        parsed = urlsplit(url if "://" in url else f"http://{url}")
        port = parsed.port
    except ValueError:
        raise click.UsageError(f"--url: {url!r} is no address; {_WRITE}") from None
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise click.UsageError(f"--url: {url!r} is no address; {_WRITE}")
    if parsed.query or parsed.fragment or "@" in parsed.netloc:
        raise click.UsageError(f"--url: leave the query and the user out; {_WRITE}")
    secure = parsed.scheme == "https"
    path = parsed.path.rstrip("/").removesuffix("/v1")  # what people have at hand is often the base of a client
    context = ssl.create_default_context() if secure else None
    return _with_key(Place(parsed.hostname, port or (443 if secure else 80), path, context), key, key_from)


def _with_key(place: Place, key: str | None, key_from: str) -> Place:
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise click.UsageError(f"{key_from}: a key is printable ASCII on one line")
    return Place(place.hostname, place.port, place.path, place.context, key, key_from)


def _local(hostname: str) -> bool:
    try:
        return hostname in LOOPBACK_NAMES or ip_address(hostname).is_loopback
    except ValueError:
        return False


def _trusting(cert: Path) -> ssl.SSLContext:
    """Trusts the certificate that the gateway here shows, and no other, whoever has signed it and for which name."""
    found = _FIRST.search(cert.read_text("latin-1"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=found[0] if found else "")
    return context
