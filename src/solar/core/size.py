"""How large a model is, read from its name: "gpt-oss:20b" -> 20.0, in billions of parameters."""

from __future__ import annotations

import re

_BILLIONS = {"t": 1000.0, "b": 1.0, "m": 0.001}

# A size is a word of its own, so that 4bit, fp8, q4_K_M, 128k, 16GB and v3 are none. `e4b` counts (effective size),
# `a3b` does not (the active part of a larger model). Files spell 1.8b as 1_8b where a dash, not a _, separates words.
_SIZE = re.compile(
    r"""
    (?<![a-z0-9]) (?<![0-9]\.)
    (?: (?P<experts>[0-9]{1,3}) [ ]* x [ ]* | e )?
    (?: (?P<number> [0-9]{1,4} (?:\.[0-9]{1,4})? | \.[0-9]{1,4} )
      | (?<!_) (?P<whole>[0-9]{1,2}) _ (?P<part>[0-9]{1,2}) )
    [ ]* (?P<unit>[tbm]) (?![a-z0-9])
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


def size_of(name: str) -> float | None:
    """Billions of parameters that `name` speaks of, or None; what stands after the last colon counts first."""
    for text in (name.rpartition(":")[2], name):
        for found in _SIZE.finditer(text):
            number = found["number"] or f"{found['whole']}.{found['part']}"
            if not _YEAR.fullmatch(number):
                size = float(number) * int(found["experts"] or 1) * _BILLIONS[found["unit"].lower()]
                if size:
                    return size
    return None
