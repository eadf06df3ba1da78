import json

import pytest

from solar.wire.redact import MASK, redact

KEYS = [f"sekret-{n:06d}" for n in range(1000)]


def test_keys_that_stand_in_much_text_at_once_leave_nothing_of_it() -> None:
    assert redact(json.dumps({"text": " ".join(KEYS) * 10}).encode(), KEYS) == b'"***"'
    assert redact((" ".join(KEYS) * 10).encode(), KEYS) == MASK.encode()


def test_where_there_is_too_much_to_look_through_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solar.wire.redact._MOST_LOOKS", 100_000)
    assert redact(json.dumps({"text": "plain" * 100}).encode(), KEYS) == b'"***"'
    assert redact(b"plain" * 100, KEYS) == MASK.encode()
    assert redact(b"plain", KEYS) == b"plain"


def test_many_keys_that_stand_nowhere_else_are_masked_one_by_one() -> None:
    told = json.loads(redact(json.dumps([{"api_key": key, "alias": "m"} for key in KEYS]).encode()))
    assert told == [{"api_key": MASK, "alias": "m"}] * len(KEYS)
