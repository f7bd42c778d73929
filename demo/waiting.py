"""Waiting for what a machine in software does in its own time."""

import time
from collections.abc import Callable
from typing import TypeVar

from swtpm import Failed

T = TypeVar("T")

PATIENCE_SECONDS = 150
"""The machine is emulated, and whoever runs it may have other work: most of it takes seconds."""


def wait(question: Callable[[], T], seconds: float, what: str) -> T:
    """Ask until the answer is a yes, and return it; raise Failed where none comes in time."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        if time.monotonic() > deadline:
            raise Failed(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)
    return answer
