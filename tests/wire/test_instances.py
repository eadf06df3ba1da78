import json
from contextlib import suppress

import pytest
from any_json import bodies, values
from hypothesis import given, settings

from solar.core.backend import Backend
from solar.wire.address import agent_url
from solar.wire.instances import (
    MAX_INSTANCES,
    Home,
    Instance,
    backend_of,
    instances_of,
    read_instance,
    read_instances,
    updated,
    why_no_backend,
)
from solar.wire.reading import Unreadable

HOME = Home("gpu1", agent_url("https://gpu1/base"), "host-key", 2.0)
CHAT = ("/v1/chat/completions", "/v1/completions", "/v1/models")
V1 = {
    "id": "one",
    "config": {"model": "/m.gguf", "alias": "llama:8b", "ctx_size": 4096, "api_key": "its-own", "host": "0.0.0.0"},
    "status": "running",
    "port": 3500,
    "pid": 77,
    "created_at": "2025-11-09T10:00:00Z",
    "started_at": "2025-11-09T10:01:00Z",
    "error_message": None,
    "retry_count": 0,
}
FORK = {
    "id": "two",
    "config": {"backend_type": "sglang", "alias": "big", "model_source": "huggingface://a/b"},
    "status": "running",
    "port": 3501,
    "supported_endpoints": [*CHAT, "/v1/responses"],
    "served_model_name": "a/b",
    "context_size": 8192,
    "priority": "production",
    "gpu_ids": None,
}


def body(*records: object) -> bytes:
    return json.dumps(records).encode()


def one(record: object) -> Instance:
    (found,) = read_instances(body(record)).instances
    return found


def test_an_instance_of_v1_is_llamacpp_with_its_own_key() -> None:
    found = one(V1)
    assert (found.id, found.alias, found.engine, found.endpoints) == ("one", "llama:8b", "llamacpp", CHAT)
    assert (found.port, found.pid, found.context, found.model) == (3500, 77, 4096, "/m.gguf")
    assert found.api_key == "its-own"
    assert "its-own" not in repr(found)
    assert found.started_at == "2025-11-09T10:01:00Z"


def test_an_instance_of_the_fork_has_a_name_of_its_own_for_the_model() -> None:
    found = one(FORK)
    assert (found.model_name, found.context, found.model) == ("a/b", 8192, "huggingface://a/b")
    assert found.endpoints == (*CHAT, "/v1/responses")
    assert one(FORK | {"served_model_name": "big"}).model_name is None


@pytest.mark.parametrize(
    ("config", "engine"),
    [
        ({"model": "/m.gguf"}, "llamacpp"),
        ({"model_id": "a/b", "labels": ["x"]}, "huggingface_classification"),
        ({"model_id": "a/b", "labels": None}, "huggingface_causal"),
        ({}, "llamacpp"),
        ({"backend_type": "huggingface_embedding", "model_id": "a/b"}, "huggingface_embedding"),
        ({"backend_type": "newest"}, "newest"),
    ],
)
def test_a_record_without_an_engine_is_guessed_by_its_settings(config: dict[str, object], engine: str) -> None:
    assert one({"id": "x", "config": {"alias": "m", **config}}).engine == engine


@pytest.mark.parametrize(
    ("config", "told", "endpoints"),
    [
        ({}, None, CHAT),
        ({"model_type": "llm"}, [*CHAT, "/v1/embeddings", "/v1/rerank"], CHAT),
        ({"model_type": "embedding"}, [*CHAT, "/v1/embeddings", "/v1/rerank"], ("/v1/embeddings", "/v1/models")),
        ({"model_type": "reranker"}, [*CHAT, "/v1/embeddings", "/v1/rerank"], ("/v1/rerank", "/v1/models")),
        ({"model_type": "other"}, [], CHAT),
        ({"model_type": "embedding"}, ["/v1/embeddings", "/tokenize", 7], ("/v1/embeddings", "/tokenize")),
        ({"backend_type": "huggingface_classification"}, None, ("/v1/classify", "/v1/models")),
        ({"backend_type": "huggingface_embedding"}, [], ("/v1/embeddings", "/v1/models")),
        ({"backend_type": "huggingface_causal"}, None, CHAT),
        ({"backend_type": "vllm", "model_type": "embedding"}, None, CHAT),
    ],
)
def test_what_an_instance_can_be_asked_follows_from_what_it_was_started_for(
    config: dict[str, object], told: object, endpoints: tuple[str, ...]
) -> None:
    assert one({"id": "x", "config": config, "supported_endpoints": told}).endpoints == endpoints


def test_the_channels_flat_record_is_an_instance_too() -> None:
    flat = {"id": "x", "alias": "m", "status": "starting", "port": None, "backend_type": "huggingface_causal"}
    found = one(flat)
    assert (found.alias, found.status, found.engine, found.running) == ("m", "starting", "huggingface_causal", False)


def test_a_broken_instance_hides_none_of_the_others() -> None:
    found = read_instances(body(7, V1, {"alias": "no id"}, {"id": ""}, V1, FORK))
    assert [instance.id for instance in found.instances] == ["one", "two"]
    assert found.complaints == (
        "instance 0 has no id",
        "instance 2 has no id",
        "instance 3 has no id",
        "instance 4 has the id 'one' of an earlier one",
    )


