"""One try on one backend: what is sent, and books that are closed once."""

from exchange_bench import Bench, backends

from solar.core.backend import Backend
from solar.core.member import Member
from solar.core.paths import Found
from solar.core.record import Record
from solar.core.select import Candidate
from solar.edge.attempt import Attempt, HeldAnswer
from solar.edge.request import Asked, ClientRequest


def asked(bench: Bench, *, query: bytes = b"") -> ClientRequest:
    """A GET that goes to the default backend."""
    record = Record("r1", method="GET", path="/v1/models/x", endpoint="model", client="c", started_at=bench.clock())
    request = ClientRequest(record, Asked("GET", "/v1/models/x", query, [], Found("model")))
    request.method = b"GET"
    request.target = b"/models/x"
    return request


def attempt_on(bench: Bench, name: str = "a") -> tuple[Attempt, Member]:
    member = bench.member(name)
    return Attempt(bench.relay, Candidate(member, "m", 7.0), asked(bench), bench.clock()), member


def test_a_path_without_an_endpoint_stands_under_the_backends_prefix() -> None:
    bench = Bench(Backend("a", "http://a/api"))
    attempt, _ = attempt_on(bench)
    sent = attempt.request(asked(bench, query=b"limit=3"))
    assert (sent.method, sent.target, sent.body) == (b"GET", b"/api/v1/models/x?limit=3", b"")
    assert asked(bench).wire == "plain"


def test_its_books_are_opened_at_once_and_closed_once() -> None:
    bench = Bench(*backends("a"))
    attempt, member = attempt_on(bench)
    assert (member.load.in_flight, member.load.host.size, member.turn) == (1, 7.0, 1)
    for _ in range(2):
        attempt.release(bench.clock())
    assert (member.load.in_flight, member.load.host.size) == (0, 0.0)


def test_it_tells_its_backend_and_status() -> None:
    bench = Bench(*backends("a"))
    attempt, _ = attempt_on(bench)
    assert repr(attempt) == "<Attempt on a, status none yet>"
    attempt.answered(200, [], None, bench.clock())
    assert repr(attempt) == "<Attempt on a, status 200>"


def test_a_call_that_was_never_known_can_be_dropped() -> None:
    bench = Bench(*backends("a"))
    attempt, _ = attempt_on(bench)
    attempt.drop()
    attempt.drop()
    assert (attempt.dropped, attempt.call) == (True, None)


def test_a_failing_answer_is_kept_up_to_64_kib() -> None:
    bench = Bench(*backends("a"))
    held = HeldAnswer(attempt_on(bench)[0], bench.clock())
    assert held.keep(b"x" * HeldAnswer.MOST)
    assert not held.keep(b"y")
    assert held.size == HeldAnswer.MOST + 1
