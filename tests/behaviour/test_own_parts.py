"""Discoverers, policies and transports that a user brings along."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateways import until

from asgi_call import CHAT, Call, post, routed
from solar import (
    Backend,
    BackendFound,
    BackendLost,
    BackendsListed,
    Change,
    Failure,
    Outcome,
    Router,
    Sink,
    SolarError,
    UpstreamRequest,
)
from solar.testing import FakeBackend, FakeDiscoverer

# --- discoverers


class Told:
    """A discoverer that says what a test tells it to."""

    name = "told"

    def __init__(self) -> None:
        self.changes: asyncio.Queue[Change | Exception | None] = asyncio.Queue()
        self.watched = 0
        self.closed = 0

    async def watch(self) -> AsyncIterator[Change]:
        self.watched += 1
        try:
            while (change := await self.changes.get()) is not None:
                if isinstance(change, Exception):
                    raise change
                yield change
        finally:
            self.closed += 1


def ids(router: Router) -> list[str]:
    return [status.backend.id for status in router.backends]


async def test_a_discoverers_backends_come_and_go() -> None:
    told = Told()
    a, b, c = (Backend(name, f"http://127.0.0.1:{port}") for name, port in (("a", 9), ("b", 10), ("c", 11)))
    async with Router(discoverers=[told]) as router:
        for change, there in (
            (BackendFound(a), ["a"]),
            (BackendFound(b), ["a", "b"]),
            (BackendLost("a"), ["b"]),
            (BackendLost("never there"), ["b"]),
            (BackendsListed((a, c)), ["a", "c"]),
            (BackendsListed(()), []),
        ):
            told.changes.put_nowait(change)
            await until(lambda there=there: sorted(ids(router)) == there)
    assert (told.watched, told.closed) == (1, 1)


async def test_what_a_discoverer_finds_is_routable_and_says_who_found_it() -> None:
    told = Told()
    async with FakeBackend(["m"]) as fake, Router(discoverers=[told]) as router:
        told.changes.put_nowait(BackendFound(Backend("one", fake.url)))
        await until(lambda: router.backends and router.backends[0].state == "healthy")
        assert router.backends[0].backend.source == "told"
        assert (await post(router)).status == 200


async def test_a_discoverer_that_fails_is_started_again_and_keeps_what_it_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told()
    a, b = Backend("a", "http://127.0.0.1:9"), Backend("b", "http://127.0.0.1:10")
    async with Router(discoverers=[told]) as router:
        for change in (BackendFound(a), OSError("no such socket"), BackendFound(b)):
            told.changes.put_nowait(change)
        await until(lambda: told.closed == 1)
        assert ids(router) == ["a"]
        await until(lambda: ids(router) == ["a", "b"])
        assert told.watched == 2
    assert "discoverer=told failed" in caplog.text
    assert "no such socket" in caplog.text


async def test_a_discoverer_that_ends_leaves_what_it_found() -> None:
    told = Told()
    async with Router(discoverers=[told]) as router:
        told.changes.put_nowait(BackendFound(Backend("a", "http://127.0.0.1:9")))
        told.changes.put_nowait(None)
        await until(lambda: told.closed == 1)
        assert ids(router) == ["a"]


async def test_a_start_waits_until_the_discoverers_have_told_and_all_was_asked() -> None:
    told = FakeDiscoverer()
    async with FakeBackend(["m"]) as fake:
        told.listed(Backend("a", fake.url))
        async with Router(discoverers=[told]) as router:
            assert [(one.backend.id, one.state) for one in router.backends] == [("a", "healthy")]


async def test_a_discoverer_that_fails_at_once_holds_no_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.router.FIRST_LOOK", 600.0)
    told = FakeDiscoverer()
    told.fails(SolarError("there is no engine"))
    async with asyncio.timeout(10), Router(discoverers=[told]):
        assert told.watched == 1


async def test_one_engine_that_two_discoverers_found_is_one_backend() -> None:
    first, second = Told(), Told()
    second.name = "docker"
    async with Router(discoverers=[first, second]) as router:
        first.changes.put_nowait(BackendFound(Backend("mine", "http://127.0.0.1:9")))
        second.changes.put_nowait(BackendFound(Backend("container", "http://localhost:9/v1")))
        await until(lambda: ids(router) == ["container"])  # docker's word comes before an unknown source's
        second.changes.put_nowait(BackendLost("container"))
        await until(lambda: ids(router) == ["mine"])


# --- a policy and a transport of one's own


async def test_a_policy_of_ones_own_decides() -> None:
    def last_by_name(candidate: Any, affinity: int) -> int:
        return -ord(candidate.backend.id[0])

    async with FakeBackend(["m"]) as one, FakeBackend(["m"]) as two, routed(one, two, policy=last_by_name) as router:
        for _ in range(3):
            assert (await post(router))["x-solar-backend"] == "two"


class Scripted:
    """A transport without a network: answers what a test says, at once or when it says so."""

    def __init__(self, *, later: bool = False) -> None:
        self.later = later
        self.sinks: list[Sink] = []
        self.requests: list[UpstreamRequest] = []
        self.calls: list[ScriptedCall] = []

    def send(self, request: UpstreamRequest, sink: Sink) -> "ScriptedCall":
        call = ScriptedCall()
        if request.method == b"GET":
            body = b'{"data":[{"id":"m"}]}'
            sink.head(200, [], len(body))
            sink.chunk(body)
            sink.end()
            return call
        self.requests.append(request)
        self.calls.append(call)
        self.sinks.append(sink)
        if not self.later:
            self.answer(sink)
        return call

    def answer(self, sink: Sink) -> None:
        sink.head(200, [(b"content-type", b"text/event-stream")], None)
        sink.chunk(b'data: {"choices":[]}\n\n')
        sink.chunk(b"data: [DONE]\n\n")
        sink.end()

    async def close(self) -> None:
        """Nothing is open."""


class ScriptedCall:
    def __init__(self) -> None:
        self.aborted = False

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None:
        self.aborted = True

    def unacknowledged(self) -> bool:
        return False


STREAM = b'{"model":"m","stream":true}'


@pytest.mark.parametrize("whose", ["backend", "router"])
async def test_a_transport_may_answer_within_send(whose: str) -> None:
    own = Scripted()
    if whose == "backend":
        router = Router([Backend("one", "http://nowhere", upstream=own)])
    else:
        router = Router([Backend("one", "http://nowhere")], upstream=own)
    async with router:
        reply = await post(router, STREAM)
        assert (reply.status, reply.body) == (200, b'data: {"choices":[]}\n\ndata: [DONE]\n\n')
        assert (own.requests[0].target, own.requests[0].body) == (CHAT.encode(), STREAM)
        assert router.backends[0].in_flight == 0


async def test_a_transport_may_answer_later() -> None:
    own = Scripted(later=True)
    async with Router([Backend("one", "http://nowhere", upstream=own)]) as router:
        request = Call(router, "POST", CHAT)
        request.send(STREAM)
        await until(lambda: own.sinks)
        assert router.backends[0].in_flight == 1
        own.answer(own.sinks[0])
        assert (await request.answered()).body.endswith(b"[DONE]\n\n")
        assert router.backends[0].in_flight == 0


async def test_a_transport_hears_that_the_client_left() -> None:
    own = Scripted(later=True)
    async with Router([Backend("one", "http://nowhere", upstream=own)]) as router:
        request = Call(router, "POST", CHAT)
        request.send(STREAM)
        await until(lambda: own.calls)
        request.leave()
        await request.answered()
        assert own.calls[0].aborted
        assert router.backends[0].in_flight == 0


async def test_a_transport_that_fails_within_send_is_a_failed_attempt() -> None:
    class Broken(Scripted):
        def answer(self, sink: Sink) -> None:
            sink.failed(Failure(Outcome.REFUSED, "the cable is out"))

    async with FakeBackend(["m"]) as fake:
        broken = Backend("broken", "http://nowhere", upstream=Broken(), priority=-1)
        async with Router([broken, Backend("one", fake.url)]) as router:
            reply = await post(router)
            assert (reply.status, reply["x-solar-backend"], reply["x-solar-attempts"]) == (200, "one", "2")
        async with Router([broken]) as router:
            assert (await post(router)).status == 503


async def test_a_transport_may_fail_after_it_has_begun() -> None:
    own = Scripted(later=True)
    async with Router([Backend("one", "http://nowhere", upstream=own)]) as router:
        request = Call(router, "POST", CHAT)
        request.send(STREAM)
        await until(lambda: own.sinks)
        own.sinks[0].head(200, [(b"content-type", b"text/event-stream")], None)
        own.sinks[0].chunk(b'data: {"choices":[]}\n\n')
        own.sinks[0].failed(Failure(Outcome.RESET, "the cable is out"))
        reply = await request.answered()
        assert not reply.complete
        assert b'"upstream_cut"' in reply.body
        assert b"[DONE]" not in reply.body
