"""Instances of original agents, created and started over the API, behind one OpenAI endpoint."""

from openai.types.chat import ChatCompletionUserMessageParam
from scenes import MODEL, Scene

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "Say hello."}]


def test_a_started_instance_answers_the_official_client(shared: Scene) -> None:
    with shared.solar.openai() as client:
        answer = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=8, temperature=0)
        assert [model.id for model in client.models.list()] == [MODEL]
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 8


def test_a_stream_comes_in_pieces_and_ends_as_it_should(shared: Scene) -> None:
    with shared.solar.openai() as client:
        stream = client.chat.completions.create(model=MODEL, messages=HELLO, max_tokens=16, temperature=0, stream=True)
        pieces = [choice for chunk in stream for choice in chunk.choices]
    assert len([piece for piece in pieces if piece.delta.content]) > 4
    assert pieces[-1].finish_reason == "length"


def test_what_an_instance_does_and_did_is_asked_through_the_gateway(shared: Scene) -> None:
    solar, one = shared.solar, shared.one
    assert solar.chat(MODEL, max_tokens=4).status_code == 200
    told = solar.call("GET", one.path)
    assert (told["id"], told["status"], told["config"]["alias"]) == (one.instance_id, "running", MODEL)
    assert solar.call("GET", f"{one.path}/state")["instance_id"] == one.instance_id
    lines = [line["line"] for line in solar.call("GET", f"{one.path}/logs")]
    assert any("processing task" in line for line in lines)


def test_an_agents_refusal_is_kept_as_it_is(shared: Scene) -> None:
    solar, one = shared.solar, shared.one
    direct = f"{one.agent.url}/instances/{one.instance_id}"
    with_key = {"X-API-Key": one.agent.key}
    said = solar.http.delete(one.path)  # it runs
    itself = solar.http.delete(direct, headers=with_key)
    assert (said.status_code, said.json()["detail"]) == (itself.status_code, itself.json()["detail"])
    assert said.status_code == 400
    assert solar.http.get(f"/hosts/{one.host_id}/instances/nobody").status_code == 404


def test_no_page_shows_a_key(shared: Scene) -> None:
    solar, one = shared.solar, shared.one
    pages = ("/hosts", f"/hosts/{one.host_id}", f"/hosts/{one.host_id}/instances", one.path, f"{one.path}/logs")
    more = ("/gateway/stats", "/gateway/requests", "/gateway/events/recent", "/metrics", "/v1/models", "/openapi.json")
    for page in (*pages, *more):
        answer = solar.http.get(page)
        assert answer.status_code == 200, page
        assert one.agent.key not in answer.text, page


def test_an_agent_that_hangs_keeps_no_request_waiting(shared: Scene) -> None:
    solar, one = shared.solar, shared.one
    with one.agent.frozen():
        assert [solar.chat(MODEL).status_code for _ in range(3)] == [200] * 3
        assert solar.call("GET", "/hosts")[0]["id"] == one.host_id
    assert solar.call("GET", one.path)["status"] == "running"
