"""examples/compose.yaml as it stands: a gateway that is nobody finds two real model servers by the engine's socket."""

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
import images
import pytest
from engine import SOCKET_GROUP, Engine, answer, free_port, wait_until
from images import Image

FILE = Path(__file__).parents[2] / "examples/compose.yaml"
KEY = "print(open('/data/api_key').read())"


@pytest.fixture
def compose(engine: Engine) -> Callable[..., str]:
    """`docker-compose` with the example."""
    if shutil.which("docker-compose") is None:
        pytest.skip("no docker-compose here: scripts/test --all installs it on Debian and Ubuntu")
    said = {
        "DOCKER_GID": str(SOCKET_GROUP),
        "DOCKER_SOCKET": str(engine.socket),
        "SOLAR_PORT": str(free_port()),
        "MODELS": str(images.model().parent),
        "MODEL": images.model().name,
    }

    def run(*arguments: str) -> str:
        command = ["docker-compose", "--file", str(FILE), "--project-name", "ours", *arguments]
        ran = subprocess.run(command, env={**engine.environment, **said}, capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    return run


def test_the_compose_example_serves_the_models_of_both_engines(
    engine: Engine, compose: Callable[..., str], gateway: Image, llama: Image
) -> None:
    compose("up", "--detach", "--no-build")
    url = f"http://{compose('port', 'gateway', str(gateway.port))}"
    wait_until(partial(answer, f"{url}/health/ready"), lambda: compose("logs", "gateway"))
    key = engine.docker("exec", compose("ps", "--quiet", "gateway"), "python", "-c", KEY)
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=60) as client:
        wait_until(lambda: {model["id"] for model in client.get("/v1/models").json()["data"]} == {"small", "large"})
        for model in ("small", "large"):
            asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
            told = client.post("/v1/chat/completions", json=asked)
            assert (told.json()["model"], told.json()["usage"]["completion_tokens"]) == (model, 4)
            assert told.headers["x-solar-backend"]
