"""The OpenAPI document of the management API, made from the table of its routes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from solar import __version__
from solar.control.api.asking import Operation

_ERROR = {
    "type": "object",
    "required": ["error", "detail"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        },
        "detail": {"description": "The message again; or an agent's own words, as it said them"},
    },
}
_TAGS = {"gateway": "requests", "ws": "websockets"}  # by the first word of a path
_REFERENCES = "#/components/schemas/{name}"


def document(operations: Iterable[Operation]) -> bytes:
    """OpenAPI 3.1, as JSON."""
    listed = tuple(operations)
    kinds = [kind for operation in listed for kind in (operation.takes, operation.gives) if kind is not None]
    schemas, named = msgspec.json.schema_components(kinds, ref_template=_REFERENCES)
    by_kind = dict(zip(kinds, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in listed:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, by_kind)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Solar: management",
                "version": __version__,
                "description": "Hosts, their instances, and what became of requests. Keys are written, never read.",
            },
            "security": [{"bearer": []}, {"header": []}],
            "paths": paths,
            "components": {
                "schemas": named | {"Error": _ERROR},
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                },
            },
        }
    )


def _described(operation: Operation, by_kind: dict[Any, Any]) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", operation.path)
    in_path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    in_query = [
        {"name": one.name, "in": "query", "description": one.meaning, "schema": {"type": one.kind}}
        for one in operation.parameters
    ]
    words = [word for word in re.split(r"\W+", operation.path) if word]
    described: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": "_".join([operation.method.lower(), *words]),
        "tags": [_TAGS.get(words[0]) or ("instances" if "instances" in words else "hosts")],
        "parameters": in_path + in_query,
        "responses": {
            "200": {"description": "OK", "content": _json(by_kind.get(operation.gives, {}))},
            "default": {
                "description": "It could not be done; an agent's refusal has its own status",
                "content": _json({"$ref": _REFERENCES.format(name="Error")}),
            },
        },
    }
    if operation.takes is not None:
        described["requestBody"] = {"required": True, "content": _json(by_kind[operation.takes])}
    return described


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
