"""Reads a request body without changing it, and speaks the wire's own JSON: errors and model lists."""

from __future__ import annotations

import re
from codecs import utf_8_decode
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from itertools import count
from operator import call
from typing import Any, Final

import msgspec

from solar.core.peek import Peek
from solar.errors import InvalidRequest

MAX_MODEL_NAME: Final = 512  # characters
MAX_FIELDS = 1000  # top-level fields of a JSON body

_SHORT: Final = 1_024  # bytes; up to this, searching the whole body costs less than taking it apart
_SMALL = 65_536  # bytes; a body up to this has too few fields to fill the memory with
_LAST_SECOND = 253_402_300_799  # of the year 9999: what RFC 3339 can still write


class _Key:
    """A field's name that equals only itself: two fields of one name both stay in a dict."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


# Not a class statement: compiled, that would leave msgspec no types to decode by.
_Routing: Any = msgspec.defstruct(
    "_Routing",
    [("model", str | None, None), ("stream", bool | None, None), ("user", Any, None), ("prompt_cache_key", Any, None)],
    gc=False,
)

_Fields = dict[_Key, msgspec.Raw]
_decode_small = msgspec.json.Decoder(_Fields, dec_hook=call).decode
_decode_routing: Final[Callable[[bytes], Any]] = msgspec.json.Decoder(_Routing).decode
_decode_text = msgspec.json.Decoder(str).decode

_READ = frozenset({"model", "stream", "user", "prompt_cache_key"})
_TO_VALUE = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\r\n]*:[ \t\r\n]*')
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def peek(body: bytes) -> Peek:
    """The routing fields of the JSON object `body`.

    Raises InvalidRequest where it is no JSON object in UTF-8, or where two parsers could read it differently.
    """
    if not body.isascii():
        _refuse_bad_utf8(body)
    if len(body) <= _SHORT and (plain := _peek_plain(body)) is not None:
        return plain
    fields = _fields_of(body)
    found: dict[str, msgspec.Raw] = {}
    for key, raw in fields.items():
        name = key.name
        if name in _READ:
            # Parsers differ in which of two they take, so a backend could serve what was never checked.
            if name in found and (name == "model" or name == "stream"):
                raise InvalidRequest(f"The body has two {name!r} fields. Send it once.", param=name)
            found[name] = raw
    model = _model(found.get("model"))
    return Peek(
        model,
        _stream(found.get("stream")),
        None if model is None else _span(body, fields, found["model"]),
        True,
        _text(found.get("user")),
        _text(found.get("prompt_cache_key")),
    )


def splice(body: bytes, peek: Peek, model: str) -> bytes:
    """`body` with `model` in place of the name that `peek` found there; every other byte is the same.

    A body that names no model comes back as it is.
    """
    if peek.span is None:
        return body
    start, end = peek.span
    view = memoryview(body)
    return b"".join((view[:start], msgspec.json.encode(model) if peek.quoted else model.encode(), view[end:]))


def check_model_name(model: str) -> None:
    """Raises InvalidRequest where `model` cannot be a model's name: too long, or not printable on one line."""
    if len(model) > MAX_MODEL_NAME:
        raise InvalidRequest(
            f"The model's name has {len(model)} characters; {MAX_MODEL_NAME} is the most. "
            "GET /v1/models lists the names that can be used.",
            param="model",
        )
    if not model.isprintable():
        raise InvalidRequest(
            "The model's name holds a line break or another character that cannot be printed. "
            "GET /v1/models lists the names that can be used.",
            param="model",
        )


