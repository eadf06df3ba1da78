"""A label names a key file, and never one that is not meant for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from solar.discovery.docker.keyfile import read_key


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_key_is_read_from_the_folders_in_order(tmp_path: Path) -> None:
    put(tmp_path / "b" / "key", b" sk-1\n")
    assert read_key("key", [tmp_path / "a", tmp_path / "b"]) == "sk-1"
    assert read_key(str(tmp_path / "b" / "key"), [tmp_path / "b"]) == "sk-1"


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "..", ".", "", "link", "loop", "missing", "dir/../../secret"]
)
def test_no_other_file_of_the_machine_is_read(tmp_path: Path, name: str) -> None:
    put(tmp_path / "secret", b"private")
    keys = tmp_path / "keys"
    (keys / "dir").mkdir(parents=True)
    (keys / "link").symlink_to(tmp_path / "secret")
    (keys / "loop").symlink_to(keys / "loop")
    with pytest.raises(ValueError, match="no readable key file"):
        read_key(name, [keys])


def test_a_link_that_stays_within_is_followed_as_kubernetes_makes_them(tmp_path: Path) -> None:
    put(tmp_path / "..data" / "key", b"sk-2")
    (tmp_path / "key").symlink_to("..data/key")
    assert read_key("key", [tmp_path]) == "sk-2"


@pytest.mark.parametrize("content", [b"", b"\n", b"two\nlines", b"\xff\xfe"])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    put(tmp_path / "key", content)
    with pytest.raises(ValueError, match="one line"):
        read_key("key", [tmp_path])
