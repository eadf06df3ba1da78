import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gateway_process import WITHIN, Gateway, clean_environment

from solar.cli.group import solar
from solar.control import discovery


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("SOLAR_DISCOVER", "SOLAR_CONFIG", "SOLAR_BACKEND"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """The URL of an engine in another process."""
    command = [sys.executable, "-m", "solar.testing", "--models", "qwen3:8b", "--kind", "ollama"]
    fake = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert fake.stdout is not None
    with fake:
        yield fake.stdout.readline().strip()
        fake.terminate()


def name_it(directory: Path, *urls: str) -> None:
    tables = "".join(f'[[backends]]\nname = "engine-{n}"\nurl = "{url}"\n' for n, url in enumerate(urls))
    (directory / "found.toml").write_text(tables)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(solar, ["discover", *arguments], prog_name="solar")


def test_it_shows_what_was_found_where_it_was_tried_and_what_it_has(directory: Path, engine: str) -> None:
    name_it(directory, engine, "http://127.0.0.1:1")
    result = run("file:found.toml")
    assert result.exit_code == 0
    shown = r"found +engine-0 .*\n +backend engine-0, ollama: qwen3:8b\n +\* +{} .*ollama, with qwen3:8b"
    assert re.search(shown.format(engine), result.output)
    assert re.search(r"wrong +engine-1 (.*\n){2} +http://127\.0\.0\.1:1 .*nothing listens there", result.output)
    assert "Found: 2 backends." in result.output


def test_json_is_one_object_with_every_address_and_its_outcome(directory: Path, engine: str) -> None:
    name_it(directory, engine)
    (source,) = json.loads(run("--json", "file:found.toml").output)["sources"]
    (sighting,) = source["sightings"]
    assert (source["source"], source["wrong"]) == ("file:found.toml", None)
    assert sighting["backend"]["models"] == ["qwen3:8b"]
    assert (sighting["backend"]["type"], sighting["backend"]["state"]) == ("ollama", "healthy")
    (tried,) = sighting["tried"]
    assert (tried["url"], tried["answered"], tried["kept"]) == (engine, True, True)


def test_without_a_word_the_settings_say_where_to_look(directory: Path, engine: str) -> None:
    (directory / "there").mkdir()
    name_it(directory / "there", engine)
    (directory / "there" / "solar.toml").write_text('[server]\ndiscover = ["file:found.toml"]\n')
    result = run("--config", "there/solar.toml")
    assert result.exit_code == 0
    assert str(directory / "there" / "found.toml") in result.output


def test_nothing_found_is_exit_status_1(directory: Path) -> None:
    name_it(directory)
    result = run("file:found.toml")
    assert result.exit_code == 1
    assert "Found: 0 backends." in result.output


def test_a_place_that_cannot_be_looked_at_is_exit_status_1(directory: Path, engine: str) -> None:
    name_it(directory, engine)
    result = run("file:found.toml", "file:absent.toml")
    assert result.exit_code == 1
    assert "cannot read absent.toml" in result.output


@pytest.mark.usefixtures("directory")
def test_a_wrong_word_is_one_sentence() -> None:
    result = run("dokcer")
    assert result.exit_code == 1
    assert result.output == "Error: WORD: 'dokcer' is no place to look at; did you mean 'docker'?\n"


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize(
    ("word", "package", "extra"),
    [
        ("docker", "aiodocker", "docker"),
        ("docker:ssh://me@gpu", "asyncssh", "docker-ssh"),
        ("dns:_llm._tcp.lan", "dns", "dns"),
        ("mdns", "zeroconf", "mdns"),
    ],
)
@pytest.mark.usefixtures("logging_kept")
def test_a_missing_extra_is_one_sentence_before_anything_begins(
    word: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "missing", lambda packages: [name for name in packages if name == package])
    for command in (["discover", word], ["serve", "--port", "0", "--discover", word]):
        result = CliRunner().invoke(solar, command, prog_name="solar")
        assert result.exit_code == 1
        assert f"pip install '.[{extra}]'" in result.output
        assert len(result.output.splitlines()) == 1


def test_what_is_not_looked_for_is_not_imported() -> None:
    script = "import sys, solar, solar.control.app; print([m for m in sys.argv[1:] if m in sys.modules])"
    packages = ("aiodocker", "aiohttp", "dns", "zeroconf", "solar.discovery.docker.discoverer")
    done = subprocess.run([sys.executable, "-c", script, *packages], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


class Watching:
    """`solar discover --watch` as a process."""

    def __init__(self, directory: Path, *flags: str, **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "solar", "discover", "--watch", *flags],
            cwd=directory,
            env={**clean_environment(), **env},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.out = self.process.stdout

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(WITHIN)
        self.out.close()
        return status


def test_watching_writes_a_line_for_each_change_until_it_is_interrupted(directory: Path, engine: str) -> None:
    name_it(directory)
    watching = Watching(directory, "--json", "file:found.toml")
    assert json.loads(watching.out.readline())["sources"][0]["sightings"] == []
    name_it(directory, engine)
    assert json.loads(watching.out.readline())["sources"][0]["sightings"][0]["name"] == "engine-0"
    assert watching.stop() == 0


def test_it_fits_into_a_terminal_of_80_columns(directory: Path, engine: str) -> None:
    name_it(directory, engine, "http://a-host-with-a-very-long-name.example.invalid:11434/with/a/path")
    watching = Watching(directory, "file:found.toml", COLUMNS="80", FORCE_COLOR="1", TERM="xterm")
    lines = []
    while "Found: 2 backends." not in (line := watching.out.readline()):
        lines.append(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip("\n"))
    assert watching.stop() == 0
    assert max(map(len, lines)) <= 80
    assert any(f"* {engine}" in re.sub(" +", " ", line) for line in lines)


def test_the_gateway_routes_to_what_is_found(gateway: Callable[..., Gateway], tmp_path: Path, engine: str) -> None:
    name_it(tmp_path, engine)
    serving = gateway("--port", "0", "--discover", "file:found.toml")
    assert "discover=file:found.toml" in serving.says("listening url=")
    assert "there is no backend" not in serving.said


def test_a_gateway_without_backends_says_how_to_find_some(gateway: Callable[..., Gateway]) -> None:
    assert "--discover local or --discover docker" in gateway("--port", "0").says("there is no backend")
