import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from gateway_process import Gateway
from managing import Begun


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts `solar serve` with the given flags, in `tmp_path`; ends what it started."""
    started: list[Gateway] = []

    def start(*flags: str, env: Mapping[str, str] | None = None) -> Gateway:
        started.append(Gateway(tmp_path, *flags, env=env))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.ended()
        assert one.process.stdout is not None
        one.process.stdout.close()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Commands that a test began end with it."""
    yield
    while Begun.all:
        Begun.all.pop().end()


@pytest.fixture
def logging_kept() -> Iterator[None]:
    """For commands that are run in this process: how they log ends with them."""
    log = logging.getLogger("solar")
    level, switches = log.level, (logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    yield
    log.setLevel(level)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = switches
