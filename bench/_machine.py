"""What the figures were seen on: facts of the machine and versions of the programs, without its name or its paths."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from _setup import ROOT

PACKAGES = ("uvicorn", "httptools", "uvloop", "msgspec")


def facts() -> dict[str, Any]:
    """CPU, cores, memory, kernel."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*:\s*(.+)", text)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": model[1].strip() if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory[1]) / 1e6) if memory else 0,
        "kernel": platform.release().partition("-")[0],
        "virtual": "hypervisor" in text,
        "load_before": os.getloadavg()[0],
    }


def kind(machine: dict[str, Any]) -> str:
    """A short name for such machines: "2-core-amd-epyc"."""
    words = re.sub(r"\(.*?\)|@.*|\b(cpu|processor)\b", " ", str(machine["cpu"]).lower())
    return "-".join([f"{machine['cores']}-core", *re.findall(r"[a-z0-9]+", words)[:3]])


@cache
def solar() -> str:
    """What is measured: version and commit, with "-dirty" where files differ from it."""
    commit = said(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"], r"^([0-9a-f]{7,}\S*)\s")
    return f"{importlib.metadata.version('solar-control')}, commit {'unknown' if commit == '?' else commit}"


def said(command: list[str], pattern: str) -> str:
    """What a command says of itself, or "?"."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, cwd="/")
    except OSError:
        return "?"
    found = re.search(pattern, ran.stdout + ran.stderr)
    return found[1] if found else "?"


def versions() -> dict[str, str]:
    """Of what everything here is built with; the contestants tell their own."""
    found = {"Python": f"{platform.python_version()} ({Path(sys.executable).resolve()})"}
    found |= {name: importlib.metadata.version(name) for name in PACKAGES}
    libc = " ".join(part for part in platform.libc_ver() if part)
    return {**found, "libc": libc, "cc": said(["cc", "-dumpfullversion"], r"(\S+)")}
