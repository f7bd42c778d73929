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

FORMAT = 2
"""Of the file (SQLite's `user_version`)."""
MOST_LINES = 100_000
"""Some 100 MB; at ten requests a second, the verifier may be away for almost three hours."""

_STATEMENTS = (
    "CREATE TABLE lines (number INTEGER PRIMARY KEY AUTOINCREMENT, jti TEXT, line TEXT NOT NULL)",
    "CREATE INDEX by_token ON lines (jti)",
    "CREATE TABLE aside (number INTEGER PRIMARY KEY, reason TEXT NOT NULL, line TEXT NOT NULL)",
)
"""A number of a line that waits is never used again: what one process removes, another has not just
written. Of refused requests there is no `jti`: whoever has heard a token can make them."""
_SPAN = "SELECT COALESCE(MAX(number) - MIN(number) + 1, 0) FROM"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The lines that wait longest, or some of them."""

    lines: tuple[str, ...]
    numbers: tuple[int, ...]
    """Of each of them, ascending."""

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return two batches, in their order, of one that has two lines at least."""
        half = len(self.lines) // 2
        return (
            Batch(lines=self.lines[:half], numbers=self.numbers[:half]),
            Batch(lines=self.lines[half:], numbers=self.numbers[half:]),
        )


class Spool:
    """The file; one thread at a time may use a value of this class."""

    def __init__(self, path: Path, *, most: int = MOST_LINES) -> None:
        self._most = most
        self._file = opened(path, form=FORMAT, statements=_STATEMENTS)

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()

    def add(self, one: Use) -> None:
        """Return once the line is on disk; raise Refused where there is no room for it.

        Refused requests, which anybody can make, have half of the room. Who is let in has, with
        one token, as much as that leaves to all others.
        """
        line, jti = use.encode(one), one.jti if one.is_accepted else None
        most = self._most if one.is_accepted else self._most // 2
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            waiting = self._span_of("lines") + self._span_of("aside")
            if waiting >= most:
                expected, found = f"fewer than {most} lines", f"{waiting} lines"
                raise Refused.because(
                    Reason.USE_SPOOL_FULL, "lines for the verifier", expected=expected, found=found
                )
            self._demand_share(jti, waiting)
            self._file.execute("INSERT INTO lines (jti, line) VALUES (?, ?)", (jti, line))

    def _demand_share(self, jti: str | None, waiting: int) -> None:
        left = self._most - waiting
        if jti is None or waiting < left:  # nobody has more than there is
            return
        query = "SELECT COUNT(*) FROM lines WHERE jti = ?"
        [taken] = self._file.execute(query, (jti,)).fetchone()
        if taken >= left:
            expected, found = f"fewer than {left}", f"{taken} with this token"
            raise Refused.because(
                Reason.REQUEST_TOO_MANY, "lines that wait", expected=expected, found=found
            )

    def _span_of(self, table: str) -> int:
        """Return how many rows there are, or a few more; it costs the same for any number."""
        [span] = self._file.execute(f"{_SPAN} {table}").fetchone()
        return int(span)

    def first(self, *, most: int, most_bytes: int) -> Batch | None:
        """Return up to `most` lines, those that wait longest; None where none waits."""
        query = "SELECT number, line FROM lines ORDER BY number LIMIT ?"
        lines: list[str] = []
        numbers: list[int] = []
        room = 0
        for number, line in self._file.execute(query, (most,)).fetchall():
            room += len(line) + 1
            if lines and room > most_bytes:
                break
            lines.append(line)
            numbers.append(number)
        return Batch(lines=tuple(lines), numbers=tuple(numbers)) if lines else None

    def remove(self, batch: Batch) -> None:
        """Forget lines that the verifier has acknowledged."""
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._delete(batch)

    def set_aside(self, batch: Batch, reason: str) -> int:
        """Keep lines where they are in nobody's way; return how many lines are there now."""
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            move = "INSERT INTO aside (reason, line) SELECT ?, line FROM lines WHERE number = ?"
            self._file.executemany(move, [(reason, one) for one in batch.numbers])
            self._delete(batch)
            return self._span_of("aside")

    def take_back(self) -> int:
        """Have all that was set aside wait again, behind the others; return how many lines."""
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            back = "INSERT INTO lines (line) SELECT line FROM aside ORDER BY number"
            count = self._file.execute(back).rowcount
            self._file.execute("DELETE FROM aside")
            return count

    def _delete(self, batch: Batch) -> None:
        numbers = [(one,) for one in batch.numbers]
        self._file.executemany("DELETE FROM lines WHERE number = ?", numbers)
