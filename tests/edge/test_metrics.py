import re
import sys
from pathlib import Path
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from solar.core.record import End, Record
from solar.edge.exposition import Histogram
from solar.edge.metrics import BACKENDS_KEPT, MODELS_KEPT, TOGETHER, BackendView, Metrics, Snapshot

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"
OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"

BUSY = Snapshot(
    backends=[BackendView("a", "box", "healthy", 2, 5), BackendView("b", "box", "down", 0, 0)],
    waiting={"qwen3:8b": 3},
    buffered_bytes=4096,
    open_exchanges=5,
    upstream_connections=7,
)


def finished(
    endpoint: str = "chat",
    *,
    model: str = "qwen3:8b",
    backend: str = "a",
    status: int = 200,
    end: End = "success",
    stream: bool = False,
    tokens: tuple[int | None, int | None] = (None, None),
    first_byte_after: float | None = 0.25,
    queued: float = 0.0,
) -> Record:
    record = Record("r1", method="POST", path="/v1/x", endpoint=endpoint, client="127.0.0.1", started_at=100.0)
    record.resolved = model
    record.backend = backend
    record.attempts = 1 if backend else 0
    record.status = status
    record.end = end
    record.stream = stream
    record.events = 12 if stream else 0
    record.tokens_in, record.tokens_out = tokens
    record.queued = queued
    record.first_byte_at = None if first_byte_after is None else 100.0 + first_byte_after
    record.upstream_seconds = 0.249
    record.ended_at = 102.25
    return record


def metrics(view: Snapshot = BUSY) -> Metrics:
    return Metrics(lambda: view)


def used() -> Metrics:
    """Metrics in which every family has a sample."""
    used = metrics()
    used.closed(finished(stream=True, tokens=(30, 101), queued=0.7))
    used.closed(finished(stream=True))
    used.gap(0.02)
    used.retried("a", "reset")
    used.ejected("a")
    used.stalled("a")
    return used


def families(of: Metrics) -> dict[str, Metric]:
    return {family.name: family for family in parse_text(of.render(None)[0].decode())}


def samples(of: Metrics) -> set[Sample]:
    return {
        (s.name, tuple(sorted(s.labels.items())), s.value) for family in families(of).values() for s in family.samples
    }


def value(of: Metrics, name: str, **labels: str) -> float:
    found = [v for n, ls, v in samples(of) if n == name and labels.items() <= dict(ls).items()]
    return sum(found)


def label_values(of: Metrics, label: str) -> set[str]:
    return {dict(labels)[label] for _, labels, _ in samples(of) if label in dict(labels)}


# --- the documented names


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    rows = re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \| ([^|]*)\|", DOCS.read_text(), re.MULTILINE)
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def test_docs_and_exposition_name_the_same_metrics_types_and_labels() -> None:
    exposed = {}
    for family in families(used()).values():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        exposed[name] = (family.type, frozenset(labels))
        assert family.samples, name
        assert family.documentation, name
    assert exposed == documented()


def test_the_unit_in_the_docs_is_the_one_in_the_name() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \w+ \| [^|]*\| (\w*) ?\|", DOCS.read_text(), re.MULTILINE)
    for name, unit in rows:
        for of_time_or_size in ("seconds", "bytes"):
            assert name.endswith(f"_{of_time_or_size}") == (unit == of_time_or_size), name


def test_an_unused_router_exposes_every_family_too() -> None:
    assert set(families(metrics(Snapshot()))) == set(families(used()))


# --- formats


def test_openmetrics_is_sent_to_who_accepts_it() -> None:
    body, content_type = used().render(OPENMETRICS)
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    parsed = {family.name: family for family in parse_openmetrics(body.decode())}
    assert parsed["gen_ai_server_request_duration_seconds"].unit == "seconds"
    assert set(parsed) == {name.removesuffix("_total") for name in documented()}


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/plain;version=0.0.4", "text/plain; version=x"])
def test_all_others_get_the_text_format(accept: str | None) -> None:
    body, content_type = used().render(accept)
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert b"# EOF" not in body


def test_a_strange_version_in_accept_is_neither_an_error_nor_repeated() -> None:
    _, content_type = metrics().render("application/openmetrics-text; version=x\u2028y")
    assert content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"


def test_our_text_says_what_prometheus_client_says() -> None:
    ours = used()
    registry = CollectorRegistry()
    registry.register(ours)
    theirs = {
        (s.name, tuple(sorted(s.labels.items())), s.value)
        for family in parse_text(generate_latest(registry).decode())
        for s in family.samples
    }
    assert samples(ours) == theirs


