import pytest

from solar.core.headers import TO_BACKENDS, to_backend, to_client, value_of


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
