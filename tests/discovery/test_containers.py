"""What is read of a container's description, and where its engine may listen."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.discovery.docker.containers import Container, Published, read_container
from solar.discovery.engines import ENGINES

ID = "55cada7171a92d487d283a13944c7ccbb78760ca9706928eccb1c3f0081a256f"


def page(**config: Any) -> dict[str, Any]:
    """As Docker 20.10 describes a container."""
    return {
        "Id": ID,
        "Name": "/llm",
        "Image": "sha256:0c3f",
        "State": {"Running": True, "Paused": False, "Health": {"Status": "starting"}},
        "HostConfig": {"NetworkMode": "default"},
        "Config": {
            "Image": "ollama/ollama:latest",
            "Labels": {"solar.port": "1"},
            "ExposedPorts": {"11434/tcp": {}, "53/udp": {}},
            "Env": ["PATH=/bin", "OLLAMA_HOST=0.0.0.0:11434", "HF_TOKEN=secret"],
            "Entrypoint": ["/bin/ollama"],
            "Cmd": ["serve"],
            **config,
        },
        "NetworkSettings": {
            "Ports": {
                "11434/tcp": [
                    {"HostIp": "0.0.0.0", "HostPort": "32768"},
                    {"HostIp": "::", "HostPort": "32768"},
                ],
                "9090/tcp": None,
            },
            "Networks": {
                "web": {"IPAddress": "172.19.0.2", "GlobalIPv6Address": "fd00::2"},
                "bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""},
            },
        },
    }


def read(**config: Any) -> Container:
    container = read_container(page(**config))
    assert container is not None
    return container


def command(*words: str) -> Container:
    return read(Entrypoint=None, Cmd=list(words), Env=None)


def test_the_facts_of_a_container_are_read() -> None:
    container = read()
    assert (container.id, container.name, container.image) == (ID, "llm", "ollama/ollama:latest")
    assert (container.runs, container.paused, container.health) == (True, False, "starting")
    assert container.networks == (("bridge", ("172.17.0.2",)), ("web", ("172.19.0.2", "fd00::2")))
    assert container.published == (Published(11434, "0.0.0.0", 32768), Published(11434, "::", 32768))
    assert container.exposed == (9090, 11434)


def test_no_secret_of_its_environment_is_kept() -> None:
    assert "secret" not in repr(read())
    assert dict(read().variables) == {"OLLAMA_HOST": "0.0.0.0:11434"}


def test_one_without_networks_may_have_its_address_at_the_top_as_older_engines_say_it() -> None:
    facts = page()
    facts["NetworkSettings"] = {"IPAddress": "10.88.0.5", "Ports": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}}
    container = read_container(facts)
    assert container is not None
    assert container.networks == (("bridge", ("10.88.0.5",)),)
    assert container.published == (Published(80, "0.0.0.0", 8080),)


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (("--port", "9000"), 9000),
        (("--port=9000",), 9000),
        (("-m", "/m.gguf", "-p", "9000"), 9000),
        (("--port", "9000", "--port", "9001"), 9001),
        (("sh", "-c", "exec llama-server -m /m --port 9000"), 9000),
        (("sh", "-c", "vllm serve 'x' --port '9000'; true"), 9000),
        (("-listen", ":9292"), 9292),
        (("--listen=0.0.0.0:9292",), 9292),
        (("--address", "[::]:9292"), 9292),
    ],
)
def test_the_command_line_is_the_truth_about_what_listens(words: tuple[str, ...], port: int) -> None:
    assert command(*words).ports(None, "ollama") == (port,)


@pytest.mark.parametrize(
    "words", [("--port",), ("--port", "http"), ("-p", "Write a poem"), ("--port", "99999"), ("9000",)]
)
def test_what_names_no_port_is_no_port(words: tuple[str, ...]) -> None:
    assert command(*words).command_port is None


@pytest.mark.parametrize(
    ("engine", "line", "port"),
    [
        ("ollama", "OLLAMA_HOST=0.0.0.0:9000", 9000),
        ("ollama", "OLLAMA_HOST=http://[::]:9000/", 9000),
        ("ollama", "OLLAMA_HOST=:9000", 9000),
        ("ollama", "OLLAMA_HOST=0.0.0.0", 11434),
        ("ollama", "OLLAMA_HOST=http://x:y", 11434),
        ("llamacpp", "LLAMA_ARG_PORT=9000", 9000),
        ("tgi", "PORT=9000", 9000),
        ("localai", "LOCALAI_ADDRESS=:9000", 9000),
        ("vllm", "PORT=9000", 8000),
        ("auto", "PORT=9000", 9000),
    ],
)
def test_an_engine_reads_its_own_variables(engine: str, line: str, port: int) -> None:
    container = read(Cmd=None, Env=[line], ExposedPorts=None)
    container = Container(ID, "llm", "x", variables=container.variables)
    assert container.ports(None, engine) == (port,)


def test_label_then_command_then_environment_then_what_is_exposed_then_the_usual() -> None:
    everything = read(Cmd=["--port", "2"], Env=["OLLAMA_HOST=:3"])
    assert everything.ports(1, "ollama") == (1,)
    assert everything.ports(None, "ollama") == (2,)
    assert read(Env=["OLLAMA_HOST=:3"]).ports(None, "ollama") == (3,)
    assert Container(ID, "a", "x", exposed=(4,)).ports(None, "ollama") == (4,)
    assert Container(ID, "a", "x").ports(None, "ollama") == (11434,)
    assert Container(ID, "a", "x").ports(None, "ollama", 5) == (5,)


def test_of_several_ports_it_is_the_usual_one_or_else_any_the_published_first() -> None:
    several = Container(ID, "a", "x", exposed=(1, 2, 8000), published=(Published(2, "0.0.0.0", 80),))
    assert several.ports(None, "vllm") == (8000,)
    assert several.ports(None, "ollama") == (2, 1, 8000)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["8000/tcp", "0.0.0.0", "::", ":1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_json_is_read(data: st.DataObject) -> None:
    facts: Any = page(Cmd=data.draw(JSON), Env=data.draw(JSON), Labels=data.draw(JSON), ExposedPorts=data.draw(JSON))
    for section in ("State", "HostConfig", "NetworkSettings", "Config", "Name", "Id"):
        if data.draw(st.booleans()):
            facts[section] = data.draw(JSON)
    if data.draw(st.booleans()):
        facts["NetworkSettings"] = {"Ports": data.draw(JSON), "Networks": data.draw(JSON), "IPAddress": data.draw(JSON)}
    container = read_container(facts)
    if container is not None:
        for engine in (*ENGINES, "auto"):
            assert all(0 < port < 65536 for port in container.ports(None, engine))
            assert container.ports(None, engine)
    read_container(data.draw(JSON))
