import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.discovery.docker.logs import LONGEST, LogBytes, Written, moment

AT = "2026-11-22T07:00:00.123456789Z"


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def line(text: str, at: str = AT) -> bytes:
    return f"{at} {text}\n".encode()


def test_frames_of_both_streams_are_lines_with_their_times() -> None:
    read = LogBytes(terminal=False)
    assert read.feed(frame(1, line("out")) + frame(2, line("err", ""))) == [Written(AT, "out"), Written("", " err")]


def test_a_terminal_has_one_stream_and_its_own_ends_of_lines() -> None:
    read = LogBytes(terminal=True)
    assert read.feed(f"{AT} one\r\n{AT} tw".encode()) == [Written(AT, "one")]
    assert read.feed(b"o\r\n") == [Written(AT, "two")]


def test_parts_of_a_long_line_are_one_line_though_another_stream_speaks_between_them() -> None:
    read = LogBytes(terminal=False)
    parts = frame(1, f"{AT} one ".encode()) + frame(2, line("err")) + frame(1, line("line"))
    assert read.feed(parts) == [Written(AT, "err"), Written(AT, "one line")]


def test_a_line_without_an_end_takes_no_more_than_its_room() -> None:
    read = LogBytes(terminal=False)
    for _ in range(100):
        assert read.feed(frame(1, f"{AT} ".encode() + b"x" * 16384)) == []
    (written,) = read.feed(frame(1, line("")))
    assert len(written.text) <= LONGEST
    endless = LogBytes(terminal=True)
    for _ in range(100):
        assert endless.feed(b"x" * 16384) == []
    assert len(endless.feed(b"\n")[0].text) <= LONGEST
    assert "0 wait" in repr(endless)


def test_what_says_that_it_is_endless_is_no_log() -> None:
    with pytest.raises(ValueError, match="frame"):
        LogBytes(terminal=False).feed(b"\x01\0\0\0\xff\xff\xff\xff")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2]),
            st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20),
        )
    ),
    st.integers(1, 7),
    st.booleans(),
)
@settings(deadline=None, max_examples=100)
def test_wherever_the_bytes_are_cut_the_lines_are_the_same(
    lines: list[tuple[int, str]], size: int, terminal: bool
) -> None:
    data = b"".join(line(text) if terminal else frame(stream, line(text)) for stream, text in lines)
    read = LogBytes(terminal=terminal)
    found = [one for at in range(0, len(data), size) for one in read.feed(data[at : at + size])]
    told = [text.encode().decode("utf-8", "replace").rstrip("\r\n") for _, text in lines]
    assert found == [Written(AT, text) for text in told]


@pytest.mark.parametrize(
    ("at", "known"),
    [
        ("1970-01-01T00:00:01.5Z", (1, 500_000_000)),
        ("1970-01-01T01:00:00.000000001+01:00", (0, 1)),
        ("1970-01-01T00:00:02Z", (2, 0)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_known_to_the_nanosecond(at: str, known: tuple[int, int] | None) -> None:
    assert moment(at) == known
