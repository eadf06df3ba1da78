"""A command on a terminal of its own: what it shows there, and what a person types."""

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from gateway_process import WITHIN

# Its terminal becomes the one that Ctrl-C comes from; then it becomes the command.
_TAKES_IT = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.executable, [sys.executable, '-m', 'solar', *sys.argv[1:]])"
)
_ORDERS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """What is shown so far is in `shown`, as it came."""

    def __init__(self, arguments: tuple[str, ...], env: Mapping[str, str], columns: int) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKES_IT, *arguments],
            env={**env, "TERM": "xterm-256color"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self.shown = ""
        self._more = threading.Condition()
        self._over = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._master, 65_536)
            except OSError:  # Linux says so when the last one has left
                piece = b""
            with self._more:
                self.shown += piece.decode("utf-8", "replace")
                self._over = not piece
                self._more.notify_all()
            if not piece:
                return

    async def shows(self, words: str, *, after: int = 0) -> int:
        """Wait until `words` are shown behind the place `after`; returns the place behind them."""

        def there() -> bool:
            return words in self.shown[after:] or self._over

        def wait() -> bool:
            with self._more:
                return self._more.wait_for(there, WITHIN)

        await asyncio.to_thread(wait)
        assert words in self.shown[after:], self.shown
        return self.shown.index(words, after) + len(words)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def text(self) -> str:
        """What is shown without colours and the like."""
        return _ORDERS.sub("", self.shown).replace("\r\n", "\n")

    async def ended(self) -> int:
        """Its exit status."""
        return await asyncio.to_thread(self.process.wait, WITHIN)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(WITHIN)
        self._reader.join(WITHIN)
        os.close(self._master)


@contextmanager
def on_terminal(*arguments: str, env: Mapping[str, str], columns: int = 80) -> Iterator[Terminal]:
    terminal = Terminal(arguments, env, columns)
    try:
        yield terminal
    finally:
        terminal.close()
