"""What is decided on the head of a request alone, before a byte of its body is read: host, origin, key, CORS."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from solar.core.headers import Headers
from solar.core.paths import Found
from solar.errors import InvalidRequest, InvalidSettings, NotAuthenticated, SolarError

OPEN = frozenset({"health", "ready"})  # answered without a key
CORS_KINDS = frozenset({"inference", "models", "model"})

_EXPOSED = b"x-request-id, x-solar-backend, x-solar-attempts, x-solar-overhead-ms, x-session-broken, retry-after"
_KEY_HEADERS = (b"x-api-key", b"api-key")


class Admission:
    """Who may come in. `allowed_hosts` None: any Host and Origin, as a key protects the door or nobody wants one."""

    def __init__(
        self,
        *,
        api_keys: Iterable[str] = (),
        cors_origins: Sequence[str] = ("*",),
        allowed_hosts: Sequence[str] | None = None,
    ) -> None:
        self._keys = tuple(_usable(key) for key in api_keys)
        self._any_origin = "*" in cors_origins
        self._origins = frozenset(origin.rstrip("/").lower().encode("latin-1") for origin in cors_origins)
        self._hosts = None if allowed_hosts is None else frozenset(host.lower() for host in allowed_hosts)

    def __repr__(self) -> str:
        return f"<Admission {len(self._keys)} keys>"

    def refusal(self, found: Found, headers: Headers) -> SolarError | None:
        """Why this request may not come in; None when it may."""
        authorizations: list[bytes] = []
        presented: list[bytes] = []
        host = origin = b""
        for name, value in headers:
            if name == b"authorization":
                authorizations.append(value)
            elif name in _KEY_HEADERS:
                presented.append(value.strip())
            elif name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        if len(authorizations) > 1 and len(set(authorizations)) > 1:
            return InvalidRequest("two Authorization headers that differ; send one", code="ambiguous_authorization")
        if self._hosts is not None and found.kind not in OPEN and (error := self._foreign(host, origin)) is not None:
            return error
        if not self._keys or found.kind in OPEN:
            return None
        for value in authorizations:
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                presented.append(token.strip())
        if self._admits(presented):
            return None
        if not any(presented):
            return NotAuthenticated("no API key: send it as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        return NotAuthenticated("incorrect API key")

    def _admits(self, presented: list[bytes]) -> bool:
        admitted = False
        for credential in presented:
            for key in self._keys:  # no early way out: the time must not tell which key came close
                admitted |= bool(credential) and hmac.compare_digest(credential, key)
        return admitted

    def _foreign(self, host: bytes, origin: bytes) -> SolarError | None:
        """Without a key a web page in the user's browser could talk to us under a name of its own."""
        hosts = self._hosts or frozenset()
        if _hostname(b"//" + host) not in hosts:
            return _foreign_error("Host", host)
        if origin and _hostname(origin) not in hosts:
            return _foreign_error("Origin", origin)
        return None

    def cors(self, found: Found, headers: Headers) -> Headers:
        """What an answer says to a browser that asked from another origin. Errors say it too."""
        if found.kind not in CORS_KINDS:
            return []
        origin = next((value for name, value in headers if name == b"origin"), b"")
        if not origin:
            return []
        if self._any_origin:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        if origin.lower() in self._origins:
            return [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", _EXPOSED),
                (b"vary", b"origin"),
            ]
        return [(b"vary", b"origin")]

    def preflight(self, found: Found, headers: Headers) -> Headers:
        """The headers of the answer to OPTIONS; a preflight carries no key and needs none."""
        allow = ", ".join((*found.methods, "OPTIONS")).encode("ascii")
        answer = [(b"allow", allow), *self.cors(found, headers)]
        if len(answer) > 2:
            asked = next((v for n, v in headers if n == b"access-control-request-headers"), b"")
            answer.append((b"access-control-allow-methods", allow))
            answer.append((b"access-control-allow-headers", asked or b"authorization, content-type, x-api-key"))
            answer.append((b"access-control-max-age", b"86400"))
        return answer


def _usable(key: str) -> bytes:
    """A key as it can be presented. One that cannot be would lock the door, and an empty one would open it."""
    if not key or not key.isprintable() or key != key.strip():
        raise InvalidSettings("an API key must be printable, on one line, not empty, and without spaces around it")
    return key.encode("utf-8")


def _hostname(url: bytes) -> str:
    try:
        return (urlsplit(url.decode("latin-1")).hostname or "").lower()
    except ValueError:
        return ""


def _foreign_error(what: str, value: bytes) -> SolarError:
    shown = value.decode("latin-1")[:100]
    return InvalidRequest(
        f"{what} {shown!r} is foreign to this server; use a name that it knows, or add this one to its allowed_hosts",
        status=403,
        code="foreign_host",
    )
