import json
from contextlib import suppress

import msgspec
import pytest
from any_json import bodies
from hypothesis import given, settings

from solar.wire import watching
from solar.wire.reading import Unreadable
from solar.wire.watching import (
    Filter,
    FilterStatus,
    GatewayRequest,
    HostSeen,
    HostStatus,
    InitialStatus,
    KeepaliveFrame,
    RequestError,
    RequestReroute,
    RequestRouted,
    RequestStart,
    RequestSuccess,
    RoutingEvent,
    read_filter,
    routing_frame,
)


def told(frame: object) -> object:
    return json.loads(msgspec.json.encode(frame))


SEEN = HostSeen(host_id="1", name="a", status="online", url="http://a:8001")


def test_the_first_frame_lists_the_hosts_and_later_ones_tell_of_one() -> None:
    host = {"host_id": "1", "name": "a", "status": "online", "url": "http://a:8001", "last_seen": None}
    host |= {"memory": None, "connected": False, "timestamp": None}
    assert told(InitialStatus((SEEN,))) == {"type": "initial_status", "data": [host]}
    assert told(HostStatus(SEEN)) == {"type": "host_status", "data": host}
    assert told(KeepaliveFrame()) == {"type": "keepalive"}
    assert told(FilterStatus(Filter())) == {
        "type": "filter_status",
        "filter": {"status": "all", "request_type": "all", "model": None, "host_id": None},
    }


START = RequestStart(request_id="r", model="m", endpoint="/v1/chat/completions", client_ip="::1", timestamp="t")
ROUTED = RequestRouted(
    request_id="r",
    model="m",
    resolved_model="m:8b",
    host_id="1",
    host_name="a",
    instance_id="i",
    instance_url="http://a:3500",
    client_ip=None,
    timestamp="t",
)
REROUTE = RequestReroute(
    request_id="r", model="m", host_id="1", instance_id="i", reason="connect_error", attempt=1, timestamp="t"
)
SUCCESS = RequestSuccess(request_id="r", model="m", host_id="1", instance_id="i", duration=1.5, timestamp="t")
ERROR = RequestError(request_id="r", model="m", error_message="no", timestamp="t")
REQUEST = GatewayRequest(
    request_id="r",
    request_type="chat",
    status="missed",
    model="m",
    resolved_model=None,
    endpoint="/v1/chat/completions",
    client_ip=None,
    stream=False,
    attempts=1,
    start_timestamp="t",
    end_timestamp="t",
    duration_s=0.1,
)


@pytest.mark.parametrize(
    ("event", "kind", "fields"),
    [
        (START, "request_start", {"request_id", "model", "endpoint", "client_ip", "timestamp"}),
        (ERROR, "request_error", {"request_id", "model", "error_message", "timestamp"}),
        (
            REROUTE,
            "request_reroute",
            {"request_id", "model", "host_id", "instance_id", "reason", "attempt", "timestamp"},
        ),
        (ROUTED, "request_routed", set(ROUTED.__struct_fields__) - {"candidates"}),
        (SUCCESS, "request_success", set(SUCCESS.__struct_fields__)),
        (REQUEST, "gateway_request", set(REQUEST.__struct_fields__)),
    ],
)
def test_a_routing_event_is_a_frame_with_its_type(event: RoutingEvent, kind: str, fields: set[str]) -> None:
    frame = json.loads(routing_frame(event))
    assert frame["type"] == kind
    assert set(frame["data"]) == fields


def test_a_stream_says_so_at_its_start() -> None:
    assert json.loads(routing_frame(msgspec.structs.replace(START, stream=True)))["data"]["stream"] is True


def test_a_filter_is_read_and_holds_for_requests() -> None:
    wanted = read_filter('{"type": "set_filter", "filter": {"status": "error", "model": "m", "host_id": 7}}')
    assert wanted == Filter(status="error", model="m")
    assert wanted.admits(status="error", request_type="chat", model="m", host_id="1")
    assert not wanted.admits(status="success", request_type="chat", model="m", host_id="1")
    assert not wanted.admits(status="error", request_type="chat", model="n", host_id="1")
    assert Filter().admits(status="missed", request_type="rerank", model=None, host_id=None)
    assert not Filter(request_type="chat", host_id="1").admits(
        status="error", request_type="chat", model=None, host_id="2"
    )


@pytest.mark.parametrize("frame", ["", "7", "{}", '{"type": "other"}', " " * (watching.MAX_FRAME + 1)])
def test_what_sets_no_filter_is_unreadable(frame: str) -> None:
    with pytest.raises(Unreadable):
        read_filter(frame)


@given(bodies)
@settings(deadline=None)
def test_any_bytes_are_a_filter_or_unreadable(frame: bytes) -> None:
    with suppress(Unreadable):
        assert isinstance(read_filter(frame), Filter)
