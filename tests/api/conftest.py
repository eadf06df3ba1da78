import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from managed import Managed, managed

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from gateway_process import Gateway as Process
from gateway_process import gateways


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Managed]:
    async with managed(tmp_path) as made:
        yield made


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    with gateways(tmp_path) as start:
        yield start
