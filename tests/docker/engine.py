"""A Docker Engine of the tests' own: its socket, folder and bridge are nobody else's, and nothing of it stays."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

PROGRAMS = ("dockerd", "docker", "ip")
SOCKET_GROUP = 10202  # may use the socket, and means nothing else on this machine
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21
LONG = 60.0  # seconds that nothing is waited for in vain for longer
POLL = 0.02  # seconds between two looks at a condition


class DockerRefusedError(Exception):
    """What a command of the CLI said when it failed."""


class Engine:
    """One dockerd, stopped when it is made. It can be stopped or killed, and started again with all that it had.

    Containers are reached by their bridge address, and by published ports through the userland proxy. Networks can be
    made, and names resolve there; nothing leads out to the internet. No sysctl is changed, and the firewall only where
    it would keep containers from each other.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="solar-docker-"))
        self.folder.chmod(0o711)  # who is in the socket's group finds the socket
        self.bridge, self._subnet = make_bridge()
        self._rules = firewall_rules(self._subnet)
        for rule in self._rules:
            subprocess.run(["iptables", "--insert", *rule], check=True)
        self.socket = self.folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        self.flags: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        state = f"pid {self._process.pid}" if self._process else "stopped"
        return f"<Engine {self.url} {self.bridge}, {state}>"

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *flags: str) -> None:
        """Returns when it answers. `flags` are dockerd's own, for this run of it: "--live-restore"."""
        assert not self.runs, self
        for stale in (self._pidfile, self.folder / "exec/containerd/containerd.pid"):
            stale.unlink(missing_ok=True)  # after a kill its number may be another process's
        self.flags = flags
        # A containerd that the machine runs would be used, so the namespaces are ours too.
        # fmt: off
        command = [
            "dockerd", "--host", self.url, "--group", str(SOCKET_GROUP), "--pidfile", str(self._pidfile),
            "--config-file", str(self._written("daemon.json", "{}")),
            "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
            "--containerd-namespace", self.bridge, "--containerd-plugins-namespace", f"{self.bridge}-plugins",
            "--bridge", self.bridge, "--default-address-pool", f"base=10.202.{self._subnet}.0/24,size=28",
            "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--log-level=warn",
            *flags,
        ]
        # fmt: on
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self._answers() or not self.runs, lambda: f"{self!r} does not answer\n{self.tail()}")
        assert self.runs, f"dockerd ended at once\n{self.tail()}"

    def stop(self) -> None:
        """As a machine does when it shuts down: its containers end first, unless it was started to let them live."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9: the containers live on, published ports do not."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End every container, the engine, and whatever it made; also after a kill."""
        try:
            self.reset()
            self.stop()
        finally:
            self._sweep()
            ip("link", "delete", self.bridge)
            for rule in self._rules:
                subprocess.run(["iptables", "--delete", *rule], check=True)
            shutil.rmtree(self.folder)

    def reset(self) -> None:
        """Make it run as it did when it was new, with nothing but images."""
        if not self.runs:
            self.start()
        self.clear()
        if self.flags:
            self.restart()

    def restart(self, *flags: str) -> None:
        if self.runs:
            self.stop()
        self.start(*flags)

    def clear(self) -> None:
        """Remove all containers, networks and volumes; images stay."""

        def is_empty() -> bool:
            containers = self.docker("ps", "--all", "--quiet").split()
            with contextlib.suppress(DockerRefusedError):  # one may be going by itself, as those of `run --rm` do
                self.docker("rm", "--force", "--volumes", *containers)
            return not containers

        wait_until(is_empty, lambda: self.docker("ps", "--all"))
        self.docker("network", "prune", "--force")
        if volumes := self.docker("volume", "ls", "--quiet").split():
            self.docker("volume", "rm", *volumes)

    def docker(self, *arguments: str) -> str:
        """What `docker ARGUMENTS` prints on this engine. Raises DockerRefusedError."""
        ran = subprocess.run(["docker", *arguments], env=self.environment, capture_output=True, text=True, timeout=120)
        if ran.returncode != 0:
            raise DockerRefusedError(f"docker {' '.join(arguments)}\n{ran.stderr}{ran.stdout}")
        return ran.stdout.strip()

    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to use this engine, and nothing of the machine's own."""
        ours = {"DOCKER_HOST": self.url, "DOCKER_CONFIG": str(self.folder / "config"), "DOCKER_BUILDKIT": "0"}
        return {**os.environ, **ours}

    def run(self, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
        """Start a container; its id. `options` stand before the image, `command` after it."""
        return self.docker("run", "--detach", *options, image, *command)

    def inspect(self, container: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.docker("container", "inspect", container))
        return found[0]

    def address(self, container: str, network: str = "bridge") -> str:
        """Its IP address in a network."""
        return str(self.inspect(container)["NetworkSettings"]["Networks"][network]["IPAddress"])

    def published(self, container: str, port: int) -> int:
        """The port of this machine that leads to a port of the container."""
        return int(self.inspect(container)["NetworkSettings"]["Ports"][f"{port}/tcp"][0]["HostPort"])

    def logs(self) -> dict[str, str]:
        """What each container has written, by its name."""
        told = {}
        for name in self.docker("ps", "--all", "--format", "{{.Names}}").split():
            command = ["docker", "logs", "--tail", "40", name]
            ran = subprocess.run(
                command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            told[name] = ran.stdout
        return told

    def processes(self) -> list[psutil.Process]:
        """Everything that runs because the engine does or did: what has its folder in its command line, and theirs."""
        named = [each for each in psutil.process_iter(["cmdline"]) if str(self.folder) in str(each.info["cmdline"])]
        found = list(named)
        for process in named:
            with contextlib.suppress(psutil.NoSuchProcess):
                found += process.children(recursive=True)
        return found

    def tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    @property
    def _pidfile(self) -> Path:
        return self.folder / "docker.pid"

    def _written(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None, self
        children = psutil.Process(self._process.pid).children()  # containerd and the proxies of published ports
        self._process.send_signal(number)
        self._process.wait(LONG)
        self._process = None
        wait_until(lambda: not any(map(is_alive, children)), lambda: f"still there: {children}")

    def _sweep(self) -> None:
        """For an engine that could not stop as it should."""
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if (place := line.split()[4]).startswith(str(self.folder)):
                subprocess.run(["umount", "--lazy", place], check=False)

    def _answers(self) -> bool:
        try:
            return bool(self.docker("version"))
        except DockerRefusedError:
            return False


def why_not() -> str | None:
    """Why no Docker Engine can run here; None if one can."""
    if sys.platform != "linux":
        return "the tests' own Docker Engine needs Linux"
    if os.geteuid() != 0:
        return "the tests' own Docker Engine needs root: sudo scripts/test --all"
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"no {', '.join(missing)} here: scripts/test --all installs what is missing on Debian and Ubuntu"
    rights = int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16)
    if not all(rights >> bit & 1 for bit in (CAP_NET_ADMIN, CAP_SYS_ADMIN)):
        return "root has not all rights here, as in a container: no Docker Engine can run"
    return None


def is_alive(process: psutil.Process) -> bool:
    """A zombie is none: who took over the children may never ask for them."""
    try:
        return str(process.status()) != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def make_bridge() -> tuple[str, int]:
    """A new bridge and the third number of its addresses: one that no other run of the tests has."""
    for number in range(1, 250):
        name = f"solar{number}"
        if ip("link", "add", name, "type", "bridge"):
            ip("address", "add", f"10.201.{number}.1/24", "dev", name)
            ip("link", "set", name, "up")
            return name, number
    raise RuntimeError("no bridge can be made: see `ip link add solar1 type bridge`")


def firewall_rules(number: int) -> list[list[str]]:
    """What lets containers reach each other on a machine whose own Docker Engine has shut the way for all others."""
    if shutil.which("iptables") is None:
        return []
    told = subprocess.run(["iptables", "--list-rules", "FORWARD"], capture_output=True, text=True).stdout
    if "-P FORWARD DROP" not in told.splitlines():
        return []
    ours = (f"10.201.{number}.0/24", f"10.202.{number}.0/24")
    return [["FORWARD", "--source", net, "--destination", net, "--jump", "ACCEPT"] for net in ours]


def ip(*arguments: str) -> bool:
    return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def answer(url: str) -> str | None:
    """What a page says; None while nobody answers with a 200."""
    try:
        page = httpx.get(url, timeout=5, trust_env=False)
    except httpx.TransportError:
        return None
    return page.text if page.status_code == httpx.codes.OK else None


def wait_until(holds: Callable[[], object], told: Callable[[], str] = lambda: "", within: float = LONG) -> None:
    """Wait until a condition holds; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within:g} s: {told()}"
        time.sleep(POLL)
