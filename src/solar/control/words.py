"""The words of the setting `discover`: where to look for backends, and what each of them may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args
from urllib.parse import urlsplit

from solar.config.fields import nearest
from solar.errors import InvalidSettings

Kind = Literal["docker", "local", "dns", "file", "mdns"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# A service's own name too: _ollama._tcp.example.org.
_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")


@dataclass(frozen=True, slots=True)
class Source:
    """One place to look at."""

    kind: Kind
    what: str = ""  # the URL of a Docker Engine, a name, a path
    port: int | None = None  # of a name

    def __str__(self) -> str:
        """The word for it."""
        told = f"{self.what}:{self.port}" if self.port is not None else self.what
        return f"{self.kind}:{told}" if told else self.kind

    @property
    def in_words(self) -> str:
        """Where that is, for a sentence that says "look for backends"."""
        match self.kind:
            case "docker":
                return f"in Docker at {self.what}" if self.what else "in Docker"
            case "local":
                return "on this machine"
            case "dns":
                return f"behind the name {self.what}"
            case "file":
                return f"in {self.what}"
            case "mdns":
                return "on the local network"


def source_of(word: str, where: str) -> Source:
    """What `word` means. Raises InvalidSettings, with `where` it was written and what was probably meant."""
    kind, colon, rest = word.strip().partition(":")
    match kind:
        case "local" | "mdns" if not colon:
            return Source(kind)
        case "local" | "mdns":
            raise InvalidSettings(f"{where}: {word!r} says too much; write {kind}")
        case "docker":
            return Source("docker", _engine(rest, word, where)) if colon else Source("docker")
        case "dns":
            return _name(rest, word, where)
        case "file":
            if not rest:
                raise InvalidSettings(f"{where}: {word!r} names no file; write for example: file:backends.toml")
            return Source("file", rest)
    if kind in ("unix", "tcp", "ssh"):
        raise InvalidSettings(f"{where}: {word!r} is no place to look at; did you mean 'docker:{word}'?")
    hint = nearest(kind, KINDS) or f" (known: {', '.join(KINDS)})"
    raise InvalidSettings(f"{where}: {word!r} is no place to look at{hint}")


def _engine(url: str, word: str, where: str) -> str:
    """The URL of a Docker Engine."""
    try:
        parts = urlsplit(url)
        hostname, password, _ = parts.hostname, parts.password, parts.port
    except ValueError as error:
        raise InvalidSettings(f"{where}: {word!r} is no URL ({error})") from None
    if password is not None:
        raise InvalidSettings(f"{where}: leave the password out of docker:{parts.scheme}://; use a key of SSH")
    if (parts.scheme == "unix" and parts.path and not parts.netloc) or (parts.scheme in ("tcp", "ssh") and hostname):
        return url
    if "://" not in url:
        meant = f"docker:unix://{url}" if url.startswith("/") else f"docker:tcp://{url or 'HOST'}"
        raise InvalidSettings(f"{where}: {word!r} is no Docker Engine's URL; did you mean {meant!r}?")
    examples = "docker:unix:///var/run/docker.sock, docker:tcp://gpu1:2376 or docker:ssh://me@gpu2"
    raise InvalidSettings(f"{where}: {word!r} is no Docker Engine's URL; write for example {examples}")


def _name(rest: str, word: str, where: str) -> Source:
    """A name with the port to ask at, or one whose SRV records tell the ports."""
    name, colon, port = rest.rpartition(":") if ":" in rest else (rest, "", "")
    if not _HOSTNAME.fullmatch(name):
        example = "dns:llm.example.org:8000, or dns:_llm._tcp.example.org, which tells the port itself"
        raise InvalidSettings(f"{where}: {word!r} holds no name; write for example {example}")
    if name.startswith("_"):
        if colon:
            raise InvalidSettings(f"{where}: the SRV records of {name} tell the port; write dns:{name}")
        return Source("dns", name)
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise InvalidSettings(f"{where}: {word!r} needs a port from 1 to 65535; write for example dns:{name}:8000")
    return Source("dns", name, int(port))
