import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core import openai
from solar.core.openai import MAX_FIELDS, error_body, model_object, models_body, peek, splice
from solar.core.peek import Peek
from solar.errors import InvalidRequest

# White space after the object changes nothing but the length, which decides how a body is read.
LENGTHS = pytest.mark.parametrize("length", [0, 3_000, 70_000], ids=["short", "usual", "large"])


def refused(body: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        peek(body)
    assert caught.value.status == 400
    assert caught.value.type == "invalid_request_error"
    return caught.value


# ---- arbitrary JSON, written in arbitrary ways

texts = st.text(max_size=12) | st.sampled_from(["model", "stream", '"model"', 'a"model', "mod\\el", "\\", "é😀"])
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
names = st.text(st.characters(categories=["L", "N", "S", "P"]), max_size=12) | st.sampled_from(["model", 'a"b', "a\\"])
blanks = st.sampled_from(["", "", " ", "\n\t", "\r\n  "])


@st.composite
def spelled(draw, text):
    """`text` as a JSON string, in any of the ways that JSON has."""
    how = draw(st.sampled_from(["raw", "ascii", "escaped"]))
    if how == "escaped" and text.isascii():
        return '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"'
    return json.dumps(text, ensure_ascii=how == "ascii")


@st.composite
def bodies(draw):
    others = draw(st.lists(st.tuples(texts, values), max_size=4))
    fields = [(key, json.dumps(value, ensure_ascii=draw(st.booleans()))) for key, value in others]
    fields = [(key, value) for key, value in fields if key not in ("model", "stream", "user", "prompt_cache_key")]
    for key, strategy in (("model", names | st.none()), ("stream", st.none() | st.booleans()), ("user", values)):
        if draw(st.booleans()):
            value = draw(strategy)
            text = draw(spelled(value)) if isinstance(value, str) else json.dumps(value)
            fields.append((key, text))
    parts = []
    for key, value in draw(st.permutations(fields)):
        a, b, c, d = (draw(blanks) for _ in range(4))
        parts.append(f"{a}{draw(spelled(key))}{b}:{c}{value}{d}")
    return f"{draw(blanks)}{{{','.join(parts)}}}{draw(blanks)}".encode()


@given(bodies())
@settings(deadline=None, max_examples=300)
def test_every_way_of_reading_a_body_agrees_with_a_json_parser(body):
    seen, known = peek(body), json.loads(body)

    assert seen == peek(body + b" " * 3_000) == peek(body + b" " * 70_000)
    assert seen.model == known.get("model")
    assert seen.stream is bool(known.get("stream"))
    assert seen.user == (known.get("user") if isinstance(known.get("user"), str) else None)
    assert (seen.span is None) == (seen.model is None)
    if seen.span:
        assert json.loads(body[slice(*seen.span)]) == seen.model


@given(bodies(), texts)
@settings(deadline=None, max_examples=200)
def test_splice_changes_the_model_and_no_other_byte(body, model):
    seen = peek(body)
    new = splice(body, seen, model)

    if seen.span is None:
        assert new == body
    else:
        start, end = seen.span
        assert new[:start] == body[:start]
        assert new[len(new) - (len(body) - end) :] == body[end:]
        assert list(json.loads(new).items()) == [
            (key, model if key == "model" else value) for key, value in json.loads(body).items()
        ]


@given(st.binary(max_size=30) | bodies().flatmap(lambda body: st.integers(0, len(body)).map(lambda cut: body[:cut])))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_read_or_refused(body):
    with contextlib.suppress(InvalidRequest):
        assert peek(body).model == json.loads(body).get("model")


# ---- what is read


@LENGTHS
def test_reads_what_routing_needs(length):
    body = b'{"user":"ann","model":"gpt-oss:20b","prompt_cache_key":"k","stream":true}' + b" " * length

    assert peek(body) == Peek("gpt-oss:20b", True, (22, 35), True, "ann", "k")


@LENGTHS
def test_the_model_may_stand_behind_long_values(length):
    body = b'{"messages":[{"model":"no"},"' + b"x" * length + b'\\"model\\":"],"model":"yes"}'

    assert peek(body).model == "yes"
    assert splice(body, peek(body), "a/b").endswith(b'"],"model":"a/b"}')


def test_a_model_in_a_nested_object_is_not_the_model():
    assert peek(b'{"metadata":{"model":"no"}}') == Peek(None, False, None, True, None, None)


@LENGTHS
def test_null_counts_as_absent(length):
    body = b'{"model":null,"stream":null,"user":null}' + b" " * length

    assert peek(body) == Peek(None, False, None, True, None, None)


@LENGTHS
def test_an_empty_model_is_empty_not_absent(length):
    assert peek(b'{"model":""}' + b" " * length) == Peek("", False, (9, 11), True, None, None)


@LENGTHS
@pytest.mark.parametrize("value", [b"7", b"[]", b'{"id":"x"}', b"true"])
def test_a_user_or_cache_key_of_another_type_is_ignored(value, length):
    seen = peek(b'{"model":"m","user":' + value + b',"prompt_cache_key":' + value + b"}" + b" " * length)

    assert (seen.user, seen.prompt_cache_key) == (None, None)


def test_a_spliced_name_is_escaped_as_json():
    body = b'{"model":"a","n":1}'

    assert splice(body, peek(body), 'q"\\é') == '{"model":"q\\"\\\\é","n":1}'.encode()


def test_a_spliced_form_value_is_bare_text():
    assert splice(b"<a>", Peek("a", False, (1, 2), False, None, None), "né") == "<né>".encode()


# ---- what is refused


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_an_empty_body_is_called_empty(body):
    assert "is empty" in refused(body).message


@pytest.mark.parametrize("body", [b"[]", b"null", b'"model"', b"7", b'[{"model":"m"}]'])
def test_only_an_object_is_a_request(body):
    assert "must be a JSON object" in refused(body).message


@LENGTHS
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b'{"model":"m"',
        b'{"model":"m"}x',
        b'{"model":"m",}',
        b"{'model':'m'}",
        b'{"model":"m","t":NaN}',
        b'{"model":"m","t":-Infinity}',
        b'{"model":"m","t":01}',
        b'{"model":"m\n"}',
        b'{"model":"m"/**/}',
        b"model=m",
        b"\x00",
    ],
)
def test_what_is_no_json_is_refused(body, length):
    assert "is not valid JSON" in refused(body + b" " * length).message