def test_a_wrong_field_loses_none_of_the_others() -> None:
    wrong = {"id": "x", "config": {"alias": "m", "api_key": "k\n"}, "status": "running", "port": 70000, "pid": "many"}
    listing = read_instances(body(wrong, {"id": "y", "config": [], "port": "3500", "retry_count": 1.0}))
    first, second = listing.instances
    assert (first.alias, first.status, first.port, first.pid, first.api_key) == ("m", "running", None, None, None)
    assert (second.port, second.retry_count) == (3500, 1)
    assert listing.complaints == (
        "instance 'x': port must be from 1 to 65535; got 70000",
        "instance 'x': pid must be a whole number; got 'many'",
        "instance 'x': api_key must be printable ASCII; got something else",
        "instance 1: config must be an object; got []",
    )


def test_an_answer_is_a_list_or_an_object_that_holds_it() -> None:
    assert read_instances(b'{"instances": [{"id": "x"}]}').instances == (Instance("x"),)
    for wrong in (b"", b"null", b'{"detail": "no"}', b'"x"', b"[" * 100_000):
        with pytest.raises(Unreadable):
            read_instances(wrong)


def test_one_instance_is_read_bare_and_from_the_answer_to_a_command() -> None:
    wrapped = json.dumps({"instance": V1, "message": "started"}).encode()
    assert read_instance(wrapped) == read_instance(json.dumps(V1).encode()) == one(V1)
    for wrong in (b"[]", b"7", b'{"instance": {"alias": "m"}}'):
        with pytest.raises(Unreadable):
            read_instance(wrong)


def test_a_running_instance_is_a_backend_on_its_hosts_machine() -> None:
    assert backend_of(one(V1), HOME) == Backend(
        "gpu1/one",
        "http://gpu1:3500",
        type="llamacpp",
        api_key="its-own",
        models=("llama:8b",),
        host="gpu1",
        weight=2.0,
        source="fleet",
    )


def test_an_instance_without_a_key_takes_its_hosts() -> None:
    for key in (None, ""):
        backend = backend_of(one(V1 | {"config": {"alias": "m", "api_key": key}}), HOME)
        assert backend is not None
        assert backend.api_key == "host-key"


def test_clients_ask_by_the_alias_and_the_engine_hears_its_own_name() -> None:
    backend = backend_of(one(FORK), HOME)
    assert backend is not None
    assert (backend.type, backend.models, dict(backend.aliases)) == ("sglang", ("a/b",), {"big": "a/b"})


@pytest.mark.parametrize("missing", [{"status": "starting"}, {"port": None}, {"config": {"alias": ""}}])
def test_what_cannot_be_asked_is_no_backend(missing: dict[str, object]) -> None:
    assert backend_of(one(V1 | missing), HOME) is None


@pytest.mark.parametrize(("engine", "kind"), [("huggingface_causal", "generic"), ("newest", "auto"), ("vllm", "vllm")])
def test_an_engine_that_the_router_does_not_know_finds_out_by_asking(engine: str, kind: str) -> None:
    backend = backend_of(Instance("x", "m", "running", 3500, engine=engine), HOME)
    assert backend is not None
    assert backend.type == kind


@given(bodies)
@settings(deadline=None)
def test_any_bytes_are_instances_or_unreadable(body: bytes) -> None:
    for read in (read_instances, read_instance):
        with suppress(Unreadable):
            read(body)


@given(values)
@settings(deadline=None)
def test_whatever_an_agent_says_of_an_instance_it_can_be_asked_for_its_backend(value: object) -> None:
    running = value | {"status": "running", "port": 1} if isinstance(value, dict) else value
    for instance in instances_of([value, running]).instances:
        backend_of(instance, HOME)


def test_a_link_s_word_leaves_what_it_does_not_tell() -> None:
    full = one(V1 | {"config": {"backend_type": "llamacpp", **V1["config"], "model_type": "embedding"}})
    flat = {"id": "one", "alias": "llama:8b", "status": "running", "port": 3500, "supported_endpoints": list(CHAT)}
    other = {"id": "two", "alias": "b", "status": "stopped", "port": None}
    same, new = updated([full], instances_of([flat, other]).instances)
    assert same == full
    assert (new.id, new.status) == ("two", "stopped")
    (moved,) = updated([full], instances_of([flat | {"status": "stopped", "port": 3501}]).instances)
    assert (moved.status, moved.port, moved.pid, moved.started_at) == ("stopped", 3501, None, None)
    assert (moved.endpoints, moved.model, moved.api_key) == (full.endpoints, full.model, "its-own")
    (renamed,) = updated([full], instances_of([flat | {"alias": "c"}]).instances)
    assert (renamed.alias, renamed.model, renamed.api_key) == ("c", None, "its-own")
    assert updated([full], ()) == ()


def test_more_instances_than_a_machine_runs_are_left_out_with_a_word() -> None:
    listing = instances_of({"id": f"{n}"} for n in range(10_000))
    assert len(listing.instances) == MAX_INSTANCES
    assert listing.complaints == (f"there are more than {MAX_INSTANCES} instances: the others are left out",)


@pytest.mark.parametrize(
    ("instance", "why"),
    [
        (Instance("a", "m", "running", 3500), ""),
        (Instance("a", "m", "stopped", 3500), "stopped"),
        (Instance("a", "m", "failed", None, error_message="exited (1)"), "failed: exited (1)"),
        (Instance("a", "m", "running"), "its agent tells no port of it"),
        (Instance("a", "", "running", 3500), "it has no alias"),
    ],
)
def test_an_instance_that_is_no_backend_has_a_reason(instance: Instance, why: str) -> None:
    assert why_no_backend(instance) == why
    assert (backend_of(instance, HOME) is None) == bool(why)