@given(st.text(st.characters(blacklist_categories=()), min_size=1))
@settings(deadline=None, max_examples=50)
def test_any_model_name_leaves_the_exposition_readable(name: str) -> None:
    ours = metrics()
    ours.closed(finished(model=name))
    told = name.encode("utf-8", "replace").decode()
    body = ours.render(OPENMETRICS)[0].decode()
    models = {
        s.labels["gen_ai_request_model"] for f in parse_openmetrics(body) for s in f.samples if "error_type" in s.labels
    }
    assert models == {told}


# --- what is booked


def test_a_request_is_counted_by_endpoint_backend_status_and_end() -> None:
    ours = metrics()
    ours.closed(finished())
    ours.closed(finished())
    ours.closed(finished(status=200, end="broken"))
    ours.closed(finished(model="", backend="", status=404, end="rejected", first_byte_after=None))
    labels = {"endpoint": "chat", "backend": "a", "status": "200"}
    assert value(ours, "solar_requests_total", **labels, end="success") == 2
    assert value(ours, "solar_requests_total", **labels, end="broken") == 1
    assert value(ours, "solar_requests_total", backend="", status="404", end="rejected") == 1
    assert value(ours, "solar_attempts_total") == 3


def test_an_error_is_kept_apart_from_the_durations_of_successes() -> None:
    ours = metrics()
    ours.closed(finished("completions"))
    ours.closed(finished("completions", status=502, end="failed"))
    name = "gen_ai_server_request_duration_seconds"
    assert value(ours, f"{name}_count", error_type="", gen_ai_operation_name="text_completion") == 1
    assert value(ours, f"{name}_sum", error_type="failed") == 2.25


def test_only_streams_have_a_first_token_and_a_time_per_token() -> None:
    ours = metrics()
    ours.closed(finished(tokens=(30, 101)))
    assert value(ours, "gen_ai_server_time_to_first_token_seconds_count") == 0
    ours.closed(finished(stream=True, tokens=(30, 101)))
    assert value(ours, "gen_ai_server_time_to_first_token_seconds_sum") == 0.25
    assert value(ours, "gen_ai_server_time_per_output_token_seconds_sum") == 2.0 / 100


def test_an_error_answered_to_a_stream_is_no_first_token() -> None:
    ours = metrics()
    ours.closed(finished(stream=True, status=503, end="failed"))
    assert value(ours, "gen_ai_server_time_to_first_token_seconds_count") == 0


def test_a_broken_stream_says_nothing_about_the_time_per_token() -> None:
    ours = metrics()
    ours.closed(finished(stream=True, end="broken", tokens=(30, 101)))
    assert value(ours, "gen_ai_server_time_per_output_token_seconds_count") == 0


def test_tokens_are_counted_as_reported() -> None:
    ours = metrics()
    ours.closed(finished(tokens=(30, 101)))
    ours.closed(finished("embeddings", tokens=(8, None)))
    assert value(ours, "solar_tokens_total", direction="in", backend="a") == 38
    assert value(ours, "solar_tokens_total", direction="out", model="qwen3:8b") == 101
    assert value(ours, "gen_ai_client_token_usage_count", gen_ai_token_type="input") == 2
    assert value(ours, "gen_ai_client_token_usage_count", gen_ai_token_type="output") == 1


def test_events_count_only_where_no_tokens_were_reported() -> None:
    ours = metrics()
    ours.closed(finished(stream=True, tokens=(30, 101)))
    assert value(ours, "solar_stream_events_total") == 0
    ours.closed(finished(stream=True))
    assert value(ours, "solar_stream_events_total", backend="a", model="qwen3:8b") == 12


def test_overhead_needs_an_answer() -> None:
    ours = metrics()
    ours.closed(finished(end="client_gone", status=499, first_byte_after=None))
    assert value(ours, "solar_overhead_seconds_count") == 0
    ours.closed(finished())
    assert value(ours, "solar_overhead_seconds_sum") == pytest.approx(0.001)


def test_only_who_waited_is_in_the_queue_histogram() -> None:
    ours = metrics()
    ours.closed(finished())
    ours.closed(finished(queued=0.7))
    assert value(ours, "solar_queue_wait_seconds_count") == 1
    assert value(ours, "solar_queue_wait_seconds_bucket", le="1.0") == 1
    assert value(ours, "solar_queue_wait_seconds_bucket", le="0.5") == 0


def test_retries_ejections_and_stalls_are_counted_by_backend() -> None:
    ours = used()
    assert value(ours, "solar_retries_total", backend="a", outcome="reset") == 1
    assert value(ours, "solar_ejections_total", backend="a") == 1
    assert value(ours, "solar_stalls_total", backend="a") == 1


