"""Commands against a gateway that runs, in this process; hosts that they can register."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from click.testing import CliRunner, Result
from gateway_process import WITHIN, Gateway, clean_environment

from solar.cli.group import solar
from solar.testing import FakeAgent

AGENT_KEY = "the-agents-secret-key"
GATEWAY_KEY = "sk-the-gateways-key"


class Begun:
    """A command as a process: what it says, as it says it."""

    all: ClassVar[list["Begun"]] = []  # for whoever ends what a test left behind

    def __init__(self, arguments: Sequence[str], env: Mapping[str, str]) -> None:
        self.all.append(self)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "solar", *arguments],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def over(self) -> bool:
        return self._process.poll() is not None

    async def says(self, words: str, *, out: bool = False) -> str:
        """Wait for a line that holds `words`, on standard error or with `out` on standard output."""
        stream = self._process.stdout if out else self._process.stderr
        assert stream is not None
        try:
            async with asyncio.timeout(WITHIN):
                while words not in (line := await asyncio.to_thread(stream.readline)):
                    assert line, f"it ended without {words!r}"
        except TimeoutError:
            self._process.kill()  # or who reads it would hold up the end of the loop
            raise
        return line

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> None:
        """Whatever it does."""
        self._process.kill()
        self._process.wait(WITHIN)
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    async def ended(self) -> tuple[int, str]:
        """Its exit status, and what it printed since it was last asked."""
        async with asyncio.timeout(WITHIN):
            out, _ = await asyncio.to_thread(self._process.communicate)
        return self._process.returncode, out


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

    def forget_hosts(self) -> None:
        """All of them."""
        runner = CliRunner(env=self._env)
        for host in json.loads(runner.invoke(solar, ["hosts", "list", "--json"]).stdout)["hosts"]:
            runner.invoke(solar, ["hosts", "rm", host["id"], "--yes"], catch_exceptions=False)

    def begin(self, *arguments: str) -> Begun:
        """A command in a process of its own, whose end is not waited for."""
        return Begun(arguments, self.env)

    @property
    def env(self) -> dict[str, str]:
        """The environment of a command in a process of its own."""
        return {**clean_environment(), **self._env}

    async def register(self, agent: FakeAgent, name: str = "studio", *flags: str) -> str:
        """The id of the host that `agent` is now."""
        told = await self.json("hosts", "add", name, agent.url, "--key", agent.api_key, *flags)
        host_id: str = told["host"]["id"]
        return host_id
