import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.control.logs import Contact, Gap, Item, Limits, LogHub, LogLine, Place, Reader, Since, Wanted
from solar.control.logs.items import Key
from solar.testing import FakeClock
from solar.wire.lines import Entry


def entries(first: int, last: int, text: str = "line") -> list[Entry]:
    return [Entry(n, f"2026-11-22T07:00:00.{n:06}", f"{text} {n}") for n in range(first, last + 1)]


def numbers(items: list[Item]) -> list[int]:
    return [item.line.seq for item in items if isinstance(item, LogLine)]


def gaps(items: list[Item]) -> list[int]:
    return [item.missed for item in items if isinstance(item, Gap)]


def test_a_reader_gets_the_newest_lines_and_then_what_comes() -> None:
    hub = LogHub()
    hub.take("h", "i", entries(0, 9))
    with hub.follow(since=Since(replay=2)) as reader:
        assert numbers(reader.take()) == [8, 9]
        hub.take("h", "i", entries(10, 10))
        assert numbers(reader.take()) == [10]
        assert reader.take() == []


@pytest.mark.parametrize(
    ("since", "seen"),
    [
        (Since(), [0, 1, 2]),
        (Since(replay=0), []),
        (Since(number=1), [2]),
        (Since(number=2), []),
        (Since(number=99), [0, 1, 2]),  # nobody gave that number: it is from before a restart of ours
        (Since(numbers={Key("h", "i"): 0}, replay=0), [1, 2]),
        (Since(numbers={Key("h", "other"): 0}, replay=1), [2]),
        (Since(at=0.0, replay=1), [2]),
        (Since(at=9e9), []),
    ],
)
def test_a_reader_begins_where_it_says(since: Since, seen: list[int]) -> None:
    hub = LogHub()
    hub.take("h", "i", entries(0, 2))
    with hub.follow(since=since) as reader:
        assert numbers(reader.take()) == seen
        hub.take("h", "i", entries(3, 3))
        assert numbers(reader.take()) == [3]


def test_what_a_reader_had_and_what_is_held_do_not_meet_is_a_gap() -> None:
    hub = LogHub(Limits(lines=2))
    hub.take("h", "i", entries(0, 9))
    with hub.follow(since=Since(number=3)) as reader:
        items = reader.take()
    assert (gaps(items), numbers(items)) == ([4], [8, 9])


def test_a_reader_that_never_reads_costs_nothing_and_sees_what_it_missed() -> None:
    hub = LogHub(Limits(lines=3))
    with hub.follow() as reader, hub.follow() as other:
        hub.take("h", "i", entries(0, 0))
        assert numbers(reader.take()) == numbers(other.take()) == [0]
        for n in range(1, 1000):
            hub.take("h", "i", entries(n, n))
            assert numbers(other.take()) == [n]
        items = reader.take()
    assert (gaps(items), numbers(items)) == ([996], [997, 998, 999])


def test_lines_are_bounded_by_their_size_too() -> None:
    hub = LogHub(Limits(characters=2000))
    for n in range(10):
        hub.take("h", "i", [Entry(n, "", "x" * 500)])
    with hub.follow() as reader:
        assert numbers(reader.take()) == [6, 7, 8, 9]


def test_logs_are_bounded_in_number_and_the_quietest_unread_one_goes() -> None:
    hub = LogHub(Limits(logs=3))
    hub.take("h", "read", entries(0, 0))
    with hub.follow(Wanted(instances=frozenset({"read"}))):
        for name in ("a", "b", "c"):
            hub.take("h", name, entries(0, 0))
        hub.tell(Place("h", "b"))
        hub.take("h", "d", entries(0, 0))
    assert sorted(place.instance_id for place in hub.places) == ["b", "d", "read"]


def test_all_logs_together_are_bounded_in_bytes() -> None:
    hub = LogHub(Limits(bytes=100_000))
    for n in range(20):
        hub.take("h", str(n), [Entry(0, "", "x" * 15_000)])
    assert len(hub.places) == 6
    assert "6 logs" in repr(hub)


