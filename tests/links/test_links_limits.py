"""What bounds those who knock and those who are linked."""

import asyncio
import json
import logging
from collections.abc import MutableMapping
from typing import Any

import pytest

from solar.control.fleet.calls import AgentAnswer, HostUnreachable
from solar.control.fleet.hosts import HostWatch, Pace
from solar.control.links import channel, conversation
from solar.control.links.conversation import Conversation, Over
from solar.control.links.limits import OF_EACH, Allowance, Anteroom, Seldom
from solar.control.links.socketlinks import _Knock
from solar.store import Host
from solar.wire.channel import NotRegistered
from solar.wire.instances import Instance, Listing
from solar.wire.messages import HealthFrame, InstancesUpdate, Ping

LOG = logging.getLogger("solar.links-test")
HEALTH = AgentAnswer(200, b'{"service": "solar-host", "version": "2.0.0"}')


def test_too_many_that_have_not_registered_are_refused_in_all_and_of_one_address() -> None:
    room = Anteroom(most=3, of_one=2)
    with room.entered("a"), room.entered("a"):
        with pytest.raises(NotRegistered, match="too many"), room.entered("a"):
            pass
        with room.entered("b"), pytest.raises(NotRegistered), room.entered("c"):
            pass
    with room.entered("a"), room.entered("b"), room.entered("c"):
        assert repr(room) == "<Anteroom 3 wait>"


def test_what_is_beyond_the_allowance_is_paid_for_with_time() -> None:
    allowance = Allowance(rate=1000, burst=10_000)
    assert [allowance.spend(4900 - OF_EACH, 0.0) for _ in range(2)] == [0, 0]
    assert allowance.spend(2200 - OF_EACH, 0.0) == 2.0
    assert allowance.spend(1000 - OF_EACH, 2.0) == 1.0
    assert allowance.spend(0, 1000.0) == 0  # what was saved up is no more than the burst
    assert allowance.spend(10_000, 1000.0) == pytest.approx(0.2)


def test_all_links_together_may_say_no_more_than_is_shared() -> None:
    shared = Allowance(rate=1000, burst=1000)
    one, two = (Allowance(rate=1000, burst=10_000, shared=shared) for _ in range(2))
    assert one.spend(900 - OF_EACH, 0.0) == 0
    assert two.spend(1100 - OF_EACH, 0.0) == 1.0
    assert one.spend(0, 2.0) == 0


def test_a_frame_counts_though_it_is_empty() -> None:
    allowance = Allowance(rate=1, burst=10 * OF_EACH)
    assert [allowance.spend(0, 0.0) > 0 for _ in range(11)] == [False] * 10 + [True]


def test_what_was_said_is_said_again_after_a_minute() -> None:
    seldom = Seldom(pause=60, most=2)
    assert [seldom.admits("a", now) for now in (0, 1, 59, 60, 61)] == [True, False, False, True, False]
    assert [seldom.admits(who, 62) for who in ("b", "c")] == [True, False]
    assert seldom.admits("c", 121)


class Wire:
    """An agent's end, in this process."""

    def __init__(self, *frames: str) -> None:
        self.frames = list(frames)
        self.again = ""  # what it says for ever, after these
        self.heard = 0
        self.said: list[MutableMapping[str, Any]] = []
        self.reads = True

    async def receive(self) -> MutableMapping[str, Any]:
        self.heard += 1
        if self.frames:
            return {"type": "websocket.receive", "text": self.frames.pop(0)}
        if not self.again:
            await asyncio.Event().wait()
        return {"type": "websocket.receive", "text": self.again}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if not self.reads:
            await asyncio.Event().wait()
        self.said.append(message)

    @property
    def agent(self) -> Conversation:
        return Conversation(self.receive, self.send)


async def test_an_agent_that_never_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "SEND_SECONDS", 0.01)
    wire = Wire()
    wire.reads = False
    agent = wire.agent
    with pytest.raises(Over, match="does not read"):
        await agent.say("hello")
    await agent.close(1000, "")  # it does not wait for ever either


async def test_who_is_gone_hears_nothing() -> None:
    async def send(_: object) -> None:
        raise ConnectionResetError

    agent = Conversation(Wire().receive, send)
    with pytest.raises(Over, match="gone"):
        await agent.say("hello")
    await agent.close(1000, "")


async def test_a_conversation_can_be_ended_from_outside_whatever_it_waits_for() -> None:
    loop = asyncio.get_running_loop()
    for wait in (lambda agent: agent.hear(60), lambda agent: agent.hear(), lambda agent: agent.rest(60)):
        agent = Wire().agent
        waiting = loop.create_task(wait(agent))
        await asyncio.sleep(0)
        agent.end("enough")
        agent.end("too late")
        with pytest.raises(Over, match="enough"):
            await waiting
        with pytest.raises(Over, match="enough"):
            await agent.hear()
    with pytest.raises(TimeoutError):
        await Wire().agent.hear(0.001)


class Unasked:
    async def ask(self, *_: object, **__: object) -> AgentAnswer:
        raise HostUnreachable("nobody")


def watch_of(agent: Any = None) -> HostWatch:
    host = Host("h", "h", "http://h:8001", "k", 1)
    return HostWatch(host, agent or Unasked(), lambda *_: None, pace=Pace(), log=LOG)


