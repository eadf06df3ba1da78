"""The usual mistakes of Docker's networking: `solar discover` and `solar doctor` name each with its mend."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from engine import SOCKET_GROUP, Engine, wait_until
from images import Image

MEANT = ("--label", "solar.enable=true")
SOCKET = "/var/run/docker.sock"


def solar(engine: Engine, *arguments: str) -> Any:
    """What a command tells of this engine in JSON, asked on its machine."""
    command = [sys.executable, "-m", "solar", *arguments, "--json"]
    ran = subprocess.run(command, env=engine.environment, cwd=engine.folder, stdout=subprocess.PIPE, text=True)
    return json.loads(ran.stdout)


def seen(engine: Engine) -> dict[str, Any]:
    """The only thing that is seen."""
    (source,) = solar(engine, "discover", "docker")["sources"]
    (sighting,) = source["sightings"]
    return dict(sighting)


def told_inside(engine: Engine, gateway: Image, *options: str) -> dict[str, Any]:
    """The same, asked in a container that has the engine's socket."""
    mount = ("--volume", f"{engine.socket}:{SOCKET}:ro")
    container = gateway("discover", "--json", f"docker:unix://{SOCKET}", options=(*mount, *options))
    wait_until(partial(has_ended, engine, container))
    (source,) = json.loads(engine.docker("logs", container))["sources"]
    (sighting,) = source["sightings"]
    return dict(sighting)


def has_ended(engine: Engine, container: str) -> bool:
    return not engine.inspect(container)["State"]["Running"]


def is_running(engine: Engine, container: str) -> bool:
    """Whether its server has opened its port, which it does on one address or the other."""
    return "http://" in engine.docker("logs", container)


def test_one_that_listens_on_its_own_loopback_is_told_to_listen_everywhere(engine: Engine, fake: Image) -> None:
    container = fake("--host", "127.0.0.1", options=(*MEANT, "--publish", "127.0.0.1::8000"))
    wait_until(partial(is_running, engine, container))
    sighting = seen(engine)
    assert sighting["backend"] is None
    by_ip, published = (one["outcome"] for one in sighting["tried"])
    assert by_ip == "nothing listens there"
    assert "the connection was" in published
    assert "start it with --host 0.0.0.0" in sighting["advice"]


def test_the_doctor_says_it_too(engine: Engine, fake: Image) -> None:
    wait_until(partial(is_running, engine, fake("--host", "127.0.0.1", options=(*MEANT, "--name", "llm"))))
    told = solar(engine, "doctor", "--port", "0", "--discover", "docker")
    (found,) = (one for one in told["found"] if one["about"] == "docker llm")
    assert (told["well"], found["well"]) == (False, False)
    assert "start it with --host 0.0.0.0" in found["advice"]


def test_one_on_its_machines_network_is_not_told_to_leave_its_loopback(engine: Engine, fake: Image) -> None:
    fake("--port", "8123", options=(*MEANT, "--label", "solar.port=8124", "--network", "host"))
    sighting = seen(engine)
    assert "solar.port" in sighting["advice"]
    assert "127.0.0.1" not in sighting["advice"]


def test_from_another_network_the_gateway_is_told_which_to_join(engine: Engine, fake: Image, gateway: Image) -> None:
    for network in ("theirs", "ours"):
        engine.docker("network", "create", network)
    fake(options=(*MEANT, "--network", "theirs"))
    sighting = told_inside(engine, gateway, "--network", "ours", "--group-add", str(SOCKET_GROUP))
    assert sighting["backend"] is None
    assert "docker network connect theirs" in sighting["advice"]


def test_a_socket_that_may_not_be_opened_names_the_group(engine: Engine, fake: Image, gateway: Image) -> None:
    fake(options=MEANT)
    sighting = told_inside(engine, gateway)
    assert sighting["reason"] == f"this user may not open {SOCKET}"
    assert "group_add" in sighting["advice"]


def test_an_engine_that_is_down_is_to_be_started(engine: Engine, tmp_path: Path) -> None:
    engine.stop()
    sighting = seen(engine)
    assert sighting["reason"] in (f"there is no {engine.socket}", f"no Docker Engine listens on {engine.socket}")
    assert "systemctl start docker" in sighting["advice"]
