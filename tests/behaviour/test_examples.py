"""The examples do what they say."""

import asyncio
import runpy
from pathlib import Path
from typing import Any

import pytest
from gateways import until

from asgi_call import get, lifespan, post
from solar import Backend, Router
from solar.testing import FakeBackend, faults

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str) -> dict[str, Any]:
    """What an example defines."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name=name)


async def test_custom_discoverer_follows_what_its_command_prints(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "jobs.txt"
    async with FakeBackend(["m"]) as one, FakeBackend(["m"]) as two:
        file.write_text(f"one {one.url}\n")
        discoverer = example("custom_discoverer")["Printed"]("cat", str(file), every=0.01)
        async with Router(discoverers=[discoverer]) as router:
            await until(lambda: router.backends and router.backends[0].state == "healthy")
            assert (await post(router))["x-solar-backend"] == "one"
            file.write_text(f"two {two.url}\n\n")
            await until(lambda: [status.backend.id for status in router.backends] == ["two"])
            file.unlink()
            await until(lambda: "discoverer=cat failed" in caplog.text)
            assert [status.backend.id for status in router.backends] == ["two"]


async def test_custom_policy_fills_one_machine_first() -> None:
    async with FakeBackend(["m"]) as one, FakeBackend(["m"]) as two:
        backends = [
            Backend("box-1", one.url, max_in_flight=2, host="a"),
            Backend("box-2", two.url, max_in_flight=2, host="b"),
        ]
        one.always(faults.stall_after(0))
        async with Router(backends, policy=example("custom_policy")["pack"]) as router:
            asked = []
            for count, fake in ((1, one), (2, one), (1, two)):
                asked.append(asyncio.get_running_loop().create_task(post(router, b'{"model":"m","stream":true}')))
                await fake.wait_for(lambda fake=fake, count=count: len(fake.inference) == count)
            one.release()
            await asyncio.gather(*asked)
            assert (len(one.inference), len(two.inference)) == (2, 1)


async def test_custom_upstream_repeats_what_it_is_told() -> None:
    parrot = Backend("parrot", "http://parrot.internal", upstream=example("custom_upstream")["Parrot"]())
    async with Router([parrot]) as router:
        assert [model["id"] for model in (await get(router, "/v1/models")).json["data"]] == ["parrot"]
        payload = {"model": "parrot", "messages": [{"role": "user", "content": "hello"}]}
        assert (await post(router, payload)).json["choices"][0]["message"]["content"] == "hello"
        assert (await post(router, payload, "/v1/embeddings")).status == 404


async def test_mount_starlette_serves_models_below_its_own_pages() -> None:
    async with FakeBackend(["m"]) as fake:
        app = example("mount_starlette")["application"](Router([Backend("my-llm", fake.url)]))
        async with lifespan(app):
            assert (await post(app, path="/llm/v1/chat/completions")).status == 200
            assert b"/llm/v1" in (await get(app, "/")).body


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_every_example_is_run_here(path: Path) -> None:
    assert f"test_{path.stem}_" in Path(__file__).read_text()
