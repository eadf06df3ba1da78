import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from gateway_process import SERVER, Gateway

from solar.cli.group import solar
from solar.cli.place import find_place

Start = Callable[..., Gateway]
NOTHING = {
    "SOLAR_URL": None,
    "SOLAR_API_KEY": None,
    "SOLAR_HOST": None,
    "SOLAR_PORT": None,
    "API_KEY": None,
    "HOST": None,
    "PORT": None,
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in NOTHING:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(solar, arguments, env=NOTHING, prog_name="solar")


def kept(here: Path, key: str = "sk-kept") -> None:
    (here / "data").mkdir()
    (here / "data" / "api_key").write_text(f"{key}\n")


def test_without_anything_it_is_where_serve_listens_without_anything() -> None:
    place = find_place(None, None)
    assert (str(place), place.key) == ("http://127.0.0.1:8000", None)


def test_it_is_found_by_the_settings_that_serve_reads_here(here: Path) -> None:
    (here / "solar.toml").write_text('[server]\nhost = "0.0.0.0"\nport = 9000\napi_keys = ["sk-a", "sk-b"]\n')
    place = find_place(None, None)
    assert (str(place), place.key) == ("http://127.0.0.1:9000", "sk-a")
    (here / ".env").write_text("SOLAR_HOST=::1\nAPI_KEY=sk-env\n")
    place = find_place(None, None)
    assert (str(place), place.key, place.key_from) == ("http://[::1]:9000", "sk-env", "API_KEY in .env")


def test_the_key_that_serve_keeps_here_is_used_and_none_is_made(here: Path) -> None:
    assert find_place(None, None).key is None
    assert list(here.iterdir()) == []
    kept(here)
    assert find_place(None, None).key == "sk-kept"


@pytest.mark.parametrize("url", ["http://192.0.2.1:8000", "https://solar.example.org"])
def test_a_key_that_files_here_hold_is_told_to_no_other_gateway(here: Path, url: str) -> None:
    kept(here)
    assert find_place(url, None).key is None
    (here / "solar.toml").write_text('[server]\napi_keys = ["sk-own"]\n')
    assert find_place(url, None).key is None
    assert find_place("http://localhost:8000", None).key == "sk-own"


def test_a_key_of_the_environment_goes_to_whoever_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOLAR_API_KEY", "sk-env")
    assert find_place("http://192.0.2.1:8000", None).key == "sk-env"
    assert find_place("http://192.0.2.1:8000", "sk-flag").key == "sk-flag"


def test_a_place_shows_no_key() -> None:
    assert "sk-flag" not in repr(find_place("http://h:1", "sk-flag"))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("h:1", "http://h:1"),
        ("http://h", "http://h:80"),
        ("https://h/solar/", "https://h:443/solar"),
        ("http://h:8000/v1", "http://h:8000"),
        ("http://[::1]:8000", "http://[::1]:8000"),
    ],
)
def test_an_address_may_be_written_as_people_do(written: str, read: str) -> None:
    assert str(find_place(written, "k")) == read


@pytest.mark.parametrize("written", ["ftp://h", "http://h:x", "http://", "http://u:p@h", "http://h?x", "http://[::1"])
def test_what_is_no_address_is_said_without_what_may_be_a_password(written: str) -> None:
    with pytest.raises(click.UsageError, match="--url: ") as caught:
        find_place(written, "k")
    assert "u:p" not in caught.value.message


@pytest.mark.parametrize("key", ["a\nb", "schlüssel", " "])
def test_a_key_that_no_header_can_hold_is_said_and_not_shown(key: str) -> None:
    with pytest.raises(click.UsageError, match="printable ASCII") as caught:
        find_place("http://h:1", key)
    assert "schlüssel" not in caught.value.message


def test_where_nobody_listens_is_said_with_what_to_do_and_is_exit_status_3() -> None:
    result = run("hosts", "list", "--url", "http://127.0.0.1:9")
    assert result.exit_code == 3
    assert result.stderr == (
        "Error: nobody listens at http://127.0.0.1:9; start it with `solar serve`, "
        "or name another with --url or SOLAR_URL\n"
    )
    assert run("logs", "--url", "http://127.0.0.1:9").exit_code == 3


def test_a_machine_that_is_not_there_is_said() -> None:
    result = run("models", "--url", "http://nowhere.invalid:8000")
    assert (result.exit_code, "there is no machine of that name" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "what it says is no HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "is no Solar gateway: it answers 200, and no JSON"),
        (b"", "it closed the connection without an answer"),
    ],
)
def test_what_is_no_gateway_is_said(says: bytes, told: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            asking, _ = server.accept()
            with asking:
                asking.recv(65_536)
                asking.sendall(says)

        answering = threading.Thread(target=answer)
        answering.start()
        result = run("models", "--url", f"http://127.0.0.1:{server.getsockname()[1]}")
        answering.join()
    assert (result.exit_code, told in result.stderr) == (3, True)


def test_a_gateway_with_a_certificate_of_its_own_is_known_by_it_here_and_nowhere_else(
    gateway: Start, here: Path
) -> None:
    cert, key = SERVER[1], SERVER[3]
    one = gateway("--port", "0", *SERVER)
    settings = f'[server]\nport = {one.port}\ntls_cert = "{cert}"\ntls_key = "{key}"\n'
    (here / "solar.toml").write_text(settings)
    assert run("hosts", "list").exit_code == 0
    assert run("logs").exit_code == 0
    (here / "solar.toml").unlink()
    stranger = run("hosts", "list", "--url", one.url)
    assert (stranger.exit_code, "its certificate is not trusted" in stranger.stderr) == (3, True)
    plain = run("hosts", "list", "--url", one.url.replace("https", "http"))
    assert (plain.exit_code, "https://" in plain.stderr) == (3, True)


def test_a_gateway_that_lets_the_kernel_choose_its_port_must_be_named(here: Path) -> None:
    (here / "solar.toml").write_text("[server]\nport = 0\n")
    result = run("hosts", "list")
    assert (result.exit_code, "name its address with --url" in result.stderr) == (2, True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_printed_for_a_shell_to_read(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_SOLAR_COMPLETE" in result.stdout


def test_help_loads_nothing_that_a_command_alone_needs() -> None:
    script = (
        "import sys; from click.testing import CliRunner; from solar.cli.group import solar; "
        "assert CliRunner().invoke(solar, ['--help']).exit_code == 0; "
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    later = ("rich", "http.client", "websockets", "aiohttp", "sqlalchemy", "starlette", "uvicorn")
    done = subprocess.run([sys.executable, "-c", script, *later], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
