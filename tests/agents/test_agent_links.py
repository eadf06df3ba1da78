"""Original agents that open a link to the coordinator, by Socket.IO, and what comes over it."""

import json

from agent_process import LONG
from scenes import MODEL, Scene
from websockets.sync.client import ClientConnection


def becomes(watching: ClientConnection, connected: bool) -> None:
    """Wait until a frame says of the one host whether its link stands."""
    while True:
        frame = json.loads(watching.recv(LONG))
        hosts = frame["data"] if isinstance(frame["data"], list) else [frame["data"]]
        if any(host.get("connected") is connected for host in hosts):
            return


def test_an_agent_links_to_the_coordinator_and_again_after_its_death(linked: Scene) -> None:
    solar, one = linked.solar, linked.one
    with solar.listening("/ws/status") as watching:
        becomes(watching, True)
        with solar.listening(f"/ws/logs?replay=0&host={one.host_id}&text=processing") as log:
            assert json.loads(log.recv(LONG))["type"] == "source"  # what comes from now on is new
            assert solar.chat(MODEL).status_code == 200
            assert json.loads(log.recv(LONG))["instance_id"] == one.instance_id
        one.agent.kill()
        becomes(watching, False)
        one.agent.start()
        becomes(watching, True)


def test_a_coordinator_that_was_killed_is_linked_to_again(linked: Scene) -> None:
    solar = linked.solar
    with solar.listening("/ws/status") as watching:
        becomes(watching, True)
    solar.kill()
    solar.start()
    with solar.listening("/ws/status") as watching:
        becomes(watching, True)
    assert solar.chat(MODEL).status_code == 200
