"""Reads the model from a form with files, in place: the body is searched, never copied."""

from __future__ import annotations

import re
from typing import NamedTuple

from solar.core.openai import Peek, check_model_name
from solar.errors import InvalidRequest

MAX_PARTS = 1000
MAX_PART_HEAD = 16_384  # bytes of a part's own headers

_WORD = r'"(?:[^"\\\r\n]|\\[^\r\n])*"|[^\s";]+'
_PARAM = rf"[ \t]*;[ \t]*([^\s\"=;]+)[ \t]*=[ \t]*({_WORD})"
_PARAMS = re.compile(_PARAM)
_FORM = re.compile(rf"[ \t]*multipart/form-data((?:{_PARAM})*)[ \t]*;?[ \t]*", re.IGNORECASE)
_DISPOSITION = re.compile(rf"[ \t]*form-data((?:{_PARAM})*)[ \t]*;?[ \t]*", re.IGNORECASE)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_AFTER_BOUNDARY = re.compile(rb"[ \t]*\r\n|(--)")


class _Part(NamedTuple):
    name: str
    is_file: bool
    span: tuple[int, int]


def peek_multipart(body: bytes, content_type: str) -> Peek:
    """The routing fields of the form `body`; `content_type` is the request's own header.

    Raises InvalidRequest where it is no whole form, or where two parsers could read it differently.
    """
    values: dict[str, tuple[int, int]] = {}
    for part in _parts(body, _boundary(content_type)):
        if part.is_file or part.name not in ("model", "stream", "user"):
            continue
        # Parsers differ in which of two they take, so a backend could serve what was never checked.
        if part.name in values and part.name != "user":
            raise InvalidRequest(f"The form has two {part.name!r} fields. Send it once.", param=part.name)
        values[part.name] = part.span
    span = values.get("model")
    model = _text(body, span)
    if model is not None:
        check_model_name(model)
    elif span is not None:
        raise InvalidRequest("The form's 'model' field is not valid UTF-8.", param="model")
    stream = _text(body, values.get("stream"))
    return Peek(model, stream is not None and stream.lower() == "true", span, False, _text(body, values.get("user")), None)
