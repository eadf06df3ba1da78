"""The certificate that clients see: checked before anything is bound, and replaced whole while the gateway runs."""

from __future__ import annotations

import contextlib
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from solar.config.files import Stamp, open_to_everyone, reason, stamp
from solar.errors import InvalidSettings

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_KEY = re.compile(rb"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY-----")
# As OpenSSL names it: for a key of the same kind, and of another.
_MISMATCH = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as their files held them."""

    cert: Path
    key: Path
    context: ssl.SSLContext = field(repr=False)
    flaw: str  # why every client refuses it, even one that trusts it; "": none does
    expires: float | None  # seconds since 1970; None: `flaw` came first
    stamp: Stamp = field(repr=False)  # of both files, taken before they were read

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the owner should know."""
        told = []
        if open_to_everyone(self.key):
            told.append(f"{self.key} can be read by everyone on this machine; close it with: chmod 600 {self.key}")
        if self.flaw:
            told.append(f"clients refuse the certificate in {self.cert}: {self.flaw}")
        return tuple(told)


class Renewable(ssl.SSLContext):
    """What a server keeps for its whole life: each new connection gets the context that is `current` then.

    Loading files into a live context would leave it broken where they do not fit.
    """

    current: ssl.SSLContext

    def __new__(cls, current: ssl.SSLContext) -> Renewable:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)
        made.current = current
        return made

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self.current.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def read_certificate(cert: Path, key: Path, where_cert: str, where_key: str) -> Certificate:
    """Read and check both files; `where_...` is who named them. Raises InvalidSettings."""
    before = stamp((cert, key))
    chain = b"\n".join(_CERTIFICATE.findall(_read(cert, where_cert)))
    if not chain:
        raise InvalidSettings(f"{where_cert}: {cert} holds no certificate; name a PEM file")
    if not _KEY.search(_read(key, where_key)):
        raise InvalidSettings(f"{where_key}: {key} holds no private key; name a PEM file")
    client = _client(chain, f"{where_cert}: {cert} is damaged")

    def refuse() -> NoReturn:  # OpenSSL would ask on the terminal, and wait
        told = "is encrypted, and nobody is there to be asked for its passphrase"
        raise InvalidSettings(f"{where_key}: {key} {told}; decrypt it: openssl pkey -in {key} -out PLAIN.key")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, refuse)
    except OSError as error:  # an SSLError is one too
        name = getattr(error, "reason", None) or "it is damaged"
        if name in _MISMATCH:
            raise InvalidSettings(f"{where_key}: {key} is not the key of the certificate in {cert}") from None
        told = "it is damaged" if name == "PEM_LIB" else name.replace("_", " ").lower()
        raise InvalidSettings(f"{where_key}: cannot use {key} with {cert}: {told}") from None
    flaw, expires = _shown_to(client, context)
    return Certificate(cert, key, context, flaw, expires, before)


def _read(path: Path, where: str) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would keep us waiting
        raise InvalidSettings(f"{where}: cannot read {path}: it is no file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidSettings(f"{where}: cannot read {path}: {reason(error)}") from None


def _client(chain: bytes, damaged: str) -> ssl.SSLContext:
    """A client that trusts the certificate, whoever has signed it."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        client.load_verify_locations(cadata=chain.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError):
        raise InvalidSettings(damaged) from None
    return client


def _shown_to(client: ssl.SSLContext, server: ssl.SSLContext) -> tuple[str, float | None]:
    """The flaw that a client finds, and when the certificate expires: a handshake in memory tells both."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there)
    answering = server.wrap_bio(there, back, server_side=True)
    try:
        for side in (asking, answering, asking):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message, None
    except ssl.SSLError as error:
        return (error.reason or str(error)).replace("_", " ").lower(), None
    seen = asking.getpeercert()
    return "", ssl.cert_time_to_seconds(str(seen["notAfter"])) if seen else None
