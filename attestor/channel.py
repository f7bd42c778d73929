"""A conversation's socket in the event loop: whole messages, each with a deadline.

What comes over it, and what is left in it, may hold whoever throws it away (attestor/aside.py).
"""

import asyncio
import os
import socket
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from attestor.aside import aside
from attestor.peer import Packet, receive
from attestor.reasons import Local, refuse
from credential import local

T = TypeVar("T")

SEND_SECONDS = 5
"""How long a process may leave an answer lying."""


class Ended(Exception):
    """The other end is gone."""


class Channel:
    """A non-blocking SOCK_SEQPACKET socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003
        self._sock = sock
        self._aside: set[asyncio.Future[Any]] = set()
        self._is_hung_up = False
        self._when_gone: list[Callable[[], None]] = []

    def when_gone(self, call: Callable[[], None]) -> None:
        """Have this called when we have hung up and nothing is left of what came over the line."""
        self._when_gone.append(call)

    def hang_up(self) -> None:
        """Close the socket, and wait for nothing; once is enough, twice does no harm."""
        if not self._is_hung_up:
            self._is_hung_up = True
            self._do_aside(self._sock.close)

    def throw_away(self, packet: Packet) -> None:
        """Close everything that came along with a message, and wait for nothing."""
        if packet.descriptors:
            descriptors, packet.descriptors = packet.descriptors, []
            self._do_aside(partial(_close_all, descriptors))
        packet.close()

    async def receive(self, deadline_seconds: float | None) -> Packet:
        """Return the next message; raise Ended, or Refused when it takes too long."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._until(loop.add_reader, loop.remove_reader)
        except TimeoutError as error:
            raise refuse(
                Local.TIMEOUT, "the next message", expected=f"within {deadline_seconds} s"
            ) from error
        try:
            packet = await self._take()
        except BlockingIOError:
            return await self.receive(deadline_seconds)
        except OSError as error:
            raise Ended from error
        if packet is None:
            raise Ended
        return packet

    async def _take(self) -> Packet | None:
        """Return the message that is there; None where there is an end instead."""
        taken = self._do_aside(partial(receive, self._sock))
        try:
            return await asyncio.shield(taken)
        except asyncio.CancelledError:
            taken.add_done_callback(self._throw_away_late)
            raise

    def _throw_away_late(self, taken: "asyncio.Future[Packet | None]") -> None:
        """Close what came when nobody wanted it any more."""
        if not taken.cancelled() and not taken.exception() and (packet := taken.result()):
            self.throw_away(packet)

    def _do_aside(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        outcome = aside(work)
        self._aside.add(outcome)
        outcome.add_done_callback(self._is_done)
        return outcome

    def _is_done(self, outcome: "asyncio.Future[T]") -> None:
        self._aside.discard(outcome)
        if not outcome.cancelled():
            outcome.exception()  # it has been seen; whoever wants to know awaits the outcome
        if self._is_hung_up and not self._aside:
            while self._when_gone:
                self._when_gone.pop()()

    async def send(self, message: local.Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message, with descriptors; raise Ended when nobody takes it."""
        loop = asyncio.get_running_loop()
        data = message.encode()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
        ancillary = [rights] if descriptors else []
        try:
            async with asyncio.timeout(SEND_SECONDS):
                while True:
                    try:
                        self._sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
                    except BlockingIOError:
                        await self._until(loop.add_writer, loop.remove_writer)
                    else:
                        return
        except (TimeoutError, OSError) as error:
            raise Ended from error

    async def _until(
        self, add: Callable[..., object], remove: Callable[[socket.socket], object]
    ) -> None:
        ready = asyncio.get_running_loop().create_future()
        add(self._sock, _set, ready)
        try:
            await ready
        finally:
            remove(self._sock)


def _close_all(descriptors: Sequence[int]) -> None:
    for one in descriptors:
        with suppress(OSError):  # closed all the same; close(2) tells of an interruption
            os.close(one)


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def until_readable(descriptor: int) -> None:
    """Return when there is something to read from a descriptor, such as the end of a pidfd."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def read_pipe(descriptor: int, count: int) -> bytes:
    """Return up to `count` bytes that a pipe brings in one go."""
    await until_readable(descriptor)
    return os.read(descriptor, count)
