"""What an original agent calls things and fills in, by dialect. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

DialectName = Literal["v1", "v2", "fork"]
VERSIONS: Mapping[DialectName, str] = {"v1": "1.0.0", "v2": "2.0.0", "fork": "3.8.3"}

_CHAT = ["/v1/chat/completions", "/v1/completions", "/v1/models"]
_HEALTH = ["/health"]
_LLAMA: dict[str, Any] = {
    "threads": 1,
    "n_gpu_layers": 999,
    "temp": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "ctx_size": 131072,
    "chat_template_file": None,
    "host": "0.0.0.0",  # noqa: S104  what the originals fill in
    "port": None,
    "special": False,
}
_V2_LLAMA: dict[str, Any] = {**_LLAMA, "ot": None, "model_type": "llm", "pooling": None}
_FORK_LLAMA: dict[str, Any] = {
    **_V2_LLAMA,
    "chat_template_kwargs": None,
    "reasoning": None,
    "reasoning_budget": None,
    "cache_type_k": None,
    "cache_type_v": None,
    "rope_scaling": None,
    "rope_scale": None,
    "yarn_orig_ctx": None,
}
_HF: dict[str, Any] = {
    "device": "auto",
    "dtype": "auto",
    "trust_remote_code": False,
    "host": "0.0.0.0",  # noqa: S104
    "port": None,
}
_HF_OWN: Mapping[str, dict[str, Any]] = {
    "huggingface_causal": {"max_length": 4096, "use_flash_attention": True},
    "huggingface_classification": {"max_length": 512, "labels": None},
    "huggingface_embedding": {"max_length": 512, "normalize_embeddings": True},
}
_HF_ENDPOINTS: Mapping[str, list[str]] = {
    "huggingface_causal": [*_CHAT, *_HEALTH],
    "huggingface_classification": ["/v1/classify", "/v1/models", *_HEALTH],
    "huggingface_embedding": ["/v1/embeddings", "/v1/models", *_HEALTH],
}
_LLAMA_ENDPOINTS: Mapping[str, list[str]] = {
    "llm": _CHAT,
    "embedding": ["/v1/embeddings", "/v1/models"],
    "reranker": ["/v1/rerank", "/v1/models"],
}
ENGINES = ("llamacpp", *_HF_OWN)


def engines_named(dialect: DialectName, version: str) -> list[str]:
    """`supported_backends` of GET /. The older fork takes one more than it names, the newer names one that we lack."""
    if dialect != "fork":
        return list(ENGINES)
    return list(ENGINES[:-1]) if version.startswith("0.") else [*ENGINES, "huggingface_vision"]


class WrongConfig(ValueError):
    """A config that the agent refuses; `missing` names the fields that it lacks."""

    def __init__(self, text: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.missing = missing


def whole_config(dialect: DialectName, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with what the agent fills in. Raises WrongConfig."""
    engine = "llamacpp" if dialect == "v1" else given.get("backend_type") or _guessed(given)
    if engine not in ENGINES:
        if dialect == "fork":
            raise WrongConfig(f"Unknown backend_type: {engine!r}")
        engine = "llamacpp"
    if engine != "llamacpp":
        _require(given, "model_id", "alias")
        return {**_HF, **_HF_OWN[engine], **given, "backend_type": engine}
    if dialect == "v1":
        _require(given, "model", "alias", "api_key")
        return {**_LLAMA, **{name: value for name, value in given.items() if name != "backend_type"}}
    _require(given, *(("alias",) if dialect == "fork" and given.get("model_source") else ("model", "alias")))
    defaults = _FORK_LLAMA if dialect == "fork" else _V2_LLAMA
    # Accepted, and dropped: instances take the agent's key.
    kept = {name: value for name, value in given.items() if name != "api_key"}
    return {**defaults, **kept, "backend_type": "llamacpp"}


def _require(given: Mapping[str, Any], *names: str) -> None:
    missing = tuple(name for name in names if not isinstance(given.get(name), str))
    if missing:
        lacks = "\n".join(f"{name}\n  Field required [type=missing]" for name in missing)
        raise WrongConfig(f"{len(missing)} validation errors for the config\n{lacks}", missing)


def _guessed(given: Mapping[str, Any]) -> str:
    if given.get("model") or "model_id" not in given:
        return "llamacpp"
    return "huggingface_classification" if given.get("labels") else "huggingface_causal"


def endpoints_of(dialect: DialectName, config: Mapping[str, Any]) -> list[str]:
    """`supported_endpoints` as the agent tells them; v2 tells the same of every llama-server."""
    engine = config["backend_type"]
    if engine != "llamacpp":
        return _HF_ENDPOINTS[engine]
    if dialect == "v2":
        return [*_CHAT, "/v1/embeddings", "/v1/rerank"]
    return _LLAMA_ENDPOINTS.get(config["model_type"], _CHAT)


def extras_of(version: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the fork's newer agents tell of an instance beside the rest."""
    if version.startswith(("0.", "1.", "2.")):
        return {}
    return {
        "priority": "production",
        "managed_by": None,
        "intent_id": None,
        "served_model_name": config["alias"],
        "context_size": config.get("ctx_size"),
        "capabilities": None,
        "gpu_ids": None,
        "vram_gb": None,
    }
