from pathlib import Path

import pytest

from solar.control import discovery
from solar.control.configuration import changed, load
from solar.control.discovery import finders_of
from solar.control.words import Source, source_of
from solar.discovery.docker.images import ImageRule
from solar.errors import InvalidSettings


@pytest.mark.parametrize(
    ("word", "source"),
    [
        ("docker", Source("docker")),
        ("docker:unix:///run/user/1000/docker.sock", Source("docker", "unix:///run/user/1000/docker.sock")),
        ("docker:tcp://gpu1:2376", Source("docker", "tcp://gpu1:2376")),
        ("docker:ssh://me@gpu2", Source("docker", "ssh://me@gpu2")),
        ("local", Source("local")),
        ("dns:llm.example.org:8080", Source("dns", "llm.example.org", 8080)),
        ("dns:_llm._tcp.example.org", Source("dns", "_llm._tcp.example.org")),
        ("file:backends.toml", Source("file", "backends.toml")),
        ("mdns", Source("mdns")),
    ],
)
def test_every_word_means_one_place_and_is_written_back_as_it_was(word: str, source: Source) -> None:
    assert source_of(word, "here") == source
    assert str(source) == word
    assert source.in_words


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dokcer", "'dokcer' is no place to look at; did you mean 'docker'?"),
        ("loca", "did you mean 'local'?"),
        ("x", "(known: docker, local, dns, file, mdns)"),
        ("", "(known: docker, local, dns, file, mdns)"),
        ("tcp://gpu1:2376", "did you mean 'docker:tcp://gpu1:2376'?"),
        ("local:8080", "says too much; write local"),
        ("docker:", "did you mean 'docker:tcp://HOST'?"),
        ("docker:gpu1", "did you mean 'docker:tcp://gpu1'?"),
        ("docker:gpu1:2376", "did you mean 'docker:tcp://gpu1:2376'?"),
        ("docker:/var/run/docker.sock", "did you mean 'docker:unix:///var/run/docker.sock'?"),
        ("docker:http://gpu1:2376", "write for example docker:unix:///var/run/docker.sock"),
        ("docker:unix://", "write for example docker:unix:///var/run/docker.sock"),
        ("docker:tcp://gpu1:x", "is no URL"),
        ("docker:ssh://me:secret@gpu2", "leave the password out"),
        ("dns", "holds no name; write for example dns:llm"),
        ("dns:", "holds no name; write for example dns:llm"),
        ("dns:a b", "holds no name"),
        ("dns:llm", "needs a port from 1 to 65535; write for example dns:llm:8000"),
        ("dns:llm:0", "needs a port"),
        ("dns:llm:http", "needs a port"),
        ("dns:_llm._tcp.lan:80", "the SRV records of _llm._tcp.lan tell the port; write dns:_llm._tcp.lan"),
        ("file:", "names no file; write for example: file:backends.toml"),
    ],
)
def test_a_wrong_word_is_told_with_what_was_probably_meant(word: str, said: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        source_of(word, "--discover")
    assert caught.value.message.startswith("--discover: ")
    assert said in caught.value.message


def test_a_password_is_never_shown() -> None:
    with pytest.raises(InvalidSettings) as caught:
        source_of("docker:ssh://me:secret@gpu2", "--discover")
    assert "secret" not in caught.value.message


def test_words_are_checked_when_the_settings_are_read(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text('[server]\ndiscover = ["loca"]\n')
    with pytest.raises(
        InvalidSettings, match=r"\[server\] discover: 'loca' is no place to look at; did you mean 'local'"
    ):
        load({}, {}, tmp_path)


def test_words_of_a_variable_are_divided_at_spaces_and_commas(tmp_path: Path) -> None:
    found = load({}, {"SOLAR_DISCOVER": "docker, local docker"}, tmp_path).discover
    assert found == (Source("docker"), Source("local"))


def test_a_file_starts_from_the_directory_of_the_one_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "solar.toml").write_text('[server]\ndiscover = ["file:found.toml"]\n')
    in_file = load({"config": "etc/solar.toml"}, {}, tmp_path)
    by_flag = load({"discover": ("file:found.toml",)}, {}, tmp_path)
    assert in_file.discover == (Source("file", str(tmp_path / "etc" / "found.toml")),)
    assert by_flag.discover == (Source("file", "found.toml"),)


def test_a_default_backend_may_be_one_that_will_be_found(tmp_path: Path) -> None:
    assert load({"default_backend": "ollama-x", "discover": ("docker",)}, {}, tmp_path).settings.default_backend


def test_image_rules_are_read(tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text(
        '[[image_rules]]\npattern = "my-llm"\n[[image_rules]]\npattern = "a*"\ntype = "vllm"\nport = 9\n'
    )
    assert load({}, {}, tmp_path).image_rules == (ImageRule("my-llm", "generic", 8080), ImageRule("a*", "vllm", 9))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("", 'pattern is missing; write for example: pattern = "my-llm"'),
        ('pattern = "a"\ntyp = "vllm"', "no setting is called 'typ'; did you mean 'type'?"),
        ('pattern = "a"\ntype = "vlm"', "the type must be one of auto, llamacpp"),
        ('pattern = "a"\nport = 0', "expected a whole number >= 1"),
        ('pattern = "a*b*c"', "has one * at most"),
    ],
)
def test_a_wrong_image_rule_is_told_by_its_number(table: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text(f"[[image_rules]]\n{table}\n")
    with pytest.raises(InvalidSettings) as caught:
        load({}, {}, tmp_path)
    assert f"{tmp_path / 'solar.toml'}: [[image_rules]] number 1" in caught.value.message
    assert words in caught.value.message


def test_other_image_rules_need_a_restart(tmp_path: Path) -> None:
    before = load({}, {}, tmp_path)
    (tmp_path / "solar.toml").write_text('[[image_rules]]\npattern = "my-llm"\n')
    assert changed(before, load({}, {}, tmp_path)) == ("image_rules",)


def test_all_docker_engines_are_looked_at_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://usual:2375")
    words = ("docker", "local", "docker:tcp://gpu1:2376")
    docker, local = finders_of((source_of(word, "") for word in words), ())
    assert (docker.name, local.name) == ("docker", "local")
    assert "tcp://usual:2375" in repr(docker)
    assert "tcp://gpu1:2376" in repr(docker)


def test_a_gateway_does_not_look_at_its_own_port() -> None:
    (local,) = finders_of([Source("local")], (), not_ports=(8000,))
    assert " 8000" not in repr(local)
    assert " 8080" in repr(local)


def test_without_docker_only_this_machine_is_looked_at_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "DOCKER_SOCKETS", ())
    assert discovery.usual({}) == (Source("local"),)
    assert discovery.usual({"DOCKER_HOST": "tcp://gpu1:2375"}) == (Source("docker"), Source("local"))
