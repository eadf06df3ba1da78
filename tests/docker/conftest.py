"""One Docker Engine for all tests of this folder, and images to run on it. Each test finds it without containers."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import images
import pytest
from engine import DockerRefusedError, Engine, why_not
from images import Image


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if reason := why_not():
        pytest.skip(reason)
    engine = None
    try:
        engine = Engine()
        engine.start()
        images.try_one(engine)
    except (AssertionError, DockerRefusedError, RuntimeError) as error:
        if engine is not None:
            with contextlib.suppress(AssertionError, DockerRefusedError):  # it sweeps up first
                engine.close()
        pytest.skip(f"this machine runs no container, though nothing that it needs is missing: {error}")
    try:
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="session")
def fake(engine: Engine) -> Image:
    return images.make_fake(engine)


@pytest.fixture(scope="session")
def vllm(engine: Engine, fake: Image) -> Image:
    """A fake that says it is vLLM, under the name of its image."""
    engine.docker("tag", fake.name, images.VLLM)
    return Image(engine, images.VLLM, fake.port, command=("--kind", "vllm"))


@pytest.fixture(scope="session")
def llama(engine: Engine) -> Image:
    if not images.has_llama():
        pytest.skip("no llama-server and model here: scripts/test --all brings both")
    return images.make_llama(engine)


@pytest.fixture(scope="session")
def gateway(engine: Engine) -> Image:
    return images.build_gateway(engine)


@pytest.fixture(autouse=True)
def _left_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    engine: Engine | None = request.getfixturevalue("engine") if "engine" in request.fixturenames else None
    yield
    if engine is not None:
        engine.reset()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    engine = getattr(item, "funcargs", {}).get("engine")
    if report.failed and isinstance(engine, Engine):
        report.sections.append((f"{engine!r}", engine.tail()))
        if engine.runs:
            report.sections += [(f"container {name}", text) for name, text in engine.logs().items()]
    return report
