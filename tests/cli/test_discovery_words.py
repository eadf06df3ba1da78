import pytest

from solar.control.words import Source, source_of
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
        ("dns:llm:0", "must be a number from 1 to 65535"),
        ("dns:llm:http", "must be a number from 1 to 65535"),
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
