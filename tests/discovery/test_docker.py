"""The discoverer of containers, against a Docker API that does what a real one cannot be told to do."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import aiodocker
import pytest
from aiohttp import web
from fake_docker import FakeDocker

from solar.core.backend import Backend
from solar.discovery.base import BackendsListed
from solar.discovery.docker import api as docker_api
from solar.discovery.docker import watch as docker_watch
from solar.discovery.docker.api import DockerFailed
from solar.discovery.docker.discoverer import DockerDiscoverer
from solar.discovery.sighting import Explains, Sighting
from solar.errors import InvalidSettings
from solar.testing import FakeBackend

TLS = Path(__file__).parents[1] / "tls"
DEADLINE = 10.0  # seconds that nothing is waited for in vain for longer


class Watcher:
    """Follows a discoverer, and waits for what it finds."""

    def __init__(self, changes: AsyncIterator[object]) -> None:
        self._changes = changes
        self.lists: list[tuple[str, ...]] = []
        self.backends: dict[str, Backend] = {}

    async def until(self, *ids: str) -> None:
        """Until these are all backends, in any order."""
        async with asyncio.timeout(DEADLINE):
            while not self.lists or sorted(self.lists[-1]) != sorted(ids):
                change = await anext(self._changes)
                assert isinstance(change, BackendsListed)
                self.backends = {backend.id: backend for backend in change.backends}
                self.lists.append(tuple(self.backends))

    async def fails(self) -> DockerFailed:
        """Until it raises: what."""
        try:
            async with asyncio.timeout(DEADLINE):
                async for _ in self._changes:
                    pass
        except DockerFailed as error:
            return error
        raise AssertionError("it has ended")


@asynccontextmanager
async def watching(discoverer: DockerDiscoverer) -> AsyncIterator[Watcher]:
    async with aclosing(discoverer.watch()) as changes:  # type: ignore[type-var]  # it is a generator
        yield Watcher(changes)


@asynccontextmanager
async def engines(*names: str) -> AsyncIterator[tuple[FakeDocker, list[FakeBackend], Watcher]]:
    """A Docker with a container for each name, and a watcher that has seen them all. Two more wait for theirs."""
    async with AsyncExitStack() as stack:
        docker = await stack.enter_async_context(FakeDocker())
        fakes = [await stack.enter_async_context(FakeBackend(["m"], kind="ollama")) for _ in (*names, 1, 2)]
        for name, fake in zip(names, fakes, strict=False):
            docker.run(name, port_of(fake))
        watcher = await stack.enter_async_context(watching(DockerDiscoverer(hosts=[docker.url])))
        await watcher.until(*(f"ollama-{name}" for name in names))
        yield docker, fakes, watcher


def port_of(fake: FakeBackend) -> int:
    return int(fake.url.rpartition(":")[2])


async def eventually(holds: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


async def look(docker: FakeDocker, **settings: Any) -> dict[str, Sighting]:
    return {one.name: one for one in await DockerDiscoverer(hosts=[docker.url], **settings).look()}


# --- what is found


async def test_the_first_list_has_all_that_answer_and_nothing_else() -> None:
    async with (
        FakeBackend(["m"], kind="ollama") as fake,
        FakeBackend(["m"], kind="ollama") as other,
        FakeDocker() as docker,
    ):
        docker.run("a", port_of(fake))
        docker.run("web", 1, image="nginx")
        docker.run("silent", 1)
        docker.run("other", port_of(other), image="mine", labels={"solar.enable": "true"})
        docker.run("not", port_of(fake), labels={"solar.enable": "false"})
        async with watching(DockerDiscoverer(hosts=[docker.url])) as watcher:
            await watcher.until("ollama-a", "ollama-other")
            assert len(watcher.lists) == 1
            assert watcher.backends["ollama-a"].url == f"http://127.0.0.1:{port_of(fake)}"
            assert watcher.backends["ollama-a"].host == "localhost"


async def test_one_that_starts_is_found_and_one_that_dies_is_dropped_without_a_question() -> None:
    async with engines("a") as (docker, fakes, watcher):
        b = docker.run("b", port_of(fakes[1]))
        await watcher.until("ollama-a", "ollama-b")
        asked = docker.inspected.count("b")
        docker.end_of(b, "die", "destroy")
        await watcher.until("ollama-a")
        assert docker.inspected.count("b") == asked


async def test_a_paused_one_is_not_routed_to() -> None:
    async with engines("a", "b") as (docker, _, watcher):
        b = list(docker.containers)[1]
        docker.state(b, "paused", "pause")
        await watcher.until("ollama-a")
        docker.state(b, "running", "unpause")
        await watcher.until("ollama-a", "ollama-b")


async def test_a_new_name_is_one_change() -> None:
    async with engines("a") as (docker, _, watcher):
        container = next(iter(docker.containers))
        docker.containers[container]["Name"] = "/new"
        docker.tell("rename", container)
        await watcher.until("ollama-new")
        assert watcher.lists == [("ollama-a",), ("ollama-new",)]


async def test_one_that_does_not_answer_yet_is_found_when_it_does() -> None:
    async with FakeBackend() as place:
        port = port_of(place)
    async with FakeDocker() as docker, watching(DockerDiscoverer(hosts=[docker.url])) as watcher:
        docker.run("a", port)
        await watcher.until()
        async with FakeBackend(["m"], kind="ollama", port=port):
            await watcher.until("ollama-a")


async def test_one_that_answered_stays_while_it_runs_though_it_does_not_answer_now() -> None:
    async with engines("a", "b") as (docker, fakes, watcher):
        await fakes[0].stop()
        a, b = docker.containers
        asked = docker.inspected.count("a")
        docker.tell("health_status: unhealthy", a)
        await eventually(lambda: docker.inspected.count("a") > asked + 1)  # it is looked at again and again
        docker.end_of(b, "die")
        await watcher.until("ollama-a")
        docker.end_of(a, "die")
        await watcher.until()


async def test_where_it_answered_is_asked_again_and_elsewhere_only_if_it_is_silent_there() -> None:
    async with engines() as (docker, fakes, watcher):
        first, second = sorted(fakes, key=port_of)
        container = docker.run("a", port_of(first), also=(port_of(second),))
        await watcher.until("ollama-a")
        assert (watcher.backends["ollama-a"].url, watcher.backends["ollama-a"].other_urls) == (first.url, (second.url,))
        asked, before = len(second.requests), len(first.requests)
        docker.tell("health_status: healthy", container)
        await eventually(lambda: len(first.requests) >= before + 2)  # one question is answered
        assert len(second.requests) == asked
        await first.stop()
        docker.tell("health_status: unhealthy", container)
        while watcher.backends["ollama-a"].url != second.url:
            watcher.lists.clear()
            await watcher.until("ollama-a")


async def test_one_that_had_no_model_yet_is_asked_everywhere_again() -> None:
    async with engines() as (docker, fakes, watcher):
        first, second = sorted(fakes, key=port_of)
        first.models = ()
        docker.run("a", port_of(first), also=(port_of(second),))
        await watcher.until("ollama-a")
        assert watcher.backends["ollama-a"].other_urls == ()
        first.models = second.models
        while watcher.backends["ollama-a"].other_urls != (second.url,):
            watcher.lists.clear()
            await watcher.until("ollama-a")


async def test_labels_say_what_the_backend_is(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1")
    labels = {
        "solar.type": "vllm",
        "solar.model": "x",
        "solar.alias": "gpt-4=x, small",
        "solar.weight": "2",
        "solar.priority": "1",
        "solar.max_in_flight": "3",
        "solar.cancel": "drain",
        "solar.api_key_file": "key",
    }
    async with FakeBackend(["x"], kind="ollama", api_key="sk-1") as fake, FakeDocker() as docker:
        docker.run("a", port_of(fake), labels=labels)
        sighting = (await look(docker, key_dirs=[tmp_path]))["a"]
    backend = sighting.backend
    assert backend is not None
    assert (backend.id, backend.type, backend.models) == ("vllm-a", "vllm", ("x",))
    assert dict(backend.aliases) == {"gpt-4": "x", "small": "x"}
    assert (backend.weight, backend.priority, backend.max_in_flight, backend.cancel) == (2.0, 1, 3, "drain")
    assert backend.api_key == "sk-1"
    assert sighting.reason == "its label says vllm, it says ollama: the label counts"


# --- many events, slow answers


async def test_a_burst_of_events_costs_a_look_or_two() -> None:
    async with engines("a", "b") as (docker, _, watcher):
        a, b = docker.containers
        before = docker.inspected.count("a")
        for _ in range(1000):
            docker.tell("health_status: healthy", a)
        docker.end_of(b, "die")
        await watcher.until("ollama-a")
        await eventually(lambda: docker.inspected.count("a") > before)
        assert docker.inspected.count("a") <= before + 2


async def test_one_that_is_described_slowly_holds_nobody_up() -> None:
    async with engines("a") as (docker, fakes, watcher):
        docker.slow["slow"] = asyncio.Event()
        docker.run("slow", port_of(fakes[1]))
        docker.run("quick", port_of(fakes[2]))
        await watcher.until("ollama-a", "ollama-quick")
        docker.slow["slow"].set()
        await watcher.until("ollama-a", "ollama-quick", "ollama-slow")


async def test_one_that_dies_while_it_is_looked_at_is_not_found() -> None:
    async with engines("a") as (docker, fakes, watcher):
        docker.slow["slow"] = asyncio.Event()
        slow = docker.run("slow", port_of(fakes[1]))
        await eventually(lambda: "slow" in docker.inspected)
        docker.end_of(slow, "die")
        docker.run("b", port_of(fakes[2]))
        docker.slow["slow"].set()
        await watcher.until("ollama-a", "ollama-b")


async def test_what_no_event_told_shows_in_the_next_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_watch, "RESYNC_SECONDS", 0.05)
    async with engines("a", "b") as (docker, fakes, watcher):
        docker.end_of(list(docker.containers)[1])
        await watcher.until("ollama-a")
        stream = docker.streams[:]
        docker.streams.clear()
        docker.run("c", port_of(fakes[2]))
        docker.streams.extend(stream)
        await watcher.until("ollama-a", "ollama-c")


# --- an engine that breaks


@pytest.mark.parametrize("line", [b'{"Type":"container","Act', b"<html>\n"])
async def test_events_that_are_cut_or_no_json_are_an_error_and_what_was_found_is_kept(line: bytes) -> None:
    async with FakeBackend(["m"], kind="ollama") as fake, FakeDocker() as docker:
        docker.run("a", port_of(fake))
        discoverer = DockerDiscoverer(hosts=[docker.url])
        async with watching(discoverer) as watcher:
            await watcher.until("ollama-a")
            docker.say(line)
            docker.end()
            assert docker.url in (await watcher.fails()).reason
        fake.freeze()  # it is not asked whether it is there before it is told
        async with watching(discoverer) as watcher:
            await watcher.until("ollama-a")
            fake.thaw()


async def test_an_engine_that_goes_away_is_an_error_that_says_what_to_do() -> None:
    async with engines("a") as (docker, _, watcher):
        await docker.stop()
        error = await watcher.fails()
        assert error.advice


@pytest.mark.parametrize("path", ["version", "containers/json"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[", b"\xff"])
async def test_answers_that_are_no_json_are_an_error(path: str, body: bytes) -> None:
    async with FakeDocker() as docker:
        docker.answers[path] = web.Response(body=body)
        async with watching(DockerDiscoverer(hosts=[docker.url])) as watcher:
            assert "cannot be read" in (await watcher.fails()).reason


@pytest.mark.parametrize("body", [b"null", b"[]", b"{}", b"[1]", b'[{"State": 1}]'])
async def test_a_list_of_another_shape_has_nobody_in_it(body: bytes) -> None:
    async with FakeDocker() as docker:
        docker.answers["containers/json"] = web.Response(body=body)
        async with watching(DockerDiscoverer(hosts=[docker.url])) as watcher:
            await watcher.until()


async def test_one_that_cannot_be_described_does_not_hide_the_others() -> None:
    async with (
        FakeBackend(["m"], kind="ollama") as fake,
        FakeBackend(["m"], kind="ollama") as other,
        FakeDocker() as docker,
    ):
        broken = docker.run("broken", port_of(other))
        docker.run("a", port_of(fake))
        docker.answers[f"containers/{broken}/json"] = web.Response(body=b"{")
        async with watching(DockerDiscoverer(hosts=[docker.url])) as watcher:
            await watcher.until("ollama-a")
            del docker.answers[f"containers/{broken}/json"]
            await watcher.until("ollama-a", "ollama-broken")
        docker.answers[f"containers/{broken}/json"] = web.Response(body=b"{")
        seen = await look(docker)
        assert "cannot be read" in seen[broken[:12]].reason
        assert seen["a"].backend is not None


async def test_a_proxy_may_keep_to_itself_what_the_engine_says_of_itself() -> None:
    async with FakeBackend(["m"], kind="ollama") as fake, FakeDocker() as docker:
        docker.run("a", port_of(fake))
        docker.answers["info"] = web.Response(status=403, body=b"Forbidden")
        async with watching(DockerDiscoverer(hosts=[docker.url])) as watcher:
            await watcher.until("ollama-a")


async def test_a_proxy_that_refuses_events_is_told_of() -> None:
    async with FakeDocker() as docker:
        docker.answers["events"] = web.Response(status=403, body=b"Forbidden by rule")
        async with watching(DockerDiscoverer(hosts=[docker.url])) as watcher:
            error = await watcher.fails()
    assert "403: Forbidden by rule" in error.reason
    assert "let it allow" in error.advice


async def test_an_engine_that_is_not_there_is_a_sighting_with_advice(tmp_path: Path) -> None:
    discoverer = DockerDiscoverer(hosts=[f"unix://{tmp_path}/none.sock"])
    assert isinstance(discoverer, Explains)
    (sighting,) = await discoverer.look()
    assert f"there is no {tmp_path}/none.sock" in sighting.reason
    assert "start Docker" in sighting.advice


async def test_who_may_not_open_the_socket_is_told_which_group_may() -> None:
    async with FakeDocker() as docker:
        docker.socket.chmod(0)
        docker.folder.chmod(0o755)
        user = os.geteuid()
        if user == 0:  # who may do all
            os.seteuid(65534)
        try:
            (sighting,) = await DockerDiscoverer(hosts=[docker.url]).look()
        finally:
            os.seteuid(user)
    assert "may not open" in sighting.reason
    assert "group" in sighting.advice


# --- several engines, clients, settings


async def test_one_engine_that_two_show_is_one_backend() -> None:
    async with engines("a") as (first, fakes, _), FakeDocker() as second:
        second.run("a", port_of(fakes[0]))
        second.run("b", port_of(fakes[1]))
        name = str(second.socket).strip("/").replace("/", "-")
        async with watching(DockerDiscoverer(hosts=[first.url, second.url])) as watcher:
            await watcher.until("ollama-a", f"ollama-b@{name}")


async def test_of_several_engines_each_is_followed_by_itself(tmp_path: Path) -> None:
    async with (
        FakeBackend(["m"], kind="ollama") as fake,
        FakeBackend(["m"], kind="ollama") as other,
        FakeBackend(["m"], kind="ollama") as third,
        FakeDocker() as first,
        FakeDocker() as second,
    ):
        first.run("a", port_of(fake))
        second.run("a", port_of(other))
        name = str(second.socket).strip("/").replace("/", "-")
        discoverer = DockerDiscoverer(hosts=[first.url, second.url, f"unix://{tmp_path}/none.sock"])
        async with watching(discoverer) as watcher:
            await watcher.until("ollama-a", f"ollama-a@{name}")
            await second.stop()
            first.run("b", port_of(third))
            await watcher.until("ollama-a", "ollama-b", f"ollama-a@{name}")
            await second.start()
            second.end_of(next(iter(second.containers)))
            await watcher.until("ollama-a", "ollama-b")


async def test_ones_own_client_is_used_and_stays_open() -> None:
    async with (
        FakeBackend(["m"], kind="ollama") as fake,
        FakeDocker() as docker,
        aiodocker.Docker(docker.url) as client,
    ):
        docker.run("a", port_of(fake))
        async with watching(DockerDiscoverer(client)) as watcher:
            await watcher.until("ollama-a")
        assert [one.where for one in await DockerDiscoverer(client).look()] == [docker.url]
        assert (await client.version())["ApiVersion"] == "1.41"


async def test_without_any_name_the_contexts_engine_is_asked_and_else_a_socket_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    monkeypatch.setattr(aiodocker.docker, "_sock_search_paths", [])
    monkeypatch.setattr(docker_api, "_MORE_SOCKETS", ("$XDG_RUNTIME_DIR/s",))
    async with FakeDocker() as docker:
        docker.run("a", 1)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(docker.folder))
        assert [one.where for one in await DockerDiscoverer().look()] == [docker.url]
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        (sighting,) = await DockerDiscoverer().look()
        assert (sighting.blind, sighting.reason) == (True, "there is no /var/run/docker.sock")
        monkeypatch.setenv("DOCKER_CONTEXT", "rig")
        (sighting,) = await DockerDiscoverer().look()
        assert "rig" in sighting.reason
        assert "docker context ls" in sighting.advice


async def test_the_engine_of_the_environment_is_asked_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with FakeDocker() as docker:
        docker.run("a", 1)
        monkeypatch.setenv("DOCKER_HOST", docker.url)
        (sighting,) = await DockerDiscoverer().look()
    assert (sighting.name, sighting.where) == ("a", docker.url)


async def test_tls_is_as_the_docker_command_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides show the same certificate, which has signed itself."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    tls.load_verify_locations(TLS / "server.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    async with FakeDocker(tls) as docker:
        docker.run("a", 1)
        assert "does not take our TLS" in (await DockerDiscoverer(hosts=[docker.url]).look())[0].reason
        for name, file in [("ca.pem", "server.pem"), ("cert.pem", "server.pem"), ("key.pem", "server.key")]:
            (tmp_path / name).write_bytes((TLS / file).read_bytes())
        (sighting,) = await DockerDiscoverer(hosts=[docker.url]).look()
        assert (sighting.name, sighting.where) == ("a", docker.url)


async def test_no_password_in_a_url_is_shown() -> None:
    discoverer = DockerDiscoverer(hosts=["tcp://me:secret@127.0.0.1:1"])
    (sighting,) = await discoverer.look()
    assert "tcp://me@127.0.0.1:1" in sighting.where
    assert "secret" not in repr(discoverer) + repr(sighting)


async def test_who_stops_watching_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with engines("a", "b") as (docker, _, watcher):
        docker.slow["slow"] = asyncio.Event()
        docker.run("slow", 1)
        await eventually(lambda: "slow" in docker.inspected)
        watch = asyncio.get_running_loop().create_task(watcher.until("never"))
        await asyncio.sleep(0)
        watch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watch
        assert not [task for task in asyncio.all_tasks() - before if task.get_name().startswith("docker ")]
        docker.slow["slow"].set()


@pytest.mark.parametrize("host", ["/var/run/docker.sock", "docker", "ftp://x", ""])
def test_a_host_that_is_no_url_is_refused(host: str) -> None:
    with pytest.raises(InvalidSettings, match="unix:///PATH"):
        DockerDiscoverer(hosts=[host])


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidSettings):
        DockerDiscoverer(hosts="unix:///x")
    with pytest.raises(InvalidSettings):
        DockerDiscoverer(label_prefix="")