def test_a_byte_order_mark_is_named():
    assert "byte order mark" in refused(b'\xef\xbb\xbf{"model":"m"}').message


def test_half_a_surrogate_pair_is_named():
    assert "cut in half" in refused(b'{"model":"m","messages":["\\ud83d"]}').message
    assert "cut in half" not in refused(b'{"model":"m","messages":[}').message
    assert peek(b'{"model":"m","messages":["\\ud83d\\ude00"]}').model == "m"


@pytest.mark.parametrize(
    ("body", "at"),
    [
        (b'{"model":"m","messages":"\xff"}', 25),
        (b'{"model":"m","\xc3":1}', 14),
        (b'{"model":"m","a":"\xed\xa0\x80"}', 18),
        (b'{"model":"m"}\xc3', 13),
        (b'{"model":"m","a":"' + "é".encode() * 600_000 + b'\xff"}', 1_200_018),
    ],
)
def test_bad_utf8_is_refused_wherever_it_stands(body, at):
    assert f"not valid UTF-8 (at byte {at})" in refused(body).message


def test_good_utf8_may_straddle_the_pieces_that_it_is_checked_in():
    text = "😀" * 300_000

    assert all(peek(f'{{"{"x" * odd}":"{text}","model":"é"}}'.encode()).model == "é" for odd in range(4))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_deep_nesting_is_refused(opening, closing):
    def nested(levels):
        return b'{"model":"m","a":' + opening * levels + b"1" + closing * levels + b"}"

    assert peek(nested(100)).model == "m"
    assert "nested too deeply" in refused(nested(100_000)).message


@LENGTHS
@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("model", rb'{"model":"a","n":1,"model":"b"}'),
        ("model", rb'{"model":"a","model":"a"}'),
        ("model", rb'{"model":"a","mod\u0065l":"b"}'),
        ("model", rb'{"\u006D\u006f\u0064el":null,"model":"b"}'),
        ("stream", rb'{"model":"a","stream":true,"stream":false}'),
        ("stream", rb'{"model":"a","\u0073tream":true,"stream":true}'),
    ],
)
def test_a_field_that_decides_may_stand_only_once(field, body, length):
    error = refused(body + b" " * length)

    assert (error.param, f"two {field!r} fields" in error.message) == (field, True)


