"""The wire formats that stream: chat, completions, Responses, Anthropic messages. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from solar.testing.answer import Answer, Question


def encode(value: object) -> bytes:
    return msgspec.json.encode(value)


def event(data: object, name: str | None = None) -> bytes:
    """One server-sent event; `data` is JSON, or bytes as they are."""
    text = data if isinstance(data, bytes) else encode(data)
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + text + b"\n\n"


def stream(parts: Iterable[bytes]) -> Answer:
    return Answer(content_type="text/event-stream", parts=tuple(parts), streams=True)


def json(value: object, status: int = 200, **fields: Any) -> Answer:
    return Answer(status=status, parts=(encode(value),), **fields)


def error(status: int, message: str, kind: str = "invalid_request_error", code: object = None) -> Answer:
    """An answer in OpenAI's error envelope."""
    return json({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)


def error_event(endpoint: str, message: str, number: int = 0) -> bytes:
    """How an engine reports a failure inside a stream of that endpoint."""
    if endpoint == "/messages":
        return event({"type": "error", "error": {"type": "api_error", "message": message}}, "error")
    if endpoint == "/responses":
        failed: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "failed", "output": []}
        failed["error"] = {"code": "server_error", "message": message}
        return event({"type": "response.failed", "sequence_number": number, "response": failed}, "response.failed")
    return event({"error": {"message": message, "type": "server_error", "param": None, "code": 500}})


def usage(question: Question) -> dict[str, Any]:
    prompt, completion = question.prompt_tokens, len(question.words)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def chat(question: Question) -> Answer:
    """`/chat/completions`."""
    finish = "length" if question.cut else "stop"
    if not question.stream:
        message = {"role": "assistant", "content": question.text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return json(_object(question, "chatcmpl", "chat.completion", choices=[choice], usage=usage(question)))
    deltas: list[tuple[Mapping[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word}, None) for word in question.words]
    deltas.append(({}, finish))
    choices = [[{"index": 0, "delta": d, "logprobs": None, "finish_reason": f}] for d, f in deltas]
    return _chunks(question, "chatcmpl", "chat.completion.chunk", choices)


def completions(question: Question) -> Answer:
    """`/completions`, the old one."""
    finish = "length" if question.cut else "stop"
    if not question.stream:
        choice = {"index": 0, "text": question.text, "logprobs": None, "finish_reason": finish}
        return json(_object(question, "cmpl", "text_completion", choices=[choice], usage=usage(question)))
    texts: list[tuple[str, str | None]] = [(word, None) for word in question.words]
    texts.append(("", finish))
    choices = [[{"index": 0, "text": t, "logprobs": None, "finish_reason": f}] for t, f in texts]
    return _chunks(question, "cmpl", "text_completion", choices)


def _object(question: Question, prefix: str, kind: str, **fields: Any) -> dict[str, Any]:
    created = int(time.time())
    return {"id": f"{prefix}-{question.number}", "object": kind, "created": created, "model": question.model, **fields}


def _chunks(question: Question, prefix: str, kind: str, choices: list[list[dict[str, Any]]]) -> Answer:
    options = question.payload.get("stream_options")
    where = question.usage
    if where == "asked":
        asked = isinstance(options, dict) and options.get("include_usage") is True
        where = "own_chunk" if asked else "never"
    chunks = [_object(question, prefix, kind, choices=c) for c in choices]
    if where == "own_chunk":
        for chunk in chunks:
            chunk["usage"] = None
        chunks.append(_object(question, prefix, kind, choices=[], usage=usage(question)))
    elif where == "with_choices":
        chunks.append(_object(question, prefix, kind, choices=[{"index": 0, "delta": {}}], usage=usage(question)))
    elif where == "last_chunk":
        chunks[-1]["usage"] = usage(question)
    elif where == "every_chunk":
        for chunk in chunks:
            chunk["usage"] = usage(question)
    return stream([*map(event, chunks), event(b"[DONE]")])


def responses(question: Question) -> Answer:
    """`/responses`: named events, numbered, up to response.completed."""
    number, model = question.number, question.model
    item_id = f"msg_{number}"
    part = {"type": "output_text", "text": question.text, "annotations": [], "logprobs": []}
    message = {"id": item_id, "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    counts = {
        "input_tokens": question.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": len(question.words),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": question.prompt_tokens + len(question.words),
    }
    whole: dict[str, Any] = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "incomplete" if question.cut else "completed",
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if question.cut else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [message],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": counts,
    }
    if not question.stream:
        return json(whole)
    begun = {**whole, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    place = {"item_id": item_id, "output_index": 0, "content_index": 0}
    last = "response.incomplete" if question.cut else "response.completed"
    script: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        (
            "response.output_item.added",
            {"output_index": 0, "item": {**message, "status": "in_progress", "content": []}},
        ),
        ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
        *(("response.output_text.delta", {**place, "delta": word, "logprobs": []}) for word in question.words),
        ("response.output_text.done", {**place, "text": question.text, "logprobs": []}),
        ("response.content_part.done", {**place, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
        (last, {"response": whole}),
    ]
    return stream(
        event({"type": name, "sequence_number": n, **fields}, name) for n, (name, fields) in enumerate(script)
    )


def messages(question: Question) -> Answer:
    """Anthropic's `/messages`: message_start to message_stop."""
    reason = "max_tokens" if question.cut else "end_turn"
    counts = {"input_tokens": question.prompt_tokens, "output_tokens": len(question.words)}
    whole: dict[str, Any] = {
        "id": f"msg_{question.number}",
        "type": "message",
        "role": "assistant",
        "model": question.model,
        "content": [{"type": "text", "text": question.text}],
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": counts,
    }
    if not question.stream:
        return json(whole)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**counts, "output_tokens": 0}}
    script: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in question.words
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": counts},
        {"type": "message_stop"},
    ]
    return stream(event(item, item["type"]) for item in script)
