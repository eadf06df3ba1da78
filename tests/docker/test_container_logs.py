"""What containers write is read live: while they run, once they were restarted or killed, and by who comes back."""

import sys
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine import Engine
from found import named
from images import Image

sys.path.append(str(Path(__file__).parents[1] / "logs"))

from following import Followed, following, reading

from solar import Router
from solar.control.logs import Place, Since, Wanted
from solar.control.logs.containers import ContainerLogs
from solar.discovery.docker.discoverer import DockerDiscoverer


def write(engine: Engine, container: str, *texts: str) -> None:
    """The program of a container writes lines."""
    words = "; ".join(f"echo '{text}'" for text in texts)
    engine.docker("exec", container, "sh", "-c", f"({words}) >/proc/1/fd/1")


@asynccontextmanager
async def logs_of(engine: Engine, data_dir: Path) -> AsyncIterator[Followed]:
    discoverer = DockerDiscoverer(hosts=[engine.url])
    async with following(data_dir, origins=[ContainerLogs(discoverer)]) as logs, Router(discoverers=[discoverer]):
        yield logs


@pytest.mark.parametrize("options", [(), ("--tty",)], ids=["pipes", "terminal"])
async def test_lines_come_live_and_after_a_restart_and_a_kill_none_twice_and_all(
    engine: Engine, vllm: Image, tmp_path: Path, options: tuple[str, ...]
) -> None:
    vllm("--models", "a", options=named("one", *options))
    async with logs_of(engine, tmp_path) as logs, reading(logs.hub) as seen:
        await seen.line("http://")
        assert seen.items[0].place == Place("localhost", "vllm-one", "localhost", "one")
        await to_thread(write, engine, "one", "live 1", "live 2")
        await seen.line("live 2")
        await to_thread(engine.docker, "restart", "--time", "5", "one")
        await to_thread(write, engine, "one", "restarted")
        await seen.line("restarted")
        await to_thread(engine.docker, "kill", "one")
        await seen.until(lambda: "its container has stopped" in seen.troubles)
        await to_thread(engine.docker, "start", "one")
        await to_thread(write, engine, "one", "after the kill")
        await seen.line("after the kill")
        written = [line.rstrip("\r") for line in engine.docker("logs", "one").splitlines()]
        assert seen.texts == written
        assert seen.numbers == list(range(len(written)))


async def test_who_comes_back_goes_on_where_it_was_though_nobody_read_meanwhile(
    engine: Engine, vllm: Image, tmp_path: Path
) -> None:
    vllm("--models", "a", options=named("one"))
    async with logs_of(engine, tmp_path) as logs:
        async with reading(logs.hub) as seen:
            await seen.line("http://")
        await logs.gone()
        await to_thread(write, engine, "one", *(f"unread {n}" for n in range(50)))
        async with reading(logs.hub, since=Since(number=seen.numbers[-1])) as again:
            await again.line("unread 49")
            assert again.texts == [f"unread {n}" for n in range(50)]


async def test_a_container_that_is_made_anew_under_its_name_goes_on(
    engine: Engine, vllm: Image, tmp_path: Path
) -> None:
    vllm("--models", "a", options=named("one"))
    async with logs_of(engine, tmp_path) as logs, reading(logs.hub, Wanted(aliases=frozenset({"one"}))) as seen:
        await seen.line("http://")
        await to_thread(engine.docker, "rm", "--force", "one")
        await to_thread(vllm, "--models", "a", options=named("one"))
        await seen.until(lambda: sum("http://" in text for text in seen.texts) == 2)
        await to_thread(write, engine, "one", "anew")
        await seen.line("anew")
        assert seen.texts.count("anew") == 1


async def test_a_log_goes_on_after_its_engine_was_away(engine: Engine, vllm: Image, tmp_path: Path) -> None:
    vllm("--models", "a", options=named("one", "--restart", "always"))
    async with logs_of(engine, tmp_path) as logs, reading(logs.hub) as seen:
        await seen.line("http://")
        await to_thread(engine.stop)
        await seen.until(lambda: seen.troubles[-1])
        await to_thread(engine.start)
        await seen.until(lambda: sum("http://" in text for text in seen.texts) == 2)
        assert seen.numbers == list(range(len(seen.texts)))
