"""What was left to the collector, as it referred to itself: seen by those who want nothing to be."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def left_to_the_collector() -> Iterator[set[str]]:
    """The names of the types of what the block leaves to it; they are there once the block has ended."""
    left: set[str] = set()
    gc.collect()
    gc.disable()
    try:
        gc.set_debug(gc.DEBUG_SAVEALL)
        yield left
        gc.collect()
        left |= {type(thing).__name__ for thing in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
