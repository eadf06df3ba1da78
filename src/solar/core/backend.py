"""Facts about what we route to: backends, the models on them, their timeouts. Frozen; nothing here lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from solar.errors import InvalidBackend

BACKEND_TYPES = ("auto", "llamacpp", "vllm", "ollama", "lmstudio", "sglang", "tgi", "localai", "llamaswap", "generic")

# Where a model is loaded by the first request that names it: never woken up by a probe of ours.
LOADS_ON_DEMAND = frozenset({"ollama", "lmstudio", "llamaswap", "localai"})


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


# What makes two findings the same backend: scheme, host (loopback spellings are one), port, and what stands before
# /chat/completions.
Address = tuple[str, str, int, str]

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Where to connect: what a pool of connections is keyed by."""

    scheme: Literal["http", "https"]
    hostname: str  # lower case, without the brackets of IPv6
    port: int

    @property
    def authority(self) -> str:
        """The Host header's value; the port is left out where it is the scheme's own."""
        host = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a backend may take, in seconds; None means no limit."""

    connect: float | None = 5.0  # until the connection stands, TLS included
    first_byte: float | None = 600.0  # from the request sent to the first body byte
    between_bytes: float | None = 120.0  # between two reads of the answer's body
    total: float | None = None  # from the first attempt to the end of the answer

    def __post_init__(self) -> None:
        for name in ("connect", "first_byte", "between_bytes", "total"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidBackend(f"timeouts.{name} must be a number of seconds above 0, or absent; got {value!r}")


DEFAULT_TIMEOUTS = Timeouts()


@dataclass(frozen=True, slots=True)
class Model:
    """A model as one backend reports it."""

    id: str  # the backend's own name for it
    size: float | None = None  # billions of parameters, where the engine tells
    context: int | None = None  # tokens of context, where the engine tells
    facts: Mapping[str, Any] = field(
        default_factory=_nothing, compare=False
    )  # the backend's own object from its model list


@dataclass(frozen=True, slots=True)
class Backend:
    """One addressable OpenAI-compatible server to route to.

    `id` is its name in logs, headers and metrics; `url` is its root, with or without a trailing `/v1`.

    Raises InvalidBackend, with the field and what to write instead.
    """

    id: str
    url: str
    type: str = "auto"  # one of BACKEND_TYPES; "auto" finds out by asking
    api_key: str | None = field(default=None, repr=False)
    models: Sequence[str] = ()  # routable without a probe; what the backend reports is added
    aliases: Mapping[str, str] = field(default_factory=_nothing, hash=False)  # a client's name -> the backend's own
    host: str | None = None  # the machine it shares with others; default: the hostname in its URL
    weight: float = 1.0  # its host's capacity relative to other hosts
    priority: int = 0  # lower tiers are used first; a higher one only when those are not available
    max_in_flight: int | None = None  # more than this waits in the queue
    timeouts: Timeouts = DEFAULT_TIMEOUTS
    model_timeouts: Mapping[str, Timeouts] = field(
        default_factory=_nothing, hash=False
    )  # by the backend's own name for the model
    cancel: Literal["cancel", "drain"] = "cancel"  # when the client leaves: close, or read the answer to its end
    base_path: str | None = None  # what stands before `/chat/completions`; default: `/v1` under the URL's path
    ca_file: str | None = None  # PEM bundle that signs an https backend's certificate
    verify: bool = True  # False accepts any certificate
    source: str = "static"  # who named it: static, api, fleet, or the name of its discoverer
    other_urls: Sequence[str] = ()  # behind which the same engine answers: found there too, it is no second backend
    upstream: Any = field(default=None, repr=False, compare=False)  # a transport of its own: see solar.Upstream

    origin: Origin = field(init=False, repr=False, compare=False)
    prefix: str = field(init=False, repr=False, compare=False)  # before /chat/completions: "/v1", "/api/v1", ""
    root: str = field(init=False, repr=False, compare=False)  # before /health and /tokenize: "", "/api"
    host_id: str = field(init=False, repr=False, compare=False)  # whose capacity it shares
    other_addresses: tuple[Address, ...] = field(init=False, repr=False, compare=False)  # of `other_urls`

    def __post_init__(self) -> None:
        if not self.id or not self.id.isprintable() or any(c.isspace() for c in self.id):
            raise InvalidBackend(f"a backend's id must be printable, without spaces, and not empty; got {self.id!r}")
        origin, root, prefix = self._place(self.url)
        put = object.__setattr__
        put(self, "origin", origin)
        put(self, "root", root)
        put(self, "prefix", prefix)
        put(self, "host_id", (self.host or loopback_name(origin.hostname)).lower())
        put(self, "other_urls", tuple(self.other_urls))
        put(self, "other_addresses", tuple(self._address_of(url) for url in self.other_urls))
        put(self, "models", tuple(self.models))
        put(self, "aliases", MappingProxyType(dict(self.aliases)))
        put(self, "model_timeouts", MappingProxyType(dict(self.model_timeouts)))
        self._check()

    def _place(self, url: str) -> tuple[Origin, str, str]:
        """Where `url` points, and what stands there before /health and before /chat/completions."""
        origin, path = parse_url(url, self.id)
        if self.base_path is None:
            root = path[: -len("/v1")] if path.endswith("/v1") else path
            return origin, root, root + "/v1"
        inner = self.base_path.strip("/")
        return origin, path, f"{path}/{inner}" if inner else path

    def _address_of(self, url: str) -> Address:
        origin, _, prefix = self._place(url)
        return (origin.scheme, loopback_name(origin.hostname), origin.port, prefix)

    def _check(self) -> None:
        if self.type not in BACKEND_TYPES:
            raise self._wrong("type", f"one of {', '.join(BACKEND_TYPES)}", self.type)
        if not 0 < self.weight < float("inf"):
            raise self._wrong("weight", "a number above 0 (1 is the usual host, 2 one twice as strong)", self.weight)
        most = self.max_in_flight
        if most is not None and (not _whole(most) or most < 1):
            raise self._wrong("max_in_flight", "a whole number of at least 1, or absent for no limit", most)
        if not _whole(self.priority):
            raise self._wrong("priority", "a whole number (0 is used first)", self.priority)
        if self.cancel not in ("cancel", "drain"):
            raise self._wrong("cancel", "'cancel' or 'drain'", self.cancel)
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise InvalidBackend(f"backend {self.id!r}: api_key must be printable ASCII on one line")
        for name in (*self.models, *self.aliases, *self.aliases.values()):
            if not name or not name.isprintable():
                raise self._wrong("models and aliases", "printable names that are not empty", name)

    def _wrong(self, what: str, wanted: str, got: object) -> InvalidBackend:
        return InvalidBackend(f"backend {self.id!r}: {what} must be {wanted}; got {got!r}")

    @property
    def address(self) -> Address:
        """Two findings with the same address are the same backend."""
        return (self.origin.scheme, loopback_name(self.origin.hostname), self.origin.port, self.prefix)

    def timeouts_for(self, model: str) -> Timeouts:
        """The limits for the backend's own `model`."""
        return self.model_timeouts.get(model, self.timeouts) if self.model_timeouts else self.timeouts


