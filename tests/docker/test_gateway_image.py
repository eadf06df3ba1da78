"""The image that the Dockerfile builds."""

import threading
from functools import partial

import httpx
from engine import SOCKET_GROUP, Engine, answer, wait_until
from images import FAKE_PORT, GATEWAY_PORT, Image

HARDENED = ("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
CHAT = {"model": "fake", "messages": [{"role": "user", "content": "Hello"}], "stream": True}


def serving(gateway: Image, fake: Image, *flags: str, options: tuple[str, ...] = HARDENED) -> tuple[str, str]:
    """A gateway in front of one fake: its container, and its address once it answers."""
    backend = gateway.engine.address(fake(*flags))
    container = gateway("serve", "--backend", f"fake=http://{backend}:{FAKE_PORT}", options=options)
    url = f"http://{gateway.engine.address(container)}:{GATEWAY_PORT}"
    wait_until(partial(answer, f"{url}/health/ready"))
    return container, url


def key(engine: Engine, container: str) -> dict[str, str]:
    """What gets past the door of a gateway that made its own key."""
    made = engine.docker("exec", container, "python", "-c", "print(open('/data/api_key').read())")
    return {"Authorization": f"Bearer {made}"}


def test_it_serves_as_nobody_on_a_filesystem_that_cannot_be_written(
    engine: Engine, gateway: Image, fake: Image
) -> None:
    container, url = serving(gateway, fake)
    assert httpx.post(f"{url}/v1/chat/completions", json=CHAT, trust_env=False).status_code == 401
    told = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=key(engine, container), trust_env=False)
    assert told.text.endswith("data: [DONE]\n\n")
    assert (
        engine.docker("exec", container, "python", "-c", "import os; print(os.getuid(), os.getgid())") == "10001 10001"
    )


def test_its_key_outlives_it_in_its_volume(engine: Engine, gateway: Image, fake: Image) -> None:
    options = (*HARDENED, "--volume", "kept:/data")
    first, _ = serving(gateway, fake, options=options)
    made = key(engine, first)
    engine.docker("rm", "--force", first)
    second, _ = serving(gateway, fake, options=options)
    assert key(engine, second) == made


def test_docker_stop_lets_a_stream_end_first(engine: Engine, gateway: Image, fake: Image) -> None:
    container, url = serving(gateway, fake, "--tokens", "30", "--token-interval", "0.05")
    stopping = threading.Thread(target=engine.docker, args=("stop", "--time", "30", container))
    asked = {"json": CHAT, "headers": key(engine, container), "timeout": 30}
    with httpx.Client(trust_env=False) as client, client.stream("POST", f"{url}/v1/chat/completions", **asked) as told:
        lines = told.iter_lines()
        assert next(lines).startswith("data: {")
        stopping.start()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    stopping.join()
    assert engine.inspect(container)["State"]["ExitCode"] == 0


def test_docker_sees_that_it_is_healthy(engine: Engine, gateway: Image, fake: Image) -> None:
    container, _ = serving(gateway, fake, options=("--health-interval", "100ms"))
    wait_until(lambda: engine.inspect(container)["State"]["Health"]["Status"] == "healthy")


def test_group_add_opens_the_socket_of_the_engine_to_it(engine: Engine, gateway: Image) -> None:
    look = "import socket; socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock'); print('open')"
    mount = ("--rm", "--entrypoint", "python", "--volume", f"{engine.socket}:/var/run/docker.sock:ro")
    run = ["run", *HARDENED, *mount, "--group-add", str(SOCKET_GROUP), gateway.name, "-c", look]
    assert engine.docker(*run) == "open"
    without = "import socket; print(socket.socket(socket.AF_UNIX).connect_ex('/var/run/docker.sock'))"
    assert engine.docker("run", *HARDENED, *mount, gateway.name, "-c", without) == "13"  # EACCES


def test_it_holds_neither_the_tests_nor_what_built_it(engine: Engine, gateway: Image) -> None:
    look = (
        "import os; print(*sorted(os.listdir('/data')), os.path.exists('/src'), os.path.exists('/opt/solar/bin/pip'))"
    )
    assert engine.docker("run", "--rm", "--entrypoint", "python", gateway.name, "-c", look) == "False False"


def test_where_there_is_no_compiler_it_is_built_interpreted_and_says_so(engine: Engine, gateway: Image) -> None:
    assert engine.docker("run", "--rm", gateway.name, "--version").endswith(" (interpreted)")
