"""SQLite files of one format each, which the processes of one server may share."""

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

BUSY_SECONDS = 10
"""How long one process waits for another one's transaction."""


def opened(
    path: Path, *, form: int, statements: Sequence[str], busy_seconds: float = BUSY_SECONDS
) -> sqlite3.Connection:
    """Return the file, made by `statements` if it is new, readable by its owner alone.

    Transactions are the caller's; one that has ended survives SIGKILL and a loss of power. Raise
    OSError where it is no such file, or of another format.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    file = sqlite3.connect(
        path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
    )
    try:
        found = _prepare(file, form, statements)
    except sqlite3.Error as error:
        file.close()
        raise OSError(f"{path}: {error}") from error
    if found != form:
        file.close()
        raise OSError(f"{path}: expected format {form}, found {found}")
    return file


def _prepare(file: sqlite3.Connection, form: int, statements: Sequence[str]) -> int:
    """Return the file's format; one that is new is made to be of this one."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        file.execute(f"PRAGMA {pragma}")
    with file:
        file.execute("BEGIN IMMEDIATE")
        [found] = file.execute("PRAGMA user_version").fetchone()
        if found:
            return int(found)
        for statement in statements:
            file.execute(statement)
        file.execute(f"PRAGMA user_version={form}")
    return form
