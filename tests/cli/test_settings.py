from pathlib import Path
from typing import Any

import pytest

from solar.control.configuration import load
from solar.errors import InvalidSettings


def port(directory: Path, flags: dict[str, Any], environ: dict[str, str]) -> int:
    return load(flags, environ, directory).settings.port


def test_a_flag_beats_a_variable_beats_dotenv_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text("[server]\nport = 1\n")
    assert port(tmp_path, {}, {}) == 1
    (tmp_path / ".env").write_text("SOLAR_PORT=2\n")
    assert port(tmp_path, {}, {}) == 2
    assert port(tmp_path, {}, {"SOLAR_PORT": "3"}) == 3
    assert port(tmp_path, {"port": "4"}, {"SOLAR_PORT": "3"}) == 4


def test_plain_names_count_where_the_longer_ones_are_silent(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEY=a b,c\nHOST=127.0.0.2\nPORT=5\n")
    settings = load({}, {}, tmp_path).settings
    assert (settings.api_keys, settings.host, settings.port) == (("a b,c",), "127.0.0.2", 5)
    assert port(tmp_path, {}, {"SOLAR_PORT": "6", "PORT": "7"}) == 6
    assert port(tmp_path, {}, {"PORT": "7"}) == 7


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    settings = load({}, {"SOLAR_API_KEY": " ", "API_KEY": "", "SOLAR_PORT": ""}, tmp_path).settings
    assert (settings.api_keys, settings.port) == ((), 8000)


def test_keys_are_divided_at_commas_as_they_may_hold_spaces(tmp_path: Path) -> None:
    assert load({}, {"SOLAR_API_KEY": "My API Key, other"}, tmp_path).settings.api_keys == ("My API Key", "other")


def test_dotenv_is_taken_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SOLAR_API_KEY='a$HOME${PATH}'\n")
    assert load({}, {}, tmp_path).settings.api_keys == ("a$HOME${PATH}",)


@pytest.mark.parametrize("text", ["one=http://a:1 two=http://b:2", "one=http://a:1,two=http://b:2"])
def test_backends_of_a_variable_are_divided_at_spaces_and_commas(text: str, tmp_path: Path) -> None:
    backends = load({}, {"SOLAR_BACKEND": text}, tmp_path).backends
    assert [(backend.id, backend.url) for backend in backends] == [("one", "http://a:1"), ("two", "http://b:2")]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1-8080"),
        ("localhost:9/v1", "localhost-9"),
        ("https://api.example.org/api/v1", "api.example.org-443-api"),
        ("http://[fe80::1]:8080", "fe80-1-8080"),
    ],
)
def test_a_backend_without_a_name_is_named_by_where_it_is(url: str, name: str, tmp_path: Path) -> None:
    (backend,) = load({"backends": (url,)}, {}, tmp_path).backends
    assert backend.id == name


def test_backends_of_flags_and_of_the_file_are_served_together(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text('[[backends]]\nname = "b"\nurl = "http://b"\n')
    configuration = load({"backends": ("a=http://a",)}, {}, tmp_path)
    assert [backend.id for backend in configuration.backends] == ["a", "b"]


@pytest.mark.parametrize(
    ("flags", "environ", "words"),
    [
        ({}, {"SOLAR_PORT": "x"}, "SOLAR_PORT: expected a whole number; write for example: 8000"),
        ({"port": "70000"}, {}, "--port: expected a whole number <= 65535; write for example: 8000"),
        ({}, {"HOLD": "", "SOLAR_HOLD_WHILE_LOADING": "yes"}, "SOLAR_HOLD_WHILE_LOADING: expected true or false"),
        ({"prefix_fallback": "uniqe"}, {}, "--prefix-fallback: 'uniqe' is not one of off, unique, first; did you mean"),
        ({"backends": ("a=http://h", "a=http://i")}, {}, "--backend: two backends are called 'a'"),
        ({"backends": ("a=ftp://h",)}, {}, "--backend: backend 'a': 'ftp://h' is no http(s) URL; write http://host"),
        ({"default_backend": "lift", "backends": ("left=http://h",)}, {}, "--default-backend: there is no backend 'li"),
        ({"api_keys": ("",)}, {}, "--api-key: expected a text of length >= 1"),
        ({"api_keys": (" ",)}, {}, "--api-key: a key must be printable ASCII on one line, and not empty"),
        ({"config": "nowhere.toml"}, {}, "nowhere.toml: no such file or directory"),
    ],
)
def test_an_error_says_where_and_what_to_write(
    flags: dict[str, Any], environ: dict[str, str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidSettings) as error:
        load(flags, environ, tmp_path)
    assert words in error.value.message


def test_a_dotenv_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidSettings, match=r"cannot read .*\.env"):
        load({}, {}, tmp_path)


def test_no_key_is_in_any_repr(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text(
        '[server]\napi_keys = ["sk-mine"]\n[[backends]]\nname = "a"\nurl = "http://a"\napi_key = "sk-its"\n'
    )
    shown = repr(load({"api_keys": ("sk-other",)}, {}, tmp_path))
    assert "sk-" not in shown
