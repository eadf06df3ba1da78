"""`solar serve` as its owner uses it: hosts and instances over its API, models through the official client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
from agent_process import LONG, RealAgent, until
from gateway_process import Gateway
from websockets.sync.client import ClientConnection, connect

KEY = "key-of-the-gateway-3f1c"
Json = dict[str, Any]


class Coordinator:
    """One gateway that can be killed and started again in its place; it keeps all that it ever answered."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.answers: list[str] = []  # heads and bodies
        self.logs: list[str] = []  # of the gateways that have ended
        self.gateway: Gateway | None = None
        self._port = "0"
        self.http = httpx.Client()

    def start(self) -> None:
        """Returns when its management answers."""
        assert self.gateway is None, self
        self.gateway = Gateway(self._folder, "--port", self._port, "--api-key", KEY, "--log-level", "debug")
        self._port = f"{self.gateway.port}"
        self.http = httpx.Client(
            base_url=self.gateway.url,
            headers={"X-API-Key": KEY},
            timeout=LONG,
            trust_env=False,
            event_hooks={"response": [self._keep]},
        )
        until(
            lambda: self.http.get("/hosts").status_code == httpx.codes.OK, lambda: f"{self.answers[-1:]}\n{self.tail()}"
        )

    @property
    def url(self) -> str:
        assert self.gateway is not None, self
        return self.gateway.url

    def listening(self, path: str) -> ClientConnection:
        """A WebSocket of its own."""
        return connect(f"ws{self.url.removeprefix('http')}{path}", additional_headers={"X-API-Key": KEY}, proxy=None)

    def _keep(self, answer: httpx.Response) -> None:
        self.answers.append(f"{answer.headers}\n{answer.read().decode()}")

    def kill(self) -> None:
        """kill -9: nothing is written any more."""
        assert self.gateway is not None, self
        self.http.close()
        self.gateway.process.kill()
        self.gateway.ended()
        self.logs.append(self.gateway.said)
        assert self.gateway.process.stdout is not None
        self.gateway.process.stdout.close()
        self.gateway = None

    def close(self) -> None:
        if self.gateway is not None:
            self.kill()

    def tail(self) -> str:
        return "\n".join((*self.logs, self.gateway.said if self.gateway else ""))

    # --- hosts and instances

    def call(self, method: str, path: str, body: object = None) -> Any:
        """What it answers with a 200."""
        answer = self.http.request(method, path, json=body)
        assert answer.status_code == httpx.codes.OK, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def register(self, agent: RealAgent, name: str) -> str:
        """The host's id."""
        told = self.call("POST", "/hosts", {"name": name, "url": agent.url, "api_key": agent.key})
        assert told["host"]["status"] == "online", told
        return str(told["host"]["id"])

    def launch(self, host_id: str, agent: RealAgent, alias: str) -> str:
        """Create and start an instance; returns its id, once its model is loaded."""
        before = self.healthy()
        created: Json = self.call("POST", f"/hosts/{host_id}/instances", {"config": agent.config(alias)})["instance"]
        started = self.call("POST", f"/hosts/{host_id}/instances/{created['id']}/start")["instance"]
        assert (created["status"], started["status"]) == ("stopped", "running")
        until(lambda: self.healthy() > before, agent.tail)
        return str(created["id"])

    def status(self, host_id: str) -> str:
        return str(self.call("GET", f"/hosts/{host_id}")["status"])

    def healthy(self) -> int:
        """How many backends pass their probes."""
        return int(self.call("GET", "/health")["backends_healthy"])

    # --- models

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=KEY, max_retries=0, timeout=LONG)

    def chat(self, model: str, **fields: Any) -> httpx.Response:
        """One raw request, whatever its outcome."""
        return self.http.post("/v1/chat/completions", json=chat(model, **fields))


def chat(model: str, text: str = "Say hello.", **fields: Any) -> Json:
    """The body of a chat request, repeatable."""
    told = {"role": "user", "content": text}
    return {"model": model, "messages": [told], "temperature": 0, "seed": 1, "max_tokens": 8, **fields}
