"""Find backends in a way of your own: here, in a text file that may change while the router runs.

echo 'gpu-box http://192.168.1.100:8000' > backends.txt
python examples/custom_discoverer.py backends.txt
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from solar import Backend, BackendsListed, Change, Router


class BackendFile:
    """Follows a file with one backend a line: its name, a space, its URL."""

    name = "file"  # says in logs, and where two sources find one backend, who found it

    def __init__(self, path: Path, every: float = 1.0) -> None:
        self.path = path
        self.every = every  # seconds between two looks

    async def watch(self) -> AsyncIterator[Change]:
        # Whatever raises in here, be it a missing file or a line that is no backend, does not harm the router:
        # it keeps the backends that it has, logs the error, and calls watch() again a little later.
        known = None
        while True:
            text = await asyncio.to_thread(self.path.read_text)
            if text != known:
                known = text
                yield BackendsListed(tuple(backend(line) for line in text.splitlines() if line.strip()))
            await asyncio.sleep(self.every)


def backend(line: str) -> Backend:
    name, url = line.split()
    return Backend(name, url)


def main() -> None:
    import uvicorn

    uvicorn.run(Router(discoverers=[BackendFile(Path(sys.argv[1]))]), port=8000)


if __name__ == "__main__":
    main()