def test_lines_that_go_before_they_were_read_are_a_gap_and_the_log_stays_known() -> None:
    hub = LogHub(Limits(bytes=3000))
    place = Place("h", "1", "gpu1", "m")
    hub.tell(place)
    with hub.follow(Wanted(aliases=frozenset({"m"})), Since(replay=0)) as reader:
        hub.take("h", "1", [Entry(n, "", "x" * 500) for n in range(2)])
        assert numbers(reader.take()) == [0, 1]
        hub.take("h", "1", [Entry(2, "", "x" * 500)])
        hub.take("h", "2", [Entry(0, "", "x" * 2000)])
        hub.take("h", "1", [Entry(3, "", "anew")])
        items = reader.take()
    assert (items[0], gaps(items)) == (Gap(place, 1), [1])
    assert [item.line.text for item in items if isinstance(item, LogLine)] == ["anew"]
    assert place in hub.places


def test_lines_of_strangers_do_not_drive_out_those_of_hosts() -> None:
    hub = LogHub(Limits(logs=2))
    for name in ("a", "b"):
        hub.tell(Place("h", name))
        hub.take("h", name, entries(0, 0))
    hub.take("h", "garbage", entries(0, 0))
    assert sorted(place.instance_id for place in hub.places) == ["a", "b"]


def test_what_is_gone_is_kept_for_a_while_and_then_forgotten() -> None:
    clock = FakeClock()
    hub = LogHub(Limits(gone_seconds=60), clock=clock)
    hub.take("h", "i", entries(0, 0))
    hub.gone("h", "i")
    clock.advance(59)
    with hub.follow() as reader:
        assert numbers(reader.take()) == [0]
        clock.advance(2)
        hub.tell(Place("h", "other"))
        assert [place.instance_id for place in reader.places] == ["other"]
        hub.take("h", "i", entries(0, 1, "anew"))  # whatever it was before, all of it is new
        assert numbers(reader.take()) == [0, 1]


def test_what_comes_back_in_time_goes_on() -> None:
    clock = FakeClock()
    hub = LogHub(Limits(gone_seconds=60), clock=clock)
    hub.take("h", "i", entries(0, 1))
    hub.gone("h", "i")
    hub.tell(Place("h", "i"))
    clock.advance(100)
    hub.gone("h", "nobody")
    with hub.follow(since=Since(number=1)) as reader:
        hub.take("h", "i", entries(0, 2))
        assert numbers(reader.take()) == [2]


def test_a_new_log_joins_by_itself_if_it_is_wanted() -> None:
    hub = LogHub()
    with hub.follow(Wanted(aliases=frozenset({"llama:8b"}))) as reader:
        hub.take("h", "1", entries(0, 0))
        hub.take("h", "2", entries(0, 0))
        assert reader.take() == []
        hub.tell(Place("h", "1", "gpu1", "llama:8b"))
        items = reader.take()
        assert items[0] == Contact(Place("h", "1", "gpu1", "llama:8b"))
        assert numbers(items) == [0]
        hub.tell(Place("h", "1", "gpu1", "other"))
        hub.take("h", "1", entries(1, 1))
        assert reader.take() == []


def test_hosts_are_wanted_by_id_or_by_name() -> None:
    place = Place("id", "i", "gpu1", "m")
    assert Wanted(hosts=frozenset({"gpu1"})).covers(place)
    assert Wanted(hosts=frozenset({"id"}), instances=frozenset({"i"})).covers(place)
    assert not Wanted(hosts=frozenset({"gpu1"}), instances=frozenset({"j"})).covers(place)


def test_lines_are_wanted_by_their_level_and_their_text() -> None:
    hub = LogHub()
    texts = ["INFO Loading", "WARNING slow", "ERROR of LOADING", "ERROR other"]
    hub.take("h", "i", [Entry(n, "", text) for n, text in enumerate(texts)])
    with hub.follow(Wanted(level="warning", text="loading")) as reader:
        assert numbers(reader.take()) == [2]


