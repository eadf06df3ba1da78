"""docker-compose.yml as it stands, in a folder of root's and in one of an ordinary user's."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine import SOCKET_GROUP, Engine, answer, free_port, wait_until
from images import Image

FILE = Path(__file__).parents[2] / "docker-compose.yml"
NOBODY = 10001
WHO = "print(*[line.split()[1:] for line in open('/proc/1/status') if line[:3] in ('Uid', 'Gid', 'Cap')], sep='\\n')"


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with the file and an empty data/, and the user whose they are."""

    engine: Engine
    folder: Path
    user: int
    port: int

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def compose(self, *arguments: str) -> str:
        """`docker-compose ARGUMENTS`, as that user."""
        ours = {name: value for name, value in self.engine.environment.items() if name not in ("API_KEY", "PORT")}
        ran = subprocess.run(
            ["docker-compose", *arguments],
            cwd=self.folder,
            env={**ours, "HOME": str(self.folder)},
            user=self.user,
            group=self.user,
            extra_groups=[SOCKET_GROUP],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.strip()

    @contextmanager
    def up(self, key: str | None = None) -> Iterator[httpx.Client]:
        """A client with that key, or with the one that it makes, once its management answers."""
        self.compose("up", "--detach", "--no-build")
        url = f"http://127.0.0.1:{self.port}"
        wait_until(partial(answer, f"{url}/health"), lambda: self.compose("logs"))
        key = key or (self.data / "api_key").read_text().strip()
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, trust_env=False, timeout=60) as client:
            wait_until(lambda: client.get("/hosts").status_code == httpx.codes.OK, lambda: self.compose("logs"))
            yield client


@pytest.fixture(params=[0, 1000], ids=["root", "user"])
def project(engine: Engine, gateway: Image, request: pytest.FixtureRequest) -> Iterator[Project]:
    if shutil.which("docker-compose") is None:
        pytest.skip("no docker-compose here: scripts/test --all installs it on Debian and Ubuntu")
    folder = Path(tempfile.mkdtemp(prefix="solar-compose-"))
    shutil.copy(FILE, folder)
    made = Project(engine, folder, request.param, free_port())
    made.data.mkdir()
    (folder / ".env").write_text(f"PORT={made.port}\n")
    for path in (folder, made.data):
        os.chown(path, made.user, made.user)
    yield made
    shutil.rmtree(folder)


def hosts(client: httpx.Client) -> list[dict[str, Any]]:
    return [{name: host[name] for name in ("id", "name", "url")} for host in client.get("/hosts").json()]


def test_what_it_keeps_outlives_it(project: Project) -> None:
    with project.up() as client:
        new = {"name": "gpu", "url": "http://host.docker.internal:1", "api_key": "k"}
        assert client.post("/hosts?unreachable=true", json=new).status_code == 200
        before = hosts(client)
    project.compose("down")
    with project.up() as client:
        assert hosts(client) == before
        assert before[0]["url"] == new["url"]


def test_it_is_the_owner_of_its_data_and_never_root(project: Project) -> None:
    left = project.data / "hosts.json"
    left.write_text('{"hosts": []}')  # an original's container was root
    os.chown(left, 0, 0)
    owner = project.user or NOBODY
    with project.up():
        assert {path.stat().st_uid for path in (project.data, *project.data.iterdir())} == {owner}
        ran = project.engine.docker("exec", "solar-control", "python", "-c", WHO).splitlines()
    assert ran[:2] == [f"{[str(owner)] * 4}"] * 2
    assert set(ran[2:4]) == {"['0000000000000000']"}  # inherited, permitted
    assert project.engine.inspect("solar-control")["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_its_key_and_port_may_stand_in_the_environment_file(project: Project) -> None:
    with (project.folder / ".env").open("a") as environment:
        environment.write("API_KEY=of-my-own\n")
    with project.up("of-my-own"):
        assert not (project.data / "api_key").exists()
        health = project.engine.inspect("solar-control")["Config"]["Healthcheck"]["Test"]
        assert project.engine.docker("exec", "solar-control", *health[1:]) == ""  # it asks at that port
