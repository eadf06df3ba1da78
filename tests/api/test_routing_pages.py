import asyncio
import json

from managed import Managed
from test_management import registered

from solar.core.backend import Backend
from solar.testing import FakeAgent, FakeBackend


async def test_backends_are_told_with_their_state_and_without_their_keys(api: Managed) -> None:
    async with FakeBackend(["m"], api_key="sk-secret", tokens=1) as well:
        await api.gateway.router.add_backend(Backend("well", well.url, api_key="sk-secret", aliases={"n": "m"}))
        await api.gateway.router.add_backend(Backend("dead", "http://127.0.0.1:9", host="there", max_in_flight=4))
        answer = await api.ask("GET", "/gateway/backends")
    first, second = answer.json["backends"]
    assert (first["id"], first["state"], first["models"], first["aliases"]) == ("well", "healthy", ["m"], {"n": "m"})
    assert (second["id"], second["state"], second["host"], second["max_in_flight"]) == ("dead", "down", "there", 4)
    assert second["reason"]
    assert answer.json["in_flight"] == 0
    assert b"sk-secret" not in answer.body


async def test_what_runs_is_told_without_asking_an_agent(api: Managed) -> None:
    async with FakeAgent(api_key="agent-secret") as agent:
        instance = await agent.add("llama:8b")
        host_id = await registered(api, agent)
        agent.freeze()
        async with asyncio.timeout(1):
            answer = await api.ask("GET", "/gateway/instances")
            backends = await api.ask("GET", "/gateway/backends")
            of_host = await api.ask("GET", f"/gateway/instances?host_id={host_id}")
    (told,) = answer.json["instances"]
    assert (told["host_id"], told["host_name"], told["id"]) == (host_id, "studio", instance.id)
    assert (told["alias"], told["status"], told["port"]) == ("llama:8b", "running", instance.port)
    (backend,) = backends.json["backends"]
    assert (backend["id"], backend["name"]) == (f"{host_id}/{instance.id}", "studio/llama:8b")
    assert of_host.json == answer.json
    assert b"agent-secret" not in answer.body


async def test_instances_of_a_host_that_is_not_there_are_a_404(api: Managed) -> None:
    await api.gateway._desk.fleet.ready()
    answer = await api.ask("GET", "/gateway/instances?host_id=x")
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (404, "host_not_found")


async def test_a_route_tells_who_would_be_asked_what_decides_and_why_others_are_not(api: Managed) -> None:
    async with FakeBackend(["m"]) as one, FakeBackend(["m"]) as two:
        add = api.gateway.router.add_backend
        await add(Backend("second", one.url, priority=1))
        await add(Backend("first", two.url, host="studio"))
        await add(Backend("dead", "http://127.0.0.1:9", models=["m"]))
        told = (await api.ask("GET", "/gateway/route?model=m")).json
    assert (told["gets"], told["status"], told["found"], told["taken"]) == ("sent", None, "exact", "first")
    first, second, dead = told["candidates"]
    assert (first["backend"], first["name"], first["host"]) == ("first", "first", "studio")
    assert first["values"]["priority"] == 0
    assert (second["backend"], second["values"]["priority"], second["why_not"]) == ("second", 1, None)
    assert (dead["backend"], dead["why_not"], dead["values"]) == ("dead", "down", {})
    assert dead["reason"]


async def test_a_route_of_an_unknown_model_is_the_answer_that_a_request_would_get(api: Managed) -> None:
    told = (await api.ask("GET", "/gateway/route?model=nobody")).json
    assert (told["gets"], told["status"], told["taken"], told["candidates"]) == ("no_such_model", 404, None, [])
    page = (await api.ask("GET", "/gateway/route?model=m&path=/v1/models")).json
    assert (page["gets"], page["status"]) == ("page", None)
    assert (await api.ask("GET", "/gateway/route")).status == 400
    assert (await api.ask("GET", "/gateway/route?model=m&modle=n")).status == 400


async def test_a_route_names_the_instances_that_would_have_the_model_if_they_ran(api: Managed) -> None:
    async with FakeAgent() as agent:
        stopped = await agent.add("llama:8b", start=False)
        await agent.add("other", start=False)
        host_id = await registered(api, agent)
        told = (await api.ask("GET", "/gateway/route?model=llama:8b")).json
    assert told["gets"] == "no_such_model"
    assert told["unrouted"] == [
        {"name": "studio/llama:8b", "host_id": host_id, "instance_id": stopped.id, "why": "stopped"}
    ]