class Taking:
    """Where messages go."""

    def __init__(self) -> None:
        self.taken_ = 0

    def allowance(self) -> Allowance:
        return Allowance(rate=1, burst=100 * OF_EACH)

    def taken(self, watch: HostWatch, link: Conversation, message: object) -> bool:
        self.taken_ += 1
        return True


async def test_who_says_too_much_is_not_read_and_others_have_their_turn() -> None:
    wire, taking, turns = Wire(), Taking(), 0
    wire.again = json.dumps({"type": "x"})
    agent = wire.agent
    flood = asyncio.get_running_loop().create_task(channel._listen(taking, watch_of(), agent))  # type: ignore[arg-type]
    while wire.heard < 80:
        await asyncio.sleep(0)
        turns += 1
    assert turns < 80
    for _ in range(1000):
        await asyncio.sleep(0)
    assert wire.heard < 101
    assert taking.taken_ == wire.heard
    agent.end("enough")
    with pytest.raises(Over):
        await flood


async def test_who_says_too_much_over_socketio_is_not_read() -> None:
    wire = Wire()
    wire.again = "42"
    knock = _Knock(wire.receive, wire.send, "a", Allowance(rate=1, burst=10 * OF_EACH))
    await knock.receive()
    knock.watch = watch_of()

    async def read() -> None:
        while (await knock.receive())["type"] == "websocket.receive":
            pass

    reading = asyncio.get_running_loop().create_task(read())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert wire.heard < 12
    knock.agent.end("enough")
    await reading


async def test_who_never_reads_socketio_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "SEND_SECONDS", 0.01)
    wire = Wire()
    wire.reads = False
    knock = _Knock(wire.receive, wire.send, "a", Allowance())
    with pytest.raises(OSError, match="does not read"):
        await knock.send({"type": "websocket.send", "text": "2"})


def instances(*ids: str) -> InstancesUpdate:
    return InstancesUpdate("", Listing(tuple(Instance(one) for one in ids)))


async def test_an_old_link_speaks_for_nobody_and_its_end_ends_nothing() -> None:
    watch = watch_of()
    old, new = Wire().agent, Wire().agent
    watch.linked(old)
    watch.linked(new)
    assert old.ended
    assert not watch.heard(old, instances("old"))
    assert watch.heard(new, instances("new"))
    watch.hushed(old)
    watch.unlinked(old)
    assert (watch.view.connected, watch.status, watch.link) == (True, "online", new)
    assert [one.id for one in watch.instances] == ["new"]
    watch.unlinked(new)
    watch.unlinked(new)
    await watch.look()
    assert (watch.view.connected, watch.status, watch.reason) == (False, "offline", "nobody")
    assert [one.id for one in watch.instances] == ["new"]  # they may live on


class Questioned:
    """An agent whose answers a test gives, when it wants."""

    def __init__(self) -> None:
        self.open: asyncio.Queue[tuple[str, asyncio.Future[AgentAnswer]]] = asyncio.Queue()

    async def ask(self, method: str, path: str, *_: object, **__: object) -> AgentAnswer:
        answer = asyncio.get_running_loop().create_future()
        await self.open.put((path, answer))
        return await answer


async def test_an_answer_from_before_a_link_s_news_speaks_for_nobody() -> None:
    agent = Questioned()
    watch, link = watch_of(agent), Wire().agent
    watch.linked(link)
    look = asyncio.get_running_loop().create_task(watch.look())
    answers = {"/health": HEALTH, "/instances": AgentAnswer(200, b"[]"), "/memory": AgentAnswer(503, b"")}
    while not look.done():
        path, answer = await agent.open.get()
        if path == "/instances":
            watch.heard(link, instances("started meanwhile"))
        answer.set_result(answers[path])
        if path == "/memory":
            await look
    assert [one.id for one in watch.instances] == ["started meanwhile"]
    assert watch.pause == Pace().linked


async def test_a_link_without_figures_leaves_the_memory_that_was_told() -> None:
    watch, link = watch_of(), Wire().agent
    watch.linked(link)
    assert watch.heard(link, HealthFrame("", None))
    assert watch.memory is None


async def test_what_was_found_before_a_link_is_no_reason_after_it() -> None:
    watch, link = watch_of(), Wire().agent
    await watch.look()
    watch.linked(link)
    assert (watch.status, watch.reason) == ("online", "")
    await watch.look()
    assert watch.status == "online"
    assert "cannot be asked: nobody;" in watch.reason


async def test_silence_is_no_life_where_nobody_answers_and_a_word_is() -> None:
    watch, link = watch_of(), Wire().agent
    watch.linked(link)
    await watch.look()
    assert watch.status == "online"
    watch.hushed(link)
    watch.hushed(link)
    assert (watch.status, watch.link, watch.view.connected) == ("offline", None, True)
    watch.heard(link, Ping())
    assert watch.status == "online"


async def test_a_watch_that_is_closed_ends_its_link() -> None:
    watch, link = watch_of(), Wire().agent
    watch.linked(link)
    watch.close()
    assert link.ended
    watch.unlinked(link)
    assert not watch.view.connected