@LENGTHS
@pytest.mark.parametrize("value", [b"1", b"true", b"[]", b"{}", b'["m"]'])
def test_a_model_must_be_a_string(value, length):
    error = refused(b'{"model":' + value + b"}" + b" " * length)

    assert (error.param, "must be a string" in error.message) == ("model", True)


@LENGTHS
@pytest.mark.parametrize("value", [b'"true"', b"1", b"0", b"[]", b'"model"'])
def test_stream_must_be_a_boolean(value, length):
    error = refused(b'{"model":"m","stream":' + value + b"}" + b" " * length)

    assert (error.param, "must be true or false" in error.message) == ("stream", True)


@LENGTHS
def test_a_models_name_has_a_limit(length):
    assert peek(b'{"model":"' + b"m" * 512 + b'"}' + b" " * length).model == "m" * 512
    error = refused(b'{"model":"' + b"m" * 513 + b'"}' + b" " * length)
    assert (error.param, "513 characters" in error.message) == ("model", True)


@pytest.mark.parametrize("escape", [b"\\n", b"\\r", b"\\u0000", b"\\u001b", b"\\u2028", b"\x7f", b"\xc2\x85"])
def test_a_models_name_stays_on_one_line(escape):
    error = refused(b'{"model":"m' + escape + b'"}')

    assert (error.param, "line break" in error.message) == ("model", True)


@pytest.mark.parametrize("fields", [1_001, 10_000, 100_000])
def test_the_number_of_top_level_fields_has_a_limit(fields):
    assert f"more than {MAX_FIELDS}" in refused(b"{" + b'"a":0,' * (fields - 1) + b'"model":"m"}').message


@LENGTHS
def test_as_many_fields_as_the_limit_are_read(length):
    assert peek(b"{" + b'"a":0,' * 999 + b'"model":"m"}' + b" " * length).model == "m"


# ---- what is said


def test_an_openai_error_has_all_four_fields():
    body = error_body("No.", status=404, type="invalid_request_error", code="model_not_found", param="model")

    assert json.loads(body) == {
        "error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    }


def test_an_error_without_code_or_param_says_null():
    assert json.loads(error_body("No.", status=500, type="server_error", code=None))["error"]["code"] is None


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (529, "overloaded_error"),
    ],
)
def test_an_anthropic_error_has_anthropics_words(status, word):
    body = error_body("No.", status=status, type="x", code="c", wire="anthropic", request_id="req_1")

    assert json.loads(body) == {
        "type": "error",
        "error": {"type": word, "message": "No.", "param": None, "code": "c"},
        "request_id": "req_1",
    }


def test_a_model_object_is_complete_and_keeps_the_backends_facts():
    facts = {"id": "their-name", "object": "thing", "created": 1, "owned_by": "vllm", "max_model_len": 4096}

    assert model_object("m", facts, "solar", 99) == {
        "id": "m",
        "object": "model",
        "created": 1,
        "owned_by": "vllm",
        "max_model_len": 4096,
        "created_at": "1970-01-01T00:00:01Z",
    }


@pytest.mark.parametrize("created", [None, "today", -1, 0, float("inf"), float("nan"), 10**15, []])
@pytest.mark.parametrize("owner", [None, "", 7])
def test_facts_that_no_client_could_read_are_replaced(created, owner):
    seen = model_object("m", {"created": created, "owned_by": owner}, "solar", 1_700_000_000)

    assert (seen["created"], seen["owned_by"]) == (1_700_000_000, "solar")
    assert seen["created_at"] == "2023-11-14T22:13:20Z"


def test_created_is_whole_seconds():
    assert model_object("m", {"created": 1_700_000_000.9}, "solar", 1)["created"] == 1_700_000_000


def test_a_model_list_is_an_openai_list():
    assert json.loads(models_body([])) == {"object": "list", "data": []}
    assert json.loads(models_body([{"id": "m"}]))["data"] == [{"id": "m"}]


@pytest.mark.parametrize("more", ["", ',"stream":true', ',"user":"me","prompt_cache_key":"k"'])
def test_the_usual_body_is_read_the_quick_way(more):
    body = f'{{"messages":[{{"role":"user","content":"hi"}}],"model":"m"{more}}}'.encode()
    quick = openai._peek_plain(body)
    assert quick is not None
    assert quick == peek(body + b" " * 2000)  # which is too long for that way
