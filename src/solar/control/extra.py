"""Which packages the extra `server` brings, and what to say where they are missing."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from solar.errors import MissingExtra

PACKAGES = ("aiohttp", "alembic", "click", "dotenv", "rich", "sqlalchemy", "starlette", "uvicorn", "websockets")


def missing(packages: Iterable[str] = PACKAGES) -> list[str]:
    """Those of `packages` that are not installed."""
    return [name for name in packages if find_spec(name) is None]


def require() -> None:
    """Raise MissingExtra unless everything that the command `solar` needs is installed."""
    if absent := missing():
        raise MissingExtra.of("the command", ", ".join(absent), "server")
