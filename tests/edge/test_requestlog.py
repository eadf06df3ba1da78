import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solar.core.record import End, Record
from solar.edge.lines import RequestLine
from solar.edge.linewriter import BatchedLines
from solar.edge.requestlog import RequestLog

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) .+")


class Wire(io.StringIO):
    """A stream that remembers each write, and tells who waits for one."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.written = asyncio.Event()

    def write(self, text: str) -> int:
        self.writes.append(text)
        self.written.set()
        return len(text)

    @property
    def lines(self) -> list[str]:
        return "".join(self.writes).splitlines()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.Logger("solar.lines", logging.INFO)  # noqa: LOG001  # a registered one has pytest's handlers too
    yield logger
    for handler in logger.handlers:
        handler.close()


def finished(*, end: End = "success", status: int = 200, model: str = "qwen3", request_id: str = "r1") -> Record:
    record = Record(request_id, method="POST", path="/v1/x", endpoint="chat", client="10.0.0.7", started_at=100.0)
    record.model = record.resolved = model
    record.backend = "box"
    record.attempts = 1
    record.status = status
    record.end = end
    record.ended_at = 101.5
    return record


def streamed() -> Record:
    record = finished()
    record.resolved = "qwen3:8b-q4"
    record.stream = True
    record.events = 103
    record.queued = 0.125
    record.first_byte_at = 100.5
    record.upstream_seconds = 0.375
    record.tokens_in, record.tokens_out = 30, 101
    record.bytes_in, record.bytes_out = 300, 20600
    record.session_broken = True
    record.code = "upstream_cut"
    record.detail = 'the backend said "no more"'
    return record


def parsed(line: str) -> dict[str, str]:
    assert line.startswith("request ")
    pairs = re.findall(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "]*)(?= |$)', line)
    assert "".join(f" {name}={value}" for name, value in pairs) == line.removeprefix("request")
    return {name: json.loads(value) if value.startswith('"') else value for name, value in pairs}


def sole(wire: Wire) -> str:
    (line,) = wire.lines
    return line


# --- the line


def test_the_line_tells_the_whole_request() -> None:
    assert str(RequestLine(streamed())) == (
        "request id=r1 endpoint=chat model=qwen3 backend=box status=200 end=success attempts=1 queued_ms=125.0"
        " duration_ms=1500.0 bytes_in=300 bytes_out=20600 client=10.0.0.7 ttft_ms=500.0 overhead_ms=0.00"
        " tokens_in=30 tokens_out=101 events=103 resolved=qwen3:8b-q4 session=broken code=upstream_cut"
        r' detail="the backend said \"no more\""'
    )


def test_what_is_not_known_is_left_out() -> None:
    assert str(RequestLine(finished())) == (
        "request id=r1 endpoint=chat model=qwen3 backend=box status=200 end=success attempts=1 queued_ms=0.0"
        " duration_ms=1500.0 bytes_in=0 bytes_out=0 client=10.0.0.7"
    )


@pytest.mark.parametrize("record", [finished(), streamed()])
def test_the_text_and_the_fields_say_the_same(record: Record) -> None:
    line = RequestLine(record)
    text, fields = parsed(str(line)), line.fields()
    assert list(text) == list(fields)
    for name, value in fields.items():
        assert (float(text[name]) if isinstance(value, float) else text[name]) == (
            value if isinstance(value, float) else str(value)
        )


@given(st.text(st.characters(blacklist_categories=()), max_size=300))
@settings(deadline=None)
def test_nothing_a_client_sends_leaves_its_field(said: str) -> None:
    record = finished(model=said, request_id=said)
    record.detail = said
    line = str(RequestLine(record))
    assert line.isascii()
    assert line.isprintable()
    cut = said if len(said) <= 200 else said[:200] + "..."
    assert parsed(line)["model"] == parsed(line)["id"] == cut
    assert parsed(line).get("detail", "") == cut
    assert RequestLine(record).fields()["model"] == cut


def test_a_forged_field_stays_inside_its_quotes() -> None:
    record = finished(model="x status=500\n2026-11-21T12:00:00.000Z INFO request id=forged")
    assert parsed(str(RequestLine(record)))["status"] == "200"


# --- levels


@pytest.mark.parametrize(
    ("end", "level"),
    [("success", "INFO"), ("rejected", "INFO"), ("client_gone", "INFO"), ("failed", "WARNING"), ("broken", "WARNING")],
)
def test_what_failed_or_broke_is_a_warning(logger: logging.Logger, end: End, level: str) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    RequestLog(logger).closed(finished(end=end))
    assert f"Z {level} request id=r1 " in sole(wire)


def test_a_quiet_logger_hears_of_failures_only(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    logger.setLevel(logging.WARNING)
    log = RequestLog(logger)
    log.closed(finished())
    log.closed(finished(end="failed", status=502))
    assert "status=502" in sole(wire)


def test_any_other_handler_sees_a_usual_log_record(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "solar.test"):
        RequestLog(logging.getLogger("solar.test")).closed(finished())
    (record,) = caplog.records
    assert record.getMessage().startswith("request id=r1 ")
    assert (record.name, record.funcName) == ("solar.test", "closed")


# --- formats


def test_json_lines_hold_the_fields(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire, "json"))
    RequestLog(logger).closed(streamed())
    line = json.loads(sole(wire))
    assert re.fullmatch(r"[\d-]{10}T[\d:]{8}\.\d{3}Z", line["time"])
    assert (line["level"], line["logger"], line["message"]) == ("INFO", "solar.lines", "request")
    assert (line["id"], line["status"], line["tokens_out"], line["ttft_ms"]) == ("r1", 200, 101, 500.0)


def test_json_lines_hold_other_messages_and_tracebacks(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire, "json"))
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("failed backend=%s", "box")
    line = json.loads(sole(wire))
    assert line["message"] == "failed backend=box"
    assert "ValueError: two\nlines" in line["exception"]


def test_no_message_can_begin_a_line_of_its_own(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    logger.info("path=%s", "/x\n2026-11-21T12:00:00.000Z INFO forged\x1b[31m\u2028\ud800")
    assert LINE.fullmatch(sole(wire))
    assert r"/x\n2026" in sole(wire)
    try:
        raise ValueError("two\n2026-11-21T12:00:00.000Z INFO forged")
    except ValueError:
        logger.exception("failed")
    first, *traceback = wire.lines[1:]
    assert LINE.fullmatch(first)
    assert all(line.startswith("    ") for line in traceback)


# --- batches


async def test_lines_are_written_together_and_soon(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    for number in range(3):
        logger.info("line %d", number)
    assert wire.writes == []
    async with asyncio.timeout(5):
        await wire.written.wait()
    assert len(wire.writes) == 1
    assert [line[-6:] for line in wire.lines] == ["line 0", "line 1", "line 2"]


async def test_the_timer_starts_anew_after_each_batch(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    for number in range(2):
        wire.written.clear()
        logger.info("batch %d", number)
        async with asyncio.timeout(5):
            await wire.written.wait()
    assert len(wire.writes) == 2


async def test_a_warning_takes_along_what_waits(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    logger.info("first")
    logger.warning("second")
    assert [line[-6:] for line in wire.lines] == [" first", "second"]


async def test_no_more_than_a_hundred_usual_lines_wait(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    for _ in range(31):
        logger.info("x" * 1000)
    assert len(wire.writes) == 1
    assert 29_000 < len(wire.writes[0]) < 31_500


def test_without_an_event_loop_nothing_waits(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    logger.info("at once")
    assert len(wire.writes) == 1


def test_what_waits_is_written_at_close(logger: logging.Logger) -> None:
    wire = Wire()
    handler = BatchedLines(wire)
    logger.addHandler(handler)

    async def say() -> None:
        logger.info("last words")

    asyncio.run(say())
    assert wire.writes == []
    handler.close()
    assert sole(wire).endswith("last words")


def test_a_second_event_loop_has_its_own_timer(logger: logging.Logger) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))

    async def say() -> None:
        logger.info("a line")

    async def say_and_wait() -> None:
        wire.written = asyncio.Event()
        logger.info("another")
        async with asyncio.timeout(5):
            await wire.written.wait()

    asyncio.run(say())  # ends before its timer
    asyncio.run(say_and_wait())
    assert len(wire.lines) == 2


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("stream", [Gone(), io.StringIO()])
def test_a_stream_that_is_gone_fails_no_request(logger: logging.Logger, stream: io.StringIO) -> None:
    stream.close()
    logger.addHandler(BatchedLines(stream))
    logger.warning("nobody reads this")
    assert repr(logger.handlers[0]) == "<BatchedLines 0 waiting>"


def test_a_message_that_does_not_fit_its_arguments_fails_no_request(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    wire = Wire()
    logger.addHandler(BatchedLines(wire))
    logger.info("%d", "no number")
    assert wire.writes == []
    assert "Logging error" in capsys.readouterr().err
