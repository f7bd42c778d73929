"""A thread of its own for something that blocks, and an event loop that waits for it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Worker(Generic[T]):
    """Does what is asked of one thing, one after the other, in the order asked."""

    def __init__(self, thing: T, name: str) -> None:
        self._thing = thing
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[T], R]) -> R:
        """Return what `work` returns, run in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._thing)

    def close(self) -> None:
        """Wait for what is going on."""
        self._thread.shutdown(cancel_futures=True)
