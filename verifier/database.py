"""The two databases that state may be in, each made to keep the store's one promise.

One transaction writes at a time. It sees all that was committed before it began, is seen whole or
not at all, and is on disk before it is acknowledged. One that only reads waits for nobody and sees
one moment. Any number of verifiers may share a PostgreSQL; an SQLite file has one.
"""

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url

from verifier.config import Misconfigured

BUSY_SECONDS = 30
"""How long a transaction waits for another one's end, and a PostgreSQL for the next word of one:
a verifier that was stopped, or whose host is gone, keeps the others from writing no longer."""
SILENT_SECONDS = 30
"""How long a PostgreSQL's host may be silent before it is given up."""
OLDEST_POSTGRESQL = 150_000
"""Version 15, as its `server_version_num`: the one that is tested."""

_POSTGRESQL = ("postgresql", "postgresql+psycopg")
_SQLITE = ("sqlite", "sqlite+pysqlite")
_TURN = int.from_bytes(b"procseal", "big")
"""The lock that whoever writes holds (PostgreSQL 15, 13.3.5: an application's own meaning)."""
_ONLY_READS = "procseal_only_reads"
_TLS = "verify-full"
"""By TCP the server has to prove that it is the one that is named (34.19). A UNIX socket has none
of it. libpq would do without by default."""
_UNSAFE = {
    "fsync": ("off",),
    "full_page_writes": ("off",),
    "synchronous_commit": ("off",),
}
"""Settings with which PostgreSQL acknowledges what a power cut may take back (20.5)."""


def open_engine(url: str) -> Engine:
    """Return the way to the database; raise Misconfigured where it is of another kind."""
    parsed = make_url(url)
    if parsed.drivername in _SQLITE:
        return _open_sqlite(parsed)
    if parsed.drivername in _POSTGRESQL:
        return _open_postgresql(parsed.set(drivername="postgresql+psycopg"))
    kinds = "sqlite:// or postgresql://"
    raise Misconfigured(f"database: expected {kinds}, got {parsed.drivername}://")


def only_reading(engine: Engine) -> Engine:
    """Return the engine whose transactions see one moment and wait for no one that writes."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_ONLY_READS: True})
    return engine.execution_options(
        **{_ONLY_READS: True}, isolation_level="REPEATABLE READ", postgresql_readonly=True
    )


# SQLite


def _open_sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: object, _record: object) -> None:
    """Leave transactions to us, and make a commit durable before it is acknowledged."""
    connection.isolation_level = None  # type: ignore[attr-defined]
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock first: a transaction that reads and then writes is never overtaken."""
    connection.exec_driver_sql("BEGIN" if _only_reads(connection) else "BEGIN IMMEDIATE")


# PostgreSQL


def _open_postgresql(url: URL) -> Engine:
    if url.query.get("sslmode", _TLS) != _TLS:
        found = url.query["sslmode"]
        raise Misconfigured(f"database: expected sslmode={_TLS} or nothing, got {found}")
    options = {
        "sslmode": _TLS,
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 10,
        "keepalives_count": SILENT_SECONDS // 10 - 1,
        "tcp_user_timeout": SILENT_SECONDS * 1000,
        "client_encoding": "utf8",
    }
    try:
        # READ COMMITTED: each statement sees what was committed before it. Under REPEATABLE READ
        # the moment that is seen would be the one before the wait for the lock.
        engine = create_engine(
            url, isolation_level="READ COMMITTED", pool_pre_ping=True, connect_args=options
        )
    except ModuleNotFoundError as error:
        needs = "psycopg, of procseal[postgresql]"
        raise Misconfigured(f"database: PostgreSQL needs {needs}: {error}") from error
    event.listen(engine, "connect", _prepare_postgresql)
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _prepare_postgresql(connection: object, _record: object) -> None:
    """Refuse a server that is not what is promised, and bound what a transaction waits for."""
    names = ("server_encoding", "server_version_num", *_UNSAFE)
    with connection.cursor() as cursor:  # type: ignore[attr-defined]
        settings = {name: cursor.execute(f"SHOW {name}").fetchone()[0] for name in names}
        for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
            cursor.execute(f"SET {name} = '{BUSY_SECONDS}s'")
    connection.commit()  # type: ignore[attr-defined]
    try:
        _demand_server(settings)
    except Misconfigured:
        connection.close()  # type: ignore[attr-defined]
        raise


def _demand_server(settings: dict[str, str]) -> None:
    if settings["server_encoding"] != "UTF8":
        raise Misconfigured(f"database: expected UTF8, found {settings['server_encoding']}")
    if int(settings["server_version_num"]) < OLDEST_POSTGRESQL:
        found = settings["server_version_num"]
        raise Misconfigured(f"database: expected PostgreSQL 15 or later, found {found}")
    for name, unsafe in _UNSAFE.items():
        if settings[name] in unsafe:
            lost = "what was acknowledged could be lost"
            raise Misconfigured(f"database: {name} is {settings[name]}: {lost}")


def _begin_postgresql(connection: Connection) -> None:
    """Wait for one's turn to write.

    The lock is let go once the commit can be seen, so whoever gets it sees all that came before,
    and the ledger's rows can be seen in the order of their numbers.
    """
    if not _only_reads(connection):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_TURN})")


def _only_reads(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(_ONLY_READS, False))
