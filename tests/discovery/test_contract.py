"""The laws of every discoverer, on each stage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from contract import DEADLINE, QUICK, Followed, Stage
from stages import DnsStage, DockerStage, FakeStage, FileStage, LocalStage, MdnsStage

from solar.discovery import follow
from solar.discovery.sighting import Explains

EVERY = ("fake", "docker", "local", "dns", "file", "mdns")
BREAKABLE = ("fake", "docker", "dns", "file")  # this machine's ports and its network are there as long as it is
EXPLAINING = ("docker", "local", "dns", "file", "mdns")


@pytest.fixture
async def stage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stage]:
    monkeypatch.setattr(follow, "SHORTEST", QUICK)
    made: Stage
    match request.param:
        case "fake":
            made = FakeStage()
        case "docker":
            made = DockerStage()
        case "local":
            made = LocalStage()
        case "dns":
            made = DnsStage(monkeypatch)
        case "file":
            made = FileStage(tmp_path)
        case _:
            made = MdnsStage()
    async with made:
        yield made


def on(*stages: str) -> Any:
    return pytest.mark.parametrize("stage", stages, indirect=True)


@on(*EVERY)
async def test_the_first_list_comes(stage: Stage) -> None:
    a = await stage.add("a")
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: a in followed.there)


@on(*EVERY)
async def test_an_added_engine_appears(stage: Stage) -> None:
    a = await stage.add("a")
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: a in followed.there)
        b = await stage.add("b")
        await followed.until(lambda: {a, b} <= set(followed.there))
        assert followed.lost == []


@on(*EVERY)
async def test_a_changed_one_is_told(stage: Stage) -> None:
    a = await stage.add("a")
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: a in followed.there)
        before = followed.there[a]
        now = await stage.change("a")
        await followed.until(lambda: followed.there.get(now, before) != before)


@on(*EVERY)
async def test_a_removed_one_is_lost_and_the_others_stay(stage: Stage) -> None:
    a, b = await stage.add("a"), await stage.add("b")
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: {a, b} <= set(followed.there))
        await stage.remove("a")
        await followed.until(lambda: a not in followed.there)
        assert followed.lost == [a]
        assert b in followed.there


@on(*BREAKABLE)
async def test_a_source_that_fails_and_comes_back_loses_nobody(stage: Stage) -> None:
    a = await stage.add("a")
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: a in followed.there)
        await stage.break_source()
        await followed.until(lambda: followed.errors)
        assert a in followed.there
        await stage.mend_source()
        b = await stage.add("b")
        await followed.until(lambda: b in followed.there)
        assert a in followed.there
        assert followed.lost == []


@on("docker", "dns", "file")
async def test_a_source_that_fails_is_told_with_what_to_do(stage: Stage) -> None:
    await stage.add("a")
    await stage.break_source()
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: followed.errors)
    assert "; " in str(followed.errors[0])
    assert isinstance(stage.discoverer, Explains)
    (sighting,) = await stage.discoverer.look()
    assert sighting.blind
    assert sighting.reason
    assert sighting.advice


@on(*EVERY)
async def test_cancelled_it_ends_at_once_and_leaves_nothing_running(stage: Stage) -> None:
    a = await stage.add("a")
    before = asyncio.all_tasks()
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: a in followed.there)
        followed.task.cancel()
        async with asyncio.timeout(1):
            await asyncio.wait([followed.task])
        assert followed.task.cancelled()
        assert left_of(before) == []


@on(*EVERY)
async def test_cancelled_in_its_first_look_it_ends_at_once_and_leaves_nothing_running(stage: Stage) -> None:
    await stage.add("a")
    before = asyncio.all_tasks()
    for turns in range(8):
        async with Followed(stage.discoverer) as followed:
            for _ in range(turns):
                await asyncio.sleep(0)
            followed.task.cancel()
            async with asyncio.timeout(1):
                await asyncio.wait([followed.task])
            assert followed.task.cancelled()
        assert left_of(before) == []


@on(*EVERY)
async def test_who_closes_the_iterator_ends_it(stage: Stage) -> None:
    await stage.add("a")
    before = asyncio.all_tasks()
    async with asyncio.timeout(DEADLINE), aclosing(stage.discoverer.watch()) as changes:  # type: ignore[type-var]
        await anext(changes)
    assert left_of(before) == []


@on(*EVERY)
async def test_two_watches_one_after_the_other_both_hear_what_is_new(stage: Stage) -> None:
    a = await stage.add("a")
    async with Followed(stage.discoverer) as first:
        await first.until(lambda: a in first.there)
    b = await stage.add("b")
    async with Followed(stage.discoverer) as second:
        await second.until(lambda: b in second.there)


@on(*EXPLAINING)
async def test_a_look_explains_everybody(stage: Stage) -> None:
    a = await stage.add("a")
    b = await stage.add("b")
    stage.fakes["b"].die()
    assert isinstance(stage.discoverer, Explains)
    sightings = await stage.discoverer.look()
    found = {seen.backend.id: seen for seen in sightings if seen.backend is not None}
    assert found[a].tried[0].answered
    assert "model-a" in found[a].tried[0].outcome
    for seen in sightings:
        assert seen.name
        assert seen.where
        assert seen.why
        assert seen.backend is None or seen.backend.source == stage.discoverer.name
        if not any(one.answered for one in seen.tried):
            assert seen.reason
    port = str(stage.fakes["b"].port)
    (silent,) = (seen for seen in sightings if any(port in one.address.url for one in seen.tried))
    assert (silent.tried[0].answered, silent.tried[0].failed) == (False, "refused")
    assert (b in found) == (stage.discoverer.name.startswith("file:"))  # a person named it: it is there, or will be


@on(*EXPLAINING)
async def test_a_look_disturbs_no_watch(stage: Stage) -> None:
    a = await stage.add("a")
    assert isinstance(stage.discoverer, Explains)
    async with Followed(stage.discoverer) as followed:
        await followed.until(lambda: a in followed.there)
        await asyncio.gather(*(stage.discoverer.look() for _ in range(3)))
        b = await stage.add("b")
        await followed.until(lambda: b in followed.there)
        assert followed.lost == []


def left_of(before: set[asyncio.Task[Any]]) -> list[asyncio.Task[Any]]:
    """Tasks that run and did not before; those of the fakes end when their connections do."""
    return [task for task in asyncio.all_tasks() - before if not _is_of_a_fake(task)]


def _is_of_a_fake(task: asyncio.Task[Any]) -> bool:
    return task.get_name().startswith("fake connection") or "/aiohttp/web" in task.get_coro().cr_code.co_filename