def test_lines_of_several_logs_come_in_the_order_of_their_times() -> None:
    hub = LogHub()
    hub.take("h", "a", [Entry(0, "2026-11-22T07:00:00Z", "1"), Entry(1, "2026-11-22T07:00:02Z", "3")])
    hub.take("h", "b", [Entry(0, "2026-11-22T07:00:01Z", "2"), Entry(1, "no time", "2b")])
    with hub.follow() as reader:
        texts = [item.line.text for item in reader.take() if isinstance(item, LogLine)]
    assert texts == ["1", "2", "2b", "3"]


def test_keys_are_in_no_line() -> None:
    hub = LogHub()
    hub.hide("h", {"secret-key-1", ""})
    hub.take("h", "i", [Entry(0, "", "llama-server --api-key secret-key-1")])
    hub.take("h", "i", [Entry(0, "", "llama-server --api-key secret-key-1")])  # told again, and known
    with hub.follow() as reader:
        (_, item) = reader.take()
        assert isinstance(item, LogLine)
        assert item.line.text == "llama-server --api-key ***"


def test_who_follows_first_and_who_leaves_last_is_told_to_the_sources() -> None:
    hub, told = LogHub(), list[str]()
    hub.on_followed = lambda place: told.append(f"+{place.instance_id}")
    hub.on_left = lambda place: told.append(f"-{place.instance_id}")
    hub.tell(Place("h", "i"))
    with hub.follow():
        with hub.follow():
            assert told == ["+i"]
        hub.tell(Place("h", "j"))
        assert told == ["+i", "+j"]
    assert told == ["+i", "+j", "-i", "-j"]


def test_what_a_source_brings_at_first_is_what_was_before() -> None:
    hub = LogHub()
    hub.on_followed = hub.on_left = lambda place: None
    hub.tell(Place("h", "i"))
    with hub.follow(since=Since(replay=1)) as reader:
        hub.take("h", "i", entries(0, 5))
        assert reader.take() == []
        hub.contact("h", "i")
        items = reader.take()
        assert (items[0], numbers(items)) == (Contact(Place("h", "i")), [5])
        hub.contact("h", "i", "its agent is gone")
        hub.take("h", "i", entries(8, 8))
        items = reader.take()
        assert (gaps(items), numbers(items), items[-1]) == ([2], [8], Contact(Place("h", "i"), "its agent is gone"))


def test_a_source_that_fails_at_first_shows_what_is_held_and_replays_once_it_works() -> None:
    hub = LogHub()
    hub.on_followed = hub.on_left = lambda place: None
    hub.tell(Place("h", "i"))
    with hub.follow(since=Since(replay=1)) as reader:
        hub.contact("h", "i", "no")
        assert reader.take() == [Contact(Place("h", "i"), "no")]
        hub.take("h", "i", entries(0, 5))
        hub.contact("h", "i")
        assert numbers(reader.take()) == [5]


def test_a_live_log_that_begins_late_begins_without_a_gap() -> None:
    hub = LogHub()
    hub.tell(Place("h", "i"))
    with hub.follow(since=Since(replay=0)) as reader:
        reader.take()
        hub.take("h", "i", entries(500, 501))
        items = reader.take()
    assert (gaps(items), numbers(items)) == ([], [500, 501])


def test_who_knows_of_a_restart_says_so() -> None:
    hub = LogHub()
    hub.restarted("h", "i")
    hub.take("h", "i", entries(0, 1))
    hub.restarted("h", "i")
    hub.take("h", "i", entries(2, 2, "anew"))
    with hub.follow() as reader:
        epochs = [item.line.epoch for item in reader.take() if isinstance(item, LogLine)]
    assert epochs == [0, 0, 1]


