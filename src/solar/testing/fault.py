"""What a fault is, and how a name in a model becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec

from solar.testing.answer import Answer, Step

P = ParamSpec("P")

_PLAYS: dict[str, Callable[..., Iterator[Step]]] = {}
_MAKERS: dict[str, Callable[..., Fault]] = {}


@dataclass(frozen=True, slots=True, repr=False)
class Fault:
    """Something that goes wrong with one answer. Made by the functions of `solar.testing.faults`."""

    name: str
    args: tuple[object, ...] = ()

    def steps(self, answer: Answer) -> Iterator[Step]:
        """What goes onto the wire in place of the truthful `answer`."""
        return _PLAYS[self.name](answer, *self.args)

    def __repr__(self) -> str:
        return f"faults.{self.name}({', '.join(map(repr, self.args))})"


def fault(play: Callable[Concatenate[Answer, P], Iterator[Step]]) -> Callable[P, Fault]:
    """Makes `play` the maker of a fault: its first argument is the answer, the rest are the fault's own."""
    name = play.__name__
    signature = inspect.signature(play)
    own = signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=Fault)
    _PLAYS[name] = play

    @wraps(play)
    def make(*args: P.args, **kwargs: P.kwargs) -> Fault:
        bound = own.bind(*args, **kwargs)
        bound.apply_defaults()
        return Fault(name, tuple(bound.arguments.values()))

    make.__signature__ = own  # type: ignore[attr-defined]
    make.__annotations__ = {**play.__annotations__, "return": "Fault"}
    _MAKERS[name] = make
    return make


def names() -> tuple[str, ...]:
    """Every fault there is."""
    return tuple(sorted(_MAKERS))


def fault_named(text: str) -> Fault:
    """The fault that a text like `reset_after:3` or `status:503:retry_after=2` means.

    Raises ValueError, saying what is wrong with it.
    """
    name, *given = text.split(":")
    make = _MAKERS.get(name)
    if make is None:
        raise ValueError(f"no fault is named {name!r}; there are {', '.join(names())}")
    args: list[object] = []
    kwargs: dict[str, object] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if equals:
            kwargs[key] = _value(value)
        else:
            args.append(_value(item))
    try:
        return make(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"fault {name!r}: {error}") from None


def _value(text: str) -> object:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text
