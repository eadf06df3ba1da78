"""How we read what others wrote: field by field, so that one that is wrong does not lose the rest."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from solar.errors import UpstreamFailed

_SHOWN = 40  # characters of a wrong value that a complaint shows
_DIGITS = 18  # a longer number is none of ours
_LARGEST = 10.0**_DIGITS


class Unreadable(UpstreamFailed):
    """An agent said something that cannot be read; the message says what is wrong with it."""


def decode(body: bytes | str) -> object:
    """The JSON value that `body` is. Raises Unreadable."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Unreadable(f"this is no JSON: {error}") from None


def decode_object(body: bytes | str) -> dict[str, object]:
    """The JSON object that `body` is. Raises Unreadable."""
    value = decode(body)
    if not isinstance(value, dict):
        raise Unreadable(f"a JSON object was expected, and this is {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


class Fields:
    """The fields of one object, asked by name and type. A missing one, and null, are the default without a word;
    a wrong one is the default too, and `complaints` says so."""

    __slots__ = ("_of", "_who", "complaints")

    def __init__(self, of: Mapping[str, object], who: str, complaints: list[str] | None = None) -> None:
        self._of = of
        self._who = who
        self.complaints: list[str] = [] if complaints is None else complaints

    def __repr__(self) -> str:
        return f"<Fields of {self._who}: {', '.join(self._of)}>"

    def complain(self, name: str, wanted: str, *, secret: bool = False) -> None:
        """Notes that a field is not what it must be. The value of a secret one is not shown."""
        shown = "something else" if secret else repr(self._of[name])
        shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
        self.complaints.append(f"{self._who}: {name} must be {wanted}; got {shown}")

    def text(self, name: str, *, secret: bool = False) -> str | None:
        """A text, "" included."""
        value = self._of.get(name)
        if value is None or isinstance(value, str):
            return value
        self.complain(name, "a text", secret=secret)
        return None

    def name(self, name: str) -> str | None:
        """A text that can name something: printable and not empty."""
        value = self.text(name)
        if not value:
            return None
        if value.isprintable():
            return value
        self.complain(name, "printable")
        return None

    def whole(self, name: str) -> int | None:
        """A whole number of 0 or more, also where it was written as a text or with a fraction of 0."""
        value = self._of.get(name)
        if value is None:
            return None
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
            return value
        self.complain(name, "a whole number")
        return None

    def number(self, name: str) -> float | None:
        """A number of any kind."""
        value = self._of.get(name)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST:
            return float(value)
        self.complain(name, "a number")
        return None

    def flag(self, name: str) -> bool:
        """True or false; false where it is missing."""
        value = self._of.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        self.complain(name, "true or false")
        return False

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of texts; what else stands in the list is left out."""
        value = self._of.get(name)
        if value is None:
            return None
        if isinstance(value, list):
            return tuple(item for item in value if isinstance(item, str))
        self.complain(name, "a list of texts")
        return None

    def inner(self, name: str) -> Mapping[str, object]:
        """An object; empty where there is none."""
        value = self._of.get(name)
        if isinstance(value, dict):
            return value
        if value is not None:
            self.complain(name, "an object")
        return {}
