"""Whatever happens in whatever order: the books close, and no client sees what none may see."""

from exchange_bench import DONE, EVENT, JSON, SSE, Bench, Call, Client
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.attempts import Outcome
from solar.core.backend import Backend, Timeouts
from solar.core.roster import RosterOptions
from solar.edge.exchange import Exchange
from solar.edge.relay import RelayOptions

LIMITS = Timeouts(first_byte=20.0, between_bytes=8.0, total=60.0)
STATUSES = (200, 200, 200, 204, 400, 429, 500, 500, 502, 503, 504)
FAILURES = (Outcome.REFUSED, Outcome.CONNECT_TIMEOUT, Outcome.DIED_UNUSED, Outcome.RESET, Outcome.UNREADABLE)

WHAT = (
    *("ask", "ask stream", "head", "chunk", "end", "later") * 2,
    *("ask stream", "head", "head", "chunk", "chunk", "fail", "leave", "full", "ready"),
    *("probe", "eject", "drop", "claim"),
)
STEP = st.tuples(st.sampled_from(WHAT), st.integers(0, 11), st.integers(0, 11))


class Play:
    """Three backends on two hosts, of which two have a limit, and one is drained."""

    def __init__(self, early: bool, patient: bool) -> None:
        self.backends = [
            Backend("a", "http://box:1", models=("m", "n"), max_in_flight=1, timeouts=LIMITS),
            Backend("b", "http://box:2", models=("m",), max_in_flight=2, timeouts=LIMITS, cancel="drain"),
            Backend("c", "http://rack:1", models=("n",), timeouts=LIMITS),
        ]
        self.bench = Bench(
            *self.backends,
            roster=RosterOptions(queue_seconds=15.0, queue_limit=3),
            options=RelayOptions(keepalive_seconds=3.0, keepalive_while_waiting=patient),
        )
        self.asked: list[tuple[Exchange, Client]] = []
        self.begun: set[Call] = set()
        self.number = 0
        if early:
            self.bench.transport.answers = self.early

    def early(self, call: Call) -> None:
        """Every third call is answered, or lost, before `send` returns."""
        self.number += 1
        if self.number % 3 == 0:
            status = STATUSES[self.number % len(STATUSES)]
            call.answer(status, JSON, b"" if status == 204 else b"{}")
        elif self.number % 7 == 0:
            call.failed(FAILURES[self.number % len(FAILURES)])

    def call(self, which: int, *, begun: bool) -> Call | None:
        calls = [call for call in self.bench.calls if not call.over and (call in self.begun) == begun]
        return calls[which % len(calls)] if calls else None

    def step(self, what: str, which: int, how: int) -> None:
        if what.startswith("ask"):
            self.asked.append(self.bench.ask(stream=what == "ask stream", model="mmn?"[how % 4]))
        elif what == "head" and (call := self.call(which, begun=False)):
            self.begun.add(call)
            status = STATUSES[how % len(STATUSES)]
            streams = b'"stream": true' in call.request.body and status == 200
            call.head(status, SSE if streams else [*JSON, (b"retry-after", b"4")], 0 if status == 204 else None)
        elif what == "chunk" and (call := self.call(which, begun=True)):
            call.chunk((EVENT, EVENT + DONE, EVENT[:7], b"x" * 66_000, b"\n\n")[how % 5])
        elif what == "end" and (call := self.call(which, begun=True)):
            call.end()
        elif what == "fail" and (call := self.call(which, begun=bool(how % 2))):
            call.failed(FAILURES[how % len(FAILURES)])
        elif what == "later":
            self.bench.later((0.25, 1.0, 3.5, 12.0)[how % 4], step=0.5)
        elif what == "probe":
            member = (
                list(self.bench.roster.members.values())[which % 3] if len(self.bench.roster.members) == 3 else None
            )
            if member is not None:
                self.probe(member.backend.id, how)
        elif what == "eject":
            self.eject("abc"[which % 3])
        elif what == "drop":
            self.bench.roster.sources.drop("static", "abc"[which % 3])
            self.bench.roster.sync()
        elif what == "claim":
            self.bench.roster.sources.claim(self.backends[which % 3])
            self.bench.roster.sync()
        elif self.asked:
            self.client(what, *self.asked[which % len(self.asked)])

    def probe(self, backend_id: str, how: int) -> None:
        member, now = self.bench.member(backend_id), self.bench.clock()
        if how % 3 == 0:
            member.health.failed(now, "nobody listens", 0.5, refused=True)
        else:
            member.health.passed(now, 0.5)
            member.stall.revived(now)
        self.bench.roster.changed()

    def eject(self, backend_id: str) -> None:
        member = self.bench.roster.members.get(backend_id)
        if member is not None:
            for _ in range(3):
                member.breaker.failed(member.breaker.epoch, self.bench.clock())

    def client(self, what: str, exchange: Exchange, client: Client) -> None:
        if client.left or client.over:
            return
        if what == "leave":
            client.left = True
            exchange.client_gone()
        elif what == "full":
            exchange.client_full()
        elif what == "ready":
            exchange.client_ready()

    def check(self) -> None:
        """What holds at every moment."""
        bench = self.bench
        members = {call.request.backend.id for call in bench.calls if not call.over}
        for member in bench.roster.members.values():
            assert member.load.in_flight >= 0
            if member.breaker.state == "half-open":
                assert member.backend.id in members or any(not exchange.closed for exchange, _ in self.asked)
        assert all(exchange in bench.relay.open for exchange, _ in self.asked if not exchange.closed)
        assert sum(exchange.request.reserved for exchange, _ in self.asked) == bench.relay.buffered


@given(
    st.lists(STEP, min_size=40, max_size=70),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["end", "shut", "time", "leave"]),
)
@settings(deadline=None, max_examples=150)
def test_any_interleaving_closes_all_books(
    steps: list[tuple[str, int, int]], early: bool, patient: bool, way: str
) -> None:
    play = Play(early, patient)
    for step in steps:
        play.step(*step)
        play.check()
    bench = play.bench
    bench.transport.answers = None
    if way == "shut":
        bench.relay.stopping = True
        bench.relay.shut()
    elif way == "leave":
        for exchange, client in play.asked:
            play.client("leave", exchange, client)
    while way == "end" and (call := next((call for call in bench.calls if not call.over), None)):
        call.end() if call in play.begun else call.answer()
    bench.later(200.0, step=1.0)
    bench.assert_closed()
    assert len(bench.records) == len(play.asked) == len({record.id for record in bench.records})
    for exchange, client in play.asked:
        assert exchange.closed
        assert client.over or client.left
        assert client.ended + client.aborted <= 1
    for member in bench.roster.members.values():
        assert member.breaker.admits(bench.clock())


def test_thousands_of_streams_cost_a_tick_little() -> None:
    bench = Bench(Backend("a", "http://a", models=("m",)))
    for _ in range(3000):
        bench.ask(stream=True)
        bench.calls[-1].stream(EVENT)
    calls = 0

    def clock() -> float:
        nonlocal calls
        calls += 1
        return bench.clock()

    bench.relay.clock = clock
    bench.relay.tick(bench.clock())
    assert calls == 0  # no exchange asks for the time: it is told
    bench.relay.shut()
    bench.assert_closed()
