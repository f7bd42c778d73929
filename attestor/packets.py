"""Length-prefixed messages with descriptors, between processes of the attestor's own."""

import socket
from array import array
from collections.abc import Sequence

from evidence import cbor

LENGTH_BYTES = 4
MOST_BYTES = 8 << 20
"""A look at a process with a thousand mappings of long paths is some 4 MB."""
MOST_DESCRIPTORS = 8


def send(channel: socket.socket, message: object, descriptors: Sequence[int] = ()) -> None:
    """Send one message; the descriptors travel with its first byte."""
    data = cbor.encode(message)
    head = len(data).to_bytes(LENGTH_BYTES, "big")
    if descriptors:
        socket.send_fds(channel, [head], list(descriptors))
        channel.sendall(data)
    else:
        channel.sendall(head + data)


def receive(channel: socket.socket) -> tuple[object, list[int]]:
    """Return the next message and its descriptors; raise EOFError when the other end is gone."""
    # Not socket.recv_fds, which forgets its flags before Python 3.12.
    space = socket.CMSG_SPACE(MOST_DESCRIPTORS * array("i").itemsize)
    head, messages, _, _ = channel.recvmsg(LENGTH_BYTES, space, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i")
    for level, kind, data in messages:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data)
    head += _exactly(channel, LENGTH_BYTES - len(head))
    length = int.from_bytes(head, "big")
    if length > MOST_BYTES:
        raise EOFError(f"expected at most {MOST_BYTES} bytes, got {length}")
    return cbor.decode(_exactly(channel, length)), list(descriptors)


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = channel.recv(min(count, 1 << 20))
        if not part:
            raise EOFError("the other end is gone")
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
