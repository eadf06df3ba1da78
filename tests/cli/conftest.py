import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_process import Gateway, gateways
from managing import GATEWAY_KEY, Begun, Commands


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    with gateways(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def shared_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all tests of a file: each start takes a second."""
    flags = ("--port", "0", "--health-check-interval", "0.1")
    one = Gateway(tmp_path_factory.mktemp("shared"), *flags, env={"SOLAR_API_KEY": GATEWAY_KEY})
    yield one
    one.stop(signal.SIGKILL)
    assert one.process.stdout is not None
    one.process.stdout.close()


@pytest.fixture
def solar(shared_gateway: Gateway) -> Iterator[Commands]:
    """Commands for a gateway that knows no host yet."""
    commands = Commands(shared_gateway)
    yield commands
    commands.forget_hosts()


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
