import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from solar.core.backend import Backend
from solar.errors import InvalidRequest
from solar.wire.address import AgentUrl, agent_url, instance_url, same


@pytest.mark.parametrize(
    ("written", "normal", "instance"),
    [
        ("http://192.168.1.100:8001", "http://192.168.1.100:8001", "http://192.168.1.100:3500"),
        ("http://gpu1:8001/", "http://gpu1:8001", "http://gpu1:3500"),
        ("http://[::1]:8001", "http://[::1]:8001", "http://[::1]:3500"),
        ("http://gpu1", "http://gpu1:8001", "http://gpu1:3500"),
        ("gpu1", "http://gpu1:8001", "http://gpu1:3500"),
        ("gpu1:9000", "http://gpu1:9000", "http://gpu1:3500"),
        ("  HTTP://GPU1.Lan.:80//  ", "http://gpu1.lan:80", "http://gpu1.lan:3500"),
        ("https://h/base", "https://h/base", "http://h:3500"),
        ("https://h:443/Base/agent/", "https://h/Base/agent", "http://h:3500"),
        ("https://h:8443", "https://h:8443", "http://h:3500"),
        ("::1", "http://[::1]:8001", "http://[::1]:3500"),
        ("[2001:DB8:0::1]/x", "http://[2001:db8::1]:8001/x", "http://[2001:db8::1]:3500"),
        ("gpu_box-2:", "http://gpu_box-2:8001", "http://gpu_box-2:3500"),
    ],
)
def test_what_people_write_becomes_one_spelling(written: str, normal: str, instance: str) -> None:
    assert str(agent_url(written)) == normal
    assert instance_url(agent_url(written), 3500) == instance


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("", "names no host"),
        ("http://", "names no host"),
        ("http://:8001", "names no host"),
        ("ftp://gpu1", "http or https"),
        ("http://a://b", "http or https"),
        ("http://me:secret@gpu1", "api_key"),
        ("http://gpu1?x=1", "leave the query"),
        ("http://gpu1/#top", "leave the query"),
        ("gpu1:0", "from 1 to 65535"),
        ("gpu1:65536", "from 1 to 65535"),
        ("gpu1:port", "from 1 to 65535"),
        ("gpu1/../x", "plain"),
        ("gpu1/a//b", "plain"),
        ("gpu1/a b", "plain"),
        ("gpü", "letters, digits"),
        ("-gpu", "letters, digits"),
        ("a" * 64, "letters, digits"),
        ("a." * 128, "letters, digits"),
        ("192.168.1.256", "four numbers"),
        ("192.168.1", "four numbers"),
        ("[::1", "IPv6"),
        ("[::1]8001", "IPv6"),
        ("::1::", "IPv6"),
        ("fe80::1%eth0", "with a %"),
    ],
)
def test_what_cannot_be_an_agent_is_refused_with_what_to_write(written: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told) as refused:
        agent_url(written)
    assert refused.value.param == "url"
    assert "is no agent's address" in refused.value.message


def test_two_spellings_of_one_agent_are_the_same() -> None:
    assert same(agent_url("http://GPU1:8001/"), agent_url("gpu1"))
    assert same(agent_url("localhost"), agent_url("[::1]:8001"))
    assert same(agent_url("https://gpu1:8001"), agent_url("gpu1"))  # one port has one listener
    assert not same(agent_url("gpu1/a"), agent_url("gpu1/b"))
    assert not same(agent_url("gpu1:8001"), agent_url("gpu1:8002"))


def test_an_instance_speaks_http_unless_told_otherwise() -> None:
    assert instance_url(agent_url("https://gpu1"), 3501) == "http://gpu1:3501"
    assert instance_url(agent_url("https://gpu1"), 3501, "https") == "https://gpu1:3501"


def test_pages_and_streams_stand_under_the_base_path() -> None:
    agent = agent_url("https://gate.lan/gpu1")
    assert agent.at("/health") == "https://gate.lan/gpu1/health"
    assert agent.stream("/instances/1/logs") == "wss://gate.lan/gpu1/instances/1/logs"
    assert agent_url("gpu1").stream("/x") == "ws://gpu1:8001/x"


@given(st.text() | st.text(alphabet="htps:/[]@.?#%-_a1 0:\\", max_size=30))
@example("http://[::ffff:1.2.3.4]:1")
@settings(deadline=None)
def test_any_text_is_an_address_or_refused_and_an_address_is_read_as_itself(text: str) -> None:
    try:
        found = agent_url(text)
    except InvalidRequest:
        return
    assert agent_url(str(found)) == found
    assert isinstance(found, AgentUrl)
    Backend("one", instance_url(found, 3500))
