import asyncio
import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from gateway_process import Gateway
from managing import AGENT_KEY, GATEWAY_KEY, Commands

from solar.cli.group import solar
from solar.testing import FakeAgent

Start = Callable[..., Gateway]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, given: str | bytes | None = None) -> Result:
    return CliRunner().invoke(solar, arguments, given, {"SOLAR_DATA_DIR": None}, prog_name="solar")


async def test_what_a_gateway_keeps_is_exported_while_it_runs_and_another_takes_it_over(
    gateway: Start, here: Path
) -> None:
    commands = Commands(gateway("--port", "0", env={"SOLAR_API_KEY": GATEWAY_KEY}))
    async with FakeAgent(api_key=AGENT_KEY) as agent:
        await commands.register(agent)
    assert (await commands.run("export", "all.jsonl")).exit_code == 0
    assert stat.S_IMODE((here / "all.jsonl").stat().st_mode) == 0o600
    assert AGENT_KEY not in (here / "all.jsonl").read_text()
    with_keys = await commands.said("export", "-", "--keys")
    assert AGENT_KEY in with_keys
    first, host, *_, last = map(json.loads, with_keys.splitlines())
    assert (first["solar_export"], host["host"]["name"], last["end"]["hosts"]) == (1, "studio", 1)
    taken = await commands.run("import", "-", "--data-dir", "other", given=with_keys)
    assert taken.stdout == "New: 1 hosts, 0 requests.\n"
    assert "started anew" in taken.stderr
    again = await commands.json("import", "all.jsonl", "--data-dir", "other")
    assert again == {"hosts": 0, "requests": 0}


@pytest.mark.usefixtures("here")
def test_where_nothing_is_kept_nothing_is_made() -> None:
    result = run("export", "-")
    assert (result.exit_code, "there is nothing to export" in result.stderr) == (1, True)
    assert not Path("data").exists()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("given", ["", "{}", '{"solar_export": 1}\n', "no JSON"])
def test_what_is_no_whole_export_is_refused(given: str) -> None:
    result = run("import", "-", given=given)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("here")
def test_a_file_that_is_not_there_is_one_sentence() -> None:
    result = run("import", "absent.jsonl")
    assert (result.exit_code, result.stderr) == (1, "Error: absent.jsonl: no such file or directory\n")
    assert not Path("data").exists()


async def test_a_gateway_that_runs_here_asks_imported_hosts_at_once(gateway: Start, here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (here / "solar.toml").write_text(f'[server]\nport = {port}\napi_keys = ["{GATEWAY_KEY}"]\n')
    async with FakeAgent(api_key=AGENT_KEY) as agent:
        commands = Commands(await asyncio.to_thread(gateway))
        host = {"id": "h", "name": "studio", "url": agent.url, "api_key": AGENT_KEY, "created_ms": 1, "settings": {}}
        parts = [{"solar_export": 1, "at": "now"}, {"host": host}, {"end": {"hosts": 1, "requests": 0}}]
        export = "".join(f"{json.dumps(part)}\n" for part in parts)
        result = await commands.run("import", "-", given=export)
        assert (result.exit_code, result.stderr) == (0, f"The gateway at {commands.url} has read its hosts again.\n")
        assert (await commands.json("hosts", "show", "studio"))["host"]["status"] == "online"
