"""Which backend a session prefers: rendezvous hashing, the same in every process and on every machine."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def order(session: str, ids: Iterable[str]) -> list[str]:
    """`ids`, the most preferred first. A new id takes only the sessions that now prefer it; no other one moves."""
    seed = blake2b(session.encode() + b"\0", digest_size=8)

    def weight(id_: str) -> tuple[bytes, str]:
        hashed = seed.copy()
        hashed.update(id_.encode())
        return hashed.digest(), id_

    return sorted(ids, key=weight, reverse=True)
