import json
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import click
import pytest
from gateway_process import Gateway
from managing import AGENT_KEY, GATEWAY_KEY, Commands

from solar.cli.logs import clock, moment
from solar.testing import FakeAgent

Start = Callable[..., Gateway]


@pytest.fixture
def solar(gateway: Start) -> Commands:
    return Commands(gateway("--port", "0", env={"SOLAR_API_KEY": GATEWAY_KEY}))


@pytest.fixture
async def studio(solar: Commands) -> AsyncIterator[FakeAgent]:
    async with FakeAgent("v1", api_key=AGENT_KEY) as agent:
        await agent.add("llama:8b")
        await solar.register(agent)
        yield agent


def only(agent: FakeAgent) -> str:
    (instance,) = agent.instances
    return instance


async def test_what_is_held_is_shown_with_its_place_and_then_the_command_ends(
    solar: Commands, studio: FakeAgent
) -> None:
    studio.write(studio.instances[only(studio)], "hello", "[ERROR] it failed")
    shown = await solar.said("logs", "--alias", "llama:8b")
    assert "studio/llama:8b hello\n" in shown
    assert shown.endswith("studio/llama:8b [ERROR] it failed\n")
    assert (await solar.said("instances", "logs", "llama:8b")) == shown
    assert (await solar.said("logs", "--host", "studio", "-n", "1")).splitlines() == shown.splitlines()[-1:]


async def test_only_lines_that_are_asked_for_are_shown(solar: Commands, studio: FakeAgent) -> None:
    studio.write(studio.instances[only(studio)], "hello", "[ERROR] it failed")
    assert (await solar.said("logs", "--instance", only(studio)[:8], "--level", "error")).count("\n") == 1
    assert (await solar.said("logs", "--alias", "llama:8b", "--grep", "HELLO")).endswith("llama:8b hello\n")
    nobody = await solar.run("logs", "--host", "studo")
    assert (nobody.exit_code, nobody.stdout) == (0, "")
    assert nobody.stderr == "no host is called 'studo'; did you mean 'studio'?\n"


async def test_as_json_each_frame_is_a_line(solar: Commands, studio: FakeAgent) -> None:
    studio.write(studio.instances[only(studio)], "hello")
    frames = [json.loads(line) for line in (await solar.said("logs", "--alias", "llama:8b", "--json")).splitlines()]
    assert frames[0]["type"] == "source"
    assert (frames[-1]["data"]["line"], frames[-1]["host_name"]) == ("hello", "studio")


async def test_following_goes_on_until_it_is_interrupted_and_over_a_restart_of_the_agent(
    solar: Commands, studio: FakeAgent
) -> None:
    following = solar.begin("logs", "-f", "--alias", "llama:8b")
    await following.says("loading model", out=True)
    studio.write(studio.instances[only(studio)], "live")
    assert (await following.says("live", out=True)).endswith("studio/llama:8b live\n")
    await studio.die()
    await following.says("studio/llama:8b cannot be followed now: ")
    await studio.revive()
    await following.says("studio/llama:8b is followed again")
    studio.write(studio.instances[only(studio)], "after")
    await following.says("llama:8b after", out=True)
    following.interrupt()
    assert (await following.ended())[0] == 0


async def test_following_goes_on_with_a_gateway_that_is_started_anew(gateway: Start) -> None:
    one = gateway("--port", "0", env={"SOLAR_API_KEY": GATEWAY_KEY})
    solar = Commands(one)
    async with FakeAgent("v1", api_key=AGENT_KEY) as agent:
        instance = await agent.add("llama:8b")
        await solar.register(agent)
        following = solar.begin("logs", "-f", "--alias", "llama:8b")
        await following.says("listening on", out=True)
        one.stop(signal.SIGKILL)
        await following.says(f"{one.url} went away; it is asked again")
        gateway("--port", str(one.port), env={"SOLAR_API_KEY": GATEWAY_KEY})
        agent.write(instance, "meanwhile")
        assert (await following.says("llama:8b", out=True)).endswith("meanwhile\n")
        following.interrupt()
        assert (await following.ended())[0] == 0


async def test_orders_to_a_terminal_in_a_line_are_not_passed_on(solar: Commands, studio: FakeAgent) -> None:
    studio.write(studio.instances[only(studio)], "\x1b[31mred\x1b[0m\x07 \x1b]0;owned\x07end")
    shown = await solar.said("logs", "--alias", "llama:8b", "-n", "1")
    assert shown.endswith("studio/llama:8b red end\n")


async def test_a_wrong_key_is_said_by_the_socket_too(solar: Commands) -> None:
    result = await solar.run("logs", "--api-key", "sk-wrong")
    assert (result.exit_code, "refuses the key from --api-key" in result.stderr) == (1, True)


def test_a_time_may_be_said_by_how_long_ago_it_was() -> None:
    told = datetime.fromisoformat(moment("10m"))
    assert timedelta(minutes=9) < datetime.now(UTC) - told < timedelta(minutes=11)
    assert moment("2026-11-22T04:05:06+01:00") == "2026-11-22T03:05:06Z"
    with pytest.raises(click.UsageError, match="write 10m"):
        moment("yesterday")


def test_a_line_has_its_time_in_this_zone_and_its_date_where_that_is_another() -> None:
    now = datetime.now().astimezone()
    assert clock(now.isoformat()) == now.strftime("%H:%M:%S")
    assert clock("2020-01-01T00:00:00").startswith("2020-01-01 ")
    assert clock("whenever it was") == "whenever"
