"""A parser with a flaw, which the fuzzer has to find: it shows that fuzzing finds any."""

from collections.abc import Iterator

from evidence import Malformed
from evidence.cursor import Cursor
from tests.fuzz.targets import Target


def read_flawed(data: bytes) -> None:
    """Trust a length that is in the bytes: KeyError, behind a number that nobody guesses."""
    cursor = Cursor(data)
    if cursor.u32() != 0x70726F63:
        raise Malformed("expected another number")
    {0: "one name"}[cursor.u8()]


def seeds() -> Iterator[bytes]:
    """Yield one that is good but for its first byte."""
    yield b"?roc\0"


CANARY = {"canary": Target(run=read_flawed, seeds=seeds, most_bytes=64)}
