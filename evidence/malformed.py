"""The one error of this package: the bytes are not what their format says."""

from collections.abc import Iterator
from contextlib import contextmanager


class Malformed(Exception):
    """Bytes that are not an encoding of what they claim to be.

    It says nothing about trust: a well-formed message that nobody should believe decodes well.
    """


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Have an error about bytes that are read inside say which they are."""
    try:
        yield
    except Malformed as malformed:
        raise Malformed(f"{what}: {malformed}") from malformed
