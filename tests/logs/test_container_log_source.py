"""Logs of containers, from a Docker that does what it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from fake_docker import FakeDocker
from following import LOG, Followed, eventually, following, reading
from served import Served

from solar.control.logs import Contact, Place, Since
from solar.control.logs.containers import ContainerLogs, Logged
from solar.discovery.docker.api import DockerFailed
from solar.discovery.docker.discoverer import DockerDiscoverer
from solar.edge.tasks import Tasks
from solar.testing import FakeBackend

PLACE = Place("localhost", "ollama-llm", "localhost", "llm")


def at(n: int) -> str:
    return f"2026-11-22T07:00:{n // 1000:02}.{n % 1000:03}000000Z"


@asynccontextmanager
async def found(data_dir: Path) -> AsyncIterator[tuple[FakeDocker, Followed, DockerDiscoverer]]:
    """A Docker with one container, which was found."""
    async with FakeBackend(["m"], kind="ollama") as backend, FakeDocker() as docker:
        discoverer = DockerDiscoverer(hosts=[docker.url])
        assert isinstance(discoverer, Logged)
        tasks = Tasks(LOG)

        async def watch() -> None:
            async for _ in discoverer.watch():
                pass

        async with following(data_dir, origins=[ContainerLogs(discoverer)]) as logs:
            docker.run("llm", backend.port)
            docker.write("llm", "first", at(0))
            tasks.spawn(watch(), "watch")
            try:
                await eventually(lambda: logs.hub.has("localhost", "ollama-llm"))
                yield docker, logs, discoverer
            finally:
                await tasks.stop()
                docker.silence("llm")


async def test_a_container_that_was_found_is_followed_while_somebody_reads(tmp_path: Path) -> None:
    async with found(tmp_path) as (docker, logs, _):
        assert docker.asked_for == []
        async with reading(logs.hub) as seen:
            await seen.line("first")
            assert seen.items[0] == Contact(PLACE)
            docker.write("llm", "live", at(1))
            await seen.line("live")
        await logs.gone()
        docker.write("llm", "unread", at(1))  # in the same moment
        docker.write("llm", "later", at(2))
        async with reading(logs.hub, since=Since(number=1)) as again:
            await again.line("later")
            assert (again.texts, again.numbers) == (["unread", "later"], [2, 3])


async def test_a_container_that_stops_and_starts_repeats_no_line(tmp_path: Path) -> None:
    async with found(tmp_path) as (docker, logs, _), reading(logs.hub) as seen:
        await seen.line("first")
        docker.silence("llm")
        await seen.until(lambda: seen.troubles[-1] == "its container has stopped")
        docker.write("llm", "second", at(1))
        await seen.line("second")
        assert seen.texts == ["first", "second"]


async def test_a_container_that_is_gone_is_kept_and_one_of_its_name_goes_on(tmp_path: Path) -> None:
    async with found(tmp_path) as (docker, logs, discoverer):
        (container,) = docker.containers
        page = dict(docker.containers[container])
        async with reading(logs.hub) as seen:
            await seen.line("first")
            docker.end_of(container, "die", "destroy")
            docker.silence("llm")
            await seen.until(lambda: seen.troubles[-1] and "there is no container" in seen.troubles[-1])
            docker.containers["f" * 64] = page | {"Id": "f" * 64}
            docker.write("llm", "anew", at(5))
            docker.tell("start", "f" * 64)
            await seen.line("anew")
            assert seen.texts == ["first", "anew"]
        assert discoverer.container_of("ollama-llm") == "llm"


async def test_a_log_that_docker_refuses_says_why(tmp_path: Path) -> None:
    async with found(tmp_path) as (_, logs, discoverer):
        with pytest.raises(DockerFailed, match="no container was found for nobody"):
            await anext(discoverer.log("nobody"))
        assert discoverer.container_of("nobody") is None
        assert "1 containers" in repr(logs.sources._origins[0])


async def test_a_container_that_writes_nothing_is_followed_too(tmp_path: Path) -> None:
    async with found(tmp_path) as (docker, logs, _):
        docker.written.clear()
        async with reading(logs.hub) as seen:
            await seen.until(lambda: seen.items)
            docker.write("llm", "a line", at(9))
            await seen.line("a line")


async def test_a_gateway_that_looks_for_containers_has_their_logs(
    serve: Callable[..., AbstractAsyncContextManager[Served]],
) -> None:
    async with FakeBackend(["m"], kind="ollama") as backend, FakeDocker() as docker:
        docker.run("llm", backend.port)
        docker.write("llm", "hello", at(0))
        async with serve(discover=[f"docker:{docker.url}"]) as gateway:
            await eventually(lambda: gateway.gateway._desk.logs.has("localhost", "ollama-llm"))
            async with gateway.open("/ws/logs/localhost/ollama-llm") as socket, asyncio.timeout(10):
                assert json.loads(await socket.recv()) == {"seq": 0, "timestamp": at(0), "line": "hello"}
        docker.silence("llm")
