import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("api", "cli"))

from gateway_process import Gateway as Process
from gateway_process import gateways
from served import Served, served


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """A gateway behind a door of its own, in this process."""
    return partial(served, tmp_path)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    with gateways(tmp_path) as start:
        yield start
