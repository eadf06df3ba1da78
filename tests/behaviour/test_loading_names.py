from asgi_call import post, routed
from solar.testing import FakeBackend

ASK = {"model": "m", "messages": []}


async def test_a_loading_backend_that_names_its_model_is_loading_for_it_and_404_for_others() -> None:
    async with FakeBackend(["m"], kind="llamacpp", loading=True) as fake, routed(fake) as router:
        loading, unknown = await post(router, ASK), await post(router, {**ASK, "model": "typo"})
    assert (loading.status, loading.error["code"], loading["retry-after"]) == (503, "model_loading", "2")
    assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")


async def test_a_model_that_a_silent_loading_backend_may_bring_is_not_called_unknown() -> None:
    async with FakeBackend([], kind="llamacpp", loading=True) as fake, routed(fake) as router:
        reply = await post(router, ASK)
    assert (reply.status, reply.error["code"]) == (503, "model_loading")


async def test_a_request_waits_for_a_model_that_loads_where_that_is_wanted() -> None:
    async with FakeBackend([], kind="llamacpp", loading=True) as fake, routed(fake, hold_while_loading=True) as router:
        fake.models, fake.loading = ["m"], False
        reply = await post(router, ASK)
    assert reply.status == 200
