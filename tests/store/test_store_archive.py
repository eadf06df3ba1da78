import itertools
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kept import asked, host, pieces, summaries

from solar.errors import InvalidRequest
from solar.store import Counts, RequestSummary, save
from solar.store.archive import LONGEST_LINE, HostLine, Unpacking, first_line, last_line, line_of

WHOLE = [
    first_line(0),
    line_of(host()),
    line_of(asked(1)),
    line_of(asked(2)),
    last_line(Counts(1, 2)),
]


def unpack(*given_pieces: bytes) -> list[object]:
    unpacking = Unpacking()
    parts = [part for piece in given_pieces for part in unpacking.feed(piece)]
    unpacking.finish()
    return parts


def test_an_export_holds_no_key_unless_it_is_asked_for() -> None:
    assert b"sk-secret" not in line_of(host())
    assert b'"api_key":"sk-secret"' in line_of(host(), keys=True)


def test_a_line_with_a_key_never_shows_it() -> None:
    (line,) = unpack(first_line(0), line_of(host(), keys=True), last_line(Counts(1, 0)))
    assert isinstance(line, HostLine)
    assert repr(line) == "<HostLine id-1 'gpu1'>"
    assert "sk-secret" not in str(line.__rich_repr__())


def test_every_line_is_one_json_object() -> None:
    assert [next(iter(json.loads(line))) for line in WHOLE] == [
        "solar_export", "host", "request", "request", "end",
    ]  # fmt: skip


@given(entries=st.lists(summaries, max_size=4), cuts=st.lists(st.integers(0, 3000), max_size=8))
@settings(deadline=None)
def test_whatever_is_packed_comes_out_the_same_however_it_is_cut(
    entries: list[RequestSummary], cuts: list[int]
) -> None:
    text = first_line(0) + b"".join(map(line_of, entries)) + last_line(Counts(0, len(entries)))
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    shown = unpack(*(text[start:end] for start, end in itertools.pairwise(edges)))
    assert list(map(msgspec.json.encode, shown)) == list(map(msgspec.json.encode, entries))


@pytest.mark.parametrize("missing", range(5))
def test_an_export_that_lacks_a_line_is_refused(missing: int) -> None:
    with pytest.raises(InvalidRequest):
        unpack(*WHOLE[:missing], *WHOLE[missing + 1 :])


@pytest.mark.parametrize("end", [10, len(b"".join(WHOLE)) - 1])
def test_an_export_that_was_cut_off_is_refused(end: int) -> None:
    with pytest.raises(InvalidRequest, match="it was cut off"):
        unpack(b"".join(WHOLE)[:end])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{}\n", "Line 2 must hold one host or one request"),
        (b"nonsense\n", "Line 2 is not one of an export"),
        (b'{"prompt":1}\n', "Line 2 is not one of an export"),
        (first_line(0), "Line 2 must hold one"),
        (line_of(asked()).replace(b'"success"', b'"great"'), "Line 2 is not one of an export"),
        (last_line(Counts(0, 0)) + line_of(asked()), "Line 3 stands behind the last line"),
        (b"x" * (LONGEST_LINE + 1), "Line 2 is longer than"),
    ],
)
def test_a_line_that_is_none_is_named(line: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        unpack(first_line(0), line)


def test_an_export_of_another_version_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not one of version 1"):
        unpack(first_line(0).replace(b":1", b":2"))


async def test_an_export_is_saved_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "solar.jsonl"
    await save(pieces(WHOLE), target)
    assert target.read_bytes() == b"".join(WHOLE)
    assert target.stat().st_mode & 0o777 == 0o600


async def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "solar.jsonl"
    target.write_text("yesterday's")

    async def breaking():  # type: ignore[no-untyped-def]
        yield WHOLE[0]
        raise InvalidRequest("no more")

    with pytest.raises(InvalidRequest):
        await save(breaking(), target)
    assert target.read_text() == "yesterday's"
    assert [path.name for path in tmp_path.iterdir()] == ["solar.jsonl"]  # noqa: ASYNC240
