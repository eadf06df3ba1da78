import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gateway_process import clean_environment

from solar.cli.group import solar
from solar.control.built import is_compiled


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    for name in ("SOLAR_BACKEND", "SOLAR_DISCOVER", "SOLAR_CONFIG", "API_KEY", "HOST", "PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(solar, arguments, prog_name="solar")


def test_check_config_sums_up_a_file_that_is_right_and_shows_no_key(directory: Path) -> None:
    (directory / "solar.toml").write_text(
        '[server]\nport = 9\napi_keys = ["sk-mine"]\n'
        '[[backends]]\nname = "le[b]ft"\nurl = "http://h:1"\napi_key = "sk-its"\n'
        'models = ["m"]\naliases = { n = "m" }\n'
    )
    result = run("check-config")
    assert result.exit_code == 0
    assert "solar.toml is right" in result.output
    for words in ("port", "9", "1 set", "le[b]ft", "http://h:1", "set", "m, n"):
        assert words in result.output
    assert "sk-" not in result.output


def test_check_config_shows_where_is_looked_and_by_which_rules(directory: Path) -> None:
    (directory / "solar.toml").write_text(
        '[server]\ndiscover = ["docker", "local"]\n[[image_rules]]\npattern = "my-llm"\n'
    )
    result = run("check-config")
    assert result.exit_code == 0
    assert "docker, local" in result.output
    assert "Image rules: 1" in result.output
    assert "my-llm" in result.output


def test_check_config_shows_a_warning(directory: Path) -> None:
    (directory / "k").write_text("sk-its")
    (directory / "k").chmod(0o644)
    (directory / "other.toml").write_text('[[backends]]\nname = "a"\nurl = "http://h:1"\napi_key_file = "k"\n')
    result = run("check-config", "other.toml")
    assert result.exit_code == 0
    assert "Warning: " in result.output


def test_check_config_says_what_is_wrong(directory: Path) -> None:
    (directory / "solar.toml").write_text("[server]\nprot = 1\n")
    result = run("check-config")
    assert result.exit_code == 1
    assert "[server]: no setting is called 'prot'; did you mean 'port'?" in result.output


@pytest.mark.usefixtures("directory")
def test_check_config_without_a_file_says_so() -> None:
    result = run("check-config")
    assert (result.exit_code, "name the file to check" in result.output) == (1, True)


@pytest.mark.usefixtures("directory")
def test_serve_says_what_is_wrong_with_a_flag() -> None:
    result = run("serve", "--port", "x")
    assert result.exit_code == 1
    assert "Error: --port: expected a whole number; write for example: 8000" in result.output


def test_every_flag_reaches_its_setting(directory: Path) -> None:
    result = run("doctor", "--no-hold-while-loading", "--session-affinity", "usr")
    assert (
        "--session-affinity: 'usr' is not one of header, user, prompt_cache_key; did you mean 'user'?" in result.output
    )


def test_help_names_every_default() -> None:
    shown = " ".join(run("serve", "--help").output.split())
    assert "[default: 127.0.0.1]" in shown
    assert "--prefix-fallback off|unique|first" in shown


def test_the_version_is_the_package_s_and_says_how_it_was_installed() -> None:
    built = "compiled" if is_compiled() else "interpreted"
    assert run("--version").output == f"solar, version {version('solar-control')} ({built})\n"


@pytest.mark.usefixtures("directory")
def test_doctor_without_a_backend_says_how_to_name_one() -> None:
    result = run("doctor", "--port", "0")
    assert result.exit_code == 1
    assert "[[backends]] in solar.toml" in result.output
    assert "--discover local or --discover docker" in result.output
    assert "Wrong: 1." in result.output


def test_doctor_finds_a_healthy_fleet_well(directory: Path) -> None:
    fake = subprocess.Popen([sys.executable, "-m", "solar.testing", "--models", "m"], stdout=subprocess.PIPE, text=True)
    assert fake.stdout is not None
    with fake:
        url = fake.stdout.readline().strip()
        told = run("doctor", "--port", "0", "--backend", f"a={url}")
        as_json = run("doctor", "--port", "0", "--backend", f"a={url}", "--json")
        fake.terminate()
    assert (told.exit_code, as_json.exit_code) == (0, 0)
    assert "backend a: answers, with m" in told.output
    assert "All is well." in told.output
    found = json.loads(as_json.output)
    assert found["well"] is True
    assert {"about": "backend a", "well": True, "found": "answers, with m", "advice": ""} in found["found"]


def test_without_the_extra_one_sentence_names_it(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['click'] = sys.modules['rich'] = None\n")
    environment = {**clean_environment(), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-m", "solar", "serve"], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs click, rich, not installed" in done.stderr
    assert "pip install '.[server]'" in done.stderr
