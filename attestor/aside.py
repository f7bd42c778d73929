"""Threads of their own for what strangers can make take for ever.

Closing a descriptor can wait: for the answer of a file server that a user runs (FUSE), or for
somebody to fetch what a socket still has to send (SO_LINGER). A descriptor that a process has sent
us is closed with whatever it came in: with the message, with those of the message's that we have
no room for, or with a connection in which it still lies unread. So neither is done by a thread
that others need. What a signal can interrupt is interrupted after a while.
"""

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

NUDGE_SECONDS = 0.5
"""Between two signals to a thread that does not end."""
NUDGE = signal.SIGURG
"""Ignored where nothing is done about it, so `listen_to_nudges` has to be called first."""

_libc = ctypes.CDLL(None, use_errno=True)


def listen_to_nudges() -> None:
    """Have nudges interrupt; call this in the main thread."""
    signal.signal(NUDGE, _do_nothing)


def aside(work: Callable[[], T]) -> "asyncio.Future[T]":
    """Return the outcome of `work`, which is done in a thread of its own, however long it takes.

    It is done to its end, whether anybody waits for that or not.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def do() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 told to whoever waits
            tell(_fail, error)
        else:
            tell(_succeed, result)

    def tell(how: Callable[..., None], value: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits any more
            loop.call_soon_threadsafe(how, outcome, value)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    loop.call_later(NUDGE_SECONDS, _nudge, thread)
    return outcome


def _nudge(thread: threading.Thread) -> None:
    if thread.is_alive():
        # By its number in the kernel: pthread_kill of a thread that has just ended is undefined.
        _libc.tgkill(os.getpid(), thread.native_id, NUDGE)
        asyncio.get_running_loop().call_later(NUDGE_SECONDS, _nudge, thread)


def _succeed(outcome: "asyncio.Future[T]", result: T) -> None:
    if not outcome.done():
        outcome.set_result(result)


def _fail(outcome: "asyncio.Future[T]", error: Exception) -> None:
    if not outcome.done():
        outcome.set_exception(error)


def _do_nothing(_number: int, _frame: object) -> None:
    pass
