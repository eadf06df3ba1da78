"""Who is registered: added, changed, removed, kept."""

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from fleets import ASKED, LOG, fleet_in, host_of, running, stored, until, view

from solar.control.fleet import Fleet, HostUnreachable
from solar.errors import InvalidRequest, StoreFailed
from solar.store import Host, Store
from solar.testing import FakeAgent
from solar.testing.agents.messages import Answered, json_answer
from solar.wire.hosts import HostPatch, NewHost


@pytest.mark.parametrize(
    ("agent", "dialect"),
    [
        (FakeAgent("v1"), "v1"),
        (FakeAgent("v2"), "v2"),
        (FakeAgent("fork", version="0.1.3"), "fork"),
        (FakeAgent("fork"), "fork"),
    ],
    ids=["v1", "v2", "0.1.3", "3.8.3"],
)
async def test_an_agent_of_any_dialect_is_registered_and_known(tmp_path: Path, agent: FakeAgent, dialect: str) -> None:
    async with agent, fleet_in(tmp_path) as fleet:
        await agent.add("llama:8b")
        host = await fleet.add(host_of(agent))
        assert (host.status, host.reason, host.name) == ("online", "", "gpu-1")
        assert host.dialect is not None
        assert (host.dialect.name, host.dialect.version) == (dialect, agent.version)
        assert [instance.alias for instance in fleet.instances(host.id)] == ["llama:8b"]
        assert fleet.hosts() == (view(fleet, host.id),)
        assert host.last_seen is not None


