"""What is killed with -9, and what goes on all the same: the agent, its instance, the coordinator, one of two hosts."""

import pytest
from agent_process import until
from scenes import MODEL, Scene


def test_an_agent_that_is_killed_goes_offline_while_its_instance_serves_and_comes_back_by_itself(own: Scene) -> None:
    solar, one = own.solar, own.one
    one.agent.kill()
    until(lambda: solar.status(one.host_id) == "offline")
    for _ in range(3):
        assert solar.chat(MODEL).status_code == 200
    one.agent.start()
    until(lambda: solar.status(one.host_id) == "online", one.agent.tail)
    until(lambda: solar.chat(MODEL).status_code == 200, one.agent.tail)
    assert solar.call("GET", one.path)["status"] == "running"


def test_a_killed_instance_is_a_503_until_it_is_started_again(own: Scene) -> None:
    solar, one = own.solar, own.one
    one.agent.kill_engine()
    asked = [solar.chat(MODEL) for _ in range(5)]
    assert {answer.status_code for answer in asked} == {503}
    assert {answer.json()["error"]["code"] for answer in asked} == {"no_backend_available"}
    assert all("retry-after" in answer.headers for answer in asked)
    solar.call("POST", f"{one.path}/restart")
    until(lambda: solar.chat(MODEL).status_code == 200, one.agent.tail)


def test_a_stopped_and_deleted_instance_leaves_the_models(own: Scene) -> None:
    solar, one = own.solar, own.one
    assert solar.call("POST", f"{one.path}/stop")["instance"]["status"] == "stopped"
    until(lambda: solar.call("GET", "/v1/models")["data"] == [])
    assert solar.call("DELETE", one.path)["instance"]["id"] == one.instance_id
    assert solar.call("GET", f"/hosts/{one.host_id}/instances") == []
    assert one.agent.engines() == []
    assert solar.chat(MODEL).status_code == 404


def test_a_coordinator_that_is_killed_has_its_hosts_stats_and_requests_when_it_is_back(own: Scene) -> None:
    solar, one = own.solar, own.one
    assert [solar.chat(MODEL).status_code for _ in range(3)] == [200] * 3
    until(lambda: solar.call("GET", "/gateway/requests")["total"] == 3)
    before = solar.call("GET", "/gateway/requests")["items"]
    stats = solar.call("GET", "/gateway/stats")
    solar.kill()
    solar.start()
    (host,) = solar.call("GET", "/hosts")
    assert (host["id"], host["name"], host["url"]) == (one.host_id, one.agent.release.version, one.agent.url)
    assert solar.call("GET", "/gateway/requests")["items"] == before
    after = solar.call("GET", "/gateway/stats")
    assert (after["completed"], after["token_out_total"]) == (3, stats["token_out_total"]) == (3, 24)
    until(lambda: solar.chat(MODEL).status_code == 200)  # nobody had to tell it where


def by_host(both: Scene, number: int) -> list[str]:
    """Which hosts answered so many requests, one after the other."""
    answers = [both.solar.chat(MODEL, max_tokens=2) for _ in range(number)]
    assert [answer.status_code for answer in answers] == [200] * number
    return [answer.headers["x-solar-backend"].partition("/")[0] for answer in answers]


@pytest.mark.newer_python
def test_two_releases_share_one_model_and_one_takes_over_for_the_other(both: Scene) -> None:
    old, new = both.served
    assert sorted(by_host(both, 6)) == sorted([old.host_id, new.host_id] * 3)
    old.agent.kill_engine()
    assert set(by_host(both, 6)) == {new.host_id}
    both.solar.call("POST", f"{old.path}/restart")
    until(lambda: old.host_id in by_host(both, 2), old.agent.tail)
