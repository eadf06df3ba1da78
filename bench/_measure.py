"""The measurements: what is asked of a contestant, the check that it answers rightly, and what that cost it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _contestants import Contestant, free_port
from _options import Scale
from _process import Cores, Process, listening, machine_cpu, pinned, undisturbed
from _setup import CACHE

RATE = 500  # requests a second of the open loop
PATH = "/v1/chat/completions"
PATIENCE = 30.0  # seconds that slow contestants have to end what they began
HELD_INTERVAL = 10_000  # ms between the chunks of a stream that is only held open
WORDS = ("black", "white")  # what bench/backend.c says, again and again

Sample = dict[str, Any]


class WrongAnswer(Exception):
    """A contestant that must not be measured: it does not do the work. `log` is the end of what it said."""

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of load."""

    name: str
    title: str
    mode: str  # closed, stream, open or hold
    size: int  # bytes of the request's body
    connections: int
    chunks: int = 0  # of each stream
    interval: int = 0  # ms between two chunks; 0: as fast as possible

    def body(self) -> bytes:
        """A chat request of `size` bytes, its fields in the order of OpenAI's own Python client."""
        words = 'The quick brown fox jumps over the lazy dog; it said: \\"no\\" and left.\\n'
        head, tail = '{"messages":[{"role":"user","content":"', '"}],"model":"bench"'
        if self.chunks:
            head += f"chunks={self.chunks} interval={self.interval} "
            tail += ',"stream":true'
        room = self.size - len(head) - len(tail) - 1
        text = words * (room // len(words))
        return f"{head}{text}{'x' * (room - len(text))}{tail}}}".encode()


def works(scale: Scale) -> tuple[Work, ...]:
    """All of them, in the order of the report."""
    return (
        Work("300B", "300 B", "closed", 300, 32),
        Work("32KB", "32 KB", "closed", 32_000, 32),
        Work("1MB", "1 MB", "closed", 1_000_000, 4),
        Work("sse20", "20 streams", "stream", 300, 20, scale.chunks, 5),
        Work("sse100", "100 streams", "stream", 300, 100, scale.chunks, 5),
        Work("ssefast", "20 streams, no pause", "stream", 300, 20, 1000, 0),
        Work("latency", f"{RATE} requests/s", "open", 300, 64),
    )


# For processes that share a port: many connections, as the kernel deals them out by chance.
TWO = Work("two", "300 B, one or two", "closed", 300, 64)


class Stage:
    """The backend, and whoever is being measured in front of it."""

    def __init__(self, folder: Path, cores: Cores) -> None:
        self.folder = folder
        self.cores = cores
        self.ports = (free_port(), free_port())
        folder.mkdir(parents=True, exist_ok=True)
        ports = ",".join(str(port) for port in self.ports)
        self._backend = Process(
            [str(CACHE / "backend"), "--ports", ports], cores=cores.backend, log=folder / "backend.log"
        )
        self._running: dict[str, Process] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            self.stop_all()
            self._backend.stop()

    # --- starting

    def start(self, contestant: Contestant) -> Sample:
        """Start it; how long until it has answered a request, and its memory then."""
        if not contestant.command:
            return {}
        if listening(contestant.port):
            raise WrongAnswer(f"did not start: another program listens on its port {contestant.port}")
        folder = self.folder / contestant.name
        folder.mkdir(exist_ok=True)
        contestant.write_files(folder)
        began = time.monotonic()
        process = Process(
            contestant.command,
            cores=self.cores.contestant,
            log=folder / "output.log",
            environment=contestant.environment,
        )
        self._running[contestant.name] = process
        try:
            self._until_ready(contestant, process, began + contestant.patience)
        except WrongAnswer as error:
            self.stop(contestant)
            error.log = process.last_words()
            raise
        ready = time.monotonic() - began
        time.sleep(0.3)
        sample = {"startup_s": ready, "idle_mb": process.memory()}
        self.load(contestant, Work("warm", "", "closed", 300, 8), "--requests", "300", "--seconds", "5")
        return sample

    @staticmethod
    def _until_ready(contestant: Contestant, process: Process, deadline: float) -> None:
        """Until it answers rightly; where it has several processes, until all of them listen."""
        small = Work("first", "", "closed", 300, 1)
        wrong = ""
        while time.monotonic() < deadline:
            if process.ended:  # also where a stranger answers on its port
                raise WrongAnswer("did not start: it ended")
            try:
                if contestant.processes == 1 or listening(contestant.port) == contestant.processes:
                    check(contestant, small)
                    if not process.ended:
                        return
            except (OSError, http.client.HTTPException, WrongAnswer) as error:
                wrong = f": {error}"
            time.sleep(0.002)
        raise WrongAnswer(f"did not start: no good answer within {contestant.patience:g} s{wrong}")

    def stop(self, contestant: Contestant) -> None:
        """End it."""
        process = self._running.pop(contestant.name, None)
        if process is not None:
            process.stop()

    def stop_all(self) -> None:
        """End everybody but the backend."""
        for process in self._running.values():
            process.tell(signal.SIGTERM)  # so that all have the same seconds for it
        while self._running:
            self._running.popitem()[1].stop()

    # --- measuring

    def measure(self, contestant: Contestant, work: Work, scale: Scale) -> Sample:
        """Check, load, and count. Raises WrongAnswer."""
        if self._backend.ended:
            raise SystemExit(f"The backend ended; no figure is worth anything now.\n{self._backend.last_words()}")
        process = self._running.get(contestant.name)
        if process is not None and process.ended:
            raise WrongAnswer("it ended")
        if contestant.processes > 1 and listening(contestant.port) != contestant.processes:
            raise WrongAnswer(f"only {listening(contestant.port)} of its processes listen")
        try:
            check(contestant, work)
        except (OSError, http.client.HTTPException) as error:
            raise WrongAnswer(f"no answer: {error}") from None
        if work.mode == "open":
            limits = ["--rate", str(RATE), "--seconds", str(scale.open_seconds), "--grace", "3"]
        else:
            limits = ["--seconds", str(scale.seconds), "--grace", str(PATIENCE)]
        if work.interval:  # so that chunks of different streams do not come at one moment
            limits += ["--ramp", str(work.interval * 10 / 1000)]
        before = self._clocks(process)
        found = self.load(contestant, work, *limits)
        clocks = (now - then for then, now in zip(before, self._clocks(process), strict=True))
        took, spent, backend_spent, machine_spent, stolen = clocks
        done = found["events"] - found["finished"] if work.mode == "stream" else found["finished"]
        if found["errors"] or (found["missed"] and work.mode != "open"):
            self._calm(process)
            bad = found["errors"] + found["missed"]
            why = ", as it ended" if process is not None and process.ended else found["words"]
            raise WrongAnswer(f"{bad} of {found['started']} failed or did not end{why}")
        if done == 0:
            raise WrongAnswer(f"none of {found['started']} was answered in time")
        sample: Sample = {
            "done": done,
            "per_second": done / found["seconds"],
            "cpu_us": spent / done * 1e6 if process else 0.0,
            "busy": spent / found["seconds"],
            "load_busy": found["cpu"] / found["seconds"],
            "backend_busy": backend_spent / found["seconds"],
            # What nobody here spent: of a core, while the load ran.
            "others_busy": max(0.0, machine_spent - spent - backend_spent - found["cpu"]) / took,
            "stolen": stolen / took,
        }
        for name in ("latency", "first", "gap"):
            if name in found:
                sample[name] = found[name]
        if found["missed"]:
            sample["missed"] = found["missed"]
            self._calm(process)
        return sample

    def _clocks(self, process: Process | None) -> tuple[float, ...]:
        """Seconds: time; CPU of the contestant, of the backend, of the machine; CPU that its host gave to others."""
        return time.monotonic(), process.cpu() if process else 0.0, self._backend.cpu(), *machine_cpu()

    def held(self, contestant: Contestant, streams: int) -> float:
        """MB while so many streams are open. Raises WrongAnswer where they are not."""
        process = self._running[contestant.name]
        work = Work("hold", "", "hold", 300, streams, 1000, HELD_INTERVAL)
        ramp, most = streams / 2000, max(60, streams / 50)  # seconds
        command = self._load_command(contestant, work, "--seconds", str(most), "--ramp", str(ramp))
        holding = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert holding.stdin is not None
        assert holding.stdout is not None
        assert holding.stderr is not None
        try:
            found = json.loads(holding.stdout.readline() or b"{}")
            time.sleep(0.5)
            memory = process.memory()
            if process.ended:
                raise WrongAnswer("it ended")
        finally:
            holding.stdin.close()
            words = _said(holding.stderr.read())
            holding.wait()
        if found.get("open") != streams:
            raise WrongAnswer(f"{found.get('open', 0)} of {streams} streams opened{words}")
        return memory

    def load(self, contestant: Contestant, work: Work, *limits: str) -> Sample:
        """Run the load; its own figures."""
        ran = subprocess.run(self._load_command(contestant, work, *limits), capture_output=True)
        if ran.returncode != 0:
            raise WrongAnswer(f"the load itself failed, {ran.returncode}{_said(ran.stderr)}")
        found: Sample = json.loads(ran.stdout)
        found["words"] = _said(ran.stderr)
        return found

    def wrk(self, contestant: Contestant, where: str, seconds: float) -> float:
        """Requests a second that wrk sees, with the body and the connections of the 300 B work."""
        work = Work("300B", "", "closed", 300, 32)
        script = self.folder / "post.lua"
        headers = "".join(
            f"wrk.headers[{json.dumps(name)}] = {json.dumps(value.strip())}\n"
            for name, _, value in (line.partition(":") for line in contestant.headers)
        )
        body = json.dumps(work.body().decode())
        script.write_text(
            f'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\n{headers}wrk.body = {body}\n'
        )
        command = [*pinned(self.cores.load), where, "-t1", f"-c{work.connections}"]
        command += [f"-d{max(1, round(seconds))}s", "-s", str(script), f"http://127.0.0.1:{contestant.port}{PATH}"]
        said = subprocess.run(command, capture_output=True, text=True).stdout
        if "Non-2xx" in said or "Requests/sec:" not in said:
            raise WrongAnswer("wrk got other answers than 200")
        return float(said.partition("Requests/sec:")[2].split()[0])

    def _load_command(self, contestant: Contestant, work: Work, *limits: str) -> list[str]:
        body = self.folder / f"{work.name}.json"
        body.write_bytes(work.body())
        headers = (part for line in contestant.headers for part in ("--header", line))
        return [
            *(*pinned(self.cores.load), str(CACHE / "load"), work.mode, "--port", str(contestant.port)),
            *("--body", str(body), "--path", PATH, "--connections", str(work.connections), *headers, *limits),
        ]

    @staticmethod
    def _calm(process: Process | None) -> None:
        """Wait until an overloaded one has worked off what nobody waits for, or twenty seconds."""
        deadline = time.monotonic() + 20
        while process is not None and not process.ended and time.monotonic() < deadline:
            before = process.cpu()
            time.sleep(0.3)
            if process.cpu() - before < 0.03:
                return


def _said(words: bytes) -> str:
    """What the load saw of the first bad answer."""
    return f" ({words.decode(errors='replace').splitlines()[0]})" if words else ""


def check(contestant: Contestant, work: Work) -> None:
    """One request by another client: 200, the backend's own text, and for a stream every token and [DONE]."""
    headers = dict(line.split(": ", 1) for line in contestant.headers)
    connection = http.client.HTTPConnection("127.0.0.1", contestant.port, timeout=contestant.patience)
    try:
        connection.request("POST", PATH, work.body(), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        got = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise WrongAnswer(f"status {answer.status}")
    try:
        if work.chunks:
            events = list(_events(got))
            # A gateway may cut events anew, or add some of its own: the text must be whole.
            text = "".join(_token(event) for event in events[:-1])
            right = events[-1] == b"[DONE]" and text.split() == [
                WORDS[left % 2] for left in range(work.chunks - 1, 0, -1)
            ]
        else:
            right = "All work and no play" in json.loads(got)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        right = False
    if not right:
        raise WrongAnswer("not the backend's answer")


def _events(got: bytes) -> Iterator[bytes]:
    for block in got.replace(b"\r\n", b"\n").split(b"\n\n"):
        for line in block.split(b"\n"):
            if line.startswith(b"data:"):
                yield line[5:].strip()


def _token(event: bytes) -> str:
    choices = json.loads(event).get("choices") or [{}]
    return str((choices[0].get("delta") or {}).get("content") or "")
