"""What skipped and why, at the end of every run; with --no-skip a skipped test fails the run.

With --compiled it is the compiled Solar that runs, or nothing does.
"""

import signal
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from solar.control.built import is_compiled

HERE = Path(__file__).parent
DOCKER = "docker"
NEWER_PYTHON = "newer_python"
INTERPRETED = "interpreted"
MARKED = {"real": "real", "agents": "real", "docker": DOCKER}  # the tests of a folder bear its marker
# What is not to be had on every machine: `--no-skip` lets these skip, and says so last.
MAY_SKIP = {DOCKER: "Docker", NEWER_PYTHON: "The agent that needs a newer Python"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skip",
        action="store_true",
        help="fail the run if a test skips, but for what cannot be had on every machine: scripts/test --all sets it",
    )
    parser.addoption(
        "--compiled",
        action="store_true",
        help="refuse to run without the compiled Solar: scripts/test --compiled sets it",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{DOCKER}: needs a Docker engine")
    config.addinivalue_line("markers", f"{NEWER_PYTHON}: needs an agent that Python 3.11 does not run")
    if config.getoption("--compiled") and not is_compiled():
        raise pytest.UsageError("the Solar that is imported here is not compiled: scripts/test --compiled brings one")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell has begun us in its background. What is started here would not hear an interrupt either.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for folder, marker in MARKED.items():
            if HERE / folder in item.path.parents:
                item.add_marker(marker)
    if config.getoption("--compiled"):
        left_out = [item for item in items if item.get_closest_marker(INTERPRETED)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    # A skip's longrepr is (file, line, reason).
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ")


def skips(config: pytest.Config) -> list[pytest.TestReport | pytest.CollectReport]:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return list(terminal.stats.get("skipped", [])) if terminal else []


def may_skip(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """What cannot be had here, if that is why it skipped."""
    return next((what for marker, what in MAY_SKIP.items() if marker in getattr(report, "keywords", {})), None)


def by_reason(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> dict[str, list[str]]:
    tests = defaultdict(list)
    for report in reports:
        tests[reason_of(report)].append(report.nodeid)
    return tests


def pytest_sessionfinish(session: pytest.Session) -> None:
    forbidden = [report for report in skips(session.config) if not may_skip(report)]
    if forbidden and session.config.getoption("--no-skip") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = skips(config)
    if not skipped:
        return
    terminalreporter.section("skipped, and why")
    for reason, tests in by_reason(skipped).items():
        terminalreporter.line(f"{len(tests)} skipped: {reason}")
        for test in tests:
            terminalreporter.line(f"    {test}")
    if config.getoption("--no-skip") and not all(may_skip(report) for report in skipped):
        terminalreporter.line("--no-skip: these skips fail the run", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    if not config.getoption("--no-skip"):
        return
    for what in MAY_SKIP.values():
        tests = by_reason(report for report in skips(config) if may_skip(report) == what)
        if tests:
            count = sum(map(len, tests.values()))
            config.get_terminal_writer().line(f"{what} is not tested here, {count} skipped: {'; '.join(tests)}")
