import asyncio
from typing import Any

import pytest

from solar.control.links.conversation import Conversation, Over


async def test_an_end_in_the_turn_in_which_its_time_is_over_is_an_end() -> None:
    silent: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def receive() -> dict[str, Any]:
        return await silent

    async def send(message: Any) -> None:
        raise AssertionError(message)

    agent = Conversation(receive, send)
    hearing = asyncio.create_task(agent.hear(0.01))  # noqa: TID251  # its turns are what is tested
    while agent._waiting is None or not agent._waiting.expired():  # noqa: ASYNC110  # it is of a turn
        await asyncio.sleep(0)
    agent.end("a newer link took its place")
    with pytest.raises(Over, match="newer link"):
        await hearing