async def test_a_url_is_normalised_and_a_second_host_there_is_refused(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(NewHost("a", f" HTTP://127.0.0.1:{agent.port}/ ", "host-key"))
        assert host.url == agent.url
        with pytest.raises(InvalidRequest, match="is registered already: it is host 'a'") as refused:
            await fleet.add(NewHost("b", f"http://localhost:{agent.port}", "host-key"))
        assert (refused.value.status, refused.value.code) == (409, "host_exists")


async def test_of_two_registrations_of_one_agent_at_once_one_wins(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        outcomes = await asyncio.gather(*(fleet.add(host_of(agent)) for _ in range(5)), return_exceptions=True)
        assert (
            sorted(getattr(outcome, "status", "") for outcome in outcomes if isinstance(outcome, Exception))
            == [409] * 4
        )
        assert len(fleet.hosts()) == 1


async def test_a_host_that_does_not_answer_is_refused_unless_asked_for(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        await agent.die()
        with pytest.raises(InvalidRequest, match="nobody listens there") as refused:
            await fleet.add(host_of(agent))
        assert (refused.value.status, fleet.hosts()) == (400, ())
        host = await fleet.add(host_of(agent), unreachable=True)
        assert (host.status, host.last_seen, host.dialect) == ("offline", None, None)
        await agent.revive()
        assert (await fleet.refresh(host.id)).status == "online"


@pytest.mark.parametrize(
    "health",
    [
        json_answer({"service": "grafana"}),
        Answered(200, b"<html>", content_type="text/html"),
        Answered(404, b"{}"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        Answered(307, b"", (("location", "http://127.0.0.1:1/"),)),
    ],
)
async def test_who_is_no_agent_is_refused_and_never_gets_the_key(tmp_path: Path, health: Answered | bytes) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        agent.always(health, "/health")
        with pytest.raises(InvalidRequest, match="the host was not registered"):
            await fleet.add(host_of(agent))
        host = await fleet.add(host_of(agent), unreachable=True)
        with pytest.raises(HostUnreachable):
            await fleet.call(host.id, "GET", "/instances")
        assert all(request.header("x-api-key") is None for request in agent.requests)


async def test_a_wrong_key_is_an_error_that_says_what_the_agent_said(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent, key="wrong-key"))
        assert host.status == "error"
        assert host.reason == 'GET /instances was answered 401: {"detail":"Invalid or missing API key"}'
        assert (await fleet.patch(host.id, HostPatch(api_key="host-key"))).status == "online"


async def test_a_host_is_renamed_without_being_asked(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        host = await fleet.add(host_of(agent))
        asked = len(agent.requests)
        assert (await fleet.patch(host.id, HostPatch(name="mac"))).name == "mac"
        assert len(agent.requests) == asked


async def test_a_host_moves_and_takes_its_id_along(tmp_path: Path) -> None:
    async with FakeAgent() as old, FakeAgent(api_key="other") as new, fleet_in(tmp_path) as fleet:
        await new.add("llama:8b")
        host = await fleet.add(host_of(old))
        moved = await fleet.patch(host.id, HostPatch(url=new.url, api_key="other"))
        assert (moved.id, moved.url, moved.status, len(moved.instances)) == (host.id, new.url, "online", 1)
        with pytest.raises(InvalidRequest, match="is registered already"):
            await fleet.patch((await fleet.add(host_of(old))).id, HostPatch(url=new.url))


async def test_hosts_survive_a_restart_in_their_order(tmp_path: Path) -> None:
    async with FakeAgent() as first, FakeAgent() as second:
        async with fleet_in(tmp_path) as fleet:
            for name, agent in (("b", first), ("a", second)):
                await fleet.add(host_of(agent, name))
            before = fleet.hosts()
            await fleet.patch(before[1].id, HostPatch(name="c"))
        async with fleet_in(tmp_path) as fleet:
            await fleet.refresh_all()
            assert [(host.id, host.name, host.status) for host in fleet.hosts()] == [
                (before[0].id, "b", "online"),
                (before[1].id, "c", "online"),
            ]
            await fleet.remove(before[0].id)
        async with fleet_in(tmp_path) as fleet:
            assert [host.name for host in fleet.hosts()] == ["c"]


async def test_an_unknown_host_is_a_404_everywhere(tmp_path: Path) -> None:
    async with fleet_in(tmp_path) as fleet:
        for asking in (
            fleet.patch("x", HostPatch(name="a")),
            fleet.remove("x"),
            fleet.refresh("x"),
            fleet.call("x", "GET", "/instances"),
        ):
            with pytest.raises(InvalidRequest, match="there is no host 'x'") as refused:
                await asking
            assert (refused.value.status, refused.value.code) == (404, "host_not_found")
        with pytest.raises(InvalidRequest):
            fleet.instances("x")
        assert await fleet.refresh_all() == ()


async def test_before_the_hosts_were_read_nothing_can_be_changed(tmp_path: Path) -> None:
    fleet = Fleet(Store(tmp_path, log=LOG), log=LOG)
    assert fleet.hosts() == ()
    for asking in (fleet.add(NewHost("a", "http://a", "k")), fleet.refresh("x"), fleet.remove("x")):
        with pytest.raises(StoreFailed, match="try again"):
            await asking


async def test_a_list_right_after_the_start_waits_until_the_hosts_were_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stored(tmp_path) as store:
        await store.put_host(Host("h", "h", "http://127.0.0.1:9", "k", 1))
        fleet = Fleet(store, log=LOG, pace=ASKED)
        asked = asyncio.get_running_loop().create_task(fleet.listed())
        await asyncio.sleep(0)
        assert not asked.done()
        run = asyncio.get_running_loop().create_task(fleet.run())
        assert [host.id for host in await asked] == ["h"]
        run.cancel()
        await asyncio.wait([run])
        monkeypatch.setattr("solar.control.fleet.fleet.PATIENCE", 0.01)
        with pytest.raises(StoreFailed) as late:
            await fleet.listed()
        assert (late.value.status, late.value.retry_after) == (503, 1)
        with pytest.raises(StoreFailed):
            await fleet.refresh_all()


async def test_what_the_database_cannot_keep_is_not_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        raise StoreFailed("the disk is full")

    async with FakeAgent() as agent, stored(tmp_path) as store, running(store) as fleet:
        host = await fleet.add(host_of(agent))
        monkeypatch.setattr(store, "put_host", full)
        monkeypatch.setattr(store, "drop_host", full)
        for change in (fleet.patch(host.id, HostPatch(name="b")), fleet.remove(host.id)):
            with pytest.raises(StoreFailed, match="full"):
                await change
        assert view(fleet, host.id).name == "gpu-1"
        assert (await fleet.refresh(host.id)).status == "online"


async def test_a_change_is_made_to_its_end_though_who_asked_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeAgent() as agent, stored(tmp_path) as store, running(store) as fleet:
        host = await fleet.add(host_of(agent))
        writing, may_write, drop = asyncio.Event(), asyncio.Event(), store.drop_host

        async def slowly(host_id: str) -> bool:
            writing.set()
            await may_write.wait()
            return await drop(host_id)

        monkeypatch.setattr(store, "drop_host", slowly)
        asked = asyncio.get_running_loop().create_task(fleet.remove(host.id))
        await writing.wait()
        asked.cancel()
        await asyncio.wait([asked])
        may_write.set()
        await until(fleet, lambda: not fleet.hosts())
        assert await store.hosts() == ()


async def test_a_host_whose_stored_address_is_none_says_so_and_can_be_mended(tmp_path: Path) -> None:
    async with FakeAgent() as agent, stored(tmp_path) as store:
        await store.put_host(Host("old", "old", "http://a b", "host-key", 1))
        async with running(store) as fleet:
            host = await fleet.refresh("old")
            assert host.status == "offline"
            assert "is no agent's address" in host.reason
            assert (await fleet.patch("old", HostPatch(url=agent.url))).status == "online"


async def test_no_key_is_in_a_view_a_log_line_or_a_repr(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with FakeAgent("v1", api_key="secret-of-host") as agent, fleet_in(tmp_path) as fleet:
        await agent.add("llama:8b", api_key="secret-of-instance")
        host = await fleet.add(host_of(agent, key="secret-of-host"))
        agent.always(json_answer({"detail": "secret-of-host and secret-of-instance"}, 500), "/instances")
        host = await fleet.refresh(host.id)
        assert host.status == "error"
        answer = await fleet.call(host.id, "GET", "/instances")
        shown = f"{host!r} {host} {fleet!r} {answer!r} {answer.body!r} {host.reason} {caplog.text} {fleet.discoverer!r}"
        assert "secret-of" not in shown + msgspec.json.encode(host.as_json).decode()
        assert repr(fleet) == "<Fleet 1 hosts (0 online), 1 running instances>"


async def test_a_host_tells_its_memory_and_no_gpu_is_no_fault(tmp_path: Path) -> None:
    async with FakeAgent(memory=None) as agent, fleet_in(tmp_path, ASKED) as fleet:
        host = await fleet.add(host_of(agent))
        assert (host.status, host.memory) == ("online", None)
        agent.memory = {"used_gb": 6.0, "total_gb": 24.0, "percent": 25.0, "memory_type": "VRAM"}
        memory = (await fleet.refresh(host.id)).memory
        assert memory is not None
        assert (memory.percent, memory.memory_type) == (25.0, "VRAM")


async def test_hosts_that_cannot_be_read_are_read_once_they_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("solar.control.fleet.fleet._PAUSES", (0.01, 0.02))
    async with stored(tmp_path) as store:
        await store.put_host(Host("h", "h", "http://127.0.0.1:9", "k", 1))
        read, tries = store.hosts, list[int]()

        async def locked() -> tuple[Host, ...]:
            tries.append(1)
            if len(tries) < 4:
                raise StoreFailed("the database is locked")
            return await read()

        monkeypatch.setattr(store, "hosts", locked)
        async with running(store) as fleet:
            assert [host.id for host in fleet.hosts()] == ["h"]
        assert caplog.text.count("the database is locked") == 3


async def test_the_log_names_only_hosts_that_are_registered(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger=LOG.name)
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        await agent.die()
        with pytest.raises(InvalidRequest):
            await fleet.add(host_of(agent))
        assert not [line for line in caplog.messages if "host=" in line]
        host = await fleet.add(host_of(agent), unreachable=True)
        await agent.revive()
        await fleet.refresh(host.id)
        about = f"host={host.id} name='gpu-1' url={agent.url}"
        first, second = [line for line in caplog.messages if "host=" in line]
        assert first.startswith(f"{about} added, it is offline: {agent.url} does not answer: nobody listens there")
        assert second == f"{about} status, it is online"


async def test_a_key_that_no_header_can_carry_is_told(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        with pytest.raises(InvalidRequest, match="api_key must be printable ASCII"):
            await fleet.add(host_of(agent, key="a\nb"))
        assert agent.requests == []


@pytest.mark.parametrize("order", ["pr", "rp", "ppr", "prp", "rr"])
async def test_whatever_changes_meet_disk_and_memory_agree(tmp_path: Path, order: str) -> None:
    async with FakeAgent() as agent, stored(tmp_path) as store, running(store) as fleet:
        host = await fleet.add(host_of(agent))
        changes = [
            fleet.remove(host.id) if letter == "r" else fleet.patch(host.id, HostPatch(name=f"n{n}", api_key=f"k{n}"))
            for n, letter in enumerate(order)
        ]
        outcomes = await asyncio.gather(*changes, return_exceptions=True)
        assert all(getattr(outcome, "status", None) == 404 for outcome in outcomes if isinstance(outcome, Exception))
        assert (fleet.hosts(), await store.hosts()) == ((), ())
        assert (await fleet.add(host_of(agent))).status == "online"


async def test_what_an_import_brought_is_watched_once_it_is_read_again(tmp_path: Path) -> None:
    async with FakeAgent() as one, FakeAgent() as two, stored(tmp_path) as store, running(store) as fleet:
        known = await fleet.add(host_of(one, "a"))
        (kept,) = await store.hosts()
        await store.put_host(replace(kept, name="b", settings={"weight": 2}))
        await store.put_host(Host("new", "c", two.url, "host-key", 1))
        await fleet.read_again()
        await fleet.refresh("new")
        told = [(view.id, view.name, view.weight, view.status) for view in fleet.hosts()]
        assert told == [(known.id, "b", 2.0, "online"), ("new", "c", 1.0, "online")]


async def test_an_import_that_gives_a_host_no_address_leaves_it_to_be_mended(tmp_path: Path) -> None:
    async with FakeAgent() as agent, stored(tmp_path) as store, running(store) as fleet:
        await agent.add("llama:8b")
        known = await fleet.add(host_of(agent))
        (kept,) = await store.hosts()
        await store.put_host(replace(kept, url="nonsense://"))
        await fleet.read_again()
        await fleet.refresh(known.id)
        (view,) = fleet.hosts()
        assert (view.status, view.instances != ()) == ("offline", True)
        await fleet.remove(known.id)
        assert (fleet.hosts(), await store.hosts()) == ((), ())


async def test_what_went_wrong_with_an_instance_shows_no_key(tmp_path: Path) -> None:
    async with FakeAgent() as agent, fleet_in(tmp_path) as fleet:
        instance = await agent.add("llama:8b")
        instance.error_message = f"llama-server --api-key {agent.api_key} exited"
        known = await fleet.add(host_of(agent))
        assert [one.error_message for one in fleet.instances(known.id)] == ["llama-server --api-key *** exited"]
