from pathlib import Path

import pytest

from solar.control.configfile import read_config
from solar.core.backend import Timeouts
from solar.errors import InvalidSettings

ONE = '[[backends]]\nname = "a"\nurl = "http://a"\n'


def written(directory: Path, text: str) -> Path:
    path = directory / "solar.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_timeouts_stand_on_the_defaults_and_those_of_a_model_on_the_backend_s(tmp_path: Path) -> None:
    text = ONE + 'timeouts = { connect = 1, total = 9 }\nmodel_timeouts = { m = { total = "none", first_byte = 7 } }\n'
    (backend,) = read_config(written(tmp_path, text)).backends
    assert backend.timeouts == Timeouts(connect=1, total=9)
    assert backend.timeouts_for("m") == Timeouts(connect=1, first_byte=7, total=None)


def test_paths_start_from_the_file_and_the_key_is_stripped(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("  sk-its \n")
    (tmp_path / "a.key").chmod(0o600)
    file = read_config(written(tmp_path, '[server]\ndata_dir = "kept"\n' + ONE + 'api_key_file = "a.key"\n'))
    assert file.backends[0].api_key == "sk-its"
    assert file.server["data_dir"] == str(tmp_path / "kept")
    assert file.read == (tmp_path / "solar.toml", tmp_path / "a.key")
    assert file.warnings == ()


def test_a_key_file_that_everyone_can_read_is_warned_about(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("sk-its")
    (tmp_path / "a.key").chmod(0o644)
    (warning,) = read_config(written(tmp_path, ONE + 'api_key_file = "a.key"\n')).warnings
    assert warning.endswith(f"chmod 600 {tmp_path / 'a.key'}")


@pytest.mark.parametrize("text", ["[server]\napi_keys = ['sk-ours']\n" + ONE, ONE + "api_key = 'sk-its'\n"])
def test_a_file_with_a_key_in_it_that_everyone_can_read_is_warned_about(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    path.chmod(0o644)
    (warning,) = read_config(path).warnings
    assert warning.endswith(f"chmod 600 {path}")
    path.chmod(0o600)
    assert read_config(path).warnings == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("port = 1", ": port stands outside of a section; write it below [server]"),
        ("[sever]", ": no section is called 'sever'; did you mean 'server'?"),
        ("[backends]\nname = 'a'", ": write the section backends as [[backends]]"),
        ("[[server]]", ": write the section server as [server]"),
        ("backends = [1]", ": [[backends]] number 1: must be a table"),
        ("[server]\nport = = 2", ": not valid TOML: Invalid value (at line 2, column 8)"),
        ("[server]\nprot = 1", ": [server]: no setting is called 'prot'; did you mean 'port'?"),
        (
            "[server]\nport = 'x'",
            ": [server] port: expected a whole number, got a text; write for example: port = 8000",
        ),
        (
            "[server]\napi_keys = 'x'",
            ": [server] api_keys: expected a list, got a text; write for example: api_keys = [",
        ),
        ("[server]\ndefault_backend = 1", ": [server] default_backend: expected a text, got a whole number; write for"),
        ("[server]\nsession_affinity = ['headr']", ": [server] session_affinity: 'headr' is not one of header, user,"),
        ("[[backends]]\nname = 'a'", ": [[backends]] number 1 (a): url is missing; write for example: url = "),
        (ONE + "conect = 1", ": [[backends]] number 1 (a): no setting is called 'conect'"),
        (ONE + "timeouts = { conect = 1 }", " (a) timeouts: no setting is called 'conect'; did you mean 'connect'?"),
        (ONE + "timeouts = { total = 'non' }", " (a) timeouts total: 'non' is not one of none; did you mean 'none'?"),
        (ONE + "timeouts = { total = 0 }", " (a) timeouts total: expected a number > 0.0; write for example: total ="),
        (ONE + "model_timeouts = { m = { totl = 1 } }", " (a) model_timeouts.m: no setting is called 'totl'"),
        (ONE + "model_timeouts = 1", " (a) model_timeouts: expected a table, got a whole number"),
        (ONE + "type = 'ollma'", " (a): type must be one of auto, llamacpp, vllm, "),
        (ONE + "aliases = { '' = 'x' }", " (a) aliases: expected a text of length >= 1"),
        (ONE + "api_key = 'a'\napi_key_file = 'b'", " (a): write api_key or api_key_file, not both"),
        (ONE + "api_key_file = 'gone'", "gone: no such file or directory"),
        (ONE + "api_key_file = 'empty'", "empty is empty; write the key into it"),
        (ONE + "ca_file = 'gone'", "gone: no such file or directory; name a PEM bundle"),
        (ONE + "ca_file = 'empty'", "; name a PEM bundle"),
        (ONE + ONE, ": [[backends]] number 2 (a): the name 'a' is taken by [[backends]] number 1 (a)"),
    ],
)
def test_an_error_names_file_section_key_and_what_to_write(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    path = written(tmp_path, text)
    with pytest.raises(InvalidSettings) as error:
        read_config(path)
    assert error.value.message.startswith(str(path))
    assert words in error.value.message


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "solar.toml"
    path.write_bytes("# ä\n".encode("latin-1"))
    with pytest.raises(InvalidSettings, match=r"not UTF-8 \(byte 2\); save it as UTF-8"):
        read_config(path)


def test_a_wrong_key_is_never_shown(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as error:
        read_config(written(tmp_path, ONE + 'api_key = ["sk-its"]\n'))
    assert "sk-its" not in error.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=f"cannot read {tmp_path}: is a directory"):
        read_config(tmp_path)
