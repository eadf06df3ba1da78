"""What requests free stays in the process, for the next ones."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

if "CS_GNU_LIBC_VERSION" not in os.confstr_names:
    pytest.skip("only glibc is told", allow_module_level=True)

BODIES = """
import resource, sys
from solar.control.heap import keep_what_is_freed

if sys.argv[1] == "keep":
    keep_what_is_freed()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def request():
    [b"x" * 1_000_000 for _ in range(8)]

request()
before = faults()
for _ in range(10):
    request()
print(faults() - before)
"""


def pages_taken(how: str) -> int:
    ran = subprocess.run([sys.executable, "-c", BODIES, how], capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_bodies_of_the_next_request_take_no_memory_anew() -> None:
    assert pages_taken("keep") < 100
    assert pages_taken("leave") > 10_000  # else there is nothing to be told
