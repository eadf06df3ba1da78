import contextlib
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.multipart import peek_multipart
from solar.core.openai import splice
from solar.core.peek import Peek
from solar.errors import InvalidRequest

TYPE = "multipart/form-data; boundary=b0undary"


def field(name: str, value: bytes) -> bytes:
    return b'--b0undary\r\nContent-Disposition: form-data; name="' + name.encode() + b'"\r\n\r\n' + value + b"\r\n"


def file(name: str, value: bytes) -> bytes:
    return (
        b'--b0undary\r\nContent-Disposition: form-data; name="' + name.encode() + b'"; filename="a.wav"\r\n'
        b"Content-Type: audio/wav\r\n\r\n" + value + b"\r\n"
    )


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--b0undary--\r\n"


def raw(head: bytes) -> bytes:
    """A form of one part with `head` as its headers, line breaks included."""
    return b"--b0undary\r\n" + head + b"\r\nwhisper\r\n--b0undary--\r\n"


def refused(body: bytes, content_type: str = TYPE) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        peek_multipart(body, content_type)
    assert caught.value.status == 400
    return caught.value


# ---- what is read


def test_reads_what_routing_needs():
    body = form(field("model", b"whisper"), field("stream", b"true"), field("user", "zoë".encode()))

    assert peek_multipart(body, TYPE) == Peek("whisper", True, (60, 67), False, "zoë", None)
    assert body[60:67] == b"whisper"


@pytest.mark.parametrize("where", [0, 1, 2])
def test_the_model_may_stand_anywhere(where):
    parts = [file("file", b"\r\n\x00--b0undar\r\n\r\n--" * 1000), field("language", b"en")]
    parts.insert(where, field("model", b"whisper"))
    body = form(*parts)

    seen = peek_multipart(body, TYPE)

    assert seen.model == "whisper"
    assert body[slice(*seen.span)] == b"whisper"


def test_a_form_without_a_model_names_none():
    assert peek_multipart(form(file("file", b"x")), TYPE) == Peek(None, False, None, False, None, None)
    assert peek_multipart(form(), TYPE).model is None


def test_an_empty_model_is_empty_not_absent():
    assert peek_multipart(form(field("model", b"")), TYPE).model == ""


def test_a_file_named_model_is_not_the_model():
    body = form(file("model", b"no"), field("model", b"yes"))

    assert peek_multipart(body, TYPE).model == "yes"


def test_a_user_that_is_no_text_is_ignored():
    assert peek_multipart(form(field("user", b"\xff"), field("model", b"m")), TYPE).user is None
    assert peek_multipart(form(field("user", b"u" * 10_000)), TYPE).user is None


@pytest.mark.parametrize(("value", "stream"), [(b"true", True), (b"True", True), (b"false", False), (b"", False)])
def test_stream_is_a_word(value, stream):
    assert peek_multipart(form(field("stream", value)), TYPE).stream is stream


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=b0undary",
        'multipart/form-data; boundary="b0undary"',
        'multipart/form-data;boundary="b0und\\ary"',
        "Multipart/Form-Data; charset=utf-8; Boundary=b0undary; ",
        "multipart/form-data ; boundary = b0undary ;",
    ],
)
def test_a_boundary_may_be_quoted_or_not(content_type):
    assert peek_multipart(form(field("model", b"m")), content_type).model == "m"


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="model"\r\n',
        b"content-disposition:form-data;name=model\r\n",
        b'Content-Type: text/plain\r\nCONTENT-DISPOSITION: Form-Data; x="a;b\\"c"; NAME="model";\r\n',
    ],
)
def test_a_name_may_be_quoted_or_not(head):
    assert peek_multipart(raw(head), TYPE).model == "whisper"


@pytest.mark.parametrize("name", [b'filename="model"', b"filename=m", b"filename*=utf-8''m", b'filename="a\\"b;c"'])
def test_any_file_name_makes_a_file(name):
    assert peek_multipart(raw(b"Content-Disposition: form-data; name=model; " + name + b"\r\n"), TYPE).model is None


@pytest.mark.parametrize("end", [b"--b0undary--", b"--b0undary--\n", b"--b0undary-- \r\nepilogue"])
def test_preamble_padding_and_epilogue_are_ignored(end):
    body = b"preamble\r\n" + field("model", b"m").replace(b"--b0undary", b"--b0undary \t") + end

    assert peek_multipart(body, TYPE).model == "m"


files = st.binary(max_size=60) | st.lists(st.sampled_from([b"\r\n", b"--", b"b0undary", b"\n", b"x"])).map(b"".join)


@given(
    files.filter(lambda content: b"--b0undary" not in content), st.booleans(), st.text(st.characters(categories=["L"]))
)
@settings(deadline=None, max_examples=100)
def test_splice_changes_the_model_and_no_other_byte(content, model_first, model):
    parts = [field("model", b"whisper-1"), file("file", content)]
    body = form(*parts if model_first else reversed(parts))

    new = splice(body, peek_multipart(body, TYPE), model)

    assert new == body.replace(b"\r\n\r\nwhisper-1\r\n", b"\r\n\r\n" + model.encode() + b"\r\n")
    assert peek_multipart(new, TYPE).model == model


