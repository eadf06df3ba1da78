import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from gateway_process import Gateway, until

from solar.testing import FakeAgent

Start = Callable[..., Gateway]
DOORS = pytest.mark.parametrize("door", ["front", "asgi"])


def ask(one: Gateway, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
    with closing(one.connection()) as connection:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"X-API-Key": "k", **headers})
        answer = connection.getresponse()
        return answer.status, json.load(answer)


@DOORS
def test_the_management_is_behind_both_doors_from_the_first_moment(process: Start, door: str) -> None:
    one = process("--port", "0", "--door", door, "--api-key", "k")
    assert ask(one, "GET", "/gateway/state")[0] == 200
    assert ask(one, "GET", "/hosts", Origin="http://evil.test")[0] == 403
    assert one.get("/hosts")[0] == 401
    assert one.get("/health")[1].keys() == {"status", "backends_total", "backends_healthy", "models_available"}
    until(lambda: ask(one, "GET", "/gateway/requests")[0] == 200)
    assert one.stop() == 0
    assert "Traceback" not in one.said


@DOORS
async def test_a_start_that_takes_long_is_not_cut(process: Start, door: str) -> None:
    one = process("--port", "0", "--door", door, "--api-key", "k")
    async with FakeAgent("fork", api_key="agent-key") as agent:

        async def call(method: str, path: str, body: object = None) -> tuple[int, Any]:
            return await asyncio.to_thread(ask, one, method, path, body)

        new = {"name": "a", "url": agent.url, "api_key": "agent-key"}
        async with asyncio.timeout(20):
            while (answer := await call("POST", "/hosts", new))[0] == 503:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        host_id = answer[1]["host"]["id"]
        instance = await agent.add("llama:8b", start=False)
        agent.lifecycle.delays.start = 6.0  # longer than a read may take
        status, started = await call("POST", f"/hosts/{host_id}/instances/{instance.id}/start")
        assert (status, started["instance"]["status"]) == (200, "running")