def _peek_plain(body: bytes) -> Peek | None:
    """The quick answer for the usual body; None where only the exact way can tell, or complain.

    Only `\\u006x` and `\\u007x` could spell a letter of `model` or `stream`, and a quote inside of a string has a
    backslash before it. So without those escapes a single `"model"` in the bytes can only be a field's name, and if the
    decoder has found that field at the top, it is the one.
    """
    if (
        body.count(b'"model"') != 1
        or body.count(b'"stream"') > 1
        or (body.find(b"\\u00") >= 0 and (b"\\u006" in body or b"\\u007" in body))  # `in` tries a number first
    ):
        return None
    try:
        routing = _decode_routing(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    model: str | None = routing.model
    if not model or len(model) > MAX_MODEL_NAME or not model.isprintable():
        return None
    start = body.index(b'"', body.index(b'"model"') + 7)
    spelled = model.encode()
    end = start + len(spelled) + 2
    if body[start:end] != b'"%b"' % spelled:  # it has an escape of its own
        return None
    user, cache_key = routing.user, routing.prompt_cache_key
    return Peek(
        model,
        routing.stream is True,
        (start, end),
        True,
        user if isinstance(user, str) else None,
        cache_key if isinstance(cache_key, str) else None,
    )


def _refuse_bad_utf8(body: bytes) -> None:
    # In pieces: a str of a whole large body would take up to four times its memory.
    view, start, size = memoryview(body), 0, len(body)
    while start < size:
        end = min(start + 1_048_576, size)
        try:
            start += utf_8_decode(view[start:end], "strict", end == size)[1]
        except UnicodeDecodeError as error:
            raise InvalidRequest(
                f"The body is not valid UTF-8 (at byte {start + error.start}). Send JSON encoded as UTF-8."
            ) from None


def _fields_of(body: bytes) -> _Fields:
    try:
        fields = _decode_small(body) if len(body) <= _SMALL else _decode_large(body)
    except RecursionError:
        raise InvalidRequest("The body's JSON is nested too deeply. Send fewer levels of [ and {.") from None
    except msgspec.ValidationError:
        raise InvalidRequest('The body must be a JSON object, such as {"model": "...", "messages": [...]}.') from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(_what_is_wrong(body, error)) from None
    if len(fields) > MAX_FIELDS:
        raise _too_many_fields()
    return fields


def _decode_large(body: bytes) -> _Fields:
    """Fields of a body that is large enough for millions of them: gives up at the limit, not after the last."""
    counted = count(1)

    def key(kind: type[_Key], name: str) -> _Key:
        if next(counted) > MAX_FIELDS:
            raise _too_many_fields()
        return kind(name)

    return msgspec.json.Decoder(_Fields, dec_hook=key).decode(body)


def _too_many_fields() -> InvalidRequest:
    return InvalidRequest(f"The body has more than {MAX_FIELDS} top-level fields. Send fewer.")


def _what_is_wrong(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip(b" \t\r\n"):
        return 'The body is empty. Send a JSON object, such as {"model": "...", "messages": [...]}.'
    if body.startswith(b"\xef\xbb\xbf"):
        return "The body starts with a byte order mark, which JSON does not allow. Send it without."
    text = f"The body is not valid JSON: {error}. NaN, Infinity, comments and trailing commas are not JSON either."
    if _SURROGATE.search(body):
        text += r" A \uD800-\uDFFF escape must stand in a pair: look for an emoji that was cut in half."
    return text


def _model(raw: msgspec.Raw | None) -> str | None:
    if raw is None:
        return None
    model = _text(raw)
    if model is not None:
        check_model_name(model)
    elif bytes(raw) != b"null":
        raise InvalidRequest('"model" must be a string: the name of a model.', param="model")
    return model


def _stream(raw: msgspec.Raw | None) -> bool:
    value = b"false" if raw is None else bytes(raw)
    if value == b"true":
        return True
    if value in (b"false", b"null"):
        return False
    raise InvalidRequest('"stream" must be true or false, without quotes.', param="stream")


def _text(raw: msgspec.Raw | None) -> str | None:
    return _decode_text(raw) if raw is not None and memoryview(raw)[0] == 0x22 else None


def _span(body: bytes, fields: _Fields, wanted: msgspec.Raw) -> tuple[int, int]:
    """Where `wanted` stands: steps from field to field by the lengths of their values, never through a value."""
    start = end = 0
    values = iter(fields.values())
    raw = None
    while raw is not wanted:
        raw = next(values)
        step = _TO_VALUE.match(body, end)
        start = step.end() if step else end
        end = start + len(memoryview(raw))
    return start, end


_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


def error_body(
    message: str,
    *,
    status: int,
    type: str,  # noqa: A002 - the wire's own word
    code: str | None,
    param: str | None = None,
    wire: str = "openai",
    request_id: str | None = None,
) -> bytes:
    """The JSON body of an error, as an OpenAI client reads it, or an Anthropic one with `wire="anthropic"`.

    Anthropic has type words of its own: `status` says which; an OpenAI body takes `type` as it is.
    """
    if wire != "anthropic":
        return msgspec.json.encode({"error": {"message": message, "type": type, "param": param, "code": code}})
    word = _ANTHROPIC_TYPES.get(status) or ("api_error" if status >= 500 else "invalid_request_error")
    error = {"type": word, "message": message, "param": param, "code": code}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def model_object(model_id: str, facts: Mapping[str, Any], owned_by: str, created: int) -> dict[str, Any]:
    """One entry of a model list: the backend's own `facts`, completed to what OpenAI and Anthropic clients need.

    `owned_by` and `created` (Unix seconds) stand in where the backend says nothing that a client could read.
    """
    own_time, own_owner = facts.get("created"), facts.get("owned_by")
    if isinstance(own_time, int | float) and 0 < own_time <= _LAST_SECOND:
        created = int(own_time)
    return {
        **facts,
        "id": model_id,
        "object": "model",
        "created": created,
        "owned_by": own_owner if isinstance(own_owner, str) and own_owner else owned_by,
        "created_at": datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def models_body(objects: Iterable[Mapping[str, Any]]) -> bytes:
    """The JSON body of `GET /v1/models`."""
    return msgspec.json.encode({"object": "list", "data": list(objects)})
