"""A puppet in Python: does what it is told, one line at a time, as puppet.c does."""

import importlib
import os
import socket
import sys
from array import array
from collections.abc import Callable

import plan

CHANNEL: list[socket.socket] = []


def give(text: str, descriptors: tuple[int, ...]) -> str:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    data = text.replace("|", "\n").encode()
    CHANNEL[-1].sendmsg([data], [rights] if descriptors else [])
    return "done"


def receive() -> str:
    CHANNEL[-1].settimeout(90)
    return f"received {CHANNEL[-1].recv(1 << 16).decode()}".replace("\n", "|")


def connect(path: str) -> str:
    CHANNEL.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    CHANNEL[-1].connect(path)
    return "done"


def use(number: str) -> str:
    CHANNEL.append(socket.socket(fileno=int(number)))
    return "done"


def give_null(text: str) -> str:
    null = os.open("/dev/null", os.O_RDONLY)
    try:
        return give(text, (null,))
    finally:
        os.close(null)


VERBS: dict[str, Callable[[str], str]] = {
    "connect": connect,
    "use": use,
    "send": lambda rest: give(rest, ()),
    "give": give_null,
    "receive": lambda _: receive(),
    "plan": lambda _: plan.PLAN,
    "path": lambda _: " ".join(sys.path),
    "import": lambda rest: importlib.import_module(rest).__name__,
    "eval": lambda rest: str(eval(rest)),
}


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        verb, _, rest = line.rstrip("\n").partition(" ")
        try:
            answer = VERBS[verb](rest)
        except (OSError, ImportError) as error:
            answer = f"failed {type(error).__name__}"
        print(answer, flush=True)


main()
