"""Which images are engines: rules by the name under which a container's image was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from solar.core.backend import BACKEND_TYPES
from solar.errors import InvalidSettings

_HUB = ("docker.io/library/", "docker.io/", "index.docker.io/library/", "index.docker.io/", "registry-1.docker.io/")


@dataclass(frozen=True, slots=True)
class ImageRule:
    """Images like `pattern` hold an engine of this type, which listens on this port unless it is told otherwise.

    A pattern is how the image's name begins, or what stands before and behind one `*`: "ollama/ollama*", "*/my-llm:*".
    Raises InvalidSettings.
    """

    pattern: str
    backend_type: str
    default_port: int

    def __post_init__(self) -> None:
        if not self.pattern.strip("*"):
            raise InvalidSettings(f"an image rule's pattern must name an image, as 'my-llm' does; got {self.pattern!r}")
        if self.pattern.count("*") > 1:
            raise InvalidSettings(f"an image rule's pattern has one * at most; got {self.pattern!r}")
        if self.backend_type not in BACKEND_TYPES:
            types = ", ".join(BACKEND_TYPES)
            raise InvalidSettings(f"image rule {self.pattern!r}: the type must be one of {types}")
        if not 0 < self.default_port < 65536:
            raise InvalidSettings(f"image rule {self.pattern!r}: the port must be 1 to 65535; got {self.default_port}")

    def matches(self, image: str) -> bool:
        """Whether a container that was started from `image` is meant, wherever that was pulled from."""
        if any(_is_like(name, self.pattern) for name in _names(image)):
            return True
        anywhere = _without_registry(self.pattern)
        if "/" not in anywhere:  # a name alone says too little to be known by it on another registry
            anywhere = self.pattern
        return any(_is_like(name, anywhere) for name in _mirrored(image))


BUILT_IN = (
    ImageRule("vllm/vllm-openai*", "vllm", 8000),
    ImageRule("nvcr.io/nvidia/vllm*", "vllm", 8000),
    ImageRule("ollama/ollama*", "ollama", 11434),
    ImageRule("ghcr.io/ggml-org/llama.cpp*", "llamacpp", 8080),
    ImageRule("ghcr.io/ggerganov/llama.cpp*", "llamacpp", 8080),
    ImageRule("lmsysorg/sglang*", "sglang", 30000),
    ImageRule("ghcr.io/huggingface/text-generation-inference*", "tgi", 80),
    ImageRule("localai/localai*", "localai", 8080),
    ImageRule("ghcr.io/mostlygeek/llama-swap*", "llamaswap", 8080),
)


def rule_for(image: str, rules: Iterable[ImageRule]) -> ImageRule | None:
    """The first rule that means `image`."""
    return next((rule for rule in rules if rule.matches(image)), None)


def _is_like(name: str, pattern: str) -> bool:
    before, _, behind = pattern.partition("*")
    return name.startswith(before) and name.endswith(behind) and len(name) >= len(before) + len(behind)


def _names(image: str) -> Iterator[str]:
    """The spellings of one name: with its digest and without, and without the registry that is meant anyway."""
    for name in (image, image.partition("@")[0]):
        yield name
        yield next((name.removeprefix(hub) for hub in _HUB if name.startswith(hub)), name)


def _mirrored(image: str) -> Iterator[str]:
    """The names that an image on a registry may have had where it was copied from.

    Mirrors put folders of their own before it: harbor.lan/hub/ollama/ollama:latest.
    """
    rest = _without_registry(image)
    if rest == image:
        return
    for name in (rest, rest.partition("@")[0]):
        parts = name.split("/")
        yield from ("/".join(parts[start:]) for start in range(len(parts)))


def _without_registry(name: str) -> str:
    """As Docker reads it: what stands before the first slash is a registry if it could be the name of a machine."""
    registry, slash, rest = name.partition("/")
    named = "." in registry or ":" in registry or registry == "localhost"
    return rest if slash and named and "*" not in registry else name
