import asyncio
import errno
import os
import socket

import pytest

from solar.control.app import url_of
from solar.control.listen import _why_not, listen
from solar.errors import InvalidSettings


def test_a_port_in_use_is_one_clear_sentence() -> None:
    (first,) = listen("127.0.0.1", 0)
    with first, pytest.raises(InvalidSettings) as error:
        listen("127.0.0.1", first.getsockname()[1])
    assert "is in use; end what listens there, or choose another with --port" in error.value.message


async def test_what_is_written_to_a_client_leaves_at_once_without_uvloop_too() -> None:
    (sock,) = listen("127.0.0.1", 0)
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    async with await asyncio.start_server(lambda _, writer: accepted.set_result(writer), sock=sock):
        _, client = await asyncio.open_connection(*sock.getsockname())
        writer = await accepted
        assert writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()
        writer.close()
        await asyncio.gather(client.wait_closed(), writer.wait_closed())


def test_a_platform_that_cannot_share_a_port_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(InvalidSettings, match="this platform has no SO_REUSEPORT"):
        listen("127.0.0.1", 0, reuse_port=True)


def test_every_address_of_a_name_gets_the_same_port() -> None:
    sockets = listen("localhost", 0)
    assert len({sock.getsockname()[1] for sock in sockets}) == 1
    for sock in sockets:
        sock.close()


def test_nothing_stays_bound_when_one_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = socket.create_server(("127.0.0.2", 0))
    port = taken.getsockname()[1]
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
    with taken, pytest.raises(InvalidSettings, match="is in use"):
        listen("both", port)
    socket.create_server(("127.0.0.1", port)).close()


def test_an_address_that_this_machine_has_not_is_left_out_where_there_is_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: found)
    (sock,) = listen("both", 0)
    with sock:
        assert sock.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("192.0.2.1", "192.0.2.1 is no address of this machine; write one that is with --host"),
        ("nowhere.invalid", "cannot listen on nowhere.invalid: "),
        ("a" * 70, "it is no host name"),
    ],
)
def test_an_address_that_cannot_be_had_is_named(host: str, words: str) -> None:
    with pytest.raises(InvalidSettings) as error:
        listen(host, 0)
    assert words in error.value.message


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EACCES, "choose one above 1023"), (errno.ENOBUFS, "cannot listen on h port 80: ")]
)
def test_every_reason_has_a_sentence(number: int, words: str) -> None:
    assert words in _why_not("h", 80, OSError(number, os.strerror(number)), False)


@pytest.mark.parametrize(
    ("family", "address", "shown"),
    [(socket.AF_INET, "0.0.0.0", "127.0.0.1"), (socket.AF_INET, "127.0.0.1", "127.0.0.1")],
)
def test_the_url_that_is_shown_can_be_called(family: int, address: str, shown: str) -> None:
    with socket.socket(family) as sock:
        sock.bind((address, 0))
        assert url_of(sock, tls=False) == f"http://{shown}:{sock.getsockname()[1]}"
