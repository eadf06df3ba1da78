"""Every path that is served, and the one place where a request's path is normalised."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

Wire = Literal["chat", "completions", "responses", "messages", "plain"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One thing that a backend can be asked to do."""

    name: str
    upstream: str  # the path as backends spell it
    versioned: bool = True  # stands under the backend's /v1 prefix; False: under its root
    multipart: bool = False  # the body may be a form with a file
    wire: Wire = "plain"  # the dialect of its streams and errors


_ALL = (
    Endpoint("chat", "/chat/completions", wire="chat"),
    Endpoint("completions", "/completions", wire="completions"),
    Endpoint("embeddings", "/embeddings"),
    Endpoint("responses", "/responses", wire="responses"),
    Endpoint("messages", "/messages", wire="messages"),
    Endpoint("count_tokens", "/messages/count_tokens", wire="messages"),
    Endpoint("rerank", "/rerank"),
    Endpoint("classify", "/classify"),
    Endpoint("moderations", "/moderations"),
    Endpoint("transcriptions", "/audio/transcriptions", multipart=True),
    Endpoint("translations", "/audio/translations", multipart=True),
    Endpoint("speech", "/audio/speech"),
    Endpoint("image_generations", "/images/generations"),
    Endpoint("image_edits", "/images/edits", multipart=True),
    Endpoint("image_variations", "/images/variations", multipart=True),
    Endpoint("tokenize", "/tokenize", versioned=False),
    Endpoint("detokenize", "/detokenize", versioned=False),
)

ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType({endpoint.upstream: endpoint for endpoint in _ALL})


class Found(NamedTuple):
    """What a path asks for."""

    kind: Literal["inference", "models", "model", "health", "ready", "metrics", "unknown"]
    endpoint: Endpoint | None = None  # for "inference"
    model_id: str | None = None  # for "model"
    methods: tuple[str, ...] = ()  # allowed; none where the path is unknown


_READ = ("GET", "HEAD")
_UNKNOWN = Found("unknown")

_BY_PATH: dict[str, Found] = {
    path: Found("inference", endpoint, None, ("POST",)) for path, endpoint in ENDPOINTS.items()
}
_BY_PATH["/reranking"] = _BY_PATH["/rerank"]
_BY_PATH["/models"] = Found("models", methods=_READ)
_BY_PATH["/health"] = Found("health", methods=_READ)
_BY_PATH["/health/ready"] = Found("ready", methods=_READ)
_BY_PATH["/metrics"] = Found("metrics", methods=_READ)

# The spellings that nearly every client uses are found without taking the path apart.
_USUAL = {prefix + path: found for path, found in _BY_PATH.items() for prefix in ("", "/v1")}

_REFUSED = re.compile(r"[;#*?\\]")


def locate(path: str) -> Found:
    """What `path` asks for. It comes without the mount prefix and the query, and is already percent-decoded.

    `/v1` may be absent or doubled, slashes too. What could be read in two ways is unknown rather than tidied up.
    """
    return _USUAL.get(path) or _locate(path)


def _locate(path: str) -> Found:
    if not path.startswith("/") or not path.isprintable() or _REFUSED.search(path):
        return _UNKNOWN
    segments = [segment for segment in path.split("/") if segment]
    if "." in segments or ".." in segments:
        return _UNKNOWN
    for _ in range(2):
        if segments[:1] == ["v1"]:
            del segments[0]
    if segments[:1] == ["models"] and len(segments) > 1:
        return Found("model", None, "/".join(segments[1:]), _READ)
    return _BY_PATH.get("/" + "/".join(segments), _UNKNOWN)
