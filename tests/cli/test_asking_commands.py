"""models, route, status, chat."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from gateway_process import Gateway
from managing import AGENT_KEY, GATEWAY_KEY, Commands

from solar.testing import FakeAgent, FakeBackend, faults

Start = Callable[..., Gateway]


@pytest.fixture
async def engine() -> AsyncIterator[FakeBackend]:
    async with FakeBackend(["gpt-oss:20b"], tokens=3) as fake:
        yield fake


@pytest.fixture
async def solar(gateway: Start, engine: FakeBackend) -> Commands:
    flags = ("--port", "0", "--health-check-interval", "0.1", "--backend", f"studio={engine.url}")

    def started() -> Commands:
        return Commands(gateway(*flags, env={"SOLAR_API_KEY": GATEWAY_KEY}))

    return await asyncio.to_thread(started)  # the engine is asked meanwhile, and must answer


async def test_models_are_those_that_route_now(solar: Commands) -> None:
    assert [model["id"] for model in (await solar.json("models"))["data"]] == ["gpt-oss:20b"]
    shown = (await solar.said("models")).splitlines()
    assert shown[0].split() == ["model", "owned", "by", "size", "context"]
    assert shown[1].startswith("gpt-oss:20b")


async def test_a_route_is_explained_with_what_decides_it(solar: Commands, engine: FakeBackend) -> None:
    told = await solar.json("route", "explain", "gpt-oss:20b")
    assert (told["taken"], told["found"]) == ("studio", "exact")
    shown = await solar.said("route", "explain", "gpt-oss")
    assert shown.startswith("A request for gpt-oss (prefix of gpt-oss:20b) goes to studio.\n")
    assert "in this order  priority  suspect  affinity  host busy  host pressure  in flight  turn\n" in shown
    assert engine.inference == []


async def test_a_route_that_leads_nowhere_is_exit_status_1(solar: Commands) -> None:
    result = await solar.run("route", "explain", "nobody")
    assert (result.exit_code, result.stdout) == (
        1,
        "A request for nobody is refused with 404: no backend has it.\n",
    )


async def test_status_shows_hosts_backends_and_why_one_is_down(solar: Commands, engine: FakeBackend) -> None:
    async with FakeAgent(api_key=AGENT_KEY) as agent:
        await agent.add("llama:8b")
        await agent.add("idle:8b", start=False)
        host_id = await solar.register(agent, "mac")
        await solar.said("instances", "start", "llama:8b")
        shown = await solar.said("status")
        assert f"{solar.url}, 2 of 2 backends healthy, 2 models, 0 requests in flight\n" in shown
        assert "mac   online  1 of 2\n" in shown
        assert "mac/idle:8b  stopped\n" in shown
        assert "mac/llama:8b  healthy  0          llamacpp  llama:8b\n" in shown
        told = await solar.json("status")
    assert (told["status"], told["in_flight"], told["hosts"][0]["id"]) == ("ok", 0, host_id)
    assert [one["alias"] for one in told["hosts"][0]["instances"]] == ["llama:8b", "idle:8b"]
    assert sorted(one["state"] for one in told["backends"]) == ["healthy", "healthy"]


async def test_an_answer_is_shown_as_it_comes_and_a_pipe_gets_nothing_else(
    solar: Commands, engine: FakeBackend
) -> None:
    result = await solar.run("chat", "gpt-oss:20b", "how", "are you?", "--system", "be brief", "--max-tokens", "3")
    assert result.exit_code == 0
    assert (result.stderr, result.stdout.count("\n")) == ("", 1)
    asked = json.loads(engine.inference[0].body)
    assert asked["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "how are you?"},
    ]
    assert (asked["max_tokens"], asked["stream"]) == (3, True)


async def test_a_question_may_come_through_a_pipe(solar: Commands, engine: FakeBackend) -> None:
    await solar.said("chat", "gpt-oss:20b", given="from a pipe")
    assert json.loads(engine.inference[0].body)["messages"][0]["content"] == "from a pipe"
    nothing = await solar.run("chat", "gpt-oss:20b", given=" \n")
    assert (nothing.exit_code, "there is no question" in nothing.stderr) == (2, True)


async def test_as_json_each_event_of_an_answer_is_a_line(solar: Commands) -> None:
    lines = [json.loads(line) for line in (await solar.said("chat", "gpt-oss:20b", "hi", "--json")).splitlines()]
    assert lines[-1] == {"done": True}
    assert lines[0]["object"] == "chat.completion.chunk"


async def test_an_unknown_model_is_answered_with_the_nearest(solar: Commands) -> None:
    result = await solar.run("chat", "gpt-os:20b", "hi")
    assert result.exit_code == 1
    assert result.stderr == "Error: there is no model 'gpt-os:20b'; did you mean 'gpt-oss:20b'?\n"


async def test_an_answer_that_breaks_off_is_exit_status_1(solar: Commands, engine: FakeBackend) -> None:
    engine.script(faults.reset_after(2))
    result = await solar.run("chat", "gpt-oss:20b", "hi")
    assert result.exit_code == 1
    assert "the answer broke off: " in result.stderr
    assert result.stdout.endswith("\n")


async def test_an_engine_that_knows_no_streams_is_shown_all_the_same() -> None:
    from solar.cli.chat import events, pieces

    (event,) = events(iter([b'{"choices": [{"message": {"content": "hello", "reasoning_content": "hm"}}]}']))
    assert pieces(event) == ("hm", "hello")


async def test_a_shell_completes_the_names_that_there_are(solar: Commands) -> None:
    from click.shell_completion import ShellComplete

    from solar.cli.group import solar as group

    def completed(*words: str) -> list[str]:
        *before, begun = words
        completing = ShellComplete(group, {}, "solar", "_SOLAR_COMPLETE")
        return [
            item.value
            for item in completing.get_completions([*before, "--url", solar.url, "--api-key", GATEWAY_KEY], begun)
        ]

    async with FakeAgent(api_key=AGENT_KEY) as agent:
        await agent.add("llama:8b")
        await solar.register(agent, "mac")
        assert await asyncio.to_thread(completed, "chat", "gpt") == ["gpt-oss:20b"]
        assert await asyncio.to_thread(completed, "hosts", "show", "") == ["mac"]
        assert await asyncio.to_thread(completed, "instances", "stop", "l") == ["llama:8b"]
