"""What an engine tells of its containers, as it happens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.discovery.docker.events import Event, read_event

ID = "a" * 64


def told(action: str, kind: str = "container", **more: Any) -> Event | None:
    line = {"Type": kind, "Action": action, "Actor": {"ID": ID, "Attributes": {"image": "x"}}, "time": 1, **more}
    return read_event(json.dumps(line).encode())


@pytest.mark.parametrize("action", ["die", "stop", "destroy", "pause", "died", "remove"])
def test_a_container_that_ends_is_gone_by_the_words_of_docker_and_podman(action: str) -> None:
    assert told(action) == Event(ID, gone=True)


@pytest.mark.parametrize(
    "action", ["start", "unpause", "rename", "health_status: unhealthy", "health_status", "cleanup"]
)
def test_what_changes_a_container_makes_it_worth_a_look(action: str) -> None:
    assert told(action) == Event(ID, gone=False)


@pytest.mark.parametrize(
    "action", ["exec_start: sh -c true", "exec_die", "kill", "create", "attach", "resize", "top", ""]
)
def test_what_changes_nothing_says_nothing(action: str) -> None:
    assert told(action) is None


def test_a_network_tells_of_the_container_that_joins_or_leaves() -> None:
    actor = {"ID": "network", "Attributes": {"container": ID, "name": "llm"}}
    assert told("connect", "network", Actor=actor) == Event(ID, gone=False)
    assert told("disconnect", "network", Actor=actor) == Event(ID, gone=False)
    assert told("destroy", "network", Actor=actor) is None


def test_podman_names_the_container_as_who_acts() -> None:
    assert told("connect", "network", Actor={"ID": ID, "Attributes": {"name": "llm"}}) == Event(ID, gone=False)


def test_older_engines_name_the_container_at_the_top() -> None:
    assert read_event(json.dumps({"status": "die", "id": ID, "from": "x"}).encode()) == Event(ID, gone=True)


@pytest.mark.parametrize("line", [b'{"Type":"contai', b"", b"\xff", b"[" * 20_000])
def test_what_was_cut_is_an_error_that_can_be_named(line: bytes) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        read_event(line)


@settings(deadline=None, max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5) | st.sampled_from(["die", "start"]),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["Type", "Action", "Actor", "ID", "Attributes", "status", "id"]), inner)
        ),
        max_leaves=10,
    )
)
def test_any_json_is_read(event: object) -> None:
    found = read_event(json.dumps(event).encode())
    assert found is None or found.container