def test_a_gap_on_a_bound_falls_into_that_bound() -> None:
    ours = metrics()
    for seconds in (0.005, 0.0051, 500.0):
        ours.gap(seconds)
    assert value(ours, "solar_stream_gap_seconds_bucket", le="0.005") == 1
    assert value(ours, "solar_stream_gap_seconds_bucket", le="0.01") == 2
    assert value(ours, "solar_stream_gap_seconds_bucket", le="120.0") == 2
    assert value(ours, "solar_stream_gap_seconds_bucket", le="+Inf") == 3


def test_no_more_than_a_hundred_requests_wait_to_be_booked() -> None:
    ours = Metrics(Snapshot)
    for _ in range(TOGETHER):
        ours.closed(finished())
    assert ours.waiting == 0
    ours.closed(finished())
    assert ours.waiting == 1


def test_what_two_threads_settle_is_booked_once() -> None:
    ours, over, before = metrics(), Event(), sys.getswitchinterval()

    def scrape() -> None:
        while not over.is_set():
            ours.settle()

    other = Thread(target=scrape)
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        other.start()
        for number in range(20_000):
            ours.gap(0.01)
            if number % 50 == 0:
                ours.closed(finished())
                ours.settle()
    finally:
        sys.setswitchinterval(before)
        over.set()
        other.join()
    assert value(ours, "solar_stream_gap_seconds_count") == 20_000
    assert value(ours, "solar_requests_total") == 400


@given(st.lists(st.floats(min_value=0, max_value=10)))
@settings(deadline=None)
def test_every_value_is_in_exactly_one_place(values: list[float]) -> None:
    histogram = Histogram((0.5, 1.0, 5.0))
    for seen in values:
        histogram.observe(seen)
    up_to = [sum(seen <= bound for seen in values) for bound in (0.5, 1.0, 5.0, 10.0)]
    assert [sum(histogram.counts[: place + 1]) for place in range(4)] == up_to


def test_a_repr_tells_how_much_is_kept() -> None:
    ours = used()
    ours.settle()
    assert repr(ours) == "<Metrics 1 label sets, 1 backends>"
    assert repr(ours._gaps) == "<Histogram 1 values, 0.02 in all>"


# --- gauges


def test_gauges_are_read_at_the_scrape() -> None:
    now = [BUSY]
    ours = Metrics(lambda: now[0])
    assert value(ours, "solar_backend_in_flight", backend="a", host="box") == 2
    assert value(ours, "solar_backend_state", backend="b", state="down") == 1
    assert value(ours, "solar_requests_waiting", model="qwen3:8b") == 3
    now[0] = Snapshot(open_exchanges=1)
    assert value(ours, "solar_backend_in_flight") == 0
    assert value(ours, "solar_open_exchanges") == 1


def test_an_idle_backend_shows_zero_in_flight() -> None:
    assert ("solar_backend_in_flight", (("backend", "b"), ("host", "box")), 0.0) in samples(metrics())


# --- bounds


def test_more_models_than_labels_become_other() -> None:
    ours = metrics(Snapshot(waiting={"late-1": 1, "late-2": 2}))
    for number in range(MODELS_KEPT + 50):
        ours.closed(finished(model=f"m{number}"))
    models = label_values(ours, "gen_ai_request_model")
    assert len(models) == MODELS_KEPT + 1  # with "other"
    assert value(ours, "gen_ai_server_request_duration_seconds_count", gen_ai_request_model="other") == 50
    assert value(ours, "solar_requests_waiting", model="other") == 3


def test_a_name_that_no_backend_has_never_becomes_a_label() -> None:
    ours = Metrics(Snapshot, knows={"qwen3:8b"}.__contains__)
    ours.closed(finished())
    refused = finished(model="", backend="", status=404, end="rejected", first_byte_after=None)
    refused.model = "made-up"
    ours.closed(refused)
    for number in range(3):  # a default backend is asked for anything
        ours.closed(finished(model=f"made-up-{number}"))
    assert label_values(ours, "gen_ai_request_model") == {"", "qwen3:8b", "other"}


def backends_in(of: Metrics) -> set[str]:
    return set(re.findall(r'backend="(\w+)"', of.render(None)[0].decode()))


def test_the_oldest_backend_makes_room_and_starts_anew_when_it_returns() -> None:
    ours = metrics(Snapshot())
    ours.closed(finished(backend="first"))
    ours.retried("first", "reset")
    for number in range(BACKENDS_KEPT):
        ours.ejected(f"b{number}")
    assert "first" not in backends_in(ours)
    assert len(backends_in(ours)) == BACKENDS_KEPT
    ours.closed(finished(backend="first"))
    assert value(ours, "solar_requests_total", backend="first") == 1
    assert "b0" not in backends_in(ours)
