from pathlib import Path

from managing import AGENT_KEY, Commands

from solar.testing import FakeAgent


def agent() -> FakeAgent:
    return FakeAgent(
        api_key=AGENT_KEY, memory={"used_gb": 8.0, "total_gb": 24.0, "percent": 33.3, "memory_type": "VRAM"}
    )


async def test_a_host_is_added_listed_shown_changed_and_forgotten(solar: Commands) -> None:
    async with agent() as one:
        await one.add("llama:8b")
        added = await solar.said("hosts", "add", "studio", one.url, "--key", AGENT_KEY, "--weight", "2")
        assert added == "Host 'studio' registered successfully; it is online\n"
        listed = (await solar.said("hosts", "list")).splitlines()
        assert listed[0].split() == ["name", "status", "url", "running", "memory", "weight", "id"]
        assert f"studio  online  {one.url}  1 of 1   8 of 24 GB VRAM, 33%  2" in listed[1]
        shown = await solar.said("hosts", "show", "studio")
        assert "llama:8b (running)" in shown
        changed = await solar.json("hosts", "set", "studio", "--name", "mac", "--weight", "0.5")
        assert (changed["host"]["name"], changed["host"]["weight"]) == ("mac", 0.5)
        assert await solar.said("hosts", "rm", "mac", "--yes") == f"Forgot mac at {one.url}\n"
        assert await solar.json("hosts", "list") == {"hosts": []}
        assert "hosts add NAME URL" in await solar.said("hosts", "list")


async def test_a_host_is_named_by_its_id_its_name_or_the_beginning_of_its_id(solar: Commands) -> None:
    async with agent() as one:
        host_id = await solar.register(one, "Studio")
        for word in (host_id, host_id[:8], "Studio", "studio"):
            assert (await solar.json("hosts", "show", word))["host"]["id"] == host_id


async def test_an_unknown_host_is_answered_with_the_nearest_and_an_ambiguous_one_with_all(solar: Commands) -> None:
    async with agent() as one, agent() as two:
        first, second = await solar.register(one, "gpu-1"), await solar.register(two, "gpu-1")
        wrong = await solar.run("hosts", "show", "gpu1")
        assert (wrong.exit_code, wrong.stderr) == (1, "Error: there is no host 'gpu1'; did you mean 'gpu-1'?\n")
        twice = await solar.run("hosts", "rm", "gpu-1")
        assert twice.exit_code == 1
        assert "'gpu-1' means 2 hosts; name one by its id:\n" in twice.stderr
        assert all(host_id in twice.stderr for host_id in (first, second))


async def test_a_key_may_come_from_a_file_or_a_pipe_and_is_shown_nowhere(solar: Commands, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{AGENT_KEY}\n")
    async with agent() as one, agent() as two:
        said = await solar.said("hosts", "add", "a", one.url, "--key-file", str(tmp_path / "key"))
        said += await solar.said("hosts", "add", "b", two.url, "--key-file", "-", given=f"{AGENT_KEY}\n")
        wrong = await solar.run("hosts", "set", "a", "--key", "wrong-secret")
        said += wrong.output
        for command in (["hosts", "list"], ["hosts", "list", "--json"], ["hosts", "show", "a"]):
            said += (await solar.run(*command)).output
    assert "it is error: GET /instances was answered 401" in wrong.output
    assert AGENT_KEY not in said
    assert "wrong-secret" not in said


async def test_without_a_terminal_nobody_is_asked_for_a_key(solar: Commands) -> None:
    result = await solar.run("hosts", "add", "a", "http://127.0.0.1:9", given="")
    assert (result.exit_code, "--key-file" in result.stderr) == (2, True)


async def test_an_unreachable_host_is_refused_or_kept_on_request(solar: Commands) -> None:
    refused = await solar.run("hosts", "add", "a", "http://127.0.0.1:9", "--key", "k")
    assert (refused.exit_code, "the host was not registered: " in refused.stderr) == (1, True)
    kept = await solar.said("hosts", "add", "a", "http://127.0.0.1:9", "--key", "k", "--unreachable")
    assert "it is offline: http://127.0.0.1:9 does not answer: nobody listens there" in kept


async def test_a_refresh_tells_by_its_exit_status_whether_all_are_online(solar: Commands) -> None:
    async with agent() as one:
        await solar.register(one)
        assert (await solar.run("hosts", "refresh")).exit_code == 0
        await solar.said("hosts", "add", "dead", "http://127.0.0.1:9", "--key", "k", "--unreachable")
        every = await solar.run("hosts", "refresh")
        assert (every.exit_code, "Host 'dead' is offline: " in every.stdout) == (1, True)
        assert (await solar.run("hosts", "refresh", "dead")).exit_code == 1
        assert (await solar.run("hosts", "refresh", "studio")).exit_code == 0


async def test_a_wrong_key_of_the_gateway_is_said_with_where_it_comes_from(solar: Commands) -> None:
    result = await solar.run("hosts", "list", "--api-key", "sk-wrong")
    assert result.exit_code == 1
    assert "refuses the key from --api-key" in result.stderr
    assert "sk-wrong" not in result.output
