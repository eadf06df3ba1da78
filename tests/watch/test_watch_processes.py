import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_process import SERVER, WITHIN, Gateway, clean_environment, trusting
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

KEY = {"X-API-Key": "k"}


def opened(url: str, headers: dict[str, str], *, tls: bool = False) -> ClientConnection:
    context = trusting("server.pem") if tls else None
    place = "ws" + url.removeprefix("http")
    return connect(place, additional_headers=headers, ssl=context, proxy=None, open_timeout=WITHIN)


def goodbye(client: ClientConnection) -> int:
    """The code that it is closed with."""
    with pytest.raises(ConnectionClosed) as closed:
        read_on(client)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def read_on(client: ClientConnection) -> None:
    while True:
        client.recv(WITHIN)


@pytest.mark.parametrize("flags", [(), ("--door", "asgi"), SERVER], ids=["front", "asgi", "tls"])
def test_a_gateway_is_watched_until_it_stops(process: Callable[..., Gateway], flags: tuple[str, ...]) -> None:
    one = process("--port", "0", "--api-key", "k", *flags)
    with opened(one.url + "/ws/status", KEY, tls=flags == SERVER) as client:
        assert json.loads(client.recv(WITHIN)) == {"type": "initial_status", "data": []}
        one.process.send_signal(signal.SIGINT)
        assert goodbye(client) == 1001
    assert one.ended() == 0
    assert not any(word in one.said for word in ("Traceback", "ERROR"))


@pytest.mark.parametrize("door", ["front", "asgi"])
def test_who_is_refused_is_one_line_of_the_log_without_the_key(process: Callable[..., Gateway], door: str) -> None:
    one = process("--port", "0", "--api-key", "k", "--door", door)
    with pytest.raises(InvalidStatus):
        opened(one.url + "/ws/status?token=a-secret", {"X-API-Key": "another-secret"})
    assert one.stop() == 0
    assert one.said.count("code=invalid_api_key") == 1
    assert not any(word in one.said for word in ("Traceback", "ERROR", "secret"))


def test_a_foreign_server_serves_the_same_sockets_and_never_without_a_key(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "solar.asgi:app", "--port", str(port)]
    with subprocess.Popen(command, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            assert any("running on" in line for line in server.stderr)
            url = f"http://127.0.0.1:{port}/ws/events"
            for headers in ({}, {"X-API-Key": "another"}):
                with pytest.raises(InvalidStatus) as refused:
                    opened(url, headers)
                assert refused.value.response.status_code == 401
            key = (tmp_path / "data" / "api_key").read_text().strip()
            with opened(url, {"Authorization": f"Bearer {key}"}) as client:
                client.send("ping")
                assert [json.loads(client.recv(WITHIN))["type"] for _ in range(2)] == [
                    "initial_status",
                    "filter_status",
                ]
                assert client.recv(WITHIN) == "pong"
                server.terminate()
                assert goodbye(client) == 1012  # that server's own word
        finally:
            server.terminate()
            assert server.stderr is not None
            assert "Traceback" not in server.stderr.read()


def test_what_speaks_websocket_is_loaded_when_somebody_asks_for_it() -> None:
    asks = "import sys, solar.control.app, solar.control.api.app; sys.exit('websockets' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asks], check=False).returncode == 0
