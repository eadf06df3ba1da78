"""Keys out of what agents answer, before a client sees it; and back into what a client sends back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

from solar.wire.reading import Unreadable, decode

MASK = "***"

# A shorter key is a common word, or part of one: only where it stands alone is it taken for the key.
_TELLING = 8

# What a search may cost: keys times characters, by a plain look and by the pattern. An agent decides on both.
_MOST_LOOKS, _MOST_TRIES = 1_000_000_000, 20_000_000

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_COLON = re.compile(rb"\s*:\s*")
_NUMBER = re.compile(rb"-?[0-9][0-9.eE+-]*")


class _Value(NamedTuple):
    """A text or number in a JSON body that is no field's name, and where it stands."""

    start: int
    end: int
    text: str
    is_key: bool  # the field that it belongs to is named like a key


def redact(body: bytes, secrets: Iterable[str] = ()) -> bytes:
    """`body` with every key in it masked: what fields like `api_key` hold, and `secrets` wherever they stand.

    Nothing else changes, not by a byte: a JSON text that holds no key stays as it was written, as do all names of
    fields. A key that one field holds is masked in all other texts of that body too. What is no JSON is searched
    for `secrets` alone. Where that would take long, nothing is left but the mask.
    """
    known = {secret for secret in secrets if secret}
    try:
        decode(body)
    except Unreadable:
        return _in_text(body, known)
    values = tuple(_values(body))
    known |= {value.text for value in values if value.is_key and value.text}
    if not known:
        return body
    try:
        pattern = _pattern(_present(known, "\n".join([value.text for value in values if not value.is_key])))
    except _TooMuch:
        return msgspec.json.encode(MASK)
    pieces, done = [], 0
    for value in values:
        masked = MASK if value.is_key and value.text else pattern.sub(MASK, value.text)
        if masked != value.text:
            pieces += [body[done : value.start], msgspec.json.encode(masked)]
            done = value.end
    return b"".join([*pieces, body[done:]]) if pieces else body


def masking(secrets: Iterable[str]) -> re.Pattern[str] | None:
    """What finds `secrets` in one line of text, for MASK to stand in their place; None where there are none."""
    known = {secret for secret in secrets if secret}
    return _pattern(known) if known else None


def unmask(body: bytes, key: str) -> bytes:
    """`body` with `key` where a client sends back the mask that it was shown; nothing else changes."""
    try:
        decode(body)
    except Unreadable:
        return body
    pieces, done = [], 0
    for value in _values(body):
        if value.is_key and value.text == MASK:
            pieces += [body[done : value.start], msgspec.json.encode(key)]
            done = value.end
    return b"".join([*pieces, body[done:]])


def _values(body: bytes) -> Iterator[_Value]:
    """The texts of a JSON body that are values, and the numbers of fields that are named like a key."""
    name, due = "", -1  # the last field's name, and where its value begins
    for found in _STRING.finditer(body):
        text = msgspec.json.decode(found[0], type=str) if b"\\" in found[0] else found[0][1:-1].decode()
        colon = _COLON.match(body, found.end())
        if colon is None:
            yield _Value(found.start(), found.end(), text, found.start() == due and _names_a_key(name))
            continue
        name, due = text, colon.end()
        if _names_a_key(name) and (number := _NUMBER.match(body, due)):
            yield _Value(due, number.end(), number[0].decode(), True)


def _names_a_key(name: str) -> bool:
    plain = name.lower().replace("_", "").replace("-", "")
    return plain.endswith("apikey") or plain == "authorization"


class _TooMuch(Exception):
    """So many keys, in so much text, that to search for them would hold up everybody."""


def _present(secrets: set[str], text: str) -> list[str]:
    """Those that stand in `text`. Raises _TooMuch."""
    if len(secrets) * len(text) > _MOST_LOOKS:
        raise _TooMuch
    found = [secret for secret in secrets if secret in text]
    if len(found) * len(text) > _MOST_TRIES:
        raise _TooMuch
    return found


def _pattern(secrets: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(secrets, key=len, reverse=True)
    return re.compile("|".join(_where(secret) for secret in longest_first) or r"(?!)")  # none: it finds nothing


def _where(secret: str) -> str:
    escaped = re.escape(secret)
    return escaped if len(secret) >= _TELLING else rf"(?<![^\W_]){escaped}(?![^\W_])"


def _in_text(body: bytes, secrets: set[str]) -> bytes:
    if not secrets:
        return body
    spelled = secrets | {msgspec.json.encode(secret)[1:-1].decode() for secret in secrets}
    text = body.decode("utf-8", "surrogateescape")
    try:
        return _pattern(_present(spelled, text)).sub(MASK, text).encode("utf-8", "surrogateescape")
    except _TooMuch:
        return MASK.encode()
