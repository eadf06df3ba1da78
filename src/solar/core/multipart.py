"""Reads the model from a form with files, in place: the body is searched, never copied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from solar.core.openai import MAX_MODEL_NAME, check_model_name
from solar.core.peek import Peek
from solar.errors import InvalidRequest

MAX_PARTS = 1000
MAX_PART_HEAD = 16_384  # bytes of one part's own headers

_PARAM = r'[ \t]*+;[ \t]*+([^\s"=;]+)[ \t]*+=[ \t]*+("(?:[^"\\\r\n]|\\[^\r\n])*+"|[^\s";]+)'
_END = r"[ \t]*+(?:;[ \t]*+)?"
_PARAMS = re.compile(_PARAM, re.ASCII)
_FORM = re.compile(rf"[ \t]*+multipart/form-data((?:{_PARAM})*){_END}", re.ASCII | re.IGNORECASE)
_DISPOSITION = re.compile(rf"[ \t]*+form-data((?:{_PARAM})*){_END}", re.ASCII | re.IGNORECASE)
_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_AFTER_BOUNDARY = re.compile(rb"[ \t]*+\r\n|(--)[ \t]*+(?:\r?\n|\Z)")


class _Part(NamedTuple):
    name: str
    is_file: bool
    span: tuple[int, int]  # of the value


def peek_multipart(body: bytes, content_type: str) -> Peek:
    """The routing fields of the form `body`; `content_type` is the request's own header.

    Raises InvalidRequest where it is no whole form, or where two parsers could read it differently.
    """
    spans: dict[str, tuple[int, int]] = {}
    for part in _parts(body, _boundary(content_type)):
        if part.is_file or part.name not in ("model", "stream", "user"):
            continue
        # Parsers differ in which of two they take, so a backend could serve what was never checked.
        if part.name in spans and part.name != "user":
            raise InvalidRequest(f"The form has two {part.name!r} fields. Send it once.", param=part.name)
        spans[part.name] = part.span
    span = spans.get("model")
    model = _text(body, span)
    if model is not None:
        check_model_name(model)
    elif span is not None:
        raise InvalidRequest(
            f"The form's 'model' field must be UTF-8 text of at most {MAX_MODEL_NAME} characters.", param="model"
        )
    stream = _text(body, spans.get("stream")) or ""
    return Peek(model, stream.lower() == "true", span, False, _text(body, spans.get("user")), None)


def _parts(body: bytes, boundary: str) -> Iterator[_Part]:
    delimiter = b"\r\n--" + boundary.encode()
    if body.startswith(delimiter[2:]):
        at = len(delimiter) - 2
    elif (found := body.find(delimiter)) >= 0:  # after a preamble, which RFC 2046 says to ignore
        at = found + len(delimiter)
    else:
        raise _malformed(f"no line of it is --{boundary}, the boundary that Content-Type names")
    for number in range(1, MAX_PARTS + 2):
        line = _AFTER_BOUNDARY.match(body, at)
        if line is None:
            raise _malformed(f"boundary line {number} is cut off or has something else after the boundary")
        if line[1]:
            return
        start = line.end()
        # Two bytes earlier: a part without any header has its empty line at once.
        end = body.find(b"\r\n\r\n", start - 2, start + MAX_PART_HEAD)
        if end < 0:
            raise _malformed(f"the headers of part {number} do not end within {MAX_PART_HEAD} bytes")
        name, is_file = _disposition(body[start:end], number)
        start = end + 4
        at = body.find(delimiter, start)
        # A boundary right after the empty line: to some parsers the part is empty, to others the line is its value.
        if at < 0 or body.startswith(delimiter[2:], start):
            raise _malformed(f"part {number} ({name!r}) is never closed by the boundary")
        yield _Part(name, is_file, (start, at))
        at += len(delimiter)
    raise _malformed(f"it has more than {MAX_PARTS} parts")


def _boundary(content_type: str) -> str:
    form = _FORM.fullmatch(content_type)
    if form is None:
        raise InvalidRequest(
            "Content-Type cannot be read as a form's. Send multipart/form-data; boundary=..., or JSON."
        )
    found = [_unquoted(value) for key, value in _PARAMS.findall(form[1]) if key.lower() == "boundary"]
    if len(found) != 1 or not _BOUNDARY.fullmatch(found[0]):
        raise InvalidRequest(
            "Content-Type must name one boundary, of 1 to 70 characters that RFC 2046 allows. "
            "HTTP libraries make a good one when you leave this header to them."
        )
    return found[0]


def _disposition(head: bytes, number: int) -> tuple[str, bool]:
    """A part's name, and whether it is a file."""
    found = []
    for line in head.decode("latin-1").split("\r\n"):
        key, colon, value = line.partition(":")
        if not colon or key != key.strip() or "\r" in line or "\n" in line:
            raise _malformed(f"part {number} has a header line that cannot be read")
        if key.lower() == "content-disposition":
            found.append(_DISPOSITION.fullmatch(value))
    if len(found) != 1 or found[0] is None:
        raise _malformed(f'part {number} needs one header such as Content-Disposition: form-data; name="model"')
    params = [(key.lower(), value) for key, value in _PARAMS.findall(found[0][1])]
    names = [value for key, value in params if key == "name"]
    if len(names) != 1 or "\\" in names[0]:
        raise _malformed(f"part {number} needs one name, without a backslash")
    return _unquoted(names[0]), any(key in ("filename", "filename*") for key, _ in params)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value


def _text(body: bytes, span: tuple[int, int] | None) -> str | None:
    """The field's value; None where there is none, where it is no UTF-8, or far longer than a name may be."""
    if span is None or span[1] - span[0] > 4 * MAX_MODEL_NAME:
        return None
    try:
        return body[span[0] : span[1]].decode()
    except UnicodeDecodeError:
        return None


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"The form cannot be read: {what}. Send multipart/form-data as RFC 7578 describes it.")
