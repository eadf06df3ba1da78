"""A gateway and original agents, and one model on each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from agent_process import RealAgent, Release
from coordinator import Coordinator
from llama_server import find_engine

MODEL = "smollm2:135m"
OLD, NEW = Release("0.1.3"), Release("3.8.3")


@dataclass(frozen=True, slots=True)
class Served:
    """One agent as the gateway knows it, and its instance, which answers."""

    agent: RealAgent
    host_id: str
    instance_id: str

    @property
    def path(self) -> str:
        return f"/hosts/{self.host_id}/instances/{self.instance_id}"


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that runs."""

    solar: Coordinator
    served: tuple[Served, ...]

    @property
    def one(self) -> Served:
        (served,) = self.served
        return served

    def tails(self) -> list[tuple[str, str]]:
        """The last words of all."""
        agents = [(f"{served.agent!r}", served.agent.tail()) for served in self.served]
        return [("the gateway", self.solar.tail()), *agents]


@contextmanager
def scene(folder: Path, *releases: Release, linked: bool = False) -> Iterator[Scene]:
    """Agents of these releases, registered with a gateway, and `linked` to it or not. No key of theirs may be told."""
    for release in releases:
        if why := release.why_not():
            pytest.skip(why)
    engine = find_engine()
    if engine is None:
        pytest.skip("no llama-server and model here: scripts/test --all brings both")
    with ExitStack() as running:
        solar = Coordinator(folder / "solar")
        running.callback(solar.close)
        solar.start()
        agents = []
        for number, release in enumerate(releases):
            agents.append(RealAgent(release, folder / f"agent-{number}", engine, solar.url if linked else ""))
            running.callback(agents[-1].close)
            agents[-1].start()
        served = []
        for agent in agents:
            agent.ready()
            host_id = solar.register(agent, agent.release.version)
            served.append(Served(agent, host_id, solar.launch(host_id, agent, MODEL)))
        yield Scene(solar, tuple(served))
        solar.close()
        for agent in agents:
            assert agent.key not in "\n".join((*solar.answers, *solar.logs))
