"""Which addresses of a container are tried, from where we stand, and in which order."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.backend import Backend
from solar.discovery.docker.addresses import candidates, named_network, network_home
from solar.discovery.docker.containers import Container, Published
from solar.discovery.docker.situation import Situation

ON_HOST = Situation(bridges=True)
DESKTOP = Situation()
REMOTE = Situation(("gpu-box",), remote=True)
INSIDE = Situation(("host.docker.internal", "172.18.0.1"), networks=("llm", "web"), shares_with="us")

EVERYWHERE = (Published(8000, "0.0.0.0", 32768), Published(8000, "::", 32768))
BRIDGE = (("bridge", ("172.17.0.2",)),)


def box(**facts: object) -> Container:
    return Container(**{"id": "a" * 64, "name": "a", "image": "x", **facts})  # type: ignore[arg-type]  # a test's facts


def urls(
    container: Container, situation: Situation, *ports: int, around: dict[str, Container] | None = None
) -> list[str]:
    return [one.url for one in candidates(container, ports or (8000,), situation, around or {})]


def test_on_its_machine_its_ip_comes_first_and_then_what_is_published() -> None:
    container = box(networks=(*BRIDGE, ("llm", ("172.19.0.2", "fd00::2"))), published=EVERYWHERE)
    assert urls(container, ON_HOST) == [
        "http://172.17.0.2:8000",
        "http://172.19.0.2:8000",
        "http://[fd00::2]:8000",
        "http://127.0.0.1:32768",
        "http://[::1]:32768",
    ]


def test_behind_a_virtual_machine_or_a_rootless_engine_only_published_ports_are_tried() -> None:
    assert urls(box(networks=BRIDGE, published=EVERYWHERE[:1]), DESKTOP) == ["http://127.0.0.1:32768"]
    assert urls(box(networks=BRIDGE), DESKTOP) == []


def test_a_port_published_on_one_address_is_tried_there() -> None:
    container = box(
        published=(Published(8000, "127.0.0.1", 1), Published(8000, "192.168.1.5", 2), Published(9, "1.1.1.1", 3))
    )
    assert urls(container, ON_HOST) == ["http://127.0.0.1:1", "http://192.168.1.5:2"]
    assert urls(container, REMOTE) == ["http://192.168.1.5:2"]


def test_no_ip_inside_a_remote_engine_is_ever_tried() -> None:
    """The same address may be another container's, here."""
    assert urls(box(networks=BRIDGE, published=EVERYWHERE), REMOTE) == ["http://gpu-box:32768"]


def test_in_a_container_only_the_networks_that_we_share_lead_there() -> None:
    container = box(networks=(*BRIDGE, ("llm", ("172.19.0.2",)), ("web", ("172.20.0.2",))), published=EVERYWHERE)
    assert urls(container, INSIDE) == [
        "http://172.19.0.2:8000",
        "http://172.20.0.2:8000",
        "http://host.docker.internal:32768",
        "http://172.18.0.1:32768",
    ]


def test_the_network_of_the_label_comes_first_with_or_without_its_project() -> None:
    networks = (("llm", ("172.19.0.2",)), ("shop_web", ("172.20.0.2",)), ("x_web", ("172.21.0.2",)))
    container = box(networks=networks, labels={"com.docker.compose.project": "x"})
    for wanted, first in [("shop_web", "172.20.0.2"), ("web", "172.21.0.2"), ("llm", "172.19.0.2")]:
        found = candidates(container, [8000], ON_HOST, {}, network=wanted)
        assert found[0].url == f"http://{first}:8000"
        assert len(found) == 3
    assert named_network(box(networks=networks), "web") == "shop_web"
    assert named_network(container, "db") is None


def test_the_url_of_the_label_comes_before_all() -> None:
    found = candidates(box(networks=BRIDGE), [8000], ON_HOST, {}, url="http://llm.example:9/api")
    assert [one.url for one in found] == ["http://llm.example:9/api", "http://172.17.0.2:8000"]


def test_one_in_the_host_network_is_where_its_machine_is() -> None:
    container = box(network_mode="host", networks=(("host", ()),))
    assert urls(container, ON_HOST) == ["http://127.0.0.1:8000"]
    assert urls(container, REMOTE) == ["http://gpu-box:8000"]
    assert urls(container, INSIDE) == ["http://host.docker.internal:8000", "http://172.18.0.1:8000"]


def test_one_in_the_network_of_another_is_where_that_is() -> None:
    vpn = box(id="vpn", networks=BRIDGE, published=(Published(9000, "0.0.0.0", 80),))
    middle = box(id="middle", network_mode="container:vpn")
    container = box(network_mode="container:middle", published=(Published(9000, "0.0.0.0", 7),))
    assert urls(container, ON_HOST, 9000, around={"vpn": vpn, "middle": middle}) == [
        "http://172.17.0.2:9000",
        "http://127.0.0.1:80",
    ]


def test_one_that_shares_our_network_is_here() -> None:
    us = box(id="us", networks=(("llm", ("172.19.0.3",)),))
    assert urls(box(network_mode="container:us"), INSIDE, around={"us": us}) == ["http://127.0.0.1:8000"]
    engine = box(id="engine", networks=(("llm", ("172.19.0.3",)),))
    assert urls(engine, Situation(("h",), networks=("llm",), shares_with="engine")) == ["http://127.0.0.1:8000"]


def test_networks_that_lead_in_a_circle_or_to_nobody_end() -> None:
    a, b = box(id="a", network_mode="container:b"), box(id="b", network_mode="container:a")
    assert network_home(a, {"a": a, "b": b}) is None
    assert urls(a, ON_HOST, around={"a": a, "b": b}) == []
    assert urls(box(network_mode="container:gone"), ON_HOST) == []


def test_several_ports_are_tried_in_their_order() -> None:
    assert urls(box(networks=BRIDGE), ON_HOST, 2, 1) == ["http://172.17.0.2:2", "http://172.17.0.2:1"]


IPS = st.ip_addresses().map(str)
PORTS = st.integers(1, 65535)
SITUATIONS = st.sampled_from([ON_HOST, DESKTOP, REMOTE, INSIDE])
CONTAINERS = st.builds(
    Container,
    id=st.sampled_from(["us", "a", "b", "c"]),
    name=st.just("x"),
    image=st.just("x"),
    network_mode=st.sampled_from(["default", "host", "none", "container:a", "container:b", "container:us"]),
    networks=st.lists(
        st.tuples(st.sampled_from(["bridge", "llm", "web"]), st.lists(IPS, max_size=2).map(tuple)), max_size=3
    ).map(tuple),
    published=st.lists(st.builds(Published, st.sampled_from([8000, 1]), IPS, PORTS), max_size=3).map(tuple),
)


@settings(deadline=None, max_examples=100)
@given(CONTAINERS, st.lists(CONTAINERS, max_size=3), SITUATIONS, st.lists(PORTS | st.just(8000), max_size=3))
def test_every_candidate_is_a_url_once_and_none_is_inside_another_machine(
    container: Container, others: list[Container], situation: Situation, ports: list[int]
) -> None:
    around = {other.id: other for other in others}
    found = candidates(container, ports, situation, around)
    assert found == candidates(container, ports, situation, around)
    assert len({one.url for one in found}) == len(found)
    published = {one.host_ip for home in (container, *others) for one in home.published}
    for one in found:
        Backend("a", one.url)
        assert one.why
        host = urlsplit(one.url).hostname or ""
        if situation.remote:
            assert host == "gpu-box" or ip_address(host) in map(ip_address, published)
