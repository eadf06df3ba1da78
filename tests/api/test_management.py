import asyncio
import json

import pytest
from managed import KEY, Managed

from asgi_call import Reply
from solar.control.api.table import OPERATIONS
from solar.testing import FakeAgent

SECRET = "the-agents-secret-key"


async def registered(api: Managed, agent: FakeAgent) -> str:
    body = {"name": "studio", "url": agent.url, "api_key": agent.api_key}
    answer = await until_ready(api, "POST", "/hosts", json.dumps(body).encode())
    assert answer.status == 200, answer.body
    host_id: str = answer.json["host"]["id"]
    return host_id


async def until_ready(api: Managed, method: str, path: str, body: bytes = b"") -> Reply:
    async with asyncio.timeout(20):
        while (answer := await api.ask(method, path, body)).status == 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return answer


async def test_every_route_needs_the_key_but_those_that_describe_them(api: Managed) -> None:
    for operation in OPERATIONS:
        assert (await api.ask(operation.method, operation.path, key=None)).status == 401
        assert (await api.ask(operation.method, operation.path, key="another")).status == 401
    for path in ("/openapi.json", "/docs"):
        assert (await api.ask("GET", path, key=None)).status == 200


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://solar.test:81", "http://[", ""])
async def test_a_page_of_another_origin_is_refused_even_with_the_key(api: Managed, origin: str) -> None:
    answer = await api.ask("GET", "/hosts", origin=origin)
    assert (answer.status, answer.error["code"]) == (403, "foreign_host")
    assert answer["access-control-allow-origin"] is None
    assert (await api.ask("OPTIONS", "/hosts", key=None, origin=origin)).status == 403


async def test_a_page_of_our_own_is_let_in_and_no_other_hears_of_it(api: Managed) -> None:
    answer = await api.ask("GET", "/hosts", origin="http://solar.test")
    assert answer.status == 200
    assert answer["access-control-allow-origin"] is None
    assert answer["cache-control"] == "no-store"
    assert answer["x-request-id"]


@pytest.mark.parametrize("path", ["/hosts/a/b/c", "/gateway", "/gateway/nothing", "/docs/x"])
async def test_an_unknown_path_is_said_as_everywhere(api: Managed, path: str) -> None:
    answer = await api.ask("GET", path)
    assert (answer.status, answer.json["error"]["code"]) == (404, "unknown_path")


async def test_a_wrong_method_is_told_which_are_right(api: Managed) -> None:
    answer = await api.ask("PUT", "/hosts")
    assert (answer.status, answer["allow"]) == (405, "GET, HEAD, OPTIONS, POST")
    assert (await api.ask("OPTIONS", "/hosts", key=None)).status == 204


async def test_a_body_that_is_too_large_is_refused(api: Managed) -> None:
    answer = await api.ask("POST", "/hosts", b" " * (1 << 20) + b"{}")
    assert (answer.status, answer.json["error"]["code"]) == (413, "body_too_large")


async def test_no_answer_of_any_route_holds_a_registered_key(api: Managed) -> None:
    async with FakeAgent("v1", api_key=SECRET) as agent:
        host_id = await registered(api, agent)
        instance = await agent.add("llama:8b", start=False)
        said = []
        for operation in sorted(OPERATIONS, key=lambda one: (one.method == "DELETE", -len(one.path))):
            path = operation.path.format(host_id=host_id, instance_id=instance.id)
            body = json.dumps({"config": {"model": "/m.gguf", "alias": "a", "api_key": SECRET}}).encode()
            if operation.path == "/hosts":
                body = json.dumps({"name": "again", "url": agent.url, "api_key": SECRET}).encode()
            said.append((await api.ask(operation.method, path, body)).body)
        shown = b"".join(said)
        assert SECRET.encode() not in shown
        assert b"key-of-llama" not in shown
        assert KEY.encode() not in shown


async def test_what_an_agent_says_no_to_keeps_its_status_and_its_words(api: Managed) -> None:
    async with FakeAgent("v2", api_key=SECRET) as agent:
        host = f"/hosts/{await registered(api, agent)}"
        answer = await api.ask("GET", f"{host}/instances/none")
        assert answer.status == 404
        assert answer.json["detail"] == "Instance not found"
        assert answer.json["error"]["message"] == "Instance not found"
        assert answer.json["error"]["code"] == "agent_error"
        assert (await api.ask("GET", f"{host}/memory")).status == 503
        running = await agent.add("llama:8b")
        assert (await api.ask("DELETE", f"{host}/instances/{running.id}")).status == 400


async def test_an_agent_that_is_gone_is_a_502_that_says_so(api: Managed) -> None:
    async with FakeAgent("v2", api_key=SECRET) as agent:
        host = f"/hosts/{await registered(api, agent)}"
    answer = await api.ask("GET", f"{host}/instances")
    assert (answer.status, answer.json["error"]["code"]) == (502, "host_unreachable")


async def test_one_host_has_one_entry_and_none_that_is_forgotten(api: Managed) -> None:
    async with FakeAgent("v2", api_key=SECRET) as agent:
        host_id = await registered(api, agent)
        again = json.dumps({"name": "b", "url": f"{agent.url}/", "api_key": "k"}).encode()
        assert (await api.ask("POST", "/hosts", again)).status == 409
        renamed = await api.ask("PATCH", f"/hosts/{host_id}", b'{"name": "mini"}')
        assert renamed.json["host"]["name"] == "mini"
        assert [host["name"] for host in (await api.ask("GET", "/hosts")).json] == ["mini"]
        assert (await api.ask("POST", "/hosts/refresh-all")).json["results"][0]["status"] == "online"
        assert (await api.ask("DELETE", f"/hosts/{host_id}")).status == 200
        assert (await api.ask("GET", f"/hosts/{host_id}")).status == 404


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/gateway/requests?from=yesterday", "from"),
        ("/gateway/requests?from=2026-02-01&to=2026-01-01", "from"),
        ("/gateway/requests?limit=1001", "limit"),
        ("/gateway/requests?page=0", "page"),
        ("/gateway/requests?page=-1", "page"),
        ("/gateway/requests?status=good", "status"),
        ("/gateway/requests?staus=error", "staus"),
        ("/gateway/stats?from=0001-01-01", "from"),
        ("/gateway/events/recent?types=request_eror", "types"),
    ],
)
async def test_a_bad_parameter_is_a_400_that_names_it(api: Managed, path: str, param: str) -> None:
    answer = await api.ask("GET", path)
    assert (answer.status, answer.json["error"]["param"]) == (400, param)


async def test_a_date_is_a_whole_day_and_a_plus_may_be_bare(api: Managed) -> None:
    day = (await api.ask("GET", "/gateway/requests?from=2026-01-01&to=2026-01-01")).json
    assert (day["from"], day["to"]) == ("2026-01-01T00:00:00.000+00:00", "2026-01-02T00:00:00.000+00:00")
    zoned = (await api.ask("GET", "/gateway/stats?from=2026-01-01T02:00:00+02:00&to=2026-01-02")).json
    assert zoned["from"] == "2026-01-01T00:00:00.000+00:00"


async def test_the_description_names_every_route_and_every_schema_that_it_refers_to(api: Managed) -> None:
    described = (await api.ask("GET", "/openapi.json")).json
    listed = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert listed == {(operation.method, operation.path) for operation in OPERATIONS}
    text = json.dumps(described)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in described["components"]["schemas"]
    page = (await api.ask("GET", "/docs")).body.decode()
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert all(operation.path in page for operation in OPERATIONS)
