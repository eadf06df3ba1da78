import errno
import socket
import ssl

import pytest

from solar.discovery.docker.advice import Container, advice, unreachable
from solar.discovery.sighting import Address, Failed, Tried

OWN, PUBLISHED, GATEWAY = "http://172.17.0.2:8080", "http://127.0.0.1:8080", "http://host.docker.internal:8080"


def tried(**how: Failed) -> list[Tried]:
    urls = {"own": OWN, "published": PUBLISHED, "gateway": GATEWAY}
    return [Tried(Address(urls[name], name), False, failed, failed) for name, failed in how.items()]


def container(**facts: object) -> Container:
    given = {"name": "llm", "type": "llamacpp", "port": 8080, "ips": {"172.17.0.2"}, "networks": ("bridge",), **facts}
    return Container(**given)  # type: ignore[arg-type]  # a test's facts


def test_what_answers_somewhere_needs_no_advice() -> None:
    answered = Tried(Address(OWN, "its IP"), True, "llamacpp, with m")
    assert advice([*tried(published="refused"), answered], container()) == ""


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ("llamacpp", "--host 0.0.0.0 (or LLAMA_ARG_HOST=0.0.0.0)"),
        ("ollama", "start it with OLLAMA_HOST=0.0.0.0"),
        ("tgi", "--hostname 0.0.0.0"),
        ("localai", "LOCALAI_ADDRESS=:8080"),
        ("vllm", "start it with --host 0.0.0.0"),
    ],
)
def test_one_that_refuses_at_its_own_ip_listens_on_loopback_inside(engine: str, words: str) -> None:
    told = advice(tried(own="refused"), container(type=engine))
    assert "may listen on 127.0.0.1 only" in told
    assert words in told


def test_a_published_port_that_hangs_up_says_the_same_even_from_afar() -> None:
    told = advice(tried(published="cut"), container(published=("0.0.0.0",), remote=True, ips=frozenset()))
    assert "may listen on 127.0.0.1 only" in told


def test_a_published_port_that_refuses_says_the_same() -> None:
    told = advice(tried(own="silent", published="refused"), container(published=("127.0.0.1",)))
    assert "--host 0.0.0.0" in told


def test_what_is_no_engine_is_named_or_left_out() -> None:
    told = advice(tried(own="foreign", published="refused"), container())
    assert "solar.port" in told
    assert "solar.enable=false" in told


def test_a_port_that_is_not_published_on_another_machine_is_to_be_published() -> None:
    assert "docker run -p 8080:8080" in advice([], container(remote=True))


def test_a_port_that_another_machine_publishes_on_loopback_is_to_be_published_for_others() -> None:
    told = advice([], container(remote=True, published=("127.0.0.1", "::1")))
    assert "on 127.0.0.1 of its machine only" in told


def test_behind_a_port_that_another_machine_publishes_a_firewall_is_suspected() -> None:
    assert "firewall" in advice(tried(published="silent"), container(remote=True, published=("0.0.0.0",)))


def test_from_another_network_one_is_to_be_shared() -> None:
    told = advice(tried(own="silent"), container(ours=("solar_default",), networks=("llm_default",)))
    assert "docker network connect llm_default" in told
    assert "host-gateway" not in told


def test_the_default_bridge_is_no_network_to_join_by_name() -> None:
    assert "docker network create llm" in advice(tried(own="silent"), container(ours=("a",)))


def test_a_gateway_that_does_not_know_its_machine_is_told_how() -> None:
    told = advice(
        tried(own="silent", gateway="unknown name"),
        container(ours=("a",), networks=("b",), published=("0.0.0.0",)),
    )
    assert "--add-host host.docker.internal:host-gateway" in told
    assert "extra_hosts" in told


def test_a_port_published_on_loopback_is_out_of_a_containers_reach() -> None:
    told = advice(
        tried(own="silent", gateway="refused"), container(ours=("a",), networks=("b",), published=("127.0.0.1",))
    )
    assert "which no container reaches" in told


def test_silence_on_a_shared_network_is_a_hang() -> None:
    assert "docker logs llm" in advice(tried(own="silent"), container(ours=("bridge",)))


def test_where_containers_ips_lead_nowhere_the_port_is_to_be_published() -> None:
    assert "docker run -p 127.0.0.1:8080:8080" in advice(tried(own="unreachable"), container())


def test_on_the_machines_own_network_nothing_is_said_of_loopback() -> None:
    told = advice(tried(published="refused"), container(networks=("host",), ips=frozenset()))
    assert "127.0.0.1" not in told
    assert "solar.port" in told


@pytest.mark.parametrize(
    ("failed", "facts", "words"),
    [
        ({"gateway": "refused"}, {"ours": ("a",)}, "listen on 127.0.0.1 of its machine only: start it with --host"),
        ({"published": "refused"}, {"remote": True}, "listen on 127.0.0.1 of its machine only: start it with --host"),
        ({"gateway": "unknown name"}, {"ours": ("a",)}, "let the gateway reach its machine: --add-host"),
        ({"published": "silent"}, {"remote": True}, "firewall"),
    ],
)
def test_from_afar_the_machines_own_network_is_judged_by_what_it_answers(
    failed: dict[str, Failed], facts: dict[str, object], words: str
) -> None:
    told = advice(tried(**failed), container(networks=("host",), ips=frozenset(), **facts))
    assert words in told
    assert "docker network" not in told


@pytest.mark.parametrize(
    ("url", "error", "reason", "words"),
    [
        ("unix:///d.sock", PermissionError(13, "Permission denied"), "this user may not open /d.sock", "usermod -aG"),
        ("unix:///d.sock", FileNotFoundError(2, "No such file"), "there is no /d.sock", "systemctl start docker"),
        ("unix:///d.sock", ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "no Docker Engine listens", "start"),
        ("tcp://gpu1:2376", ssl.SSLError(1, "UNKNOWN_CA"), "tcp://gpu1:2376 does not take our TLS", "DOCKER_CERT_PATH"),
        ("tcp://gpu1:2376", socket.gaierror(-2, "unknown"), "the name in tcp://gpu1:2376 is unknown", "correct it"),
        ("tcp://gpu1:2376", TimeoutError(), "does not answer: no answer in time", "docker -H tcp://gpu1:2376 version"),
        ("ssh://me@gpu2", OSError(113, "No route to host"), "does not answer: no route to host", "docker -H ssh://me"),
    ],
)
def test_a_docker_engine_that_cannot_be_asked_is_explained(url: str, error: OSError, reason: str, words: str) -> None:
    found, todo = unreachable(url, error)
    assert reason in found
    assert words in todo
