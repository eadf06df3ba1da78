"""`solar serve` with a certificate: how it starts, follows the files, and ends."""

import contextlib
import shutil
import signal
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from gateway_process import SERVER, TLS, WITHIN, Gateway, trusting, until

Start = Callable[..., Gateway]
PAIR = ("--tls-cert", "own.pem", "--tls-key", "own.key")


def put(name: str, directory: Path) -> None:
    for kind in ("pem", "key"):
        shutil.copy(TLS / f"{name}.{kind}", directory / f"own.{kind}")


def shown(gateway: Gateway) -> str:
    """The name on the certificate that a new client sees."""
    with (
        socket.create_connection(("127.0.0.1", gateway.port), WITHIN) as plain,
        trusting("server.pem", "root.pem").wrap_socket(plain, server_hostname="127.0.0.1") as client,
    ):
        seen = client.getpeercert() or {}
    subject: tuple[tuple[tuple[str, str], ...], ...] = seen["subject"]  # type: ignore[assignment]
    return subject[0][0][1]


@pytest.mark.parametrize("door", ["front", "asgi"])
def test_it_says_https_and_speaks_it(door: str, gateway: Start) -> None:
    one = gateway("--port", "0", "--door", door, *SERVER)
    assert one.url.startswith("https://127.0.0.1:")
    assert one.get("/health")[0] == 200


def test_a_client_that_trusts_the_root_alone_is_shown_the_chain(gateway: Start, tmp_path: Path) -> None:
    put("chain", tmp_path)
    one = gateway("--port", "0", *PAIR)
    assert one.url
    with contextlib.closing(one.connection(trusting("root.pem"))) as client:
        client.request("GET", "/health")
        assert client.getresponse().status == 200


@pytest.mark.parametrize("door", ["front", "asgi"])
def test_nobody_waits_for_clients_that_idle(door: str, gateway: Start) -> None:
    one = gateway("--port", "0", "--door", door, *SERVER)
    assert one.url
    with contextlib.closing(one.connection()) as idle:
        idle.request("GET", "/health")
        idle.getresponse().read()
        assert one.stop(signal.SIGTERM) == 0  # asyncio would wait 30 seconds


@pytest.mark.parametrize("door", ["front", "asgi"])
def test_who_speaks_plain_http_is_no_news(door: str, gateway: Start) -> None:
    one = gateway("--port", "0", "--door", door, *SERVER)
    assert one.url
    one.says("no backend to route to")  # the last that it says by itself
    told = len(one.lines)
    for said in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01", b""):
        with socket.create_connection(("127.0.0.1", one.port), WITHIN) as client, contextlib.suppress(OSError):
            client.sendall(said)
            client.shutdown(socket.SHUT_WR)
            assert b"HTTP" not in client.recv(1000)
    with socket.create_connection(("127.0.0.1", one.port), WITHIN) as plain, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="127.0.0.1")  # it trusts others
    assert one.get("/health")[0] == 200
    assert one.stop() == 0
    assert [line for line in one.lines[told:] if line and " INFO " not in line] == []


@pytest.mark.parametrize("how", ["hangup", "change"])
def test_new_connections_get_the_new_certificate_and_old_ones_go_on(how: str, gateway: Start, tmp_path: Path) -> None:
    put("server", tmp_path)
    one = gateway("--port", "0", *PAIR)
    assert shown(one) == "Solar test server"
    with contextlib.closing(one.connection()) as before:
        before.connect()
        put("chain", tmp_path)
        if how == "hangup":
            one.process.send_signal(signal.SIGHUP)
        one.says("config reloaded file=none backends=0 certificate=own.pem")
        assert shown(one) == "Solar test server with a chain"
        before.request("GET", "/health")
        assert before.getresponse().status == 200


def test_a_pair_that_does_not_fit_keeps_the_old_one(gateway: Start, tmp_path: Path) -> None:
    put("server", tmp_path)
    one = gateway("--port", "0", *PAIR)
    assert shown(one) == "Solar test server"
    shutil.copy(TLS / "chain.pem", tmp_path / "own.pem")
    one.process.send_signal(signal.SIGHUP)
    one.says("config not reloaded, everything stays as it was: --tls-key: own.key is not the key of the certificate")
    assert shown(one) == "Solar test server"
    put("chain", tmp_path)
    one.says("config reloaded")
    assert shown(one) == "Solar test server with a chain"


def test_another_path_counts_at_once_and_plain_http_needs_a_restart(gateway: Start, tmp_path: Path) -> None:
    put("server", tmp_path)
    file = tmp_path / "solar.toml"
    file.write_text('[server]\ntls_cert = "own.pem"\ntls_key = "own.key"\n')
    one = gateway("--port", "0")
    assert shown(one) == "Solar test server"
    file.write_text(f'[server]\ntls_cert = "{TLS / "chain.pem"}"\ntls_key = "{TLS / "chain.key"}"\n')
    one.says("config reloaded")
    until(lambda: shown(one) == "Solar test server with a chain")
    file.write_text("[server]\n")
    one.says("config has changes that need a restart: tls_cert, tls_key")
    assert shown(one) == "Solar test server with a chain"
    assert one.stop() == 0
    assert one.said.count("need a restart") == 1
