"""How much of a request is taken in, in how much time, and what becomes of one that stops half way."""

import asyncio
import tracemalloc
from typing import Any

import pytest

from asgi_call import CHAT, Call, post, routed
from solar import Router
from solar.testing import FakeBackend, faults


async def test_a_declared_body_that_is_too_large_is_refused_before_it_is_read() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, max_body=1000) as router:
        request = Call(router, "POST", CHAT, headers=[("content-length", "1001")])
        reply = await request.answered()  # nothing of the body was sent
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")
        assert not request.asked_for_body.is_set()


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, max_body=1000) as router:
        request = Call(router, "POST", CHAT, headers=[("transfer-encoding", "chunked")])
        request.send(b" " * 600, more=True)
        request.send(b" " * 600, more=True)
        reply = await request.answered()
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")


async def test_a_body_of_exactly_the_limit_passes() -> None:
    body = b'{"model":"m"}'.ljust(1000)
    async with FakeBackend(["m"]) as fake, routed(fake, max_body=1000) as router:
        assert (await post(router, body)).status == 200
        assert fake.inference[-1].body == body


async def test_a_body_in_tiny_pieces_takes_no_more_memory_than_its_bytes() -> None:
    pieces = 10_000
    came = 0

    async def receive() -> dict[str, Any]:
        nonlocal came
        came += 1
        await asyncio.sleep(0)
        return {"type": "http.request", "body": bytes((32, 10)), "more_body": came < pieces}

    async def send(message: Any) -> None:
        """The answer, a 400, does not matter here."""

    async with Router() as router:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}
        await router(scope, receive, send)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak - before < 250_000  # kept apart, they would take twice that


async def test_a_declared_petabyte_is_a_413() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        for length in ("1" + "0" * 15, "9" * 5000):
            assert (await Call(router, "POST", CHAT, headers=[("content-length", length)]).answered()).status == 413


async def test_a_body_that_stops_coming_is_a_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.edge.asgi.BODY_SECONDS", 0.02)
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        request = Call(router, "POST", CHAT, headers=[("content-length", "900")])
        request.send(b'{"model":"m"}', more=True)
        reply = await request.answered()
        assert (reply.status, reply.error["code"]) == (408, "body_timeout")
        assert router._running is not None
        assert router._running.relay.buffered == 0


async def test_a_client_that_left_before_it_was_refused_is_no_error_of_ours() -> None:
    class Gone(Call):
        async def _send(self, message: dict[str, Any]) -> None:
            raise ConnectionResetError

    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        for path in (CHAT, "/v1/models", "/nowhere"):
            request = Gone(router, "POST", path)
            request.send(b'{"model":"m"}')
            await request.answered()
        assert router.backends[0].in_flight == 0


async def test_bodies_that_do_not_fit_in_memory_together_are_a_503_and_the_room_comes_back() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, max_buffered_bytes=2000) as router:
        assert router._running is not None
        relay = router._running.relay
        length = [("content-length", "900")]
        waiting = [Call(router, "POST", CHAT, headers=length) for _ in range(2)]
        for request in waiting:
            await request.asked_for_body.wait()
        assert relay.buffered == 1800  # what was promised counts before it comes
        refused = await post(router, b'{"model":"m"}'.ljust(900))
        assert (refused.status, refused.error["code"]) == (503, "buffers_full")
        assert int(refused["retry-after"] or 0) >= 1
        for request in waiting:
            request.send(b'{"model":"m"}'.ljust(900))
            assert (await request.answered()).status == 200
        assert relay.buffered == 0
        assert (await post(router, b'{"model":"m"}'.ljust(900))).status == 200


async def test_chunked_bodies_take_their_room_as_they_arrive() -> None:
    async with FakeBackend(["m"]) as fake, routed(fake, max_buffered_bytes=2000) as router:
        assert router._running is not None
        relay = router._running.relay
        first, second = (Call(router, "POST", CHAT, headers=[("transfer-encoding", "chunked")]) for _ in range(2))
        first.send(b'{"model":"m"}'.ljust(1500), more=True)
        second.send(b'{"model":"m"}'.ljust(400), more=True)
        second.send(b" " * 400, more=True)
        assert (await second.answered()).status == 503
        assert relay.buffered == 1500
        first.send(b"")
        assert (await first.answered()).status == 200
        assert relay.buffered == 0


@pytest.mark.parametrize("how", ["refused", "rejected", "unknown", "unreadable", "left"])
async def test_the_room_of_a_body_comes_back_however_its_request_ends(how: str) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        assert router._running is not None
        if how == "refused":
            fake.die()
        elif how == "rejected":
            fake.script(faults.status(400))
        body = {"unknown": b'{"model":"other"}', "unreadable": b"{"}.get(how, b'{"model":"m"}')
        if how == "left":
            request = Call(router, "POST", CHAT, headers=[("content-length", "900")])
            request.send(body, more=True)
            request.leave()
            await request.answered()
        else:
            assert (await post(router, body)).status >= 400
        assert router._running.relay.buffered == 0


# --- a body that was cut off


@pytest.mark.parametrize("headers", [[("content-length", "13")], [("transfer-encoding", "chunked")], []])
async def test_a_body_that_was_cut_off_is_never_forwarded(headers: list[tuple[str, str]]) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        records: list[Any] = []
        router.on_record = records.append
        request = Call(router, "POST", CHAT, headers=headers)
        request.send(b'{"model":"m"}', more=True)  # it would be complete by its looks
        request.leave()
        reply = await request.answered()
        assert (reply.status, fake.inference) == (0, [])
        assert (records[0].status, records[0].end) == (499, "client_gone")


@pytest.mark.parametrize("length", [12, 14])
async def test_a_body_whose_length_is_not_the_declared_one_is_never_forwarded(length: int) -> None:
    async with FakeBackend(["m"]) as fake, routed(fake) as router:
        request = Call(router, "POST", CHAT, headers=[("content-length", str(length))])
        request.send(b'{"model":"m"}')
        await request.answered()
        assert not fake.inference
