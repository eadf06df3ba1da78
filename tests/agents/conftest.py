"""Original agents, real llama-servers and a real gateway, all ended with the test, their logs shown when it fails."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "real"))  # the llama-server is the same
sys.path.append(str(Path(__file__).parents[1] / "cli"))  # and the gateway

from scenes import NEW, OLD, Scene, scene

# For the newer one a Python is needed that is not to be had on every machine.
EACH = [
    pytest.param(OLD, id=OLD.version),
    pytest.param(NEW, id=NEW.version, marks=pytest.mark.newer_python),
]


@pytest.fixture(scope="session", params=EACH)
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Only for tests that leave it as it was."""
    with scene(tmp_path_factory.mktemp("shared"), request.param) as running:
        yield running


@pytest.fixture(params=EACH)
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Nobody else's: its processes may be killed."""
    with scene(tmp_path, request.param) as running:
        yield running


@pytest.fixture(params=EACH)
def linked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Its agent opens a link to the gateway. Nobody else's, either."""
    with scene(tmp_path, request.param, linked=True) as running:
        yield running


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Scene]:
    """An agent of each release, with one model on both."""
    with scene(tmp_path, OLD, NEW) as running:
        yield running


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for given in getattr(item, "funcargs", {}).values():
            if isinstance(given, Scene):
                report.sections += given.tails()
    return report
