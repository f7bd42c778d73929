"""A PostgreSQL server of the tests' own: Debian's, in a directory of its own, on no network.

with PostgreSql.running() as server:
    with server.database() as url:          -> a new database, dropped at the end
        Store(url)
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
"""Of Debian 12's package postgresql-15."""
ACCOUNT = "postgres"
"""Of that package, too: the server does not run as root."""
ROLE = "verifier"
OWN_DATABASE = "postgres"
"""It is there in every server."""
PATIENCE_SECONDS = 60
COLLATING = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
"""As on a host where somebody speaks English: `a` stands before `B`."""
CONNECTIONS = 200


@dataclass
class PostgreSql:
    """The server, and what can be asked of it by whoever owns it."""

    directory: Path
    _process: subprocess.Popen[bytes]
    _made: int = 0

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["PostgreSql"]:
        """Make a server, and end it with all that it holds."""
        directory = Path(tempfile.mkdtemp(prefix="procseal-postgresql-"))
        try:
            if os.getuid() == 0:
                shutil.chown(directory, ACCOUNT, ACCOUNT)
            _run("initdb", "--auth=trust", f"--username={ROLE}", *COLLATING, f"{directory}/data")
            server = cls(directory, cls._start(directory))
            try:
                server.await_ready()
                yield server
            finally:
                server.stop()
        finally:
            shutil.rmtree(directory)

    @staticmethod
    def _start(directory: Path) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(directory),
            "max_connections": str(CONNECTIONS),
            "log_min_messages": "fatal",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        postgres = [f"{PROGRAMS}/postgres", "-D", f"{directory}/data", *options]
        # It ends with the tests, however these end.
        command = ["setpriv", "--pdeathsig", "INT", *_account(), *postgres]
        return subprocess.Popen(command, cwd=directory, stderr=subprocess.DEVNULL)

    def await_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                psycopg.connect(self._conninfo(OWN_DATABASE)).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, "the server has ended"
                assert time.monotonic() < deadline, "the server does not start"
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End it as a shutdown does, whoever is connected."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(PATIENCE_SECONDS)

    def crash(self) -> None:
        """End it as a power cut does, and start it again."""
        self._process.send_signal(signal.SIGQUIT)  # nothing is written any more
        self._process.wait(PATIENCE_SECONDS)
        self._process = self._start(self.directory)
        self.await_ready()

    @contextmanager
    def away(self) -> Iterator[None]:
        """Have no server until the end of the block."""
        self.stop()
        try:
            yield
        finally:
            self._process = self._start(self.directory)
            self.await_ready()

    @contextmanager
    def database(self, options: str = "") -> Iterator[str]:
        """Make a database for somebody; return its URL."""
        self._made += 1
        name = f"procseal_{self._made}"
        template = "TEMPLATE template0" if options else ""
        self.execute(f"CREATE DATABASE {name} {options} {template}")
        try:
            yield f"postgresql:///{name}?host={self.directory}&user={ROLE}"
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Return what a statement outside of any verifier's transaction answers."""
        with psycopg.connect(self._conninfo(OWN_DATABASE), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def _conninfo(self, name: str) -> str:
        return f"host={self.directory} user={ROLE} dbname={name}"


def _run(program: str, *arguments: str) -> None:
    command = ["setpriv", *_account(), f"{PROGRAMS}/{program}", *arguments]
    subprocess.run(command, cwd="/", check=True, capture_output=True)


def _account() -> tuple[str, ...]:
    """Return the server's account as arguments of setpriv: nobody's but root's to choose."""
    if os.getuid() != 0:
        return ()
    return ("--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups")
