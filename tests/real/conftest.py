"""Real llama-server processes for the tests of this folder, ended with the test, their logs shown when it fails."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from llama_server import Engine, Llamas, LlamaServer, find_engine


@pytest.fixture(scope="session")
def engine() -> Engine:
    found = find_engine()
    if found is None:
        pytest.skip("no llama-server and model here: scripts/test --all brings both")
    return found


@pytest.fixture
def llama(engine: Engine, tmp_path: Path) -> Iterator[Llamas]:
    llamas = Llamas(engine, tmp_path)
    yield llamas
    llamas.stop()


@pytest.fixture(scope="session")
def shared_llamas(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llamas]:
    llamas = Llamas(engine, tmp_path_factory.mktemp("llama"))
    yield llamas
    llamas.stop()


@pytest.fixture(scope="session")
def pair(shared_llamas: Llamas) -> tuple[LlamaServer, LlamaServer]:
    """Two ready servers that the whole run shares: only for tests that leave them as they were."""
    left, right = shared_llamas("left"), shared_llamas("right")
    left.wait_until_ready()
    right.wait_until_ready()
    return left, right


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        given = getattr(item, "funcargs", {}).values()
        for server in [server for each in given if isinstance(each, Llamas) for server in each.started]:
            report.sections.append((f"{server!r}", server.tail()))
    return report
