"""A real llama-server, found by asking."""

import asyncio

from gateway import until
from llama_server import MODEL_ID, Llamas, LlamaServer

from solar import Router
from solar.discovery.asking import Asked, Asker
from solar.discovery.local import LocalDiscoverer


async def ask(url: str) -> Asked:
    async with Asker() as asker:
        return await asker.ask(url, named=False)


async def test_it_is_told_by_asking_it_and_its_model_too(pair: tuple[LlamaServer, LlamaServer]) -> None:
    told = await ask(pair[0].url)
    assert (told.answered, told.type, told.models) == (True, "llamacpp", (MODEL_ID,))
    assert told.outcome == f"llamacpp, with {MODEL_ID}"


async def test_behind_a_key_it_is_told_too(llama: Llamas) -> None:
    server = llama("locked", "--api-key", "secret")
    await server.ready()
    told = await ask(server.url)
    assert (told.answered, told.type) == (True, "llamacpp")


async def test_while_it_loads_it_has_answered(llama: Llamas) -> None:
    held = llama.hold_model()
    server = llama("slow", *held.flags)
    await until(lambda: server.health(0.2) == 503)
    told = await ask(server.url)
    assert told.answered
    assert told.type in ("llamacpp", None)  # some builds list their model while it loads, others answer 503
    held.release()
    await server.ready()
    assert (await ask(server.url)).type == "llamacpp"


async def test_it_is_found_on_its_port_lost_with_it_and_found_again(llama: Llamas) -> None:
    server = llama()
    await server.ready()
    found = [f"llamacpp-{server.port}"]
    async with Router(discoverers=[LocalDiscoverer([server.port], every=0.5)], health_check_interval=1) as router:

        def ids() -> list[str]:
            return [status.backend.id for status in router.backends]

        await until(lambda: ids() == found and router.backends[0].state == "healthy")
        server.kill()
        await until(lambda: ids() == [])
        await asyncio.to_thread(server.restart)
        await until(lambda: ids() == found and router.backends[0].state == "healthy")
