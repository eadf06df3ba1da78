"""Hosts and instances by what people call them: an id, the beginning of one, a name, an alias."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from solar.cli.client import Client, Refused, segment
from solar.cli.show import clean
from solar.config.fields import nearest

_SHOWN = 10  # names in an error


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance, and the host that it is on."""

    host_id: str
    host_name: str
    id: str
    alias: str

    @property
    def path(self) -> str:
        """Its page in the API."""
        return f"/hosts/{segment(self.host_id)}/instances/{segment(self.id)}"

    @property
    def backend_id(self) -> str:
        """How the router calls it while it runs."""
        return f"{self.host_id}/{segment(self.id)}"

    def __str__(self) -> str:
        return f"{self.alias or self.id} on {self.host_name}"


def find_host(client: Client, word: str) -> dict[str, Any]:
    """The host that `word` means. Raises Refused, with those that it may have meant."""
    hosts: list[dict[str, Any]] = client.get("/hosts")
    found = _meant(word, hosts, "name")
    if len(found) == 1:
        return found[0]
    if found:
        raise Refused(_ambiguous(word, "hosts", [(host["id"], host["name"], host["url"]) for host in found]))
    raise Refused(_nobody(f"there is no host {word!r}", word, [host["name"] for host in hosts]), code="host_not_found")


def find_instance(client: Client, word: str, host: str | None = None) -> FoundInstance:
    """The instance that `word` means, on any host, or on `host`. HOST/INSTANCE says both.

    Raises Refused, with those that it may have meant.
    """
    at = find_host(client, host)["id"] if host is not None else None
    known = _instances(client, at)
    found = _instances_meant(word, known)
    if not found:
        # What was created this moment is not listed yet.
        client.ask("POST", "/hosts/refresh-all" if at is None else f"/hosts/{segment(at)}/refresh")
        known = _instances(client, at)
        found = _instances_meant(word, known)
    if len(found) == 1:
        return _found(found[0])
    if found:
        rows = [(one["id"], one["alias"], f"on {one['host_name']}") for one in found]
        raise Refused(_ambiguous(word, "instances", rows, "name one by its id, or as HOST/INSTANCE"))
    where = f" on {host}" if host is not None else ""
    names = [one["alias"] or one["id"] for one in known]
    raise Refused(_nobody(f"there is no instance {word!r}{where}", word, names), code="instance_not_found")


def ids_of_hosts(client: Client, words: Sequence[str]) -> list[str]:
    """The ids of all hosts that `words` mean; a word that means none stays, as not all that logs is registered."""
    known = client.get("/hosts") if words else []
    found = {word: [host["id"] for host in _meant(word, known, "name")] for word in words}
    return _ids(client, found, "host", [host["name"] for host in known])


def ids_of_instances(client: Client, words: Sequence[str]) -> list[str]:
    """The same of instances."""
    known = _instances(client, None) if words else []
    found = {word: [one["id"] for one in _instances_meant(word, known)] for word in words}
    return _ids(client, found, "instance", [one["alias"] for one in known])


def _ids(client: Client, found: Mapping[str, Sequence[str]], what: str, names: Sequence[str]) -> list[str]:
    unknown = [word for word, ids in found.items() if not ids]
    if unknown:  # backends that are no instances may log too, and so does the gateway
        backends = client.get("/gateway/backends")["backends"]
        others = {"gateway", "requests", *(name for one in backends for name in (one["id"], one["host"]))}
        for word in unknown:
            if word not in others:
                click.echo(clean(_nobody(f"no {what} is called {word!r}", word, names)), err=True)
    return [one for word, ids in found.items() for one in ids or [word]]


def _instances(client: Client, host_id: str | None) -> list[dict[str, Any]]:
    query = {} if host_id is None else {"host_id": host_id}
    listed: list[dict[str, Any]] = client.get("/gateway/instances", query)["instances"]
    return listed


def _instances_meant(word: str, known: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = _meant(word, known, "alias")
    host, slash, rest = word.partition("/")
    if found or not slash:
        return found
    hosts = list({one["host_id"]: {"id": one["host_id"], "name": one["host_name"]} for one in known}.values())
    ids = {one["id"] for one in _meant(host, hosts, "name")}
    return _meant(rest, [one for one in known if one["host_id"] in ids], "alias")


def _meant(word: str, known: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Of several ways to read a word, the first that leads anywhere counts."""
    ways: tuple[Callable[[dict[str, Any]], bool], ...] = (
        lambda one: one["id"] == word,
        lambda one: one[name] == word,
        lambda one: one[name].casefold() == word.casefold(),
        lambda one: bool(word) and one["id"].startswith(word),
    )
    return next((found for reads in ways if (found := list(filter(reads, known)))), [])


def _found(one: dict[str, Any]) -> FoundInstance:
    return FoundInstance(one["host_id"], one["host_name"], one["id"], one["alias"])


def _ambiguous(word: str, what: str, rows: Sequence[tuple[str, ...]], advice: str = "name one by its id") -> str:
    listed = "".join(f"\n  {'  '.join(row)}" for row in rows)
    return f"{word!r} means {len(rows)} {what}; {advice}:{listed}"


def _nobody(what: str, word: str, names: Sequence[str]) -> str:
    if close := nearest(word, names):
        return what + close
    known = sorted(set(names))
    rest = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"{what}; there {'is' if len(known) == 1 else 'are'}: {', '.join(known[:_SHOWN]) or 'none'}{rest}"
