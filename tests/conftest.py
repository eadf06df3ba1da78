"""What skipped and why, at the end of every run; with --no-skip a skipped test fails the run."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
DOCKER = "docker"
MARKED = ("real", DOCKER)  # folders whose tests bear their name as a marker


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--no-skip",
        action="store_true",
        help="fail the run if a test skips (except Docker's, where no engine can start): scripts/test --all sets it",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{DOCKER}: needs a Docker engine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for folder in MARKED:
            if HERE / folder in item.path.parents:
                item.add_marker(folder)


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    # A skip's longrepr is (file, line, reason).
    told = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ")


def skips(config: pytest.Config) -> list[pytest.TestReport | pytest.CollectReport]:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    return list(terminal.stats.get("skipped", [])) if terminal else []


def is_docker(report: pytest.TestReport | pytest.CollectReport) -> bool:
    return DOCKER in getattr(report, "keywords", {})


def by_reason(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> dict[str, list[str]]:
    tests = defaultdict(list)
    for report in reports:
        tests[reason_of(report)].append(report.nodeid)
    return tests


def pytest_sessionfinish(session: pytest.Session) -> None:
    forbidden = [report for report in skips(session.config) if not is_docker(report)]
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
    if config.getoption("--no-skip") and not all(is_docker(report) for report in skipped):
        terminalreporter.line("--no-skip: these skips fail the run", red=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    docker = by_reason(report for report in skips(config) if is_docker(report))
    if docker and config.getoption("--no-skip"):
        count = sum(len(tests) for tests in docker.values())
        config.get_terminal_writer().line(f"Docker is not tested here, {count} skipped: {'; '.join(docker)}")
