"""What instances of original agents write into their logs, read over WebSockets while it happens."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from agent_process import LONG, until
from scenes import MODEL, Scene
from websockets.sync.client import ClientConnection

BEGUN = "processing task"  # llama-server, when a request gets its slot


def frames(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    """What comes, for as long as something does."""
    while True:
        yield json.loads(socket.recv(LONG))


def lines(socket: ClientConnection) -> Iterator[dict[str, Any]]:
    return (frame for frame in frames(socket) if frame["type"] == "log")


def test_a_log_is_followed_while_tokens_flow(shared: Scene) -> None:
    solar, one = shared.solar, shared.one
    path = f"/ws/logs/{one.host_id}/{one.instance_id}"
    held = len(solar.call("GET", f"{one.path}/logs"))
    with solar.listening(path) as socket, solar.openai() as client:
        told = frames(socket)
        before = [next(told) for _ in range(held)]
        stream = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Count."}],
            max_tokens=1000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        assert next(stream).choices
        line = next(line for line in told if BEGUN in line["line"])
        assert next(stream).choices[0].finish_reason is None  # it is still at work
        stream.close()
    numbers = [frame["seq"] for frame in before] + [line["seq"]]
    assert numbers == sorted(set(numbers))  # none twice


def test_a_log_goes_on_after_its_agent_was_killed_and_started_again(own: Scene) -> None:
    solar, one = own.solar, own.one
    with solar.listening(f"/ws/logs?host={one.host_id}&text=task") as socket:
        assert solar.chat(MODEL).status_code == 200
        told = lines(socket)
        first = next(line for line in told if BEGUN in line["data"]["line"])
        one.agent.kill()
        until(lambda: solar.status(one.host_id) == "offline")
        one.agent.start()
        until(lambda: solar.status(one.host_id) == "online", one.agent.tail)
        until(lambda: solar.chat(MODEL).status_code == 200, one.agent.tail)
        again = next(line for line in told if BEGUN in line["data"]["line"])
        assert again["data"]["epoch"] > first["data"]["epoch"]
        assert (again["host_id"], again["instance_id"], again["alias"]) == (one.host_id, one.instance_id, MODEL)


@pytest.mark.newer_python
def test_the_logs_of_all_hosts_come_in_one_place(both: Scene) -> None:
    with both.solar.listening("/ws/logs?replay=0") as socket:
        sources = (frame["instance_id"] for frame in frames(socket) if frame["type"] == "source" and frame["live"])
        unheard = {served.instance_id for served in both.served}
        while unheard:
            unheard.discard(next(sources))
        for _ in range(2):
            assert both.solar.chat(MODEL).status_code == 200
        told = (line["host_name"] for line in lines(socket) if BEGUN in line["data"]["line"])
        assert {next(told), next(told)} == {served.agent.release.version for served in both.served}
