"""The checks and the tests, after the environment is made: what `scripts/test` does."""

import os
import shutil
import subprocess

import _agents
import _compiled
import _environment
from _environment import ENGINE, MODEL, PROJECT, PYTHON, ROOT, TEST

# What tests need besides Python packages: a program, and the package that has it. `--all` installs them as root on
# Debian and Ubuntu. A program that is there stays, wherever it came from: Debian's Docker would replace Docker's own.
DEBIAN_PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker-cli",  # a part of docker.io up to Debian 12
    "docker-compose": "docker-compose",
    "ip": "iproute2",
}

# These have no suffix that the tools would find them by.
SCRIPTS = ("scripts/demo", "scripts/test", "bench/run")
CHECKS = {
    "ruff check": ("-m", "ruff", "check", ".", *SCRIPTS),
    "ruff format": ("-m", "ruff", "format", "--check", ".", *SCRIPTS),
    "mypy": ("-m", "mypy"),
    "mypy scripts": ("-m", "mypy", *(str(file) for file in sorted(ROOT.glob("scripts/_*.py")))),
    "mypy bench": ("-m", "mypy", *(str(file) for file in sorted(ROOT.glob("bench/*.py")))),
    "lint-imports": (str(PYTHON.parent / "lint-imports"),),
}


def run(pytest_arguments: list[str], everything: bool) -> int:
    """Exit code 0 if every check and every test passed; with `everything`, only if no test was skipped either."""
    _environment.provide(TEST, PROJECT, *([MODEL, ENGINE] if everything else []))
    if everything:
        install_debian_packages()
        _agents.provide()
    failed = [name for name, command in CHECKS.items() if not passes(name, command)]
    if everything:
        pytest_arguments = ["--no-skip", *pytest_arguments]
    print("\n== pytest", flush=True)
    if subprocess.run([PYTHON, "-m", "pytest", *pytest_arguments], cwd=ROOT).returncode != 0:
        failed.append("pytest")
    if everything and _compiled.run(pytest_arguments) != 0:
        failed.append("pytest, compiled")
    if failed:
        print(f"\nFailed: {', '.join(failed)}")
    return 1 if failed else 0


def run_compiled(pytest_arguments: list[str]) -> int:
    """Only what runs against the compiled Solar."""
    _environment.provide(TEST, PROJECT)
    return _compiled.run(pytest_arguments)


def passes(name: str, command: tuple[str, ...]) -> bool:
    print(f"\n== {name}", flush=True)
    return subprocess.run([PYTHON, *command], cwd=ROOT).returncode == 0


def install_debian_packages() -> None:
    """Where that fails, the tests that need the program say so, loudly, and skip."""
    absent = [package for program, package in DEBIAN_PACKAGES.items() if shutil.which(program) is None]
    if not absent or shutil.which("apt-get") is None or os.geteuid() != 0:
        return
    print(f"Installing Debian packages: {', '.join(absent)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *absent]):
        if subprocess.run(["apt-get", "-qq", *command], env=environment).returncode != 0:
            print("apt-get failed: its own words stand above.", flush=True)
            return