def _whole(number: object) -> bool:
    return isinstance(number, int)


def parse_url(url: str, who: str) -> tuple[Origin, str]:
    """Where `url` points, and its path without a trailing slash. `who` names the backend in the error."""
    text = url.strip()
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise InvalidBackend(f"backend {who!r}: {url!r} is no URL ({error}); write http://host:port") from None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https") or not parts.hostname:
        raise InvalidBackend(f"backend {who!r}: {url!r} is no http(s) URL; write http://host:port or https://host")
    if parts.username is not None or parts.query or parts.fragment:
        raise InvalidBackend(f"backend {who!r}: leave user, query and fragment out of its URL; the key goes to api_key")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidBackend(f"backend {who!r}: {url!r} has a character that no URL may hold")
    path = parts.path.rstrip("/")
    if "//" in path or any(segment in (".", "..") for segment in path.split("/")):
        raise InvalidBackend(f"backend {who!r}: the path of {url!r} must be plain: no //, . or ..")
    if port == 0:
        raise InvalidBackend(f"backend {who!r}: port 0 of {url!r} cannot be reached; write the port that it listens on")
    known: Literal["http", "https"] = "https" if scheme == "https" else "http"
    return Origin(known, parts.hostname.lower().rstrip("."), port or _DEFAULT_PORTS[known]), path


def loopback_name(hostname: str) -> str:
    """`hostname`, with every spelling of this machine's loopback as "localhost"."""
    if hostname == "localhost" or hostname.endswith(".localhost"):
        return "localhost"
    try:
        return "localhost" if ip_address(hostname).is_loopback else hostname
    except ValueError:
        return hostname
