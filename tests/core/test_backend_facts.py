from typing import Any

import pytest

from solar.core.backend import Backend, Origin, Timeouts
from solar.errors import InvalidBackend


@pytest.mark.parametrize(
    ("url", "authority", "prefix", "root"),
    [
        ("http://192.168.1.100:8000", "192.168.1.100:8000", "/v1", ""),
        ("http://gpu1:8001/", "gpu1:8001", "/v1", ""),
        ("http://gpu1:8001/v1", "gpu1:8001", "/v1", ""),
        ("http://gpu1:8001/v1/", "gpu1:8001", "/v1", ""),
        ("http://[::1]:8001", "[::1]:8001", "/v1", ""),
        ("http://gpu1", "gpu1", "/v1", ""),
        ("gpu1:8000", "gpu1:8000", "/v1", ""),
        ("HTTPS://API.Example.com./base", "api.example.com", "/base/v1", "/base"),
        ("https://h/openai/v1", "h", "/openai/v1", "/openai"),
        ("https://h:443", "h", "/v1", ""),
        ("http://h:443", "h:443", "/v1", ""),
    ],
)
def test_a_url_may_have_a_path_a_slash_or_no_port(url: str, authority: str, prefix: str, root: str) -> None:
    backend = Backend("a", url)
    assert (backend.origin.authority, backend.prefix, backend.root) == (authority, prefix, root)


@pytest.mark.parametrize(
    ("url", "base_path", "prefix", "root"),
    [
        ("http://h", "/api/paas/v4", "/api/paas/v4", ""),
        ("http://h/x", "v2/", "/x/v2", "/x"),
        ("http://h/x", "", "/x", "/x"),
        ("http://h/v1", "", "/v1", "/v1"),
    ],
)
def test_a_base_path_stands_in_for_v1(url: str, base_path: str, prefix: str, root: str) -> None:
    backend = Backend("a", url, base_path=base_path)
    assert (backend.prefix, backend.root) == (prefix, root)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://h",
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://h:0",
        "http://key@h",
        "http://h?x=1",
        "http://h#x",
        "http://h/a//b",
        "http://h/../b",
        "http://h/a b",
        "http://h\n.evil",
        "http://[::1",
        "http://gpü1",
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_by_name(url: str) -> None:
    with pytest.raises(InvalidBackend, match="'box'"):
        Backend("box", url)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"type": "gguf"}, "type must be one of"),
        ({"weight": 0.0}, "weight must be a number above 0"),
        ({"weight": float("inf")}, "weight"),
        ({"weight": float("nan")}, "weight"),
        ({"max_in_flight": 0}, "max_in_flight must be a whole number of at least 1"),
        ({"max_in_flight": 2.0}, "max_in_flight must be a whole number"),
        ({"priority": 1.0}, "priority must be a whole number"),
        ({"cancel": "wait"}, "'cancel' or 'drain'"),
        ({"api_key": "two\nlines"}, "api_key must be printable ASCII"),
        ({"api_key": "schlüssel"}, "api_key must be printable ASCII"),
        ({"models": ("",)}, "names that are not empty"),
        ({"aliases": {"a\n": "b"}}, "names that are not empty"),
        ({"aliases": {"a": ""}}, "names that are not empty"),
    ],
)
def test_settings_that_make_no_sense_say_what_to_write(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidBackend, match=said):
        Backend("box", "http://h", **changed)


def test_a_refused_key_is_not_told() -> None:
    with pytest.raises(InvalidBackend) as refused:
        Backend("box", "http://h", api_key="sk-söcret")
    assert "cret" not in str(refused.value)


@pytest.mark.parametrize("backend_id", ["", "two words", "a\nb", "\x7f"])
def test_an_id_must_fit_a_header_and_a_log_line(backend_id: str) -> None:
    with pytest.raises(InvalidBackend, match="id must be printable"):
        Backend(backend_id, "http://h")


@pytest.mark.parametrize("name", ["connect", "first_byte", "between_bytes", "total"])
@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_a_timeout_is_above_zero_or_absent(name: str, seconds: float) -> None:
    with pytest.raises(InvalidBackend, match=f"timeouts.{name}"):
        Timeouts(**{name: seconds})
    assert getattr(Timeouts(**{name: None}), name) is None


def test_a_model_may_have_timeouts_of_its_own() -> None:
    slow = Timeouts(first_byte=1800.0)
    assert Backend("a", "http://h").timeouts_for("m") == Timeouts()
    backend = Backend("a", "http://h", model_timeouts={"big": slow})
    assert (backend.timeouts_for("big"), backend.timeouts_for("small")) == (slow, Timeouts())


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "LOCALHOST", "app.localhost", "localhost."]
)
def test_every_spelling_of_loopback_is_one_host_and_one_address(host: str) -> None:
    backend = Backend("a", f"http://{host}:8000")
    assert backend.host_id == "localhost"
    assert backend.address == Backend("b", "http://localhost:8000/v1").address


def test_models_and_other_urls_may_be_lists() -> None:
    backend = Backend("a", "http://h", models=["m"], other_urls=["http://g"])
    assert backend == Backend("a", "http://h", models=("m",), other_urls=("http://g",))
    assert hash(backend)


def test_the_host_may_be_named() -> None:
    assert Backend("a", "http://10.0.0.7", host="GPU-Box").host_id == "gpu-box"
    assert Backend("a", "http://10.0.0.7").host_id == "10.0.0.7"


def test_port_scheme_and_path_make_addresses_differ() -> None:
    urls = ["http://h", "http://h:81", "https://h", "http://h/x"]
    assert len({Backend("a", url).address for url in urls}) == 4


def test_the_key_is_in_no_repr() -> None:
    assert "secret" not in repr(Backend("a", "http://h", api_key="secret"))


def test_an_origin_hides_its_schemes_own_port() -> None:
    assert Origin("https", "::1", 443).authority == "[::1]"
    assert Origin("http", "h", 8080).authority == "h:8080"
