"""One engine found twice is one backend: who claims which address, and whose word counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from solar.core.backend import Address, Backend

# What a person wrote comes before what was found, and who knows more of an engine before who only saw that it listens.
PRECEDENCE = ("static", "api", "file", "fleet", "docker", "dns", "local", "mdns")  # other sources come after these


class Sources:
    """What each source has named. A source that falls silent leaves the claims of the others standing."""

    __slots__ = ("_claims",)

    def __init__(self) -> None:
        self._claims: dict[tuple[str, str], Backend] = {}

    def __len__(self) -> int:
        return len(self._claims)

    def claim(self, backend: Backend) -> None:
        """`backend.source` names this backend, anew or again."""
        self._claims[backend.source, backend.id] = backend

    def drop(self, source: str, backend_id: str) -> bool:
        """`source` takes its claim back; False when it had none."""
        return self._claims.pop((source, backend_id), None) is not None

    def replace(self, source: str, backends: Iterable[Backend]) -> None:
        """`backends` are now all that `source` names."""
        kept = {key: claim for key, claim in self._claims.items() if key[0] != source}
        kept.update({(source, backend.id): backend for backend in backends})
        self._claims = kept

    def claimants(self, backend_id: str) -> tuple[str, ...]:
        """The sources that name `backend_id`."""
        return tuple(source for source, named in self._claims if named == backend_id)

    def effective(self) -> dict[str, Backend]:
        """The backends to route to, by id: at each address the word of the source that comes first.

        One that is known to answer at other addresses too speaks for those as well, and is spoken for there.
        """
        speaks: dict[Address, tuple[int, str]] = {}
        for backend in self._claims.values():
            place = _place(backend)
            for address in (backend.address, *backend.other_addresses):
                speaks[address] = min(place, speaks.get(address, place))
        chosen: dict[str, Backend] = {}
        for backend in sorted(self._claims.values(), key=_place):
            if any(speaks[address] != _place(backend) for address in (backend.address, *backend.other_addresses)):
                continue
            while backend.id in chosen:  # two sources use one id for two addresses
                backend = replace(backend, id=f"{backend.id}@{backend.source}")
            chosen[backend.id] = backend
        return chosen


def _place(backend: Backend) -> tuple[int, str]:
    """Sources that have no place of their own stand in alphabetical order: one of them speaks, not all."""
    source = backend.source
    kind = source.partition(":")[0]  # "file:/etc/solar/more.toml" is a file
    return (PRECEDENCE.index(kind) if kind in PRECEDENCE else len(PRECEDENCE), source)
