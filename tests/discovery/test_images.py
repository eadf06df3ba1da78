"""Which images are engines."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.discovery.docker.images import BUILT_IN, ImageRule, rule_for
from solar.errors import InvalidSettings


def kind(image: str, *own: ImageRule) -> str | None:
    rule = rule_for(image, (*own, *BUILT_IN))
    return rule.backend_type if rule is not None else None


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("vllm/vllm-openai:v0.11.0", "vllm"),
        ("vllm/vllm-openai-cpu", "vllm"),
        ("nvcr.io/nvidia/vllm:25.09-py3", "vllm"),
        ("ollama/ollama", "ollama"),
        ("ollama/ollama:rocm", "ollama"),
        ("ghcr.io/ggml-org/llama.cpp:server-cuda", "llamacpp"),
        ("ghcr.io/ggerganov/llama.cpp:server", "llamacpp"),
        ("lmsysorg/sglang:latest", "sglang"),
        ("ghcr.io/huggingface/text-generation-inference:3.3", "tgi"),
        ("localai/localai:latest-cpu", "localai"),
        ("ghcr.io/mostlygeek/llama-swap:cuda", "llamaswap"),
    ],
)
def test_the_images_of_known_engines_are_known(image: str, wanted: str) -> None:
    assert kind(image) == wanted


@pytest.mark.parametrize(
    "image",
    [
        "docker.io/ollama/ollama:latest",
        "index.docker.io/ollama/ollama",
        "ollama/ollama@sha256:" + "0" * 64,
        "docker.io/ollama/ollama:0.12@sha256:" + "0" * 64,
        "registry.example.com/ollama/ollama:latest",
        "localhost:5000/ollama/ollama",
        "harbor.lan/docker-hub/ollama/ollama:latest",
        "localhost/ollama/ollama:latest",  # as podman calls what was built here
    ],
)
def test_an_image_is_known_wherever_it_was_pulled_from(image: str) -> None:
    assert kind(image) == "ollama"


def test_a_mirror_of_another_registry_may_leave_that_out() -> None:
    assert kind("harbor.lan/ghcr/ggml-org/llama.cpp:server") == "llamacpp"
    assert kind("harbor.lan/ghcr.io/ggml-org/llama.cpp:server") == "llamacpp"


@pytest.mark.parametrize(
    "image",
    ["", "nginx", "someone/ollama", "my/ollama/ollama", "ggml-org/llama.cpp", "sha256:" + "0" * 64, "postgres:16"],
)
def test_other_images_are_left_alone(image: str) -> None:
    assert kind(image) is None


def test_ones_own_rules_come_before_the_built_in_ones() -> None:
    assert kind("ollama/ollama:latest", ImageRule("ollama/ollama*", "generic", 8080)) == "generic"
    assert kind("my-custom-llm:2", ImageRule("my-custom-llm", "vllm", 8000)) == "vllm"
    assert kind("registry.lan:5000/team/my-custom-llm:2", ImageRule("my-custom-llm", "vllm", 8000)) == "vllm"


def test_a_star_stands_for_whatever_is_between() -> None:
    rule = ImageRule("team/*:cuda", "vllm", 8000)
    assert rule.matches("team/llm:cuda")
    assert not rule.matches("team/llm:cpu")
    assert not ImageRule("ab*ba", "vllm", 8000).matches("aba")


def test_a_rule_for_one_registry_does_not_mean_the_bare_name_on_another() -> None:
    assert not ImageRule("localhost:5000/llm*", "vllm", 8000).matches("quay.io/x/llm-dashboard")


@pytest.mark.parametrize(
    ("pattern", "kind", "port"),
    [("", "vllm", 1), ("*", "vllm", 1), ("a*b*", "vllm", 1), ("a", "x", 1), ("a", "vllm", 0)],
)
def test_a_rule_that_makes_no_sense_is_refused(pattern: str, kind: str, port: int) -> None:
    with pytest.raises(InvalidSettings):
        ImageRule(pattern, kind, port)


@settings(deadline=None, max_examples=50)
@given(st.text(), st.text(alphabet="ab*/.:@", min_size=1))
def test_any_image_can_be_matched_with_any_rule(image: str, pattern: str) -> None:
    try:
        rule = ImageRule(pattern, "vllm", 8000)
    except InvalidSettings:
        return
    assert rule.matches(image) in (True, False)
    assert rule.matches(pattern.replace("*", "b"))
