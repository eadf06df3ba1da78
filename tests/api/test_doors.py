import asyncio
import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from gateway_process import WITHIN, Gateway, clean_environment, until

from solar.control.checkup import diagnose_store
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


def test_a_foreign_server_serves_the_same_and_never_without_a_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "solar.asgi:app", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            assert any("running on" in line for line in server.stderr)
            key = (tmp_path / "data" / "api_key").read_text().strip()
            for given, status in ((key, 200), ("another", 401)):
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WITHIN)) as connection:
                    connection.request("GET", "/gateway/state", headers={"X-API-Key": given})
                    assert connection.getresponse().status == status
        finally:
            server.terminate()
            assert server.stderr is not None
            assert "Traceback" not in server.stderr.read()


def test_the_doctor_says_whether_the_records_can_be_read(tmp_path: Path) -> None:
    assert diagnose_store(tmp_path).well
    (tmp_path / "solar.db").write_bytes(b"no database" * 100)
    found = diagnose_store(tmp_path)
    assert not found.well
    assert "damaged" in found.found
