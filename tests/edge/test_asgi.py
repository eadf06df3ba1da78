import asyncio

from solar import Backend, Router
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
