import pytest

from solar.errors import UpstreamFailed
from solar.wire.reading import Fields, Unreadable, decode, decode_object


def test_what_cannot_be_read_is_the_agents_fault() -> None:
    assert issubclass(Unreadable, UpstreamFailed)
    assert Unreadable("x").status == 502


@pytest.mark.parametrize("body", [b"", b"\xff", b"{", b'"\\ud800"', b"[" * 100_000, "\ud800", "NaN"])
def test_what_is_no_json_is_unreadable(body: bytes | str) -> None:
    with pytest.raises(Unreadable, match="no JSON"):
        decode(body)


@pytest.mark.parametrize(("body", "kind"), [("[]", "a list"), ("true", "true or"), ("7", "a number"), ("null", "null")])
def test_an_object_is_wanted_and_the_refusal_says_what_came(body: str, kind: str) -> None:
    with pytest.raises(Unreadable, match=kind):
        decode_object(body)


def test_a_wrong_field_is_its_default_and_a_complaint() -> None:
    wrong = {name: {"x": "y" * 99} for name in "abcdefg"}
    fields = Fields(wrong | {"a": "a\nb", "g": []}, "it")
    assert (fields.name("a"), fields.text("b"), fields.whole("c"), fields.number("d")) == (None, None, None, None)
    assert (fields.flag("e"), fields.texts("f"), fields.inner("g")) == (False, None, {})
    assert len(fields.complaints) == 7
    assert fields.complaints[0] == r"it: a must be printable; got 'a\nb'"
    assert all(len(complaint) < 90 for complaint in fields.complaints)
    assert repr(fields) == "<Fields of it: a, b, c, d, e, f, g>"


def test_a_missing_field_is_its_default_without_a_word() -> None:
    fields = Fields({"a": None}, "it")
    assert (fields.name("a"), fields.text("b"), fields.whole("a"), fields.number("b")) == (None, None, None, None)
    assert (fields.flag("a"), fields.texts("b"), fields.inner("a")) == (False, None, {})
    assert fields.complaints == []
