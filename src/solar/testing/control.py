"""What the engines answer beside inference: health, model lists, versions. By kind of engine. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote

from solar.testing.answer import Answer
from solar.testing.wires import error, json

Kind = Literal["llamacpp", "vllm", "ollama", "lmstudio", "sglang", "tgi", "localai", "llamaswap", "generic"]
KINDS: tuple[Kind, ...] = (
    "llamacpp",
    "vllm",
    "ollama",
    "lmstudio",
    "sglang",
    "tgi",
    "localai",
    "llamaswap",
    "generic",
)

_OWNERS: Mapping[str, str] = {
    "llamacpp": "llamacpp",
    "vllm": "vllm",
    "ollama": "library",
    "lmstudio": "organization_owner",
    "sglang": "sglang",
    "llamaswap": "llama-swap",
}

Meta = Mapping[str, Mapping[str, Any]]


def control_answer(path: str, kind: str, models: Sequence[str], meta: Meta) -> Answer | None:
    """The answer to a GET of `path` (without base path), or None where such an engine has nothing there."""
    if path in ("/v1/models", "/models"):
        return json({"object": "list", "data": [_model(name, kind, meta) for name in models]})
    for prefix in ("/v1/models/", "/models/"):
        if path.startswith(prefix):
            name = unquote(path[len(prefix) :])
            if name in models:
                return json(_model(name, kind, meta))
            return error(404, f"The model `{name}` does not exist.", code="model_not_found")
    if path == "/health" and kind not in ("ollama", "lmstudio", "llamaswap"):
        return _text("") if kind in ("vllm", "sglang", "tgi") else json({"status": "ok"})
    return _of_kind(path, kind, models, meta)


def _of_kind(path: str, kind: str, models: Sequence[str], meta: Meta) -> Answer | None:
    model = models[0] if models else "none"
    settings = {"n_ctx": meta.get(model, {}).get("n_ctx", 4096)}
    props = {"default_generation_settings": settings, "total_slots": 4, "model_path": f"/models/{model}"}
    info = {"model_id": model, "max_input_tokens": 4095, "max_total_tokens": 4096, "version": "3.3.0"}
    answers = {
        ("llamacpp", "/props"): json(props),
        ("llamacpp", "/slots"): json([{"id": n, "n_ctx": 4096, "is_processing": False} for n in range(4)]),
        ("vllm", "/version"): json({"version": "0.11.0"}),
        ("vllm", "/ping"): _text(""),
        ("ollama", "/"): _text("Ollama is running"),
        ("ollama", "/api/version"): json({"version": "0.12.0"}),
        ("ollama", "/api/tags"): json({"models": [_ollama_model(name, meta) for name in models]}),
        ("ollama", "/api/ps"): json({"models": []}),
        ("lmstudio", "/api/v0/models"): json({"object": "list", "data": [_lmstudio_model(m, meta) for m in models]}),
        ("sglang", "/get_model_info"): json({"model_path": model, "tokenizer_path": model, "is_generation": True}),
        ("tgi", "/info"): json(info),
        ("localai", "/readyz"): _text("OK"),
        ("localai", "/healthz"): _text("OK"),
        ("localai", "/system"): json({"backends": ["llama-cpp"], "loaded_models": []}),
        ("localai", "/version"): json({"version": "v3.0.0 (fake)"}),
        ("llamaswap", "/health"): _text("OK"),
        ("llamaswap", "/running"): json({"running": []}),
    }
    return answers.get((kind, path))


def _text(text: str) -> Answer:
    return Answer(content_type="text/plain; charset=utf-8", parts=(text.encode(),))


def _model(name: str, kind: str, meta: Meta) -> dict[str, Any]:
    facts = dict(meta.get(name, {}))
    model: dict[str, Any] = {"id": name, "object": "model"}
    if kind != "localai":
        model |= {"created": int(time.time()), "owned_by": name if kind == "tgi" else _OWNERS.get(kind, "fake")}
    if kind == "llamacpp":
        return {**model, "meta": {"n_ctx_train": 4096, "n_params": 134515008, "size": 91000000, **facts}}
    if kind in ("vllm", "sglang"):
        model |= {"root": name, "max_model_len": 4096}
    return model if kind in ("ollama", "lmstudio") else {**model, **facts}


def _ollama_model(name: str, meta: Meta) -> dict[str, Any]:
    details = {"format": "gguf", "family": "llama", "parameter_size": "1.2B", "quantization_level": "Q4_K_M"}
    entry = {"name": name, "model": name, "modified_at": "2025-01-01T00:00:00Z", "size": 91000000, "digest": "0" * 64}
    return {**entry, "details": {**details, **meta.get(name, {})}}


def _lmstudio_model(name: str, meta: Meta) -> dict[str, Any]:
    entry = {"id": name, "object": "model", "type": "llm", "arch": "llama", "quantization": "Q4_K_M"}
    return {**entry, "state": "not-loaded", "max_context_length": 4096, **meta.get(name, {})}
