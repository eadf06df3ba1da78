"""Who may come in to what the gateway has beside the router: decided on the head, for requests and for WebSockets."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qs, unquote, urlsplit

from solar.control.keys import Access
from solar.control.tokens import Tokens
from solar.core.headers import Headers
from solar.core.paths import Found
from solar.edge.admission import Admission
from solar.errors import InvalidRequest, NotAuthenticated, SolarError

OPEN = frozenset({"/docs", "/openapi.json"})  # without a key: they tell what is documented anyway
LINKS = frozenset({"/ws/host-channel", "/socket.io"})  # for agents, whose first frame has their own key
PROTOCOL = "solar"  # of a WebSocket; a browser offers it beside the one that carries the key
KEY_PROTOCOL = "solar.key."

_ANYTHING = Found("unknown")  # whatever the router does not know needs a key
_OPEN = Found("health")


class Entrance:
    """A page of another origin may be open in a browser that reaches us, and even know the key: it is refused, unless
    its host's name is one of `trusted`."""

    def __init__(self, admitted: Access, tokens: Tokens, trusted: Iterable[str] = ()) -> None:
        self._tokens = tokens
        self._by_key = Admission(api_keys=admitted.keys, allowed_hosts=admitted.hosts)
        self._by_name = Admission(allowed_hosts=admitted.hosts)
        self._trusted = frozenset(name.lower() for name in trusted)

    def __repr__(self) -> str:
        return f"<Entrance {self._by_key!r}>"

    def refusal(self, method: str, path: str, headers: Headers) -> SolarError | None:
        """Why this request may not come in; None when it may."""
        found = _OPEN if path in OPEN or method == "OPTIONS" else _ANYTHING
        return self._foreign(headers) or self._by_key.refusal(found, headers)

    def socket_refusal(self, path: str, query: bytes, headers: Headers, now: float) -> SolarError | None:
        """Why this WebSocket may not be opened; None when it may. A token is spent by this."""
        if (error := self._foreign(headers) or self._by_name.refusal(_ANYTHING, headers)) is not None or path in LINKS:
            return error
        token = _token(query)
        if token and self._tokens.spend(token, now):
            return None
        offered = [
            (b"x-api-key", unquote(name.removeprefix(KEY_PROTOCOL)).encode())
            for name in offered_protocols(headers)
            if name.startswith(KEY_PROTOCOL)
        ]
        error = self._by_key.refusal(_ANYTHING, [*headers, *offered])
        if error is not None and token:
            return NotAuthenticated("the token is not known, was used, or has expired; POST /ws/token gives a new one")
        return error

    def _foreign(self, headers: Headers) -> SolarError | None:
        hosts = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        for origin in (value.decode("latin-1") for name, value in headers if name == b"origin"):
            authority, hostname = _place(origin)
            if not authority or (authority not in hosts and hostname not in self._trusted):
                return InvalidRequest(
                    f"Origin {origin[:100]!r} is foreign to this server: its pages may not manage it; "
                    "if they should, add its name to allowed_hosts",
                    status=403,
                    code="foreign_host",
                )
        return None


def offered_protocols(headers: Headers) -> list[str]:
    """What a client may speak on its WebSocket, as it says."""
    lists = [value.decode("latin-1") for name, value in headers if name == b"sec-websocket-protocol"]
    return [name.strip() for given in lists for name in given.split(",")]


def _token(query: bytes) -> str:
    return parse_qs(query.decode("latin-1")).get("token", [""])[0]


def _place(origin: str) -> tuple[str, str]:
    """The host that a page came from, with its port and without."""
    try:
        parsed = urlsplit(origin)
        return parsed.netloc.lower(), parsed.hostname or ""
    except ValueError:
        return "", ""
