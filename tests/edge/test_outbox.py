"""What is written in one turn of the loop leaves together at its end, in order, and before its connection closes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from solar.edge.outbox import AT_MOST, AT_ONCE, Gathered, Outbox


class Line:
    """A transport that keeps what it was told."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.over = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def writelines(self, parts: tuple[bytes, ...]) -> None:
        self.writes.append(b"".join(parts))

    def is_closing(self) -> bool:
        return self.over

    def close(self) -> None:
        self.write_eof(b"close")

    def write_eof(self, end: bytes = b"write_eof") -> None:
        self.writes.append(end)
        self.over = True


@pytest.fixture
def line() -> Any:
    return Line()


@pytest.fixture
def other() -> Any:
    return Line()


async def test_what_is_written_in_one_turn_leaves_at_its_end_with_one_write_for_each_connection(
    line: Any, other: Any
) -> None:
    outbox = Outbox()
    for _ in range(2):
        outbox.write(line, b"a")
        outbox.write(other, b"1", b"2")
        outbox.write(line, b"b", b"c")
        assert (line.writes, other.writes) == ([], [])
        assert repr(outbox) == "<Outbox 5 bytes for 2 connections>"
        await asyncio.sleep(0)
        assert (line.writes, other.writes) == ([b"abc"], [b"12"])
        line.writes.clear()
        other.writes.clear()


async def lone_writes(outbox: Outbox, line: Any) -> int:
    """How many do not wait, until one does."""
    line.writes.clear()
    tried = 0
    while len(line.writes) == tried:
        outbox.write(line, b"a")
        tried += 1
    await asyncio.sleep(0)
    return tried - 1


async def test_who_is_alone_turn_after_turn_waits_ever_less_often(line: Any, other: Any) -> None:
    outbox = Outbox()
    assert [await lone_writes(outbox, line) for _ in range(6)] == [0, 1, 3, 7, AT_ONCE, AT_ONCE]
    for _ in range(AT_ONCE):
        outbox.write(line, b"a")
    outbox.write(line, b"b")
    outbox.write(other, b"1")
    await asyncio.sleep(0)
    assert await lone_writes(outbox, line) == 0


async def test_more_than_the_limit_does_not_wait(line: Any, other: Any) -> None:
    outbox = Outbox()
    outbox.write(other, b"1")
    outbox.write(line, b"x" * AT_MOST)
    assert (line.writes, other.writes) == ([b"x" * AT_MOST], [b"1"])
    outbox.write(other, b"2")
    assert other.writes == [b"1"]
    await asyncio.sleep(0)
    assert other.writes == [b"1", b"2"]


async def test_what_was_written_leaves_before_its_connection_closes(line: Any, other: Any) -> None:
    outbox = Outbox()
    outbox.write(line, b"a")
    outbox.write(other, b"1")
    outbox.hand_over(line)
    line.over = True
    assert (line.writes, other.writes) == ([b"a"], [])
    await asyncio.sleep(0)
    assert (line.writes, other.writes) == ([b"a"], [b"1"])


async def test_a_connection_that_was_lost_gets_nothing_more_and_keeps_nobody_waiting(line: Any, other: Any) -> None:
    outbox = Outbox()
    outbox.write(line, b"a")
    outbox.write(other, b"1")
    line.over = True
    outbox.hand_over(line)
    outbox.write(line, b"b")
    await asyncio.sleep(0)
    assert (line.writes, other.writes) == ([], [b"1"])


# --- a protocol that is not ours


async def at_once(outbox: Outbox, line: Any) -> None:
    """Bring the outbox to where the next writes do not wait."""
    outbox.write(line, b".")
    await asyncio.sleep(0)
    line.writes.clear()


async def test_a_head_leaves_with_the_body_behind_it(line: Any) -> None:
    outbox = Outbox()
    await at_once(outbox, line)
    for body in (b"one", b"two"):
        Gathered(line, outbox).write(b"HTTP/1.1 200 OK\r\n\r\n")
        Gathered(line, outbox).write(body)
    assert line.writes == [b"HTTP/1.1 200 OK\r\n\r\none"]
    await asyncio.sleep(0)
    assert line.writes[1:] == [b"HTTP/1.1 200 OK\r\n\r\ntwo"]


async def test_a_head_without_a_body_leaves_at_the_end_of_the_turn(line: Any) -> None:
    outbox = Outbox()
    await at_once(outbox, line)
    gathered = Gathered(line, outbox)
    gathered.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    gathered.write(b"")
    assert line.writes == []
    await asyncio.sleep(0)
    assert line.writes == [b"HTTP/1.1 204 No Content\r\n\r\n"]


@pytest.mark.parametrize("ends", ["close", "write_eof"])
async def test_what_it_wrote_comes_before_its_end(line: Any, ends: str) -> None:
    gathered = Gathered(line, Outbox())
    gathered.writelines([b"a", b"b"])
    getattr(gathered, ends)()
    assert line.writes == [b"ab", ends.encode()]
    assert gathered.is_closing()


def test_all_else_is_asked_of_the_transport_itself(line: Any) -> None:
    assert Gathered(line, Outbox()).over is False
