"""Lines that have still to reach the verifier: on disk before a request is answered.

An SQLite file, which several processes of one server may share; a line that is in it survives
SIGKILL and a loss of power. It is bounded: when it is full, no request is let in.
"""

from dataclasses import dataclass
from pathlib import Path

from credential import use
from credential.reasons import Reason, Refused
from credential.sqlite_file import opened
from credential.use import Use

FORMAT = 1
"""Of the file (SQLite's `user_version`)."""
MOST_LINES = 100_000
"""Some 100 MB; at ten requests a second, the verifier may be away for almost three hours."""

_LINES = "CREATE TABLE lines (number INTEGER PRIMARY KEY AUTOINCREMENT, line TEXT NOT NULL)"
"""A number is never used again: what one process removes, another has not just written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The lines that wait longest."""

    lines: tuple[str, ...]
    last: int
    """Number of the last of them."""


class Spool:
    """The file; one thread at a time may use a value of this class."""

    def __init__(self, path: Path, *, most: int = MOST_LINES) -> None:
        self._most = most
        self._file = opened(path, form=FORMAT, statements=(_LINES,))

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()

    def add(self, one: Use) -> None:
        """Return once the line is on disk; raise Refused where there is no room for it.

        Refused requests, which anybody can make, have half of the room.
        """
        line = use.encode(one)
        most = self._most if one.is_accepted else self._most // 2
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            query = "SELECT COALESCE(MAX(number) - MIN(number) + 1, 0) FROM lines"
            [waiting] = self._file.execute(query).fetchone()
            if waiting >= most:
                expected, found = f"fewer than {most} lines", f"{waiting} lines"
                raise Refused.because(
                    Reason.USE_SPOOL_FULL, "lines for the verifier", expected=expected, found=found
                )
            self._file.execute("INSERT INTO lines (line) VALUES (?)", (line,))

    def first(self, *, most: int, most_bytes: int) -> Batch | None:
        """Return up to `most` lines, those that wait longest; None where none waits."""
        query = "SELECT number, line FROM lines ORDER BY number LIMIT ?"
        lines: list[str] = []
        last = room = 0
        for number, line in self._file.execute(query, (most,)).fetchall():
            room += len(line) + 1
            if lines and room > most_bytes:
                break
            lines.append(line)
            last = number
        return Batch(lines=tuple(lines), last=last) if lines else None

    def remove(self, batch: Batch) -> None:
        """Forget lines that the verifier has acknowledged."""
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._file.execute("DELETE FROM lines WHERE number <= ?", (batch.last,))