@given(st.binary(max_size=60), st.integers(0, 200))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_read_or_refused(junk, where):
    whole = form(field("model", b"whisper"), file("file", b"x"))
    for body in (junk, b"--b0undary" + junk, whole[:where] + junk + whole[where + 1 :]):
        with contextlib.suppress(InvalidRequest):
            peek_multipart(body, TYPE)


# ---- what is refused


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "multipart/mixed; boundary=b",
        "multipart/form-data; boundary",
        "multipart/form-data; a=b c",
    ],
)
def test_a_content_type_of_another_kind_is_refused(content_type):
    assert "Content-Type cannot be read" in refused(form(), content_type).message


@pytest.mark.parametrize(
    "params",
    [
        "",
        "; charset=utf-8",
        '; boundary=""',
        '; boundary="b "',
        '; boundary="a\\"b"',
        "; boundary=a; boundary=a",
        "; boundary=é",
        "; boundary=" + "b" * 71,
    ],
)
def test_there_must_be_one_boundary_of_70_characters_at_most(params):
    assert "must name one boundary" in refused(form(), "multipart/form-data" + params).message


def test_a_boundary_of_70_characters_is_read():
    boundary = "b" * 70
    body = form(field("model", b"m")).replace(b"b0undary", boundary.encode())

    assert peek_multipart(body, f"multipart/form-data; boundary={boundary}").model == "m"


@pytest.mark.parametrize("body", [b"", b"--other--", b"--b0undar", b"x--b0undary--"])
def test_a_body_without_its_boundary_is_refused(body):
    assert "the boundary that Content-Type names" in refused(body).message


@pytest.mark.parametrize(
    "body",
    [
        field("model", b"m"),
        form(field("model", b"m"))[:-6],
        field("model", b"m") + b"--b0undary\r\nContent-Disposition: form-data; name=file\r\n\r\ndata",
        field("model", b"m") + b"--b0undary\r\nContent-Disposition: form-data; name=file\r\n",
        field("model", b"m") + b"--b0undary--x",
        field("model", b"m") + b"--b0undary\n",
        field("model", b"m") + b"--b0undary2\r\n",
    ],
)
def test_a_form_that_is_never_closed_is_refused(body):
    refused(body)


def test_an_empty_part_must_show_where_it_ends():
    head = b"--b0undary\r\nContent-Disposition: form-data; name=model\r\n\r\n"

    assert "never closed" in refused(head + b"--b0undary--\r\n").message


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Content-Type: text/plain\r\n",
        b"Content-Disposition: attachment; name=model\r\n",
        b"Content-Disposition: form-data\r\n",
        b'Content-Disposition: form-data; filename="x"\r\n',
        b"Content-Disposition: form-data; name=model; name=other\r\n",
        b'Content-Disposition: form-data; name="mod\\el"\r\n',
        b'Content-Disposition: form-data; name="model\r\n',
        b'Content-Disposition: form-data; name="model" x\r\n',
        b"Content-Disposition : form-data; name=model\r\n",
        b"Content-Disposition: form-data;\r\n name=model\r\n",
        b"X: y\nContent-Disposition: form-data; name=model\r\n",
        b"Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=model\r\n",
        b"Content-Disposition\r\n",
    ],
)
def test_a_part_must_say_its_name_in_one_way(head):
    assert "part 1" in refused(raw(head)).message


def test_a_parts_headers_have_a_limit():
    head = b"Content-Disposition: form-data; name=model\r\nX: "

    assert peek_multipart(raw(head + b"x" * 16_000 + b"\r\n"), TYPE).model == "whisper"
    assert "do not end" in refused(raw(head + b"x" * 17_000 + b"\r\n")).message


def test_the_number_of_parts_has_a_limit():
    many = [field("f", b"x")] * 999

    assert peek_multipart(form(*many, field("model", b"m")), TYPE).model == "m"
    assert "more than 1000 parts" in refused(form(*many, field("f", b"x"), field("model", b"m"))).message


@pytest.mark.parametrize("name", ["model", "stream"])
def test_a_field_that_decides_may_stand_only_once(name):
    error = refused(form(field(name, b"true"), file("file", b"x"), field(name, b"true")))

    assert (error.param, f"two {name!r} fields" in error.message) == (name, True)


@pytest.mark.parametrize(
    "value", [b"\xff", b"m" * 513, b"m" * 100_000, b"a\nb", b"a\x00", b"a\r\nb", "a\u2028".encode()]
)
def test_a_models_name_is_short_text_on_one_line(value):
    assert refused(form(field("model", value))).param == "model"


def test_a_large_file_is_neither_copied_nor_slow():
    body = form(file("file", b"\r\n--b0undar!" * 4_000_000), field("model", b"whisper"))

    tracemalloc.start()
    started = time.perf_counter()
    seen = peek_multipart(body, TYPE)
    took, (_, peak) = time.perf_counter() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert seen.model == "whisper"
    assert took < 2.0
    assert peak < 1_000_000
