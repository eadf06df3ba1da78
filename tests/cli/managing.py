"""Commands against a gateway that runs, in this process; hosts that they can register."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from click.testing import CliRunner, Result
from gateway_process import Gateway

from solar.cli.group import solar
from solar.testing import FakeAgent

AGENT_KEY = "the-agents-secret-key"
GATEWAY_KEY = "sk-the-gateways-key"


class Commands:
    """Runs `solar ...` for one gateway."""

    def __init__(self, gateway: Gateway, **env: str) -> None:
        self.url = gateway.url
        self._env: Mapping[str, str] = {"SOLAR_URL": gateway.url, "SOLAR_API_KEY": GATEWAY_KEY, **env}

    async def run(self, *arguments: str, given: str | None = None) -> Result:
        """The command's end; the loop goes on meanwhile, and with it the fakes."""
        runner = CliRunner()
        return await asyncio.to_thread(runner.invoke, solar, arguments, given, self._env, prog_name="solar")

    async def said(self, *arguments: str, given: str | None = None) -> str:
        """What a command prints that does well."""
        result = await self.run(*arguments, given=given)
        assert result.exit_code == 0, result.output
        return result.stdout

    async def json(self, *arguments: str, given: str | None = None) -> Any:
        """The one JSON object that a command prints which does well."""
        return json.loads(await self.said(*arguments, "--json", given=given))

    async def register(self, agent: FakeAgent, name: str = "studio", *flags: str) -> str:
        """The id of the host that `agent` is now."""
        told = await self.json("hosts", "add", name, agent.url, "--key", agent.api_key, *flags)
        host_id: str = told["host"]["id"]
        return host_id
