from contextlib import suppress

import pytest
from any_json import values
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.wire.figures import Memory, State
from solar.wire.instances import Instance, Listing
from solar.wire.lines import Entry
from solar.wire.messages import HealthFrame, InstancesUpdate, LogFrame, Other, Registration, StateFrame
from solar.wire.reading import Unreadable
from solar.wire.socketevents import MAX_ENTRIES, greeting, read_event, registration_of


def entry(instance: str, seq: int) -> dict[str, object]:
    return {"instance_id": instance, "seq": seq, "line": f"line {seq}", "timestamp": "t"}


def test_a_registration_has_its_key_from_the_connect() -> None:
    told = {
        "host_name": "gpu1",
        "instances": [{"id": "one", "alias": "m", "status": "stopped", "port": None}],
        "roles": ["inference"],
        "gpu_type": "nvidia_cuda",
        "version": "3.8.3",
    }
    assert registration_of(told, "k") == Registration(
        "k", "gpu1", Listing((Instance("one", "m"),)), "3.8.3", "nvidia_cuda", ("inference",)
    )
    for key, data in ((None, told), ("", told), (7, told), ("k", None)):
        assert registration_of(data, key) is None


def test_an_agent_is_first_told_to_wait_and_then_taken_as_the_older_fork_registers_only_so() -> None:
    assert [name for name, _ in greeting("id", "gpu1")] == ["pending", "registration_ack"]
    assert greeting("id", "gpu1")[1][1] == {"host_id": "id", "host_name": "gpu1"}


def test_a_batch_of_lines_becomes_one_message_an_instance() -> None:
    batch = {"entries": [entry("a", 1), entry("b", 7), entry("a", 2), 7, {"instance_id": "c", "seq": "?"}]}
    assert read_event("log_batch", batch) == (
        LogFrame("a", (Entry(1, "t", "line 1"), Entry(2, "t", "line 2"))),
        LogFrame("b", (Entry(7, "t", "line 7"),)),
    )


def test_a_batch_of_states_is_one_message_an_entry() -> None:
    batch = {"timestamp": "t2", "entries": [{"instance_id": "a", "timestamp": "t", "data": {"busy": True}}]}
    batch["entries"] = [*batch["entries"], {"instance_id": "b"}]
    assert read_event("instance_state_batch", batch) == (
        StateFrame("a", "t", State(busy=True)),
        StateFrame("b", "t2", State()),
    )


def test_health_and_instances_are_the_channels() -> None:
    memory = {"used_gb": 1, "total_gb": 4, "percent": 25, "memory_type": "RAM", "available_gb": 3}
    health = {"memory": memory, "gpu_type": "cpu", "instance_count": 2, "running_instance_count": 1}
    assert read_event("host_health", {"timestamp": "t", "data": health}) == (
        HealthFrame("t", Memory(1, 4, 25, "RAM"), 2, 1),
    )
    told = {"timestamp": "t", "data": {"instances": [{"id": "one", "alias": "m"}]}}
    assert read_event("instances_update", told) == (InstancesUpdate("t", Listing((Instance("one", "m"),))),)
    assert read_event("job_log", {}) == (Other("job_log"),)


@pytest.mark.parametrize(
    "payload",
    [None, [], {}, {"entries": {}}, {"entries": [entry("", 1)]}, {"entries": [entry("a", 1)] * (MAX_ENTRIES + 1)}],
)
def test_what_is_no_batch_is_unreadable(payload: object) -> None:
    with pytest.raises(Unreadable):
        read_event("log_batch", payload)


EVENTS = ("log_batch", "instance_state_batch", "host_health", "instances_update", "other")


@given(st.sampled_from(EVENTS), values | values.map(lambda value: {"entries": [value, value], "data": value}))
@settings(deadline=None)
def test_an_event_may_hold_anything(name: str, payload: object) -> None:
    with suppress(Unreadable):
        read_event(name, payload)
    registration_of(payload, "k")
