"""Where we stand, as seen from the containers of an engine."""

from __future__ import annotations

from typing import Any

import pytest

from solar.discovery.docker.containers import Container
from solar.discovery.docker.situation import Ourselves, Situation, default_gateway, machine_of, own_ids, situate

SOCKET = "unix:///var/run/docker.sock"
HOST = Ourselves("rig")
INSIDE = Ourselves("0123456789ab", ("0123456789ab",), "172.18.0.1")
US = Container("0123456789ab" + "c" * 52, "gateway", "solar", networks=(("llm", ("172.18.0.5",)),))


def stand(url: str = SOCKET, ours: Ourselves = HOST, own: Container | None = None, **info: Any) -> Situation:
    return situate(url, {"Name": "rig", **info}, ours, known=own is not None, home=own)


def test_on_a_linux_machine_its_containers_are_reached_by_their_ip() -> None:
    assert stand() == Situation(bridges=True)
    assert stand(Name="") == Situation(bridges=True)  # a proxy keeps to itself what the engine says


@pytest.mark.parametrize(
    "info",
    [
        {"Name": "docker-desktop"},
        {"Name": "gpu-box"},
        {"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]},
        {"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": True},  # podman
    ],
)
def test_a_virtual_machine_a_forwarded_socket_and_a_rootless_engine_have_ips_of_their_own(info: dict[str, Any]) -> None:
    assert stand(**info) == Situation(bridges=False)


def test_not_on_a_mac() -> None:
    assert not stand(ours=Ourselves("rig", linux=False)).bridges


def test_in_a_container_its_networks_are_what_we_share() -> None:
    situation = stand(ours=INSIDE, own=US)
    assert situation.networks == ("llm",)
    assert situation.hosts == ("host.docker.internal", "172.18.0.1")
    assert situation.shares_with == US.id
    assert not situation.bridges
    assert not situation.remote


def test_an_engine_that_has_our_container_is_on_our_machine_though_its_url_is_a_proxys() -> None:
    assert stand("tcp://socket-proxy:2375", INSIDE, US) == stand(SOCKET, INSIDE, US)


def test_in_the_network_of_a_container_that_is_gone_there_is_only_our_machine() -> None:
    assert situate(SOCKET, {}, INSIDE, known=True) == Situation(("host.docker.internal", "172.18.0.1"), networks=())


def test_a_container_in_the_host_network_stands_on_the_host() -> None:
    own = Container("us", "us", "solar", network_mode="host", networks=(("host", ()),))
    assert stand(ours=INSIDE, own=own) == Situation(bridges=True)


def test_in_a_container_that_the_engine_does_not_know_only_its_machine_can_be_tried() -> None:
    assert stand(ours=INSIDE) == Situation(("host.docker.internal", "172.18.0.1"), networks=())


def test_an_engine_that_runs_in_our_container_is_on_our_machine() -> None:
    assert stand(ours=Ourselves("ci", ("c" * 64,), "172.17.0.1"), Name="ci") == Situation(bridges=True)


@pytest.mark.parametrize("ours", [HOST, INSIDE])
@pytest.mark.parametrize("url", ["tcp://gpu-box:2376", "ssh://me@gpu-box", "https://gpu-box"])
def test_a_remote_engine_is_reached_by_the_host_part_of_its_url(url: str, ours: Ourselves) -> None:
    assert stand(url, ours) == Situation(("gpu-box",), remote=True)


@pytest.mark.parametrize(
    ("url", "machine"),
    [
        (SOCKET, None),
        ("tcp://127.0.0.1:2375", None),
        ("tcp://localhost:2375", None),
        ("tcp://[::1]:2375", None),
        ("npipe:////./pipe/docker_engine", None),
        ("ssh://[fd00::1]", "fd00::1"),
        ("tcp://[bad", None),
    ],
)
def test_the_machine_of_an_engine_is_in_its_url(url: str, machine: str | None) -> None:
    assert machine_of(url) == machine


def test_our_own_container_is_known_by_the_files_that_are_mounted_into_it() -> None:
    docker = f"700 684 254:1 /var/lib/docker/containers/{'a' * 64}/hostname /etc/hostname rw - ext4 /dev/vda1 rw"
    podman = f"7 6 0:3 /containers/storage/overlay-containers/{'b' * 64}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw"
    other = f"7 6 0:3 /var/lib/docker/containers/{'c' * 64}/mounts/shm /var/lib/docker/{'c' * 64}/shm rw - tmpfs shm rw"
    assert list(own_ids([docker, podman, other, ""])) == ["a" * 64, "b" * 64]


def test_the_default_gateway_is_read_from_the_routes() -> None:
    routes = [
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask",
        "eth0\t000012AC\t00000000\t0001\t0\t0\t0\t0000FFFF",
        "eth0\t00000000\t010012AC\t0003\t0\t0\t0\t00000000",
    ]
    assert default_gateway(routes) == "172.18.0.1"
    assert default_gateway(["", "x", "eth0 00000000 zz"]) is None
