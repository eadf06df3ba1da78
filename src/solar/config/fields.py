"""What a setting may hold, and what to write instead: one reading for solar.toml, flags and the environment."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Meta, Struct

from solar.errors import InvalidSettings

# How msgspec calls a type, and how a person does.
_IN_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    "array": "a list",
    "object": "a table",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One setting of a table: its name, what it may hold, and what it means."""

    name: str
    kind: Any  # the type that msgspec converts to
    default: Any  # NODEFAULT: must be given; UNSET: what it falls back to is said by its meaning
    meaning: str
    example: Any  # shown where something else was written

    @property
    def many(self) -> bool:
        """Whether it holds a list."""
        return isinstance(self.default, tuple)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it may be, where it is not free."""
        return _choices(self.kind)

    def convert(self, value: object, where: str, *, text: bool = False) -> Any:
        """`value` as this setting's type; `text` allows numbers and booleans that are spelled out.

        Raises InvalidSettings, with `where` and what to write. The value itself is shown only where it is one of a few
        words, as it may be a secret.
        """
        try:
            return msgspec.convert(value, self.kind, strict=not text)
        except msgspec.ValidationError as error:
            raise InvalidSettings(f"{where}: {self._wrong(value, str(error), text)}") from None

    def _wrong(self, value: object, why: str, text: bool) -> str:
        example = self.example if isinstance(self.example, str) else json.dumps(self.example)
        example = example if text else f"{self.name} = {json.dumps(self.example)}"
        if self.choices and not why.startswith("Expected"):
            given = value if isinstance(value, (list, tuple)) else [value]
            wrong = next((word for word in given if word not in self.choices), value)
            words = f"{wrong!r} is not one of {', '.join(self.choices)}{nearest(str(wrong), self.choices)}"
            return words if isinstance(self.example, (str, list, tuple)) else f"{words}; write for example: {example}"
        reason = why.partition(" - at `")[0].replace("`", "").replace(" | null", "")
        if text:  # everything is a text there: saying so would not help
            reason = reason.partition(", got")[0]
        reason = re.sub(rf"\b({'|'.join(_IN_WORDS)})\b", lambda found: _IN_WORDS[found[0]], reason)
        return f"{reason[0].lower()}{reason[1:]}; write for example: {example}"


def fields_of(table: type[Struct]) -> dict[str, Field]:
    """The settings of a table, in the order in which they are written down."""
    found = {}
    for info in msgspec.structs.fields(table):
        metas = [part for part in get_args(info.type) if isinstance(part, Meta)]
        meaning = next(meta.description for meta in metas if meta.description)
        examples = [meta.examples[0] for meta in metas if meta.examples]
        default = info.default if info.default_factory is NODEFAULT else info.default_factory()
        found[info.name] = Field(info.name, info.type, default, meaning, examples[0] if examples else default)
    return found


def check_table(table: object, kind: type[Struct], where: str) -> dict[str, Any]:
    """`table` as it was written, once every key is known, no key is missing and each value fits.

    Raises InvalidSettings, with `where`, the key and what to write.
    """
    if not isinstance(table, dict):
        raise InvalidSettings(f"{where}: must be a table")
    fields = fields_of(kind)
    for key, value in table.items():
        if key not in fields:
            raise InvalidSettings(f"{where}: no setting is called {key!r}{nearest(key, fields)}")
        field = fields[key]
        for inner_where, inner_kind, inner in _tables(field.kind, value, f"{where} {key}"):
            check_table(inner, inner_kind, inner_where)
        field.convert(value, f"{where} {key}")
    for field in fields.values():
        if field.default is NODEFAULT and field.name not in table:
            example = f"{field.name} = {json.dumps(field.example)}"
            raise InvalidSettings(f"{where}: {field.name} is missing; write for example: {example}")
    return table


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown `word`: the one that was probably meant, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(field: Field) -> str:
    """The default as documentation and help show it."""
    if field.default is NODEFAULT:
        return "required"
    if field.default is UNSET or isinstance(field.default, Struct) or field.default in (None, (), {}):
        return "none"
    if isinstance(field.default, str):
        return field.default
    return ", ".join(field.default) if isinstance(field.default, tuple) else json.dumps(field.default)


def _choices(kind: Any) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(word for part in get_args(kind) for word in _choices(part))


def _tables(kind: Any, value: object, where: str) -> list[tuple[str, type[Struct], object]]:
    """The tables inside of a value, to be checked by their own keys: a table, or a table of tables."""
    for part in (kind, *get_args(kind)):
        if isinstance(part, type) and issubclass(part, Struct):
            return [(where, part, value)]
        if get_origin(part) is dict and isinstance(value, dict):
            _, inner = get_args(part)
            return [found for key, table in value.items() for found in _tables(inner, table, f"{where}.{key}")]
    return []
