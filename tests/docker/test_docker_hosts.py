"""Several Docker Engines at once, one of them by TCP with TLS."""

import shutil
from asyncio import to_thread
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine import Engine, free_port
from found import finding, named, until
from images import Image, make_fake

CERTIFICATES = Path(__file__).parents[1] / "tls"


@pytest.fixture
def other(engine: Engine) -> Iterator[Engine]:
    """A second engine, stopped."""
    other = Engine()
    yield other
    other.close()


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Flags of an engine that only opens to whom it knows, as whom the docker command and Solar then come."""
    for name, file in {"ca": "server.pem", "cert": "server.pem", "key": "server.key"}.items():
        shutil.copyfile(CERTIFICATES / file, tmp_path / f"{name}.pem")
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    files = {"--tlscacert": "ca", "--tlscert": "cert", "--tlskey": "key"}
    return ("--tlsverify", *(word for flag, name in files.items() for word in (flag, str(tmp_path / f"{name}.pem"))))


async def test_what_runs_on_two_engines_is_served_side_by_side(
    engine: Engine, other: Engine, vllm: Image, tls: tuple[str, ...]
) -> None:
    where = f"127.0.0.1:{free_port()}"
    other.start("--host", f"tcp://{where}", *tls)
    fake = make_fake(other)
    vllm("--models", "here", options=named("one"))
    fake("--models", "there", options=named("one", "--label", "solar.enable=true"))
    async with finding(engine, hosts=[engine.url, f"tcp://{where}"]) as found:
        await found.becomes("one", f"one@{where}")
        assert [await found.chat("here"), await found.chat("there")] == [200, 200]
        await to_thread(other.stop)
        await until(lambda: list(found.healthy) == ["one"])
        assert await found.chat("here") == 200
