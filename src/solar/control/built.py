"""How this Solar was installed: whether its hot path is C, or the same sources interpreted."""

from __future__ import annotations

import json
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec


def is_compiled() -> bool:
    """Whether what each request passes through was compiled."""
    found = find_spec("solar.edge.exchange")
    return found is not None and (found.origin or "").endswith(tuple(EXTENSION_SUFFIXES))


def is_editable() -> bool:
    """Whether the sources run where they are changed: then nothing is ever compiled."""
    try:
        told = distribution("solar-control").read_text("direct_url.json")
    except PackageNotFoundError:  # a checkout on the path
        return True
    return told is not None and bool(json.loads(told).get("dir_info", {}).get("editable"))
