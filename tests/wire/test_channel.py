import json
from contextlib import suppress

import pytest
from any_json import bodies, values
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.wire import channel
from solar.wire.channel import NotRegistered, read_answer, read_frame, read_registration, write
from solar.wire.figures import Memory, State
from solar.wire.instances import Instance, Listing
from solar.wire.lines import Entry
from solar.wire.messages import (
    Ack,
    FromAgent,
    FromCoordinator,
    HealthFrame,
    InstancesUpdate,
    Keepalive,
    LogFrame,
    Other,
    Ping,
    Pong,
    Refusal,
    Registration,
    StateFrame,
)
from solar.wire.reading import Unreadable

NOW = "2025-12-17T10:00:00+00:00"
ONE = Instance("one", "llama:8b", "running", 3500)
LISTING = Listing((ONE,))


def frame(**fields: object) -> str:
    return json.dumps(fields)


def test_a_registration_of_a_v2_agent_is_read() -> None:
    flat = {"id": "one", "alias": "llama:8b", "status": "running", "port": 3500, "backend_type": "llamacpp"}
    data = {"api_key": "k", "host_name": "gpu1", "instances": [flat | {"supported_endpoints": []}], "host_id": "old"}
    found = read_registration(frame(type="registration", data=data, timestamp=NOW))
    assert found == Registration("k", "gpu1", LISTING, at=NOW)
    assert "k'" not in repr(found)


@pytest.mark.parametrize(
    ("told", "refusal"),
    [
        ("{", channel.NO_JSON),
        ("[]", channel.NOT_FIRST),
        (frame(type="log"), channel.NOT_FIRST),
        (frame(type="registration"), channel.INVALID),
        (frame(type="registration", data={"host_name": "gpu1"}), channel.INVALID),
        (frame(type="registration", data={"api_key": ""}), channel.INVALID),
        (frame(type="registration", data={"api_key": 7}), channel.INVALID),
        (" " * (channel.MAX_FRAME + 1), channel.INVALID),
    ],
)
def test_what_is_no_registration_is_refused_in_the_words_of_the_wire(told: str, refusal: str) -> None:
    with pytest.raises(NotRegistered) as refused:
        read_registration(told)
    assert refused.value.message == refusal
    assert read_answer(write(Refusal(refusal))) == Refusal(refusal)


MESSAGES: list[FromAgent] = [
    LogFrame("one", (Entry(7, NOW, "error: no"),)),
    LogFrame("one", (Entry(7, NOW, "a"), Entry(8, NOW, "b"))),
    StateFrame("one", NOW, State(True, "generating", active_slots=1, decode_tps=20.5)),
    HealthFrame(NOW, Memory(1.0, 4.0, 25.0, "VRAM"), 3, 1),
    HealthFrame(NOW, None),
    InstancesUpdate(NOW, LISTING),
    Ping(),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_an_agent_writes_its_coordinator_reads(message: FromAgent) -> None:
    assert read_frame(write(message)) == (message,)


@pytest.mark.parametrize("message", [Ack("id", "gpu1", NOW), Refusal("no"), Keepalive(), Pong()])
def test_what_a_coordinator_writes_its_agent_reads(message: FromCoordinator) -> None:
    assert read_answer(write(message)) == message


def test_a_registration_is_read_as_it_was_written() -> None:
    registration = Registration("k", "gpu1", LISTING, at=NOW)
    assert read_registration(write(registration, NOW)) == registration
    assert json.loads(write(registration, NOW))["timestamp"] == NOW


def test_frames_have_the_fields_that_originals_read() -> None:
    assert json.loads(write(LogFrame("one", (Entry(7, NOW, "error: no"),)))) == {
        "type": "log",
        "instance_id": "one",
        "timestamp": NOW,
        "data": {"seq": 7, "line": "error: no", "level": "error"},
    }
    assert json.loads(write(Ack("id", "gpu1", NOW))) == {
        "type": "registration_ack",
        "host_id": "id",
        "host_name": "gpu1",
        "timestamp": NOW,
    }
    assert write(Ping()) == "ping"
    assert write(Pong()) == "pong"


@pytest.mark.parametrize(
    "told",
    [
        "",
        "[]",
        "{}",
        frame(type=7),
        frame(type="log", data={"seq": 1, "line": "x"}),
        frame(type="log", instance_id="one", data={"seq": 1}),
        frame(type="instance_state", data={}),
        frame(type="log_batch", entries="all"),
        " " * (channel.MAX_FRAME + 1),
    ],
)
def test_what_is_no_frame_is_unreadable(told: str) -> None:
    with pytest.raises(Unreadable):
        read_frame(told)


def test_what_a_newer_agent_or_coordinator_adds_is_left_alone() -> None:
    assert read_frame(frame(type="weather", data={"x": 1})) == (Other("weather"),)
    assert read_answer(frame(type="weather")) == Other("weather")
    assert read_frame(frame(type="host_health", timestamp=NOW, data={"memory": [], "extra": 1})) == (
        HealthFrame(NOW, None),
    )
    assert read_frame(b"ping") == (Ping(),)
    assert read_answer(b"pong") == Pong()
    with pytest.raises(Unreadable):
        read_answer("{}")


def test_what_is_not_known_is_not_written() -> None:
    with pytest.raises(ValueError, match="no message"):
        write(Other("weather"))


@given(bodies | bodies.map(lambda body: b'{"type": "log", "data": ' + body + b"}"))
@settings(deadline=None)
def test_any_bytes_are_a_frame_or_unreadable(body: bytes) -> None:
    for read in (read_frame, read_registration, read_answer):
        with suppress(Unreadable):
            read(body)


KINDS = ("registration", "log", "instance_state", "host_health", "instances_update", "log_batch", "registration_ack")


@given(st.sampled_from(KINDS), values, values)
@settings(deadline=None)
def test_a_frame_of_each_kind_may_hold_anything(kind: str, data: object, instance: object) -> None:
    told = frame(type=kind, instance_id=instance, data=data, entries=data, timestamp=instance)
    for read in (read_frame, read_registration, read_answer):
        with suppress(Unreadable):
            read(told)
