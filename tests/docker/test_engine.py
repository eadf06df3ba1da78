"""The engine of these tests and its images: if these fail, look at the machine before looking at Solar."""

import json
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from engine import DockerRefusedError, Engine, answer, is_alive, wait_until
from images import LLAMA_OLD, MODEL_ID, Image, make_fake


def test_a_llama_server_chats_by_its_address_and_by_a_published_port(engine: Engine, llama: Image) -> None:
    container = llama(options=("--publish", "127.0.0.1::8080"))
    asked = {"model": MODEL_ID, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    for host in (f"{engine.address(container)}:8080", f"127.0.0.1:{engine.published(container, 8080)}"):
        wait_until(partial(answer, f"http://{host}/health"))
        told = httpx.post(f"http://{host}/v1/chat/completions", json=asked, timeout=60, trust_env=False)
        assert told.json()["usage"]["completion_tokens"] == 4


def test_the_llama_image_has_its_old_name_too(engine: Engine, llama: Image) -> None:
    old = engine.inspect(llama(name=LLAMA_OLD))
    assert old["Config"]["Image"] == "ghcr.io/ggerganov/llama.cpp:server"
    assert old["Image"] == engine.inspect(llama())["Image"]


def test_a_fake_says_the_models_that_it_was_started_with(engine: Engine, fake: Image) -> None:
    url = f"http://{engine.address(fake('--models', 'a,b'))}:8000/v1/models"
    wait_until(lambda: answer(url))
    assert [model["id"] for model in json.loads(answer(url) or "")["data"]] == ["a", "b"]


def test_containers_of_one_network_find_each_other_by_name(engine: Engine, fake: Image) -> None:
    engine.docker("network", "create", "ours")
    one = fake(options=("--network", "ours", "--name", "one"))
    wait_until(lambda: answer(f"http://{engine.address(one, 'ours')}:8000/health"))
    ask = "import urllib.request; print(urllib.request.urlopen('http://one:8000/v1/models').status)"
    assert engine.docker("run", "--rm", "--network", "ours", "--entrypoint", "python", fake.name, "-c", ask) == "200"


def test_a_container_outlives_a_killed_engine_and_its_published_port_does_not(engine: Engine, fake: Image) -> None:
    container = fake(options=("--publish", "127.0.0.1::8000"))
    direct = f"http://{engine.address(container)}:8000/health"
    published = f"http://127.0.0.1:{engine.published(container, 8000)}/health"
    wait_until(lambda: answer(published))
    engine.kill()
    assert answer(direct)
    assert answer(published) is None
    engine.start()
    assert engine.inspect(container)["State"]["Status"] == "exited"
    engine.docker("start", container)
    wait_until(lambda: answer(f"http://{engine.address(container)}:8000/health"))


def test_containers_stay_while_an_engine_that_lets_them_live_is_stopped(engine: Engine, fake: Image) -> None:
    engine.restart("--live-restore")
    container = fake()
    url = f"http://{engine.address(container)}:8000/health"
    wait_until(lambda: answer(url))
    engine.stop()
    assert answer(url)
    engine.start("--live-restore")
    assert answer(url)
    assert engine.inspect(container)["State"]["Running"]


def test_a_refusal_says_what_docker_said(engine: Engine) -> None:
    with pytest.raises(DockerRefusedError, match="No such container: nobody"):
        engine.docker("start", "nobody")


def test_two_engines_share_nothing_and_a_closed_one_leaves_nothing(engine: Engine, fake: Image) -> None:
    ours = fake(options=("--name", "same"))
    other = Engine()
    try:
        other.start()
        theirs = make_fake(other)(options=("--name", "same", "--publish", "127.0.0.1::8000"))
        wait_until(lambda: answer(f"http://{other.address(theirs)}:8000/health"))
        left = other.processes()
        assert len(left) > 3
        other.kill()
    finally:
        other.close()
    assert not any(map(is_alive, [*left, *other.processes()]))
    assert not other.folder.exists()
    assert other.bridge not in psutil.net_if_addrs()
    assert str(other.folder) not in Path("/proc/self/mountinfo").read_text()
    assert engine.inspect(ours)["State"]["Running"]
