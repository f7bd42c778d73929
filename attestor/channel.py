"""A conversation's socket in the event loop: whole messages, each with a deadline."""

import asyncio
import os
import socket
from array import array
from collections.abc import Callable, Sequence

from attestor.peer import Packet, receive
from attestor.reasons import Local, refuse
from credential import local

SEND_SECONDS = 5
"""How long a process may leave an answer lying."""


class Ended(Exception):
    """The other end is gone."""


class Channel:
    """A non-blocking SOCK_SEQPACKET socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)  # noqa: FBT003
        self._sock = sock

    def close(self) -> None:
        """Hang up."""
        self._sock.close()

    async def receive(self, deadline_seconds: float | None) -> Packet:
        """Return the next message; raise Ended, or Refused when it takes too long."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(deadline_seconds):
                while True:
                    try:
                        packet = receive(self._sock)
                    except BlockingIOError:
                        await self._until(loop.add_reader, loop.remove_reader)
                    else:
                        break
        except TimeoutError as error:
            raise refuse(
                Local.TIMEOUT, "the next message", expected=f"within {deadline_seconds} s"
            ) from error
        except OSError as error:
            raise Ended from error
        if packet is None:
            raise Ended
        return packet

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
