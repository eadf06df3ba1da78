import json
from contextlib import suppress

import pytest
from any_json import bodies
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.wire.dialects import DIALECTS, Dialect, dialect_of
from solar.wire.reading import Unreadable


def health(**more: object) -> bytes:
    return json.dumps({"status": "healthy", "service": "solar-host", **more}).encode()


ENGINES = b'{"service": "solar-host", "supported_backends": ["llamacpp"]}'


@pytest.mark.parametrize(
    ("told", "root", "name", "version"),
    [
        (health(version="1.0.0"), None, "v1", "1.0.0"),
        (health(version="1.0.0"), b'{"service": "solar-host"}', "v1", "1.0.0"),
        (health(), b"<html>", "v1", None),
        (health(version="2.0.0"), None, "v2", "2.0.0"),
        (health(version="newest"), ENGINES, "v2", "newest"),
        (health(version="0.1.3", disk=None), ENGINES, "fork", "0.1.3"),
        (health(version="0.1.3"), None, "fork", "0.1.3"),
        (health(version="3.8.3", disk={"total_gb": 1}), ENGINES, "fork", "3.8.3"),
        (health(version="2.0.0", disk=None), ENGINES, "fork", "2.0.0"),
        (health(version="99999.0"), None, "v1", "99999.0"),
        (health(version="1.0.0", implementation="solar"), None, "solar", "1.0.0"),
    ],
)
def test_an_agent_is_told_by_what_it_says_of_itself(told: bytes, root: bytes | None, name: str, version: str) -> None:
    found = dialect_of(told, root)
    assert (found.name, found.version) == (name, version)


def test_the_newer_fork_can_more_than_the_older() -> None:
    old, new = dialect_of(health(version="0.1.3")), dialect_of(health(version="3.8.3"))
    assert (old.resources, old.notices_death, old.ready_when_running) == (False, False, False)
    assert (new.resources, new.notices_death, new.ready_when_running) == (True, True, True)
    assert new.start_seconds > 600 > old.start_seconds
    assert old.logs == new.logs == ("socketio", "page")


def test_logs_come_by_the_way_that_each_agent_has() -> None:
    assert {name: dialect.logs[0] for name, dialect in DIALECTS.items()} == {
        "v1": "stream",
        "v2": "channel",
        "fork": "socketio",
        "solar": "channel",
    }
    assert all("page" in dialect.logs for dialect in DIALECTS.values())


@pytest.mark.parametrize("other", [b'{"status": "ok"}', b'{"status": "healthy", "service": "solar-control"}', b"OK"])
def test_what_is_no_agent_is_said_to_be_none(other: bytes) -> None:
    with pytest.raises(Unreadable, match=r"no agent|no JSON"):
        dialect_of(other)


@given(bodies, st.none() | bodies)
@settings(deadline=None)
def test_any_bytes_are_an_agents_or_unreadable(told: bytes, root: bytes | None) -> None:
    with suppress(Unreadable):
        dialect_of(told, root)
    assert isinstance(dialect_of(health(), root), Dialect)
