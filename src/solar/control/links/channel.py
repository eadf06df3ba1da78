"""The link of a v2 agent, and of our own: text frames on one WebSocket, from its first frame to its end."""

from __future__ import annotations

import asyncio

from solar.control.fleet.hosts import HostWatch
from solar.control.links.conversation import Conversation, Over
from solar.control.links.links import Links, acknowledged
from solar.wire.channel import (
    KEEPALIVE_SECONDS,
    PONG,
    REGISTRATION_SECONDS,
    TIMED_OUT,
    NotRegistered,
    read_frame,
    read_registration,
    write,
)
from solar.wire.messages import InstancesUpdate, Keepalive, Ping, Refusal, Registration
from solar.wire.reading import Unreadable

REFUSED, ENDED = 1008, 1012  # codes of a close: for what it did; for what we do
TOGETHER = 64  # frames that are read before others have their turn


async def serve(links: Links, agent: Conversation, address: str) -> None:
    """Hear an agent, whose WebSocket was accepted, until one of us leaves."""
    try:
        with links.knocking(address):
            registration = await _registration(agent)
            watch = await links.whose(registration.api_key, registration.host_name)
    except NotRegistered as refusal:
        links.refused(address, refusal.message)
        await _refuse(agent, refusal.message)
        return
    except Over:
        return
    agent.called = registration.host_name
    try:
        watch.linked(agent, registration.at)
        links.taken(watch, agent, InstancesUpdate(registration.at, registration.listing))
        await agent.say(write(acknowledged(watch)))
        await _listen(links, watch, agent)
    except Over:
        await agent.close(ENDED, agent.ended)
    finally:
        watch.unlinked(agent)


async def _registration(agent: Conversation) -> Registration:
    try:
        return read_registration(await agent.hear(REGISTRATION_SECONDS))
    except TimeoutError:
        raise NotRegistered(TIMED_OUT) from None


async def _refuse(agent: Conversation, why: str) -> None:
    try:
        await agent.say(write(Refusal(why)))
    except Over:
        return
    await agent.close(REFUSED, "not registered")


async def _listen(links: Links, watch: HostWatch, agent: Conversation) -> None:
    """Raises Over at the end."""
    allowance, now = links.allowance(), asyncio.get_running_loop().time
    frames = 0
    while True:
        try:
            frame = await agent.hear(KEEPALIVE_SECONDS)
        except TimeoutError:
            watch.hushed(agent)
            await agent.say(write(Keepalive()))
            continue
        try:
            for message in read_frame(frame):
                links.taken(watch, agent, message)
                if isinstance(message, Ping):
                    await agent.say(PONG)
        except Unreadable as error:
            links.garbled(watch, error.message)
        frames += 1
        pause = allowance.spend(len(frame), now())
        if pause or frames % TOGETHER == 0:
            await agent.rest(pause)
