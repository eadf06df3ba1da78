import json
from collections.abc import Callable

import msgspec
import pytest
from any_json import bodies, values
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.wire.redact import masking, redact, unmask

KEY = "host-secret-1"


@pytest.mark.parametrize(
    ("body", "redacted"),
    [
        (b'{"api_key": "its-own", "port" :3500}', b'{"api_key": "***", "port" :3500}'),
        (b'[ {"config":{"alias":"m","api_key":"k"}} ]\n', b'[ {"config":{"alias":"m","api_key":"***"}} ]\n'),
        (b'{"apiKey":\t"x", "X-API-Key": "y"}', b'{"apiKey":\t"***", "X-API-Key": "***"}'),
        (b'{"Authorization":"Bearer z"}', b'{"Authorization":"***"}'),
        (b'{"api_key": 123456, "pid": 7}', b'{"api_key": "***", "pid": 7}'),
        (b'{"detail": "started with --api-key host-secret-1!"}', b'{"detail": "started with --api-key ***!"}'),
        (b'{"log": "host\\u002dsecret\\u002d1 \\u00fc"}', '{"log": "*** ü"}'.encode()),
        (b'{"api_key": "own-secret", "log": ["-k own-secret"]}', b'{"api_key": "***", "log": ["-k ***"]}'),
    ],
)
def test_a_key_is_masked_and_nothing_else_changes(body: bytes, redacted: bytes) -> None:
    assert redact(body, [KEY]) == redacted


@pytest.mark.parametrize(
    "body",
    [
        b'{"api_key": null, "SOLAR_API_KEY": ""}',
        b'{"api_key": {"a": "b"}, "x": ["api_key", "c"]}',
        b'{"host-secret-1": "\\u00fc"}',
    ],
)
def test_what_is_no_key_stays_as_it_was_written(body: bytes) -> None:
    assert redact(body, [KEY]) is body


def test_a_body_without_keys_is_the_same_object() -> None:
    body = b'{"alias": "m\\u0041", "api_key": ""}'
    assert redact(body) is body
    assert redact(body, ["", KEY]) is body


def test_a_short_key_is_masked_only_where_it_stands_alone() -> None:
    assert redact(b'{"a": "key k, kk, k_1 and ok"}', ["k"]) == b'{"a": "key ***, kk, ***_1 and ok"}'


def test_the_longer_of_two_keys_is_masked_whole() -> None:
    assert redact(b'"secret-key-one"', ["secret-key", "secret-key-one"]) == b'"***"'


def test_what_is_no_json_is_searched_for_the_known_keys() -> None:
    assert redact(b"Internal Error \xff host-secret-1", [KEY]) == b"Internal Error \xff ***"
    assert redact(b'{"cut": "host\\"secret', ['host"secret']) == b'{"cut": "***'
    assert redact(b"oops") == b"oops"


def test_a_mask_that_comes_back_is_the_key_again() -> None:
    shown = redact(b'{"config": {"alias": "***", "api_key": "own-\\u0022"}}')
    assert unmask(shown, 'own-"') == b'{"config": {"alias": "***", "api_key": "own-\\""}}'
    assert unmask(b'{"api_key": "new"}', "old") == b'{"api_key": "new"}'
    assert unmask(b'{"api_key": "\\x"', "old") == b'{"api_key": "\\x"'


def oracle(value: object, secret: str) -> object:
    if isinstance(value, str):
        return value.replace(secret, "***")
    if isinstance(value, list):
        return [oracle(item, secret) for item in value]
    if isinstance(value, dict):
        return {name: oracle(item, secret) for name, item in value.items()}
    return value


texts = st.text(max_size=6)
hidden = st.recursive(
    values | st.builds(lambda before, after: before + KEY + after, texts, texts),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def without_key_fields(value: object) -> bool:
    return b"api_key" not in msgspec.json.encode(value)


@given(
    hidden.filter(without_key_fields),
    st.sampled_from([json.dumps, lambda v: json.dumps(v, indent=2, ensure_ascii=False)]),
)
@settings(deadline=None)
def test_a_known_key_is_found_in_every_text_of_any_json(value: object, write: Callable[[object], str]) -> None:
    body = write(value).encode("utf-8", "surrogatepass")
    assert json.loads(redact(body, [KEY])) == oracle(json.loads(body), KEY)


@given(bodies, st.lists(st.text(max_size=9), max_size=3))
@settings(deadline=None)
def test_any_bytes_are_redacted_without_a_word(body: bytes, secrets: list[str]) -> None:
    assert isinstance(redact(body, secrets), bytes)
    assert isinstance(unmask(body, "key"), bytes)
    assert redact(redact(body, secrets)) == redact(redact(redact(body, secrets)))


@given(values, st.text(alphabet="xyz", min_size=8, max_size=8))
@settings(deadline=None)
def test_a_redacted_answer_is_json_still(value: object, secret: str) -> None:
    body = msgspec.json.encode({"instance": value, "api_key": secret, "message": f"--api-key {secret}"})
    shown = msgspec.json.decode(redact(body))
    assert shown["api_key"] == "***"
    assert shown["message"] == "--api-key ***"
    assert isinstance(unmask(redact(body), secret), bytes)


def test_one_line_is_masked_by_a_pattern_of_all_keys() -> None:
    pattern = masking(["", "k1", "key-of-an-instance"])
    assert pattern is not None
    assert (
        pattern.sub("***", "llama-server --api-key key-of-an-instance, k1, k12")
        == "llama-server --api-key ***, ***, k12"
    )
    assert masking([""]) is None
