"""What a request costs, counted and not timed, against the budget that is committed beside this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("calls are counted on Linux: elsewhere a loop asks the kernel in other ways", allow_module_level=True)

from counted import BUDGET, COMMAND, PROFILED, VERSION, Cost, Span, cost_of, from_text

pytestmark = pytest.mark.interpreted("no profiler sees the calls of compiled code")

SECONDS = 240  # then it hangs
SLACK = 0.02  # on the Python that the budget was made with, where counts repeat to the call
SLACK_ELSEWHERE = 0.10  # asyncio differs from one Python to the next
MUST_FALL = 0.15  # so far below its budget, a cost has fallen and the budget must follow
SHOWN = 30  # functions, where a cost is wrong

_BUDGET: dict[str, Any] = json.loads(BUDGET.read_text(encoding="utf-8"))
_MADE_WITH = _BUDGET.pop("Python")


def verdict(name: str, span: Span, budget: Cost, slack: float) -> str | None:
    """What is wrong with a cost; None: it is within its budget, and not far below."""
    cost = cost_of(span)
    wrong = {}
    for kind, now, allowed in (("python", cost.python, budget.python), ("c", cost.c, budget.c)):
        if now > allowed * (1 + slack):
            wrong[kind] = f"{now} {kind.capitalize()} calls are more than the {allowed} of its budget"
        elif now < allowed * (1 - MUST_FALL):
            wrong[kind] = f"{now} {kind.capitalize()} calls are far fewer than the {allowed} of its budget: lower it"
    if cost.kernel != budget.kernel:
        wrong["kernel"] = f"it asks the kernel {_said(cost.kernel)}; its budget is {_said(budget.kernel)}"
    if not wrong:
        return None
    most = [(number, called) for (kind, called), number in span.most_common() if kind in wrong]
    return "\n".join(
        [
            f"{name}: {'; '.join(wrong.values())}.",
            f"If that is meant, `{COMMAND}` makes it the budget, and the commit says why.",
            "Called most (without --write that command lists all, to be compared with another commit's):",
            *(f"{number:5} {called}" for number, called in most[:SHOWN]),
        ]
    )


def _said(kernel: Any) -> str:
    return ", ".join(f"{called} {number}x" for called, number in sorted(kernel.items()))


@pytest.fixture(scope="module")
def counts() -> dict[str, Span]:
    """In a process of its own: no debugger, no coverage and no setting of the tests' process gets in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    script = Path(__file__).with_name("counted.py")
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=SECONDS)
    if run.returncode == PROFILED:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr
    return from_text(run.stdout)


@pytest.mark.parametrize("name", _BUDGET)
def test_costs_as_many_calls_as_its_budget_says(name: str, counts: dict[str, Span]) -> None:
    slack = SLACK if VERSION == _MADE_WITH else SLACK_ELSEWHERE
    wrong = verdict(name, counts[name], Cost(**_BUDGET[name]), slack)
    assert wrong is None, wrong


def test_all_that_is_counted_has_a_budget(counts: dict[str, Span]) -> None:
    assert set(counts) == set(_BUDGET)


SPAN: Span = Counter({("python", "read"): 60, ("python", "write"): 40, ("c", "len"): 50, ("kernel", "socket.send"): 2})
BUDGETED = Cost(python=100, c=50, kernel={"socket.send": 2})


def test_a_cost_within_its_budget_passes() -> None:
    assert verdict("a", SPAN, BUDGETED, SLACK) is None
    assert verdict("a", SPAN, BUDGETED._replace(python=99), SLACK) is None


def test_says_what_is_called_most_where_calls_have_become_more() -> None:
    wrong = verdict("a", SPAN, BUDGETED._replace(python=97), SLACK)
    assert wrong is not None
    assert "a: 100 Python calls are more than the 97 of its budget" in wrong
    assert "60 read" in wrong


def test_a_budget_follows_a_cost_that_fell() -> None:
    wrong = verdict("a", SPAN, BUDGETED._replace(c=60), SLACK)
    assert wrong is not None
    assert "50 C calls are far fewer than the 60 of its budget: lower it" in wrong


def test_one_more_write_is_seen() -> None:
    wrong = verdict("a", SPAN + Counter({("kernel", "socket.send"): 1}), BUDGETED, SLACK)
    assert wrong is not None
    assert "socket.send 3x; its budget is socket.send 2x" in wrong
