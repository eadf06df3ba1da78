import json

import msgspec
import pytest
from any_json import bodies
from hypothesis import given, settings

from solar.errors import InvalidRequest
from solar.wire.figures import Memory
from solar.wire.hosts import (
    Host,
    HostPatch,
    HostResponse,
    NewHost,
    Refreshed,
    RefreshedAll,
    read_host_patch,
    read_new_host,
)

MAC = {"name": "Mac Studio 1", "url": "http://192.168.1.100:8001", "api_key": "host-specific-api-key"}


def body(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_the_registration_of_the_readme_is_read_and_shows_its_key_to_nobody() -> None:
    host = read_new_host(body(**MAC))
    assert host == NewHost(**MAC)
    assert str(host.agent) == "http://192.168.1.100:8001"
    assert "host-specific" not in repr(host)


def test_a_host_has_the_originals_fields_but_for_the_key() -> None:
    host = Host(id="1", name="a", url="http://a:8001", memory=Memory(1, 2, 50, "VRAM"), created_at="t")
    shown = json.loads(msgspec.json.encode(HostResponse(host, "done")))
    assert shown["message"] == "done"
    originals = {"created_at", "id", "last_seen", "memory", "name", "status", "url"}
    assert shown["host"].keys() == originals | {"weight", "connected", "reason"}
    assert shown["host"]["memory"] == {"used_gb": 1, "total_gb": 2, "percent": 50, "memory_type": "VRAM"}


def test_a_refresh_of_all_counts_its_hosts() -> None:
    done = RefreshedAll.of((Refreshed("1", "a", "online", "ok"), Refreshed("2", "b", "offline", "no answer")))
    assert (done.message, done.results[1].status) == ("Refreshed 2 hosts", "offline")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (b"", "a host is written"),
        (b"[" * 100_000, "a host is written"),
        (body(name="a", url="b"), "missing required field `api_key`"),
        (body(**MAC | {"name": "  "}), "name must be"),
        (body(**MAC | {"name": "a\nb"}), "name must be"),
        (body(**MAC | {"name": "a" * 201}), "name must be"),
        (body(**MAC | {"api_key": ""}), "api_key must be"),
        (body(**MAC | {"api_key": "schlüssel"}), "api_key must be"),
        (body(**MAC | {"url": "ftp://a"}), "http or https"),
        (body(**MAC | {"weight": 0}), "weight must be"),
        (body(**MAC | {"weight": "2"}), "weight"),
    ],
)
def test_a_registration_that_cannot_be_is_refused_with_what_to_write(wrong: bytes, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        read_new_host(wrong)


def test_a_patch_changes_what_it_names() -> None:
    patch = read_host_patch(body(name="New", api_key="k2"))
    assert patch == HostPatch(name="New", api_key="k2")
    assert repr(patch) == "<HostPatch of name, api_key>"
    assert repr(read_host_patch(b"{}")) == "<HostPatch of nothing>"
    assert read_host_patch(body(url="gpu1")).url == "gpu1"
    assert read_host_patch(body(weight=2)).weight == 2.0


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"weight": -1}, {"url": "a b"}, {"api_key": ""}, {"status": "online"}, {"name": None}]
)
def test_a_patch_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest):
        read_host_patch(body(**wrong))


@given(bodies)
@settings(deadline=None)
def test_any_bytes_are_a_host_or_refused(told: bytes) -> None:
    for read in (read_new_host, read_host_patch):
        try:
            assert read(told)
        except InvalidRequest as refused:
            assert refused.status == 400  # noqa: PT017
