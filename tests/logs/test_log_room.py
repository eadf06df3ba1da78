from solar.control.logs.hub import Limits, LogHub
from solar.control.logs.items import Gap, LogLine, Place
from solar.wire.lines import Entry

HOST = "host"


def page(first: int, count: int, size: int = 100) -> list[Entry]:
    return [
        Entry(seq, f"2026-11-22T00:00:{seq % 60:02d}", f"{seq} " + "x" * size) for seq in range(first, first + count)
    ]


def test_what_is_read_and_finds_no_room_is_a_gap_and_never_told_twice() -> None:
    hub = LogHub(Limits(bytes=200_000))
    for name in "abcdefgh":
        hub.tell(Place(HOST, name))
    told = list[LogLine | Gap]()
    with hub.follow() as reader:
        for _ in range(3):  # each source tells its whole page again, as agents do
            for name in "abcdefgh":
                hub.take(HOST, name, page(0, 100))
        told += [item for item in reader.take() if isinstance(item, LogLine | Gap)]
        for name in "abcdefgh":
            hub.take(HOST, name, page(0, 101))
        told += [item for item in reader.take() if isinstance(item, LogLine | Gap)]
    lines = [(item.place.instance_id, item.line.seq) for item in told if isinstance(item, LogLine)]
    missed = sum(item.missed for item in told if isinstance(item, Gap))
    assert len(lines) == len(set(lines))
    assert len(lines) + missed == 8 * 101


def test_many_small_logs_make_room_for_a_large_one() -> None:
    hub = LogHub(Limits(bytes=400_000))
    for number in range(700):
        hub.tell(Place(HOST, f"small-{number}"))
        hub.take(HOST, f"small-{number}", page(0, 1))
    for name in "abc":
        hub.tell(Place(HOST, name))
        hub.take(HOST, name, page(0, 1000))
    assert hub.holds(HOST, "c")
    assert len(hub.places) == 703
