"""A store that runs, and what to put into it."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from solar.edge.tasks import Tasks
from solar.store import Candidate, Host, RequestSummary, Store, Trail, Try

LOG = logging.getLogger("solar.store-test")
EVER = (0, 4_000_000_000_000)  # until 2096


@asynccontextmanager
async def running(data_dir: Path, **options: Any) -> AsyncIterator[Store]:
    store = Store(data_dir, log=LOG, **({"retention_days": None} | options))  # the facts below have old times
    tasks = Tasks(LOG)
    run = tasks.spawn(store.run(), "store")
    try:
        yield store
    finally:
        store.stop()
        await run


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # of a thread, or a process
            await asyncio.sleep(0.005)


def asked(number: int = 0, **facts: Any) -> RequestSummary:
    at = 1_795_000_000_000 + number
    usual: dict[str, Any] = {
        "request_id": f"req-{number}",
        "request_type": "chat",
        "status": "success",
        "ending": "success",
        "http_status": 200,
        "model": "llama:8b",
        "endpoint": "/v1/chat/completions",
        "client_ip": "127.0.0.1",
        "stream": True,
        "attempts": 1,
        "ended_ms": at,
        "duration_us": 1_500_000,
    }
    return RequestSummary(**(usual | facts))


def host(number: int = 1, **facts: Any) -> Host:
    usual = {"id": f"id-{number}", "name": f"gpu{number}", "url": f"http://gpu{number}:8001", "api_key": "sk-secret"}
    return Host(**(usual | {"created_ms": 1_795_000_000_000 + number} | facts))


async def pieces(lines: Iterable[bytes]) -> AsyncIterator[bytes]:
    for line in lines:
        yield line


async def exported(store: Store, *, keys: bool = False) -> bytes:
    return b"".join([piece async for piece in store.export(keys=keys)])


texts = st.text(max_size=30)
numbers = st.integers(-(2**63), 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
candidates = st.builds(Candidate, backend=texts, value=st.dictionaries(texts, json_values, max_size=3))
tries = st.builds(Try, backend=texts, sent_us=numbers, failed_us=numbers, reason=texts, host_id=texts)
trails = st.builds(Trail, st.lists(tries, max_size=2).map(tuple), st.lists(candidates, max_size=2).map(tuple))
summaries = st.builds(
    RequestSummary,
    request_id=texts,
    request_type=texts,
    status=st.sampled_from(["success", "error", "missed"]),
    ending=texts,
    http_status=numbers,
    model=texts,
    resolved_model=st.none() | st.text(min_size=1, max_size=30),
    endpoint=texts,
    client_ip=texts,
    stream=st.booleans(),
    attempts=numbers,
    ended_ms=numbers,
    duration_us=numbers,
    queued_us=numbers,
    ttft_us=st.none() | st.integers(0, 2**63 - 1),
    error_message=st.none() | st.text(min_size=1, max_size=30),
    completion_tokens=st.none() | st.integers(0, 2**63 - 1),
    trail=st.none() | trails,
)
