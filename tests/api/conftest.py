import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import pytest
from managed import Managed, managed

sys.path.append(str(Path(__file__).parents[1] / "cli"))

from gateway_process import Gateway as Process


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Managed]:
    async with managed(tmp_path) as made:
        yield made


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts `solar serve`; ends what it started."""
    started: list[Process] = []

    def start(*flags: str, env: Mapping[str, str] | None = None) -> Process:
        started.append(Process(tmp_path, *flags, env=env))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.ended()
        assert one.process.stdout is not None
        one.process.stdout.close()
