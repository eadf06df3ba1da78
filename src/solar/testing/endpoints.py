"""What each inference endpoint answers when all is well. Pure; the streaming wires are in `wires`."""

from __future__ import annotations

import base64
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from solar.testing.answer import Answer, Question
from solar.testing.wires import chat, completions, event, json, messages, responses, stream, usage

_MULTIPART_FIELD = re.compile(
    rb'content-disposition:[^\r\n]*\bname="([^"]*)"(?![^\r\n]*filename)[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]*)\r\n',
    re.IGNORECASE,
)
# A PNG of one transparent pixel.
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
_CATEGORIES = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")


def parse_payload(body: bytes, content_type: str) -> dict[str, Any]:
    """The request's fields, of JSON or of multipart (files left out). Raises ValueError when it is neither."""
    if content_type.lower().startswith("multipart/"):
        fields = _MULTIPART_FIELD.findall(body)
        return {name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in fields}
    try:
        payload = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    if not isinstance(payload, dict):
        raise ValueError("the body must be a JSON object")
    return payload


def wants_stream(payload: Mapping[str, Any]) -> bool:
    """What `stream` says: multipart fields are text."""
    return payload.get("stream") in (True, "true", "1") or payload.get("stream_format") == "sse"


def token_limit(payload: Mapping[str, Any]) -> int | None:
    """How many tokens the client wants at most, under any of that setting's names."""
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        limit = payload.get(name)
        if isinstance(limit, int) and limit >= 0:
            return limit
    return None


def prompt_words(payload: Mapping[str, Any]) -> int:
    """The number of words asked: what the fake calls prompt tokens. At least 1."""
    fields = ("messages", "prompt", "input", "query", "documents", "content", "system", "instructions")
    return max(1, sum(len(text.split()) for name in fields for text in _texts(payload.get(name))))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, dict):
        for name in ("content", "text", "input"):
            yield from _texts(value.get(name))


def _inputs(value: object) -> list[object]:
    """One or many: a list of token numbers is one input."""
    if isinstance(value, list) and not all(isinstance(item, int) for item in value):
        return value
    return [value]


def _prompt_usage(question: Question) -> dict[str, int]:
    return {"prompt_tokens": question.prompt_tokens, "total_tokens": question.prompt_tokens}


def count_tokens(question: Question) -> Answer:
    return json({"input_tokens": question.prompt_tokens})


def embeddings(question: Question) -> Answer:
    vector: object = [0.5, -0.25, 0.125]
    if question.payload.get("encoding_format") == "base64":
        vector = base64.b64encode(struct.pack("<3f", 0.5, -0.25, 0.125)).decode()
    found = _inputs(question.payload.get("input"))
    items = [{"object": "embedding", "index": n, "embedding": vector} for n in range(len(found))]
    return json({"object": "list", "data": items, "model": question.model, "usage": _prompt_usage(question)})


def rerank(question: Question) -> Answer:
    documents = question.payload.get("documents") or question.payload.get("texts") or []
    top = question.payload.get("top_n") or len(documents)
    results: list[dict[str, Any]] = [{"index": n, "relevance_score": 1 / (n + 1)} for n in range(len(documents))]
    if question.kind == "vllm":
        for n, document in enumerate(documents):
            results[n]["document"] = {"text": document} if isinstance(document, str) else document
    answer = {"model": question.model, "object": "list", "usage": _prompt_usage(question), "results": results[:top]}
    return json({"id": f"rerank-{question.number}", **answer} if question.kind == "vllm" else answer)


def classify(question: Question) -> Answer:
    found = range(len(_inputs(question.payload.get("input"))))
    head = {"id": f"clf-{question.number}", "model": question.model, "usage": _prompt_usage(question)}
    if question.kind == "vllm":
        items = [{"index": n, "label": "positive", "probs": [0.25, 0.75], "num_classes": 2} for n in found]
        return json({**head, "object": "list", "created": int(time.time()), "data": items})
    choices = [{"index": n, "label": "positive", "score": 0.75, "all_scores": None} for n in found]
    return json({**head, "object": "classification", "choices": choices})


def moderations(question: Question) -> Answer:
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.001),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    results = [result for _ in _inputs(question.payload.get("input"))]
    return json({"id": f"modr-{question.number}", "model": question.model, "results": results})


def transcriptions(question: Question) -> Answer:
    if question.stream:
        parts = [event({"type": "transcript.text.delta", "delta": word}) for word in question.words]
        return stream([*parts, event({"type": "transcript.text.done", "text": question.text})])
    if question.payload.get("response_format") in ("text", "srt", "vtt"):
        return Answer(content_type="text/plain; charset=utf-8", parts=(question.text.encode() + b"\n",))
    return json({"text": question.text})


def speech(question: Question) -> Answer:
    sound = b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(range(256))
    if question.stream:
        delta = event({"type": "speech.audio.delta", "audio": base64.b64encode(sound).decode()})
        counts = usage(question)
        counts = {"input_tokens": counts["prompt_tokens"], "output_tokens": counts["completion_tokens"]}
        return stream([delta, event({"type": "speech.audio.done", "usage": counts})])
    return Answer(content_type="audio/mpeg", parts=(sound,))


def images(question: Question) -> Answer:
    wanted = question.payload.get("n", 1)
    count = int(wanted) if str(wanted).isdecimal() else 1
    return json({"created": int(time.time()), "data": [{"b64_json": _PIXEL} for _ in range(count)]})


def tokenize(question: Question) -> Answer:
    text = question.payload.get("content", question.payload.get("prompt", ""))
    tokens = list(range(1, len(str(text).split()) + 1))
    if question.kind == "vllm":
        return json({"count": len(tokens), "max_model_len": 4096, "tokens": tokens})
    return json({"tokens": tokens})


def detokenize(question: Question) -> Answer:
    tokens = question.payload.get("tokens", [])
    text = "".join(f" word{n}" for n in tokens)
    return json({"prompt": text} if question.kind == "vllm" else {"content": text})


ENDPOINTS: Mapping[str, Callable[[Question], Answer]] = {
    "/chat/completions": chat,
    "/completions": completions,
    "/responses": responses,
    "/messages": messages,
    "/messages/count_tokens": count_tokens,
    "/embeddings": embeddings,
    "/rerank": rerank,
    "/reranking": rerank,
    "/classify": classify,
    "/moderations": moderations,
    "/audio/transcriptions": transcriptions,
    "/audio/translations": transcriptions,
    "/audio/speech": speech,
    "/images/generations": images,
    "/images/edits": images,
    "/images/variations": images,
    "/tokenize": tokenize,
    "/detokenize": detokenize,
}
