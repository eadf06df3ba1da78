import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.headers import (
    NO_HEADERS,
    STREAM_HEADERS,
    TO_BACKENDS,
    AnswerHeaders,
    Block,
    Headers,
    to_backend,
    to_client,
    value_of,
    wire_of,
)


def test_a_backend_sees_only_what_is_on_the_list() -> None:
    seen = [(b"accept", b"*/*"), (b"authorization", b"Bearer k"), (b"cookie", b"a=b"), (b"traceparent", b"00-1")]
    assert to_backend(seen) == [(b"accept", b"*/*"), (b"traceparent", b"00-1")]


@pytest.mark.parametrize(
    "name", ["authorization", "x-api-key", "api-key", "cookie", "host", "connection", "content-length", "x-request-id"]
)
def test_keys_cookies_and_hop_by_hop_fields_never_reach_a_backend(name: str) -> None:
    assert name.encode() not in TO_BACKENDS


def test_a_client_gets_all_but_the_connections_own_headers() -> None:
    said = [
        (b"content-type", b"application/json"),
        (b"server", b"uvicorn"),
        (b"x-ratelimit-remaining", b"7"),
        (b"transfer-encoding", b"chunked"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
    assert to_client(said) == [said[0], said[2], said[4], said[5]]


def test_what_connection_names_stays_on_that_connection() -> None:
    said = [(b"x-hop", b"1"), (b"connection", b"keep-alive, X-Hop"), (b"x-end", b"2")]
    assert to_client(said) == [(b"x-end", b"2")]


def test_finds_the_first_value_of_a_name() -> None:
    said = [(b"a", b"1"), (b"b", b"2"), (b"b", b"3")]
    assert (value_of(said, b"b"), value_of(said, b"c")) == (b"2", None)


names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=12).map(str.encode)
field_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
pairs = st.lists(st.tuples(names, field_values.map(lambda value: value.encode("latin-1"))), max_size=6)


@given(pairs)
@settings(deadline=None)
def test_headers_as_http_writes_them_are_the_same_headers(said: Headers) -> None:
    lines = [line.partition(b": ") for line in wire_of(said).split(b"\r\n") if line]
    assert [(name, value) for name, _, value in lines] == said
    assert Block(said).pairs == said
    assert Block(said).wire == wire_of(said)


def test_http_writes_one_line_a_header() -> None:
    assert wire_of([(b"a", b"1"), (b"b", b": ")]) == b"a: 1\r\nb: : \r\n"
    assert wire_of([]) == NO_HEADERS.wire == b""


def test_servers_may_give_a_header_as_any_pair() -> None:
    assert wire_of([[b"a", b"1"]]) == b"a: 1\r\n"  # type: ignore[list-item]


def test_a_block_shows_its_headers() -> None:
    assert repr(Block([(b"a", b"1")])) == "<Block [(b'a', b'1')]>"


@given(pairs)
@settings(deadline=None)
def test_an_answers_headers_are_those_that_came(said: Headers) -> None:
    answer = AnswerHeaders(said)
    assert answer == said
    assert answer.passed.pairs == to_client(said)
    assert answer.passed.wire == wire_of(to_client(said))


@pytest.mark.parametrize(
    ("kind", "stream"),
    [
        (b"text/event-stream", True),
        (b" Text/Event-Stream; charset=utf-8", True),
        (b"application/json", False),
        (b"text/event", False),
        (b"", False),
    ],
)
def test_the_content_type_alone_makes_a_stream(kind: bytes, stream: bool) -> None:
    assert AnswerHeaders([(b"content-type", kind)]).event_stream is stream
    assert not AnswerHeaders([(b"x-content-type", kind)]).event_stream


@pytest.mark.parametrize(
    ("coding", "encoded"), [(b"gzip", True), (b"identity", False), (b" Identity ", False), (b"", False), (b"br", True)]
)
def test_only_a_coding_hides_the_body(coding: bytes, encoded: bool) -> None:
    assert AnswerHeaders([(b"content-encoding", coding)]).encoded is encoded
    assert not AnswerHeaders([]).encoded


def test_a_stream_says_once_that_nobody_may_keep_or_buffer_it() -> None:
    kind = (b"content-type", b"text/event-stream")
    answer = AnswerHeaders([kind, (b"cache-control", b"public"), (b"x-accel-buffering", b"yes"), (b"x-a", b"1")])
    assert answer.as_stream.pairs == [kind, (b"x-a", b"1"), *STREAM_HEADERS]
    assert answer.passed.pairs == [*answer]


def test_what_is_no_stream_keeps_its_own_word_on_keeping_it() -> None:
    answer = AnswerHeaders([(b"content-type", b"application/json"), (b"cache-control", b"public")])
    assert answer.as_stream is answer.passed
