"""One thread for calls that block, so that the event loop never does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """Does one call after the other. A process that ends does not wait for it: a disk may hang for ever."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Worker {self._name}>"

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do `work` when its turn comes, unless that is cancelled before; what it returns or raises is the future's."""
        future: Future[T] = Future()
        self._calls.put((future, work))
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return asyncio.wrap_future(future)

    def end(self) -> None:
        """Let the thread go once it has done what is waiting."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            future, work = call
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  # handed on to whoever waits for it
                future.set_exception(error)
            else:
                future.set_result(result)
            del call, future, work  # or the last answer would be kept until the next question
