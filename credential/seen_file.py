"""Remembering proofs in a file: all processes of a server know them, and those that come after."""

import logging
import os
import secrets
import sqlite3
from datetime import datetime
from pathlib import Path

from credential.nonces import KEY_BYTES, Nonces
from credential.reasons import Reason, Refused
from credential.seen import MOST_PROOFS, demand_room, token_of
from credential.sqlite_file import opened

FORMAT = 1
"""Of the file (SQLite's `user_version`)."""
BUSY_SECONDS = 2
"""How long a request waits for another process's; nobody else is served meanwhile."""

_STATEMENTS = (
    "CREATE TABLE proofs (number INTEGER PRIMARY KEY, proof TEXT NOT NULL UNIQUE, until REAL)",
    "CREATE INDEX by_end ON proofs (until)",
    "CREATE TABLE one (name INTEGER PRIMARY KEY CHECK (name = 1), latest REAL, nonce_key BLOB)",
)
_SPAN = "SELECT COALESCE(MAX(number) - MIN(number) + 1, 0) FROM proofs"

log = logging.getLogger("credential")


class SeenFile:
    """A replay store (`credential.seen.ReplayStore`) that SIGKILL and a loss of power leave full.

    Full, or out of order, it refuses; a token has the room that it has in `Seen`. A clock that is
    set back refuses what may have been forgotten already: after one that was years ahead, somebody
    has to remove the file. One thread at a time may use a value of this class; a process that was
    forked opens the file itself.
    """

    def __init__(self, path: Path, *, most: int = MOST_PROOFS) -> None:
        self._path = path
        self._most = most
        self._file, self._process = self._open(), os.getpid()
        self._inherited: sqlite3.Connection | None = None
        key = secrets.token_bytes(KEY_BYTES)
        self._file.execute("INSERT OR IGNORE INTO one VALUES (1, 0, ?)", (key,))
        [key] = self._file.execute("SELECT nonce_key FROM one").fetchone()
        self.nonces = Nonces(key)
        """Those of all who share the file."""

    def close(self) -> None:
        """Close the file; what is in it stays."""
        self._file.close()

    def add(self, proof: str, *, now: datetime, until: datetime) -> bool:
        """Remember `proof` until then; False if it is known, Refused if it cannot be remembered."""
        try:
            return self._add(proof, now.timestamp(), until.timestamp())
        except (sqlite3.Error, OSError) as error:
            log.exception("%s: a proof could not be remembered", self._path)
            raise Refused.because(Reason.PROOF_STORE, "see this server's log") from error

    def _add(self, proof: str, now: float, until: float) -> bool:
        if self._process != os.getpid():
            self._inherited = self._file  # SQLite wants it neither used here nor closed
            self._file, self._process = self._open(), os.getpid()
        with self._file:
            self._file.execute("BEGIN IMMEDIATE")
            [latest] = self._file.execute("SELECT latest FROM one").fetchone()
            latest = max(latest, now)
            self._file.execute("UPDATE one SET latest = ?", (latest,))
            self._file.execute("DELETE FROM proofs WHERE until <= ?", (latest,))
            if until <= latest or self._knows(proof):
                return False
            [span] = self._file.execute(_SPAN).fetchone()
            left = self._most - span
            # Nobody has more than there is: counted only where that could be too much.
            taken = self._count_of(token_of(proof)) if span >= left else 0
            demand_room(left, taken=taken)
            self._file.execute("INSERT INTO proofs (proof, until) VALUES (?, ?)", (proof, until))
            return True

    def _count_of(self, token: str) -> int:
        """Return how many proofs of a token are remembered: texts between `TOKEN.` and `TOKEN/`."""
        query = "SELECT COUNT(*) FROM proofs WHERE proof > ? AND proof < ?"
        [count] = self._file.execute(query, (f"{token}.", f"{token}/")).fetchone()
        return int(count)

    def _knows(self, proof: str) -> bool:
        known = self._file.execute("SELECT 1 FROM proofs WHERE proof = ?", (proof,))
        return known.fetchone() is not None

    def _open(self) -> sqlite3.Connection:
        return opened(self._path, form=FORMAT, statements=_STATEMENTS, busy_seconds=BUSY_SECONDS)
