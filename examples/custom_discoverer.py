"""Find backends in a way of your own: here, whatever a command prints, such as the jobs of a Slurm cluster.

python examples/custom_discoverer.py squeue --me --noheader --name vllm --states R --format 'vllm-%i http://%N:8000'
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

from solar import Backend, BackendsListed, Change, Router


class Printed:
    """Runs a command again and again. Each line that it prints is a backend: its name, a space, its URL."""

    def __init__(self, *command: str, every: float = 10.0) -> None:
        self.name = command[0]  # says in logs, and where two sources find one backend, who found it
        self.command = command
        self.every = every  # seconds between two runs

    async def watch(self) -> AsyncIterator[Change]:
        # Whatever raises in here, be it a command that fails or a line that names no backend, does not harm the
        # router: it keeps the backends that it has, logs the error, and calls watch() again a little later.
        known = None
        while True:
            found = await asyncio.to_thread(self.found)
            if found != known:
                known = found
                yield BackendsListed(found)  # all that there are: those that are missing here are gone
            await asyncio.sleep(self.every)

    def found(self) -> tuple[Backend, ...]:
        run = subprocess.run(self.command, stdout=subprocess.PIPE, text=True, check=True, timeout=30)
        return tuple(Backend(*line.split()) for line in run.stdout.splitlines() if line.strip())


def main() -> None:
    import uvicorn

    uvicorn.run(Router(discoverers=[Printed(*sys.argv[1:])]), port=8000)


if __name__ == "__main__":
    main()
