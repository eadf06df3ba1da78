import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.rest import LONGEST, Rests, retry_after

NOON = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT


def test_a_model_rests_on_that_backend_alone_and_comes_back() -> None:
    rests = Rests()
    assert rests.until("a", "llama", 0.0) == 0.0
    rests.rest("a", "llama", 15.0)
    assert (rests.until("a", "llama", 14.9), rests.until("a", "llama", 15.0)) == (15.0, 0.0)
    assert (rests.until("a", "qwen", 1.0), rests.until("b", "llama", 1.0)) == (0.0, 0.0)


def test_of_two_answers_the_longer_rest_counts() -> None:
    rests = Rests()
    rests.rest("a", "llama", 20.0)
    rests.rest("a", "llama", 12.0)
    assert rests.until("a", "llama", 1.0) == 20.0


def test_what_has_rested_is_forgotten() -> None:
    rests = Rests()
    rests.rest("a", "llama", 10.0)
    rests.until("a", "llama", 11.0)
    assert repr(rests) == "<Rests 0 resting>"


def test_names_that_nobody_asks_for_again_do_not_pile_up() -> None:
    rests = Rests()
    for number in range(1000):
        rests.rest("a", f"model-{number}", number + 5.0)
    assert repr(rests) == "<Rests 30 resting>"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(b"3", 3.0), ("2.5", 2.5), (" 7 ", 7.0), (".5", 0.5), ("0", 0.0), ("3600", LONGEST), ("9" * 400, LONGEST)],
)
def test_reads_retry_after_in_seconds_up_to_the_longest(value: bytes | str, seconds: float) -> None:
    assert retry_after(value, NOON) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:47 GMT",
        b"Sunday, 06-Nov-94 08:49:47 GMT",
        "Sun Nov  6 08:49:47 1994",
        "Sun, 06 Nov 1994 09:49:47 +0100",
    ],
)
def test_reads_every_spelling_of_an_http_date(value: bytes | str) -> None:
    assert retry_after(value, NOON) == 10.0


def test_a_date_in_the_past_is_no_rest_and_a_far_one_the_longest() -> None:
    assert retry_after("Sun, 06 Nov 1994 08:00:00 GMT", NOON) == 0.0
    assert retry_after("Sun, 06 Nov 2094 08:00:00 GMT", NOON) == LONGEST


@pytest.mark.parametrize(
    "value", [None, "", "soon", "-5", "1e3", "nan", "inf", "1_0", "٣", b"\xff", "1 Jan 99999 0:0:0"]
)
def test_what_cannot_be_read_is_absent(value: bytes | str | None) -> None:
    assert retry_after(value, NOON) is None


def test_milliseconds_come_first_where_they_can_be_read() -> None:
    assert retry_after("9", NOON, ms=b"1500") == 1.5
    assert retry_after(None, NOON, ms="250") == 0.25
    assert retry_after("9", NOON, ms="soon") == 9.0


ODD_DATES = st.lists(
    st.sampled_from(
        ["Sun,", "06", "Nov", "1994", "08:49:37", "GMT", "+0100", "-9999999", "99999999999999999999", ":", ".", "-"]
    ),
    max_size=8,
).map(" ".join)


@given(st.one_of(st.text(max_size=40), st.binary(max_size=40), ODD_DATES))
@settings(deadline=None, max_examples=300)
def test_whatever_a_backend_sends_the_rest_is_bounded(value: bytes | str) -> None:
    seconds = retry_after(value, NOON, ms=value)
    assert seconds is None or 0.0 <= seconds <= LONGEST
