"""The front door with a recording backend behind it: `async with front(fake) as gw`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "behaviour"))  # the gateways are the same


@pytest.fixture
def front():  # type: ignore[no-untyped-def]  # its type is known only once the path above is
    from gateways import gateways

    return gateways("front")
