from typing import Any

import pytest

from solar.errors import InvalidRequest
from solar.store.asking import MOST, Asked, total
from solar.store.facts import iso

DAY = Asked(1_795_219_200_000, 1_795_305_600_000)


def test_nothing_makes_no_means_and_no_divisions_by_zero() -> None:
    assert DAY.answer_stats(total([])) == {
        "from": "2026-11-21T00:00:00.000+00:00",
        "to": "2026-11-22T00:00:00.000+00:00",
        "completed": 0,
        "missed": 0,
        "error": 0,
        "rerouted_requests": 0,
        "token_in_total": 0,
        "token_out_total": 0,
        "avg_tokens_in": 0.0,
        "avg_tokens_out": 0.0,
        "models": [],
        "hosts": [],
        "request_types": [],
    }


def test_tokens_and_times_are_of_what_succeeded_and_means_of_those_that_tell() -> None:
    made = total(
        [
            ("chat", "success", "a", "h1", "old name", 2, 1, 10, 1, 40, 2, 3.0),
            ("chat", "success", "a", "h1", "gpu1", 1, 0, 20, 1, 20, 1, 3.0),
            ("chat", "success", "b", None, None, 5, 0, 0, 0, 0, 0, 1.0),
            ("embedding", "error", "a", "h1", "gpu1", 3, 2, 900, 3, 900, 3, 99.0),
            ("chat", "missed", "c", None, None, 4, 0, 0, 0, 0, 0, 0.1),
        ],
    )
    assert (made["completed"], made["error"], made["missed"], made["rerouted_requests"]) == (8, 3, 4, 3)
    assert (made["token_in_total"], made["avg_tokens_in"]) == (30, 15.0)
    assert (made["token_out_total"], made["avg_tokens_out"]) == (60, 20.0)
    assert made["models"] == [
        {"model": "b", "completed": 5, "token_in": 0, "token_out": 0, "avg_duration_s": 0.2},
        {"model": "a", "completed": 3, "token_in": 30, "token_out": 60, "avg_duration_s": 2.0},
    ]
    sums = {"completed": 3, "token_in": 30, "token_out": 60, "avg_duration_s": 2.0}
    assert made["hosts"] == [{"host_id": "h1", "host_name": "gpu1"} | sums]
    assert made["request_types"] == [
        {"request_type": "chat", "total": 12, "success": 8, "error": 0, "missed": 4},
        {"request_type": "embedding", "total": 3, "success": 0, "error": 3, "missed": 0},
    ]


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"status": "broken"}, "status"),
        ({"page": 0}, "page"),
        ({"page": 10**9}, "page"),
        ({"limit": 0}, "limit"),
        ({"limit": MOST + 1}, "limit"),
        ({"since_ms": -1}, "from"),
        ({"until_ms": 10**15}, "to"),
    ],
)
def test_what_nobody_can_answer_is_refused_by_name(wrong: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Asked(**({"since_ms": 0, "until_ms": 1} | wrong))
    assert (refused.value.param, refused.value.status) == (param, 400)


def test_times_are_written_in_utc_with_their_milliseconds() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000+00:00"
    assert iso(1_795_305_599_007) == "2026-11-21T23:59:59.007+00:00"


@pytest.mark.parametrize(
    ("types", "only"),
    [
        (("request_error",), True),
        (("request_error", "request_reroute"), True),
        (("request_error", "request_start"), False),
        ((), False),
    ],
)
def test_where_only_trouble_is_asked_for_what_went_well_is_not_read(types: tuple[str, ...], only: bool) -> None:
    assert Asked(0, 1, types=types).only_trouble is only
