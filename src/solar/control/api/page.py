"""The page at /docs: the OpenAPI document for people. Without a script, so it works wherever the gateway does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import msgspec

_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: 14px/1.4 ui-monospace, monospace }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .25rem }
details { border-bottom: 1px solid #8884; padding: .4rem 0 }
summary { cursor: pointer }
summary b { display: inline-block; min-width: 4.5rem }
td { padding: .1rem 1rem .1rem 0; vertical-align: top }
"""


def page(described: bytes) -> bytes:
    """HTML of an OpenAPI document."""
    read = msgspec.json.decode(described)
    return "\n".join(_lines(read)).encode()


def _lines(read: Mapping[str, Any]) -> Iterator[str]:
    info = read["info"]
    yield f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{_STYLE}</style><h1>{escape(info['title'])}</h1><p>{escape(info['description'])}</p>"
    yield "<p>Every request needs the gateway's key, if one is set: <code>Authorization: Bearer KEY</code> or"
    yield '<code>X-API-Key: KEY</code>. For programs: <a href="openapi.json">openapi.json</a>.</p><h2>Routes</h2>'
    for path, methods in read["paths"].items():
        for method, operation in methods.items():
            yield from _operation(method.upper(), path, operation)
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(read["components"]["schemas"].items()):
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{_pre(schema)}</details>'


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"<details><summary><b><code>{method}</code></b> <code>{escape(path)}</code>"
    yield f"&ensp;{escape(operation['summary'])}</summary>"
    if operation["parameters"]:
        yield "<table>"
        for one in operation["parameters"]:
            where = "in the path" if one["in"] == "path" else escape(one.get("description", ""))
            yield f"<tr><td><code>{escape(one['name'])}</code><td>{where}"
        yield "</table>"
    if "requestBody" in operation:
        yield f"<p>Takes:</p>{_pre(_schema(operation['requestBody']))}"
    if schema := _schema(operation["responses"]["200"]):
        yield f"<p>Gives:</p>{_pre(schema)}"
    yield "</details>"


def _schema(content: Mapping[str, Any]) -> Any:
    return content["content"]["application/json"]["schema"]


def _pre(schema: Any) -> str:
    return f"<pre>{escape(msgspec.json.format(msgspec.json.encode(schema), indent=2).decode())}</pre>"
