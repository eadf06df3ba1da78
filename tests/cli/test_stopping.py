import http.client
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from gateway_process import SERVER, WITHIN, Gateway, clean_environment, until

Start = Callable[..., Gateway]
ways_in = pytest.mark.parametrize(
    "way_in", [(), SERVER, (*SERVER, "--door", "asgi")], ids=["http", "https", "https-asgi"]
)


@pytest.fixture
def slow_url() -> Iterator[str]:
    """A model server whose answers take two seconds."""
    flags = ["--models", "m", "--tokens", "40", "--token-interval", "0.05"]
    command = [sys.executable, "-m", "solar.testing", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as fake:
        assert fake.stdout is not None
        yield fake.stdout.readline().strip()
        fake.terminate()


@contextmanager
def streaming(gateway: Gateway) -> Iterator[http.client.HTTPResponse]:
    """A stream that has begun."""
    body = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]})
    assert gateway.url
    with closing(gateway.connection()) as connection:
        connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.status == 200
        answer.readline()
        yield answer


def refuses(url: str) -> bool:
    with socket.socket() as probe:
        host, _, port = url.removeprefix("http://").partition(":")
        return probe.connect_ex((host, int(port))) != 0


@ways_in
def test_what_is_in_flight_ends_before_the_gateway_does(way_in: tuple[str, ...], gateway: Start, slow_url: str) -> None:
    one = gateway("--port", "0", "--backend", slow_url, *way_in)
    with streaming(one) as answer:
        one.process.send_signal(signal.SIGTERM)
        assert answer.read().endswith(b"data: [DONE]\n\n")
    assert one.ended() == 0
    assert "Traceback" not in one.said
    assert "stopping in_flight=1 " in one.said


@ways_in
def test_a_stream_that_outlasts_the_drain_ends_with_an_error_and_no_done(
    way_in: tuple[str, ...], gateway: Start, slow_url: str
) -> None:
    one = gateway("--port", "0", "--backend", slow_url, "--drain-seconds", "0.2", *way_in)
    with streaming(one) as answer:
        one.process.send_signal(signal.SIGTERM)
        with pytest.raises(http.client.IncompleteRead) as cut:
            answer.read()
    assert b'data: {"error"' in cut.value.partial
    assert b"[DONE]" not in cut.value.partial
    assert one.ended() == 0
    assert "code=shutdown" in one.said
    assert " ERROR " not in one.said  # the server below us sees an answer without its end, and need not say so too


def test_a_second_ctrl_c_ends_it_at_once(gateway: Start, slow_url: str) -> None:
    one = gateway("--port", "0", "--backend", slow_url)
    with streaming(one):
        one.process.send_signal(signal.SIGINT)
        until(lambda: refuses(one.url))  # two signals at once would be one
        one.process.send_signal(signal.SIGINT)
        assert one.ended() == 130
    assert "Traceback" not in one.said


@contextmanager
def on_a_terminal(directory: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "solar", "serve", *flags]
    with subprocess.Popen(
        command, cwd=directory, env=clean_environment(), stdin=its, stdout=its, stderr=its
    ) as process:
        os.close(its)
        try:
            yield process, ours
        finally:
            process.kill()


def read_until(terminal: int, words: str) -> str:
    shown = ""
    while words not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown


def test_a_terminal_shows_a_made_key_once_and_how_to_ask(tmp_path: Path) -> None:
    flags = ("--host", "0.0.0.0", "--port", "0")
    with on_a_terminal(tmp_path, *flags) as (_, terminal):
        first = read_until(terminal, "Bearer")
        os.close(terminal)
    with on_a_terminal(tmp_path, *flags) as (_, terminal):
        second = read_until(terminal, "Bearer")
        os.close(terminal)
    key = (tmp_path / "data" / "api_key").read_text().strip()
    assert f"Your key, shown this once and kept in data/api_key: {key}" in first
    assert "Try: curl http://127.0.0.1:" in first
    assert "and on every other address of this machine" in first
    assert "Your key is in data/api_key" in second
    assert key not in second


def test_a_terminal_says_where_the_gateway_looks_for_backends(tmp_path: Path) -> None:
    (tmp_path / "found.toml").touch()
    with on_a_terminal(tmp_path, "--port", "0", "--discover", "file:found.toml", "--discover", "local") as (
        _,
        terminal,
    ):
        shown = read_until(terminal, "Try: curl")
        os.close(terminal)
    assert "It looks for more in found.toml and on this machine." in shown


def test_a_terminal_that_closes_ends_the_gateway(tmp_path: Path) -> None:
    with on_a_terminal(tmp_path, "--port", "0") as (process, terminal):
        assert "0 backends; no key is needed" in read_until(terminal, "Try: curl")
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        assert process.wait(WITHIN) == 0
