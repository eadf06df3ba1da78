import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from solar.control.keys import access, keep_key
from solar.errors import InvalidSettings

LOOPBACK = ["127.0.0.1", "::1"]
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_key_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    first = keep_key(tmp_path / "data")
    again = keep_key(tmp_path / "data")
    assert first.value.startswith("sk-solar-")
    assert len(first.value) >= 40
    assert (first.made, again.made, again.value) == (True, False, first.value)
    assert (mode(first.path), mode(first.path.parent)) == (0o600, 0o700)
    assert list((tmp_path / "data").iterdir()) == [first.path]


def test_processes_that_start_at_once_make_one_key(tmp_path: Path) -> None:
    code = "import sys, pathlib, solar.control.keys as keys; print(keys.keep_key(pathlib.Path(sys.argv[1])).value)"
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


def test_a_key_that_its_owner_wrote_is_used_and_closed_to_others(tmp_path: Path) -> None:
    path = tmp_path / "api_key"
    path.write_text("my own key\n")
    path.chmod(0o644)
    assert keep_key(tmp_path).value == "my own key"
    assert mode(path) == 0o600


@pytest.mark.parametrize("damaged", [b"", b" \n", b"\xff\x00", b"one\ntwo\n"])
def test_a_damaged_key_file_is_kept_aside(damaged: bytes, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "api_key").write_bytes(damaged)
        kept = keep_key(tmp_path)
        assert kept.made
        assert kept.set_aside == tmp_path / f"api_key.damaged-{number}"
        assert kept.set_aside.read_bytes() == damaged


def test_a_directory_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSettings, match="not a directory; set a key with --api-key, or a directory"):
        keep_key(tmp_path / "file" / "data")


def test_no_repr_shows_the_key(tmp_path: Path) -> None:
    admitted = access((), (), ["192.0.2.1"], tmp_path)
    assert "sk-solar-" not in repr(admitted)


def test_on_loopback_nobody_needs_a_key_and_only_its_names_are_answered(tmp_path: Path) -> None:
    admitted = access((), ("solar.lan",), LOOPBACK, tmp_path)
    assert (admitted.keys, admitted.hosts) == ((), (*LOOPBACK_NAMES, "solar.lan"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("addresses", [["0.0.0.0"], ["::"], ["127.0.0.1", "192.0.2.1"], ["fe80::1%eth0"]])
def test_anywhere_else_a_key_is_made(addresses: list[str], tmp_path: Path) -> None:
    admitted = access((), (), addresses, tmp_path)
    assert admitted.keys == ((tmp_path / "api_key").read_text().strip(),)
    assert admitted.hosts is None


def test_a_key_that_is_set_makes_none_and_opens_every_name(tmp_path: Path) -> None:
    assert access(("k",), (), ["0.0.0.0"], tmp_path).hosts is None
    assert access(("k",), ("a",), LOOPBACK, tmp_path).hosts == (*LOOPBACK_NAMES, "a")
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_cannot_be_written_whole_is_not_written_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InvalidSettings, match=r"cannot keep a key in .*: no space left on device"):
        keep_key(tmp_path)
    assert list(tmp_path.iterdir()) == []
