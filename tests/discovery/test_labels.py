"""What a container's labels ask for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.backend import Backend
from solar.discovery.docker.labels import NAMES, Labels, read_labels


def ours(**labels: str) -> Labels:
    return read_labels({f"solar.{name}": value for name, value in labels.items()})


def test_all_labels_are_read() -> None:
    labels = ours(
        enable="true",
        type="vllm",
        port="9000",
        url="http://llm:9000/v1",
        network="llm",
        model="a, b",
        alias="gpt-4=a, small",
        weight="2.5",
        priority="1",
        max_in_flight="4",
        api_key_file="vllm.key",
        cancel="drain",
    )
    assert labels.enable is True
    assert (labels.type, labels.port, labels.url, labels.network) == ("vllm", 9000, "http://llm:9000/v1", "llm")
    assert (labels.models, dict(labels.aliases), labels.plain_aliases) == (("a", "b"), {"gpt-4": "a"}, ("small",))
    assert (labels.weight, labels.priority, labels.max_in_flight) == (2.5, 1, 4)
    assert (labels.api_key_file, labels.cancel, labels.notes) == ("vllm.key", "drain", ())


def test_labels_of_oairouter_are_read_as_they_are() -> None:
    theirs = {"enabled": "true", "backend": "ollama", "port": "11435", "model": "qwen", "url": "http://h:1"}
    labels = read_labels({f"oairouter.{name}": value for name, value in theirs.items()})
    assert labels == Labels("label oairouter.enabled=true", True, "ollama", 11435, "http://h:1", models=("qwen",))


def test_our_labels_count_more_than_those_of_oairouter() -> None:
    labels = read_labels({"oairouter.port": "1", "solar.port": "2", "oairouter.backend": "vllm"})
    assert (labels.port, labels.type) == (2, "vllm")


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on", "", " enabled "])
def test_there_are_many_ways_to_say_yes(text: str) -> None:
    assert ours(enable=text).enable is True


@pytest.mark.parametrize("text", ["false", "FALSE", "0", "no", "off"])
def test_there_are_many_ways_to_say_no(text: str) -> None:
    assert ours(enable=text).enable is False


@pytest.mark.parametrize(
    ("text", "type"),
    [("llama.cpp", "llamacpp"), ("llama-swap", "llamaswap"), ("LM Studio", "lmstudio"), ("auto", None)],
)
def test_types_may_be_spelled_as_people_spell_them(text: str, type: str | None) -> None:  # noqa: A002
    assert ours(type=text).type == type
    assert ours(type=text).notes == ()


def test_a_type_that_is_not_known_is_an_engine_like_any_other() -> None:
    labels = read_labels({"oairouter.backend": "exllama"})
    assert labels.type == "generic"
    assert "oairouter.backend=exllama is read as generic" in labels.notes[0]


@pytest.mark.parametrize(
    ("name", "text", "fix"),
    [
        ("enable", "perhaps", "write true or false"),
        ("port", "http", "1 to 65535"),
        ("port", "70000", "1 to 65535"),
        ("port", "9" * 5000, "1 to 65535"),
        ("url", "ftp://x", "http://host:port"),
        ("url", "http://user:secret@x:1", "http://host:port"),
        ("weight", "0", "above 0"),
        ("weight", "nan", "above 0"),
        ("weight", "heavy", "above 0"),
        ("priority", "first", "whole number"),
        ("max_in_flight", "0", "1 or more"),
        ("cancel", "maybe", "cancel or drain"),
        ("model", "a\x00b", "separated by commas"),
        ("alias", "=qwen", "alias=model"),
        ("api_key_file", "a\0", "path"),
    ],
)
def test_a_wrong_value_is_left_out_and_the_note_says_what_to_write(name: str, text: str, fix: str) -> None:
    labels = ours(**{name: text})
    assert len(labels.notes) == 1
    assert f"solar.{name}=" in labels.notes[0]
    assert fix in labels.notes[0]
    assert "secret" not in labels.notes[0]
    assert labels == Labels(shown=labels.shown, notes=labels.notes)


def test_a_label_that_means_nothing_is_said() -> None:
    assert ours(prot="8000").notes == ("the label solar.prot means nothing; write solar.port",)
    assert read_labels({"com.example": "1", "oairouter.note": "x"}) == Labels()


def test_the_prefix_may_be_another() -> None:
    labels = read_labels({"llm.manager/enable": "true", "solar.enable": "false"}, "llm.manager/")
    assert (labels.enable, labels.shown) == (True, "label llm.manager/enable=true")


@settings(deadline=None, max_examples=100)
@given(
    st.dictionaries(st.sampled_from([f"{p}{n}" for p in ("solar.", "oairouter.") for n in (*NAMES, "x")]), st.text())
)
def test_no_labels_are_fatal_and_what_they_say_makes_a_backend(labels: dict[str, str]) -> None:
    read = read_labels(labels)
    Backend(
        "a",
        read.url or "http://a",
        type=read.type or "auto",
        models=read.models,
        aliases=read.aliases,
        weight=read.weight,
        priority=read.priority,
        max_in_flight=read.max_in_flight,
        cancel=read.cancel,
    )
