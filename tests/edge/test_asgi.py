import asyncio
import json
from typing import Any

import pytest
from garbage import left_to_the_collector

from asgi_call import CHAT, post, routed
from solar import Backend, Router
from solar.edge.heads import LONGEST, MOST
from solar.errors import InvalidSettings
from solar.testing import FakeBackend, faults

BODY = b'{"model":"m","stream":true,"messages":[]}'


async def test_the_application_returns_once_its_client_has_left() -> None:
    async with FakeBackend(models=["m"]) as fake, Router([Backend("a", fake.url)]) as router:
        fake.always(faults.stall_after(1))
        begun = asyncio.Event()
        messages = [{"type": "http.request", "body": BODY}]

        async def receive() -> dict[str, object]:
            if messages:
                return messages.pop()
            await begun.wait()
            return {"type": "http.disconnect"}

        async def send(message: object) -> None:
            begun.set()

        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": [], "query_string": b""}
        async with asyncio.timeout(5):
            await router(scope, receive, send)
            await fake.wait_for(lambda: fake.requests[-1].cancelled)
        assert router.backends[0].in_flight == 0


def known(router: Router) -> int:
    assert router._running is not None
    return len(router._running.door._known._known)


async def test_a_head_that_was_read_before_means_what_it_did_whatever_the_length() -> None:
    async with FakeBackend(models=["m"]) as fake, routed(fake) as router:
        for length in (1, 2000):
            payload = {"model": "m", "messages": [{"role": "user", "content": "x" * length}]}
            reply = await post(router, payload, headers=[("x-request-id", "mine"), ("user-agent", "a")])
            assert (reply.status, reply["x-request-id"]) == (200, "mine")
            assert fake.inference[-1].body == json.dumps(payload).encode()
            assert fake.inference[-1].header("user-agent") == "a"
        assert known(router) == 1


async def test_a_head_with_another_key_path_or_mount_point_is_another_one() -> None:
    right, wrong = [("authorization", "Bearer right")], [("authorization", "Bearer wrong")]
    async with FakeBackend(models=["m"]) as fake, routed(fake, api_keys=["right"]) as router:
        for _ in range(2):
            assert (await post(router, headers=right)).status == 200
            assert (await post(router, headers=wrong)).status == 401
            assert (await post(router, headers=[])).status == 401
            assert (await post(router, path="/v1/nowhere", headers=right)).status == 404
            assert (await post(router, path="/at" + CHAT, headers=right)).status == 404
            assert (await post(router, path="/at" + CHAT, root_path="/at", headers=right)).status == 200
        assert known(router) == 2


async def test_what_is_remembered_of_heads_is_bounded() -> None:
    async with FakeBackend(models=["m"]) as fake, routed(fake) as router:
        await post(router, headers=[("x-long", "x" * LONGEST)])
        assert known(router) == 0
        for number in range(MOST + 2):
            await post(router, b"{", headers=[("x-number", str(number))])
        assert known(router) == 2


async def test_a_request_that_is_over_is_out_of_memory_at_once() -> None:
    async with FakeBackend(models=["m"]) as fake, routed(fake) as router:
        await post(router)
        with left_to_the_collector() as left:
            await post(router)
        assert left.isdisjoint({"AsgiClient", "Exchange", "ClientRequest", "Attempt"})


async def test_a_body_may_come_as_whatever_holds_bytes() -> None:
    said = json.dumps({"model": "m", "messages": []}).encode()
    for kind in (bytearray, memoryview):
        async with FakeBackend(models=["m"]) as fake, routed(fake) as router:
            messages = [{"type": "http.request", "body": kind(said)}]
            sent: list[dict[str, object]] = []

            async def receive(messages: list[dict[str, object]] = messages) -> dict[str, object]:
                return messages.pop()

            async def send(message: dict[str, object], sent: list[dict[str, object]] = sent) -> None:
                sent.append(message)

            scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
            await router(scope, receive, send)
            assert sent[0]["status"] == 200
            assert fake.inference[-1].body == said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_body": 1e6}, "max_body must be a whole number"),
        ({"queue_limit": None}, "queue_limit must be a whole number"),
        ({"keepalive_seconds": None}, "keepalive_seconds must be a number of seconds"),
    ],
)
def test_a_number_that_is_none_is_refused_at_once(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        Router(**wrong)
