import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from managing import AGENT_KEY, Commands

from solar.cli import progress
from solar.testing import FakeAgent


@pytest.fixture
async def studio(solar: Commands) -> AsyncIterator[FakeAgent]:
    """An agent, registered as the host studio."""
    async with FakeAgent(api_key=AGENT_KEY) as agent:
        await solar.register(agent)
        yield agent


async def test_an_instance_is_created_started_stopped_and_deleted(solar: Commands, studio: FakeAgent) -> None:
    made = await solar.said("instances", "create", "studio", "--model", "/m/a.gguf", "--alias", "llama:8b")
    (instance,) = studio.instances.values()
    assert made == f"Created llama:8b on studio: {instance.id}\n"
    started = await solar.run("instances", "start", "llama:8b")
    assert started.stdout == "Started llama:8b on studio: requests reach it\n"
    assert started.stderr.startswith("starting llama:8b on studio ...\n")
    listed = (await solar.said("instances", "list")).splitlines()
    assert f"llama:8b  studio  running  healthy    {instance.port}" in listed[1]
    running = await solar.run("instances", "rm", "llama:8b", "--yes")
    assert (running.exit_code, running.stderr) == (1, "Error: Cannot delete running instance. Stop it first.\n")
    assert await solar.said("instances", "stop", "llama:8b") == "Stopped llama:8b on studio\n"
    assert await solar.said("instances", "rm", "llama:8b", "--yes") == "Deleted llama:8b on studio\n"
    assert studio.instances == {}


async def test_a_start_returns_once_the_model_is_loaded_and_the_router_sends_requests(
    solar: Commands, studio: FakeAgent
) -> None:
    studio.lifecycle.loading = True
    instance = await studio.add("llama:8b", start=False)
    starting = solar.begin("instances", "start", "llama:8b")
    await starting.says("load_model: loading model '/models/llama:8b.gguf'")
    assert instance.status == "running"
    assert not starting.over
    studio.loaded(instance)
    assert await starting.ended() == (0, "Started llama:8b on studio: requests reach it\n")


async def test_without_waiting_a_start_returns_when_the_agent_does(solar: Commands, studio: FakeAgent) -> None:
    studio.lifecycle.loading = True
    await studio.add("llama:8b", start=False)
    assert await solar.said("instances", "start", "llama:8b", "--no-wait") == "Started llama:8b on studio\n"


async def test_a_failed_start_is_exit_status_1_with_the_reason_and_the_last_lines(
    solar: Commands, studio: FakeAgent
) -> None:
    await studio.add("llama:8b", start=False)
    studio.lifecycle.failing = 2
    result = await solar.run("instances", "start", "llama:8b")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Error: Failed to start instance: Process exited immediately\n  | " in result.stderr
    assert "load_model: loading model" in result.stderr


async def test_a_restart_is_both_and_json_is_one_object(solar: Commands, studio: FakeAgent) -> None:
    instance = await studio.add("llama:8b")
    result = await solar.run("instances", "restart", instance.id[:8], "--json")
    told = json.loads(result.stdout)
    assert (told["host_name"], told["instance"]["id"], told["instance"]["status"]) == ("studio", instance.id, "running")
    assert result.stderr == ""


async def test_a_config_comes_from_flags_a_file_or_a_pipe(solar: Commands, studio: FakeAgent, tmp_path: Path) -> None:
    config = {"model": "/m/a.gguf", "alias": "a", "ctx_size": 4096}
    (tmp_path / "a.json").write_text(json.dumps(config))
    await solar.said("instances", "create", "studio", "--config", str(tmp_path / "a.json"), "--set", "alias=b")
    await solar.said("instances", "create", "studio", "--config", "-", given=json.dumps({"config": config}))
    flags = ("--set", "backend_type=huggingface_causal", "--model", "hub/c", "--alias", "c", "--set", "max_length=512")
    await solar.said("instances", "create", "studio", *flags)
    b, a, c = (instance.config for instance in studio.instances.values())
    assert (b["alias"], b["ctx_size"], a["alias"], a["ctx_size"]) == ("b", 4096, "a", 4096)
    assert (c["model_id"], c["max_length"], c["backend_type"]) == ("hub/c", 512, "huggingface_causal")


