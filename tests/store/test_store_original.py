import json
from pathlib import Path
from typing import Any

import pytest
from kept import host, running

from solar.errors import InvalidSettings
from solar.store.original import read

GPU1 = {
    "id": "5f0c8f1e-0000-4000-8000-000000000001",
    "name": "gpu1",
    "url": "http://192.168.1.100:8001",
    "api_key": "agent-key",
    "status": "online",
    "last_seen": "2025-10-30T10:00:00",
    "memory": None,
    "created_at": "2025-10-30T10:00:00.500000",
}


def write(data_dir: Path, *hosts: dict[str, Any]) -> Path:
    path = data_dir / "hosts.json"
    path.write_text(json.dumps({"hosts": hosts}, indent=2))
    return path


async def test_the_hosts_of_an_original_are_taken_over_once_and_its_file_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, GPU1)
    before = path.read_bytes()
    async with running(tmp_path) as store:
        (found,) = await store.hosts()
        assert (found.id, found.name, found.url, found.api_key) == (GPU1["id"], "gpu1", GPU1["url"], "agent-key")
        assert found.created_ms == 1_761_818_400_500
        assert await store.drop_host(found.id)
    write(tmp_path, GPU1, GPU1 | {"id": "another"})
    async with running(tmp_path) as store:
        assert await store.hosts() == ()
    write(tmp_path, GPU1)
    assert path.read_bytes() == before


async def test_a_broken_file_is_reported_once_and_read_again_when_it_was_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hosts.json").write_text('{"hosts": [{"id": "a"')
    for _ in range(2):
        async with running(tmp_path) as store:
            assert await store.hosts() == ()
            await store.put_host(host())
            await store.drop_host("id-1")
    assert caplog.text.count("hosts are not taken over until that is mended") == 1
    write(tmp_path, GPU1)
    async with running(tmp_path) as store:
        assert [found.name for found in await store.hosts()] == ["gpu1"]


async def test_a_file_that_cannot_be_read_is_reported_and_the_store_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "hosts.json").mkdir()
    async with running(tmp_path) as store:
        assert await store.hosts() == ()
    assert "cannot be read (is a directory)" in caplog.text


def test_a_host_without_a_time_was_registered_now() -> None:
    (found,) = read(json.dumps({"hosts": [{"id": "a", "name": "n", "url": "u", "created_at": "soon"}]}).encode(), 42)
    assert (found.created_ms, found.api_key) == (42, "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not the hosts of a coordinator"),
        (b"[]", "not the hosts of a coordinator"),
        (b'{"hosts": [{"id": 1}]}', "not the hosts of a coordinator"),
        (b'{"hosts": [{"id": "a", "name": "n", "url": ""}]}', "host number 1 has no URL"),
        (b'{"hosts": [{"id": "", "name": "n", "url": "u"}]}', "host number 1 has no id"),
        (json.dumps({"hosts": [GPU1, GPU1]}).encode(), "host number 2 has the id of another one"),
    ],
)
def test_a_file_is_taken_whole_or_not_at_all(text: bytes, says: str) -> None:
    with pytest.raises(InvalidSettings, match=says):
        read(text, 0)
