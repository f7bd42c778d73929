"""A person's shell in the virtual machine."""

import os
import select
import socket
import sys
import termios
import threading
import tty

from swtpm.machine import VirtualMachine
from swtpm.programs import Failed

DAY_SECONDS = 86400


def interact(machine: VirtualMachine) -> None:
    """Join the terminal with a root shell in the machine until that shell ends."""
    if not sys.stdin.isatty():
        raise Failed("a shell needs a terminal; use: python -m swtpm boot --run COMMAND")
    size = os.get_terminal_size()
    machine.run(f"stty -F /dev/ttyS1 sane rows {size.lines} cols {size.columns}").check()
    ended = threading.Event()
    shell = "setsid --ctty --wait sh -i </dev/ttyS1 >/dev/ttyS1 2>&1"
    environment = "HOME=/root TERM=vt100 PS1='node# '"
    thread = threading.Thread(
        target=_run_until, args=(machine, f"cd; {environment} {shell}", ended), daemon=True
    )
    before = termios.tcgetattr(sys.stdin)
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(machine.terminal))
        thread.start()
        try:
            tty.setraw(sys.stdin)
            _join(line, ended)
        finally:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _run_until(machine: VirtualMachine, command: str, ended: threading.Event) -> None:
    try:
        machine.run(command, timeout=DAY_SECONDS)
    finally:
        ended.set()


def _join(line: socket.socket, ended: threading.Event) -> None:
    """Copy bytes both ways."""
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()
    while not ended.is_set():
        ready, _, _ = select.select([line, keyboard], [], [], 0.2)
        if line in ready:
            os.write(screen, line.recv(1 << 16))
        if keyboard in ready:
            line.sendall(os.read(keyboard, 1024))
