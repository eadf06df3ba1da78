"""What is said of each container: where it was looked for, what is odd about it, and what to do."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_docker import FakeDocker

from solar.discovery.docker import api as docker_api
from solar.discovery.docker.discoverer import DockerDiscoverer
from solar.discovery.sighting import Sighting
from solar.errors import MissingExtra
from solar.testing import FakeBackend


async def look(docker: FakeDocker, **settings: Any) -> dict[str, Sighting]:
    return {one.name: one for one in await DockerDiscoverer(hosts=[docker.url], **settings).look()}


async def seen(
    fake: FakeBackend | None,
    labels: Mapping[str, str] | None = None,
    *,
    image: str = "ollama/ollama:latest",
    changed: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Sighting | None:
    """What is said of one container, named "a", whose engine is `fake`. `changed` are facts of its description."""
    port = int(fake.url.rpartition(":")[2]) if fake is not None else 1
    async with FakeDocker() as docker:
        container = docker.run("a", port, image=image, labels=labels)
        docker.containers[container].update(changed or {})
        return (await look(docker, **settings)).get("a")


def ollama(*models: str, **facts: Any) -> FakeBackend:
    return FakeBackend(models or ("m",), kind="ollama", **facts)


async def told(fake: FakeBackend | None, labels: Mapping[str, str] | None = None, **more: Any) -> Sighting:
    if fake is None:
        sighting = await seen(None, labels, **more)
    else:
        async with fake:
            sighting = await seen(fake, labels, **more)
    assert sighting is not None
    return sighting


async def test_one_that_answers_without_a_doubt_needs_no_words() -> None:
    sighting = await told(ollama())
    assert (sighting.why, sighting.reason, sighting.advice) == ("image ollama/ollama:latest", "", "")
    assert [one.answered for one in sighting.tried] == [True]
    assert sighting.backend is not None
    assert sighting.backend.source == "docker"


async def test_others_are_not_mentioned() -> None:
    assert await seen(None, image="nginx") is None


async def test_one_that_its_label_leaves_out_is_mentioned() -> None:
    sighting = await told(None, {"solar.enable": "false"})
    assert (sighting.why, sighting.reason) == ("label solar.enable=false", "its label leaves it out")


async def test_labels_alone_make_no_engine_and_the_advice_says_which_does() -> None:
    sighting = await told(None, {"solar.port": "8000"}, image="mine")
    assert sighting.backend is None
    assert sighting.advice == "if it is one, label it solar.enable=true"


async def test_what_the_engine_says_counts_more_than_its_image() -> None:
    sighting = await told(ollama(), image="vllm/vllm-openai")
    assert sighting.backend is not None
    assert sighting.backend.id == "ollama-a"
    assert sighting.reason == "its image says vllm, it says ollama: that counts"


async def test_an_engine_that_does_not_tell_is_what_its_image_or_label_says() -> None:
    for labels, kind in [({}, "ollama"), ({"solar.type": "vllm"}, "vllm"), ({"solar.type": "exllama"}, "generic")]:
        sighting = await told(FakeBackend(["m"], kind="generic"), labels)
        assert sighting.backend is not None
        assert sighting.backend.id == f"{kind}-a"
    sighting = await told(FakeBackend(["m"]), {"solar.enable": "true"}, image="mine")
    assert sighting.backend is not None
    assert sighting.backend.id == "generic-a"


async def test_a_plain_alias_means_the_only_model_and_is_asked_back_where_there_are_several() -> None:
    sighting = await told(ollama("m"), {"solar.alias": "small"})
    assert sighting.backend is not None
    assert dict(sighting.backend.aliases) == {"small": "m"}
    sighting = await told(ollama("m", "n"), {"solar.alias": "small, big=n"})
    assert sighting.backend is not None
    assert dict(sighting.backend.aliases) == {"big": "n"}
    assert "which of its 2 models is small?" in sighting.reason


async def test_one_that_wants_a_key_says_where_to_put_it(tmp_path: Path) -> None:
    sighting = await told(ollama(api_key="sk"), key_dirs=[tmp_path])
    assert sighting.backend is not None
    assert "it wants a key" in sighting.reason
    assert f"into a file in {tmp_path}" in sighting.advice
    assert "solar.api_key_file" in sighting.advice


async def test_a_key_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    sighting = await told(ollama(), {"solar.api_key_file": "../x"}, key_dirs=[tmp_path])
    assert sighting.backend is not None
    assert "no readable key file '../x'" in sighting.reason


async def test_a_wrong_label_is_left_out_and_said() -> None:
    sighting = await told(ollama(), {"solar.weight": "heavy", "solar.network": "llm", "solar.prot": "1"})
    assert sighting.backend is not None
    assert "solar.weight=heavy is ignored: write a number" in sighting.reason
    assert "solar.prot means nothing; write solar.port" in sighting.reason
    assert "it is not in the network llm that its label names" in sighting.reason


@pytest.mark.parametrize("health", ["starting", "unhealthy"])
async def test_its_own_healthcheck_hides_nobody_and_is_said(health: str) -> None:
    state = {"Status": "running", "Running": True, "Health": {"Status": health}}
    sighting = await told(ollama(), changed={"State": state})
    assert sighting.backend is not None
    assert sighting.reason == f"its own HEALTHCHECK says {health}"


async def test_a_paused_one_is_mentioned() -> None:
    sighting = await told(None, changed={"State": {"Status": "paused", "Running": True, "Paused": True}})
    assert (sighting.backend, sighting.reason) == (None, "it is paused")


async def test_one_that_does_not_answer_is_told_with_what_to_do() -> None:
    sighting = await told(None)
    assert sighting.backend is None
    assert sighting.reason == "none of its addresses answers"
    assert [one.failed for one in sighting.tried] == ["refused"]
    assert "docker logs a" in sighting.advice


async def test_one_to_which_nothing_leads_is_told_with_what_to_do() -> None:
    sighting = await told(None, changed={"NetworkSettings": {"Ports": {}, "Networks": {}}})
    assert sighting.reason == "no address leads to it from here"
    assert "publish its port" in sighting.advice


async def test_a_name_that_no_id_may_hold_makes_no_backend() -> None:
    async with ollama() as fake, FakeDocker() as docker:
        docker.run("a b", int(fake.url.rpartition(":")[2]))
        sighting = (await look(docker))["a b"]
    assert sighting.backend is None
    assert "id must be printable" in sighting.reason


async def test_one_in_the_network_of_another_is_found_there() -> None:
    async with ollama() as fake, FakeDocker() as docker:
        vpn = docker.run("vpn", int(fake.url.rpartition(":")[2]), image="vpn")
        engine = docker.run("a", 1)
        docker.containers[engine]["HostConfig"]["NetworkMode"] = f"container:{vpn}"
        sighting = (await look(docker))["a"]
        assert sighting.backend is not None
        assert sighting.backend.url == fake.url
        del docker.containers[vpn]
        sighting = (await look(docker))["a"]
        assert "the container whose network it uses is not there" in sighting.reason
        assert sighting.advice == "start that one, and then a again"


async def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*names: str) -> None:
        monkeypatch.setattr(
            docker_api, "find_spec", lambda name: None if name in names else importlib.util.find_spec(name)
        )

    missing("asyncssh")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    DockerDiscoverer()
    with pytest.raises(MissingExtra, match="docker-ssh"):
        DockerDiscoverer(hosts=["ssh://me@gpu-box"])
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@gpu-box")
    with pytest.raises(MissingExtra, match="docker-ssh"):
        DockerDiscoverer()
    missing("aiodocker")
    with pytest.raises(MissingExtra, match=r"'\.\[docker\]'"):
        DockerDiscoverer()
