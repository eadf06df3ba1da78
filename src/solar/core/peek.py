"""What was seen in a request's body. Never compiled: mypyc drops what stands behind a class's bases."""

from __future__ import annotations

import msgspec


class Peek(msgspec.Struct, frozen=True, gc=False):
    """What routing needs to know of a request body; the body itself stays as it came."""

    model: str | None  # as the client wrote it, "" included; None where it names none
    stream: bool
    span: tuple[int, int] | None  # where the model's value stands in the body, quotes included
    quoted: bool  # True where the value is a JSON string, False where it is bare text of a form
    user: str | None
    prompt_cache_key: str | None