def test_pushed_lines_wait_for_those_before_them() -> None:
    hub = LogHub(Limits(lines=10))
    with hub.follow() as reader:
        hub.hold("h", "i")
        hub.take("h", "i", entries(5, 6))
        assert numbers(reader.take()) == []
        hub.fill("h", "i", entries(0, 5))
        assert numbers(reader.take()) == [0, 1, 2, 3, 4, 5, 6]
        hub.hold("h", "i")
        hub.take("h", "i", entries(7, 17))  # too many to wait
        assert numbers(reader.take())[-1] == 17
        hub.fill("h", "i")


async def test_a_waiting_reader_wakes_and_a_closed_one_ends() -> None:
    hub = LogHub()
    reader = hub.follow()
    loop = asyncio.get_running_loop()
    loop.call_soon(hub.take, "h", "i", entries(0, 0))
    async with asyncio.timeout(5):
        assert numbers(await anext(reader)) == [0]
        loop.call_soon(reader.close)
        assert [items async for items in reader] == []
    reader.close()
    assert "0 readers" in repr(hub)


def test_nothing_is_kept_of_nothing() -> None:
    hub = LogHub()
    hub.take("h", "i", [])
    assert hub.places == ()


class Play:
    """Logs that are written, and readers that read when they like; every reader keeps what it was told."""

    def __init__(self, lines: int) -> None:
        self.hub = LogHub(Limits(lines=lines))
        self.written = {"a": 0, "b": 0}
        self.lost = {"a": 0, "b": 0}  # of the next numbers, so many are never told
        self.told: dict[str, list[Entry]] = {"a": [], "b": []}
        self.readers: list[tuple[Reader, dict[str, int | None], dict[str, list[LogLine | Gap]]]] = []

    def do(self, op: tuple[str, int]) -> None:
        name, n = op
        match name:
            case "a" | "b":
                first = self.written[name] + self.lost.pop(name, 0)
                self.lost[name] = 0
                self.told[name] += entries(first, first + n)
                self.hub.take("h", name, entries(first, first + n))
                self.written[name] = first + n + 1
            case "lose":
                self.lost["ab"[n % 2]] += 1
            case "again":
                log = "ab"[n % 2]
                self.hub.take("h", log, self.told[log][-n - 1 :])
            case "hold":
                self.hub.hold("h", "ab"[n % 2])
            case "fill":
                self.hub.fill("h", "ab"[n % 2], self.told["ab"[n % 2]])
            case "join":
                begins = {log: self.begin(log, n) for log in "ab"}
                self.readers.append((self.hub.follow(since=Since(replay=n)), begins, {"a": [], "b": []}))
            case "read" if self.readers:
                reader, _, told = self.readers[n % len(self.readers)]
                self.read(reader, told)

    def begin(self, log: str, replay: int) -> int | None:
        """The number of the first line that a new reader is due; None: whichever comes first."""
        with self.hub.follow(Wanted(instances=frozenset({log}))) as reader:
            held = numbers(reader.take())
        return [*held, held[-1] + 1][-replay - 1 :][0] if held else None

    def read(self, reader: Reader, told: dict[str, list[LogLine | Gap]]) -> None:
        for item in reader.take():
            if not isinstance(item, Contact):
                told[item.place.instance_id].append(item)


OPS = st.tuples(
    st.sampled_from(["a", "a", "b", "lose", "again", "hold", "fill", "join", "read", "read"]), st.integers(0, 5)
)


@given(st.lists(OPS, max_size=60), st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_every_reader_gets_growing_numbers_and_every_missing_one_is_counted_once(
    ops: list[tuple[str, int]], lines: int
) -> None:
    play = Play(lines)
    for op in ops:
        play.do(op)
    for log in (0, 1):
        play.do(("fill", log))
    for reader, begins, told in play.readers:
        play.read(reader, told)
        for log, items in told.items():
            expected = begins[log]
            for item in items:
                if isinstance(item, Gap):
                    assert expected is not None
                    assert item.missed > 0
                    expected += item.missed
                else:
                    assert expected in (None, item.line.seq)
                    assert item.line.text == f"line {item.line.seq}"
                    expected = item.line.seq + 1
            if expected is not None:
                assert expected == play.written[log]  # nothing is lost at the end in silence
        reader.close()
