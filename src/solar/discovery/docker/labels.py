"""What a container's labels ask for: our own, and those of oairouter. A wrong value is left out, and said."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeVar

from solar.core.backend import BACKEND_TYPES, parse_url
from solar.errors import InvalidBackend

NAMES = (
    "enable",
    "type",
    "port",
    "url",
    "network",
    "model",
    "alias",
    "weight",
    "priority",
    "max_in_flight",
    "api_key_file",
    "cancel",
)
_OAIROUTER = {"enabled": "enable", "backend": "type", "port": "port", "model": "model", "url": "url"}
_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1", "enable", "enabled"), True),
    **dict.fromkeys(("false", "no", "off", "0", "disable", "disabled"), False),
}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Labels:
    """What the labels of one container say. None, or nothing: they do not say it."""

    shown: str = ""  # the first of them, as people know it; empty where none is meant for us
    enable: bool | None = None
    type: str | None = None
    port: int | None = None
    url: str | None = None
    network: str | None = None
    models: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # a client's name -> a model
    plain_aliases: tuple[str, ...] = ()  # for the only model that there is
    weight: float = 1.0
    priority: int = 0
    max_in_flight: int | None = None
    api_key_file: str | None = None
    cancel: Literal["cancel", "drain"] = "cancel"
    notes: tuple[str, ...] = ()  # which labels were left out, why, and what to write


def read_labels(labels: Mapping[str, str], prefix: str = "solar.") -> Labels:
    """Read them: those that begin with `prefix`, then oairouter's where ours say nothing."""
    reader = _Reader(labels, prefix)
    aliases, plain = reader.read("alias", _aliases) or ({}, ())
    return Labels(
        enable=reader.read("enable", _switch, empty=True),
        type=reader.read("type", reader.type),
        port=reader.read("port", _port),
        url=reader.read("url", _url),
        network=reader.read("network", str.strip),
        models=reader.read("model", _names) or (),
        aliases=MappingProxyType(aliases),
        plain_aliases=plain,
        weight=reader.read("weight", _weight) or 1.0,
        priority=reader.read("priority", _priority) or 0,
        max_in_flight=reader.read("max_in_flight", _limit),
        api_key_file=reader.read("api_key_file", _path),
        cancel=reader.read("cancel", _cancel) or "cancel",
        shown=next((f"label {label}={_short(text)}" for label, text in reader.given.values()), ""),
        notes=(*reader.notes, *reader.unknown()),
    )


class _Reader:
    """Finds the label of a name, and keeps what is wrong."""

    def __init__(self, labels: Mapping[str, str], prefix: str) -> None:
        self._prefix = prefix
        self._labels = labels
        self.given: dict[str, tuple[str, str]] = {}  # by our name for it, in our order: the label, its value
        theirs = {ours: f"oairouter.{name}" for name, ours in _OAIROUTER.items()}
        for name in NAMES:
            for label in (prefix + name, theirs.get(name, "")):
                if label in labels:
                    self.given.setdefault(name, (label, labels[label]))
        self.notes: list[str] = []

    def read(self, name: str, meaning: Callable[[str], _T], *, empty: _T | None = None) -> _T | None:
        """The label's value as `meaning` reads it; `empty` where it has none, None where it is wrong or not there."""
        if name not in self.given:
            return None
        label, text = self.given[name]
        if not text.strip():
            return empty
        try:
            return meaning(text.strip())
        except ValueError as error:
            self.notes.append(f"the label {label}={_short(text)} is ignored: {error}")
            return None

    def type(self, text: str) -> str | None:
        """Any text is a type, as in oairouter; one that we do not know is an engine like any other."""
        plain = "".join(filter(str.isalnum, text.lower()))  # llama.cpp, llama-cpp, LM Studio
        if plain in BACKEND_TYPES:
            return None if plain == "auto" else plain
        types = ", ".join(BACKEND_TYPES)
        label = self.given["type"][0]
        self.notes.append(f"the label {label}={_short(text)} is read as generic: it is none of {types}")
        return "generic"

    def unknown(self) -> list[str]:
        """Labels under our prefix that mean nothing: spelled wrong, most likely."""
        notes = []
        for label in sorted(self._labels):
            name = label.removeprefix(self._prefix)
            if name != label and name not in NAMES:
                near = difflib.get_close_matches(name, NAMES, n=1)
                meant = f"{self._prefix}{near[0]}" if near else f"one of {', '.join(NAMES)}"
                notes.append(f"the label {_short(label)} means nothing; write {meant}")
        return notes


def _switch(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError("write true or false")
    return _WORDS[text.lower()]


def _whole(text: str, wanted: str) -> int:
    try:
        return int(text) if len(text) < 20 else int("too long")
    except ValueError:
        raise ValueError(wanted) from None


def _port(text: str) -> int:
    port = _whole(text, wanted := "write a port from 1 to 65535, the one inside the container")
    if not 0 < port < 65536:
        raise ValueError(wanted)
    return port


def _priority(text: str) -> int:
    return _whole(text, "write a whole number; lower ones are used first")


def _limit(text: str) -> int:
    limit = _whole(text, wanted := "write a whole number of requests, 1 or more")
    if limit < 1:
        raise ValueError(wanted)
    return limit


def _weight(text: str) -> float:
    wanted = "write a number above 0; 1 is the usual host, 2 one twice as strong"
    try:
        weight = float(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not 0 < weight < math.inf:
        raise ValueError(wanted)
    return weight


def _url(text: str) -> str:
    try:
        parse_url(text, "label")
    except InvalidBackend:
        raise ValueError("write the engine's root, http://host:port") from None
    return text


def _cancel(text: str) -> Literal["cancel", "drain"]:
    if text == "cancel":
        return "cancel"
    if text == "drain":
        return "drain"
    raise ValueError("write cancel or drain")


def _path(text: str) -> str:
    if "\0" in text:
        raise ValueError("write the path of a file")
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not all(name.isprintable() for name in names):
        raise ValueError("write names, separated by commas")
    return names


def _aliases(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """ "gpt-4=qwen,small" says what gpt-4 means, and that small means the only model."""
    names = _names(text)
    parts = [name.partition("=") for name in names if "=" in name]
    pairs = {alias.strip(): model.strip() for alias, _, model in parts}
    if not all(pairs) or not all(pairs.values()):
        raise ValueError("write alias=model, or an alias alone for the only model")
    return pairs, tuple(name for name in names if "=" not in name)


def _short(text: str) -> str:
    if "@" in text:  # a password may stand before it
        return "..."
    return text if len(text) <= 60 and text.isprintable() else repr(text[:57])[1:-1] + "..."
