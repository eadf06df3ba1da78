import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from gateway_process import Gateway, until

Start = Callable[..., Gateway]
NOWHERE = "none=http://127.0.0.1:9"


class Fleet:
    """Backends for solar.toml, all of them paths of one healthy server that lists no models by itself."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, name: str, *models: str) -> str:
        return f'[[backends]]\nname = "{name}"\nurl = "{self._url}/{name}"\nmodels = {list(models)!r}\n'


@pytest.fixture
def backend() -> Iterator[Fleet]:
    with subprocess.Popen([sys.executable, "-m", "solar.testing"], stdout=subprocess.PIPE, text=True) as fake:
        assert fake.stdout is not None
        yield Fleet(fake.stdout.readline().strip())
        fake.terminate()


def test_it_serves_and_ends_with_ctrl_c(gateway: Start) -> None:
    one = gateway("--port", "0", "--backend", NOWHERE)
    status, health = one.get("/health")
    assert (status, health["status"], health["backends_total"]) == (200, "degraded", 1)
    assert one.stop(signal.SIGINT) == 0
    assert "Traceback" not in one.said


def test_where_nothing_is_there_to_route_to_it_says_what_to_do(gateway: Start) -> None:
    assert "register a host with `solar hosts add`" in gateway("--port", "0").says("no backend to route to")


def test_hosts_that_are_kept_are_something_to_route_to(gateway: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    host = '{"id": "a", "name": "old", "url": "http://127.0.0.1:9", "api_key": "k", "created_at": "2025-11-03"}'
    (tmp_path / "data" / "hosts.json").write_text(f'{{"hosts": [{host}]}}')
    one = gateway("--port", "0")
    one.says("name='old'")
    assert one.stop(signal.SIGTERM) == 0
    assert "no backend to route to" not in one.said


def test_sigterm_is_a_clean_end_too(gateway: Start) -> None:
    one = gateway("--port", "0")
    assert one.url
    assert one.stop(signal.SIGTERM) == 0


def test_a_port_in_use_is_one_sentence_and_no_traceback(gateway: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = gateway("--port", str(port))
        assert one.ended() == 1
    assert (
        one.said
        == f"Error: port {port} on 127.0.0.1 is in use; end what listens there, or choose another with --port\n"
    )


def test_processes_share_a_port_and_one_may_end(gateway: Start) -> None:
    one = gateway("--port", "0", "--reuse-port")
    two = gateway("--port", str(one.port), "--reuse-port", "--backend", NOWHERE)
    assert two.url == one.url
    seen = set()

    def backends() -> int:
        seen.add(total := one.get("/health")[1]["backends_total"])  # each time a connection of its own
        return int(total)

    until(lambda: backends() >= 0 and seen == {0, 1})
    assert one.stop() == 0
    assert {backends() for _ in range(8)} == {1}


@pytest.mark.parametrize(("first", "second"), [(["--reuse-port"], []), ([], ["--reuse-port"])])
def test_a_port_is_shared_only_by_those_who_all_say_so(first: list[str], second: list[str], gateway: Start) -> None:
    one = gateway("--port", "0", *first)
    two = gateway("--port", str(one.port), *second)
    assert two.ended() == 1
    assert two.said.startswith(f"Error: port {one.port} on 127.0.0.1 is in use")


def test_on_loopback_it_needs_no_key_and_refuses_foreign_names(gateway: Start) -> None:
    one = gateway("--port", "0", "--allowed-host", "solar.lan")
    assert one.get("/v1/models")[0] == 200
    assert one.get("/v1/models", {"Host": "solar.lan"})[0] == 200
    assert one.get("/v1/models", {"Host": "evil.example"})[0] == 403
    assert one.get("/v1/models", {"Origin": "http://evil.example"})[0] == 403


def test_on_every_address_a_key_is_made_kept_and_never_logged(gateway: Start, tmp_path: Path) -> None:
    one = gateway("--host", "0.0.0.0", "--port", "0", "--data-dir", "kept")
    assert one.get("/v1/models")[0] == 401
    path = tmp_path / "kept" / "api_key"
    key = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert one.get("/v1/models", {"Authorization": f"Bearer {key}"})[0] == 200
    assert one.stop() == 0
    again = gateway("--host", "0.0.0.0", "--port", "0", "--data-dir", "kept")
    assert again.get("/v1/models", {"X-API-Key": key})[0] == 200
    assert again.stop() == 0
    assert "key=in kept/api_key" in again.said
    assert key not in one.said + again.said


def test_a_damaged_key_file_is_reported(gateway: Start, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "api_key").touch()
    one = gateway("--host", "0.0.0.0", "--port", "0")
    one.says("the key file was damaged: it is kept as data/api_key.damaged-1, and a new key was made")


def test_keys_of_the_environment_admit(gateway: Start) -> None:
    one = gateway(env={"SOLAR_PORT": "0", "SOLAR_API_KEY": "My API Key,other", "API_KEY": "unused"})
    for key in ("My API Key", "other"):
        assert one.get("/v1/models", {"X-API-Key": key})[0] == 200
    assert one.get("/v1/models", {"X-API-Key": "unused"})[0] == 401


def test_the_names_of_the_original_count_in_dotenv(gateway: Start, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("API_KEY=its-key\nPORT=0\nHOST=127.0.0.2\n")
    one = gateway()
    assert one.url.startswith("http://127.0.0.2:")
    assert one.get("/v1/models")[0] == 401
    assert one.get("/v1/models", {"api-key": "its-key"})[0] == 200


def test_a_config_that_is_wrong_is_one_sentence(gateway: Start, tmp_path: Path) -> None:
    (tmp_path / "solar.toml").write_text("[server]\nprot = 1\n")
    one = gateway()
    assert one.ended() == 1
    assert one.said.startswith(f"Error: {tmp_path / 'solar.toml'}: [server]: no setting is called 'prot'")
    assert "Traceback" not in one.said


def test_lines_are_json_where_asked(gateway: Start) -> None:
    one = gateway("--port", "0", "--log-format", "json")
    assert one.says('"message": "listening').startswith('{"time": "')


@pytest.mark.parametrize("how", ["hangup", "change"])
def test_a_reload_replaces_the_backends_of_the_file_only(
    how: str, gateway: Start, backend: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "solar.toml"
    file.write_text(backend("old", "was") + backend("stays", "same"))
    one = gateway("--port", "0", "--backend", NOWHERE)
    assert one.models() == ["same", "was"]
    file.write_text(backend("stays", "same") + backend("new", "is"))
    if how == "hangup":
        one.process.send_signal(signal.SIGHUP)
    one.says("config reloaded")
    until(lambda: one.models() == ["is", "same"])
    assert one.get("/health")[1]["backends_total"] == 3


def test_a_wrong_file_changes_nothing_and_a_right_one_then_counts(
    gateway: Start, backend: Fleet, tmp_path: Path
) -> None:
    file = tmp_path / "solar.toml"
    file.write_text(backend("a", "was"))
    one = gateway("--port", "0")
    assert one.models() == ["was"]
    file.write_text(backend("a", "is") + "colour = 1\n")
    one.says("config not reloaded, everything stays as it was: ")
    assert one.models() == ["was"]
    file.write_text("[server]\nqueue_limit = 5\nport = 1\n" + backend("a", "is"))
    one.says("config has changes that need a restart: queue_limit")
    until(lambda: one.models() == ["is"])


def test_a_key_that_its_file_got_anew_is_used(gateway: Start, backend: Fleet, tmp_path: Path) -> None:
    (tmp_path / "k").write_text("first")
    (tmp_path / "k").chmod(0o600)
    (tmp_path / "solar.toml").write_text(backend("a", "m") + 'api_key_file = "k"\n')
    one = gateway("--port", "0")
    assert one.models() == ["m"]
    (tmp_path / "k").write_text("second")
    one.says("config reloaded")


def test_sighup_without_a_file_ends_nothing(gateway: Start) -> None:
    one = gateway("--port", "0")
    assert one.url
    one.process.send_signal(signal.SIGHUP)
    one.says("nothing to read again")
    assert one.get("/health")[0] == 200
