import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import pytest

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("api", "cli"))

from gateway_process import Gateway as Process
from served import Served, served


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Served]]:
    """A gateway behind a door of its own, in this process."""
    return partial(served, tmp_path)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts `solar serve`; ends what it started."""
    started: list[Process] = []

    def start(*flags: str) -> Process:
        started.append(Process(tmp_path, *flags))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.ended()
        assert one.process.stdout is not None
        one.process.stdout.close()
