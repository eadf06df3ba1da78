"""Containers and their Docker Engine come and go: what is routed to follows, and who asks does not notice."""

import asyncio
from asyncio import to_thread

import pytest
from engine import Engine
from found import finding, named, until
from images import Image

GOES = {
    "stop": (("stop", "--time", "5"), ("start",)),
    "kill": (("kill",), ("start",)),
    "pause": (("pause",), ("unpause",)),
}


@pytest.mark.parametrize("how", GOES)
async def test_who_asks_does_not_notice_that_one_of_two_goes_and_comes(engine: Engine, vllm: Image, how: str) -> None:
    goes, comes = GOES[how]
    for name in ("stays", "goes"):
        vllm("--models", "a", options=named(name))
    async with finding(engine) as found:
        await found.becomes("stays", "goes")
        async with found.asked("a"):
            await to_thread(engine.docker, *goes, "goes")
            await found.becomes("stays")
            await to_thread(engine.docker, *comes, "goes")
            await found.becomes("stays", "goes")


async def test_who_asks_does_not_notice_a_restart_nor_that_one_leaves_for_good(engine: Engine, vllm: Image) -> None:
    vllm("--models", "a", options=named("restarts"))
    vllm("--models", "a", options=named("leaves", "--rm"))
    async with finding(engine) as found:
        await found.becomes("restarts", "leaves")
        async with found.asked("a"):
            await to_thread(engine.docker, "restart", "--time", "5", "restarts")
            await found.becomes("restarts", "leaves")
            await to_thread(engine.docker, "stop", "--time", "5", "leaves")
            await found.becomes("restarts")
        await until(lambda: engine.docker("ps", "--all", "--format", "{{.Names}}") == "restarts")


async def test_one_that_is_renamed_goes_on_under_its_new_name(engine: Engine, vllm: Image) -> None:
    vllm("--models", "a", options=named("before"))
    async with finding(engine) as found:
        await found.becomes("before")
        async with found.asked("a"):
            await to_thread(engine.docker, "rename", "before", "after")
            await found.becomes("after")


async def test_an_engine_that_stops_takes_its_backends_and_brings_them_back(engine: Engine, vllm: Image) -> None:
    vllm("--models", "a", options=named("one", "--restart", "always"))
    async with finding(engine) as found:
        await found.becomes("one")
        await to_thread(engine.stop)
        await until(lambda: not found.healthy, lambda: repr(found))
        await to_thread(engine.start)
        await found.becomes("one")
        assert await found.chat("a") == 200


async def test_backends_stay_while_their_engine_is_away_and_they_answer(engine: Engine, vllm: Image) -> None:
    engine.restart("--live-restore")
    vllm("--models", "a", options=named("one"))
    async with finding(engine) as found:
        await found.becomes("one")
        await to_thread(engine.kill)
        for _ in range(3):
            assert await found.chat("a") == 200
        await to_thread(engine.start, "--live-restore")
        await to_thread(vllm, "--models", "b", options=named("two"))
        await found.becomes("one", "two")


async def test_an_engine_that_is_down_at_first_is_found_when_it_comes(engine: Engine, vllm: Image) -> None:
    engine.stop()
    async with finding(engine) as found:
        await to_thread(engine.start)
        await to_thread(vllm, "--models", "a", options=named("one"))
        await found.becomes("one")


async def test_thirty_that_come_and_go_at_once_end_as_docker_says(engine: Engine, vllm: Image) -> None:
    goes = {1: ("kill",), 2: ("rm", "--force")}  # of three one stays
    room = asyncio.Semaphore(4)

    async def comes(number: int) -> None:
        async with room:
            container = await to_thread(vllm, "--models", f"m{number}", options=named(f"c{number}"))
            if number % 3:
                await to_thread(engine.docker, *goes[number % 3], container)

    async with finding(engine) as found:
        await asyncio.gather(*map(comes, range(30)))
        running = engine.docker("ps", "--format", "{{.Names}}").split()
        assert len(running) == 10
        await found.becomes(*running)
        await to_thread(engine.clear)
        await found.becomes()