async def test_an_update_changes_what_it_names_and_keeps_the_keys_that_nobody_sees(solar: Commands) -> None:
    async with FakeAgent("v1", api_key=AGENT_KEY) as agent:
        await solar.register(agent, "old")
        instance = await agent.add("llama:8b", start=False, chat_template_file="t")
        flags = ("--set", "ctx_size=8192", "--unset", "chat_template_file", "--alias", "llama")
        assert await solar.said("instances", "update", "llama:8b", *flags) == "Changed llama:8b on old\n"
        assert (instance.config["ctx_size"], instance.config["alias"]) == (8192, "llama")
        assert (instance.config["api_key"], instance.config["chat_template_file"]) == ("key-of-llama:8b", None)
        shown = await solar.said("instances", "show", "llama")
        assert "key-of" not in shown
        assert "ctx_size 8192" in " ".join(shown.split())


async def test_one_alias_on_two_hosts_needs_the_host(solar: Commands, studio: FakeAgent) -> None:
    first = await studio.add("llama:8b")
    async with FakeAgent(api_key=AGENT_KEY) as other:
        await solar.register(other, "box")
        second = await other.add("llama:8b")
        await solar.said("hosts", "refresh")
        result = await solar.run("instances", "show", "llama:8b")
        assert result.exit_code == 1
        assert "'llama:8b' means 2 instances; name one by its id, or as HOST/INSTANCE:\n" in result.stderr
        assert f"{first.id}  llama:8b  on studio\n" in result.stderr
        for words in (["box/llama:8b"], ["llama:8b", "--host", "box"], [second.id]):
            assert (await solar.json("instances", "show", *words))["instance"]["id"] == second.id


async def test_an_unknown_instance_is_answered_with_the_nearest(solar: Commands, studio: FakeAgent) -> None:
    await studio.add("llama:8b")
    result = await solar.run("instances", "stop", "lama:8b")
    assert result.stderr == "Error: there is no instance 'lama:8b'; did you mean 'llama:8b'?\n"
    assert result.exit_code == 1


async def test_a_state_is_what_the_agent_says(solar: Commands, studio: FakeAgent) -> None:
    instance = await studio.add("llama:8b")
    studio.works(instance, busy=True, prefill_progress=0.5, active_slots=1)
    told = await solar.json("instances", "state", "llama:8b")
    assert (told["instance_id"], told["busy"], told["prefill_progress"]) == (instance.id, True, 0.5)
    assert "prefill progress  0.5" in await solar.said("instances", "state", "llama:8b")


async def test_orders_to_a_terminal_in_what_an_agent_says_are_not_passed_on(solar: Commands, studio: FakeAgent) -> None:
    instance = await studio.add("evil\x1b]0;owned\x07:8b", start=False)
    await solar.said("hosts", "refresh")
    listed = await solar.said("instances", "list")
    shown = await solar.said("instances", "show", instance.id)
    assert "\x1b" not in listed + shown
    assert "evil:8b" in shown


async def test_a_list_says_of_which_host_it_may_be_old(solar: Commands, studio: FakeAgent) -> None:
    await studio.add("llama:8b")
    await solar.said("hosts", "refresh")
    await studio.die()
    assert (await solar.run("hosts", "refresh")).exit_code == 1
    assert "llama:8b  studio (offline)  running" in await solar.said("instances", "list")
    await studio.revive()


@pytest.mark.parametrize("wrong", [["--set", "ctx_size"], ["--config", "absent.json"], []])
async def test_a_config_that_cannot_be_is_said_before_anything_is_asked(solar: Commands, wrong: list[str]) -> None:
    result = await solar.run("instances", "create", "studio", *wrong)
    assert result.exit_code in (1, 2)
    assert "Traceback" not in result.output


async def test_a_start_whose_engine_dies_while_it_loads_is_exit_status_1(
    solar: Commands, studio: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SILENT", 0.3)
    studio.lifecycle.loading = True
    instance = await studio.add("llama:8b", start=False)
    starting = asyncio.get_running_loop().create_task(solar.run("instances", "start", "llama:8b"))
    await studio.wait_for(lambda: instance.status == "running")
    await studio.kill(instance)  # this agent does not notice
    result = await starting
    assert result.exit_code == 1
    assert "Error: llama:8b on studio was started, and does not answer: " in result.stderr


async def test_whoever_stops_waiting_is_told_that_it_goes_on(solar: Commands, studio: FakeAgent) -> None:
    studio.lifecycle.loading = True
    await studio.add("llama:8b", start=False)
    starting = solar.begin("instances", "start", "llama:8b")
    await starting.says("load_model: loading model")
    starting.interrupt()
    await starting.says("Nobody waits for it any more; starting llama:8b on studio goes on.")
    assert (await starting.ended())[0] == 130
