"""Gives the attestor descriptors that cannot be closed at once: giver.py SOCKET WHAT HOW.

WHAT is `lingering`, for sockets whose last close waits for data that nobody fetches (SO_LINGER),
or a file; HOW is `answer` (the nonce's, to be read), `many` (more than anybody has room for), or
`unread` (at once, and nobody there any more to read an answer).

It says `ready` when it has them, gives them once it is told to, then says `given`, and stays.
"""

import os
import signal
import socket
import struct
import sys
from array import array

LINGER_SECONDS = 40
MANY = 40


def main(path: str, what: str, how: str) -> None:
    """Be that program."""
    given, kept = [], []
    for _ in range(MANY if how == "many" else 1):
        if what == "lingering":
            one, other = lingering()
            given.append(one)
            kept.append(other)
        else:
            given.append(os.open(what, os.O_RDONLY))
    print("ready", flush=True)
    sys.stdin.readline()
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.connect(path)
    nonce = "0" * 64 if how == "unread" else line.recv(4096).decode().split()[-1]
    message = f"procseal/1 obtain\nnonce: {nonce}\n".encode()
    line.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", given))])
    if what == "lingering":
        for one in given:  # the last of them to be closed is the attestor's
            os.close(one)
    if how == "unread":
        line.close()
    print("given", flush=True)
    signal.pause()


def lingering() -> tuple[int, socket.socket]:
    """Return a socket whose last close takes long, as long as the other one returned is there."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    linger = struct.pack("ii", 1, LINGER_SECONDS)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    sender.setblocking(False)  # noqa: FBT003
    try:
        while True:
            sender.send(bytes(1 << 16))
    except BlockingIOError:
        return sender.detach(), receiver


if __name__ == "__main__":
    main(*sys.argv[1:])
