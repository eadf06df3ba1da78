"""Opens a connection to a backend. What awaits is never compiled: docs/decisions/0011-compiled.md."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from solar.core.attempts import Outcome
from solar.edge.connection import Connection, key_of

if TYPE_CHECKING:
    from solar.edge.upstream import HttpCall, HttpUpstream


async def connect(pool: HttpUpstream, call: HttpCall) -> None:
    """Connect for `call`, which then sends; whatever prevents it is reported as an outcome."""
    key = key_of(call.request.backend)
    origin = key.origin
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(call.request.connect_timeout):
            context = pool.context(key)
            _, connection = await loop.create_connection(  # type: ignore[type-var]  # a protocol but for its base
                lambda: Connection(pool, key), origin.hostname, origin.port, ssl=context
            )
    except TimeoutError:
        call.fail(Outcome.CONNECT_TIMEOUT, f"no connection to {origin.authority} in time")
    except (OSError, UnicodeError) as error:
        call.fail(Outcome.REFUSED, f"no connection to {origin.authority}: {error}")
    else:
        call.connected(connection)
