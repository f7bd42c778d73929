"""The database: whole transactions, one writer at a time, and a ledger that only grows."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from evidence import Malformed
from tests.postgresql import PostgreSql
from tests.simulated_node import NOW
from verifier import database as db
from verifier import plain
from verifier.config import Misconfigured
from verifier.ledger import Entry, Kind
from verifier.node import Errand
from verifier.rows import SCHEMA, DocumentRow, GrantRow, ListPart, NodeRow
from verifier.store import Stale, Store, UnknownSchema

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
"""PostgreSQL 15, 55.7: what a client says that wants TLS."""


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


@contextmanager
def somebody_else(database: str) -> Iterator[Connection]:
    """Open the database as no verifier does."""
    engine = create_engine(database.replace("postgresql:", "postgresql+psycopg:"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def entry(subject: str = "build-7") -> Entry:
    return Entry(kind=Kind.NODE_ENROLLED, subject=subject, body={"b": 1, "a": ["ü"]})


def node(name: str = "build-7", ek_hash: str = "00") -> NodeRow:
    return NodeRow(
        name=name,
        status="enrolled",
        ek_hash=ek_hash,
        ek_public=b"ek",
        certificate=b"",
        ak_public=b"ak",
        ak_name=b"name",
        enrolled=1,
    )


def document(name: str, since: int, until: int | None = None) -> DocumentRow:
    return DocumentRow(kind="workload", name=name, since=since, until=until, text=name)


@pytest.mark.parametrize(
    "statement", ["UPDATE ledger SET subject = 'x'", "DELETE FROM ledger", "TRUNCATE ledger"]
)
def test_the_ledger_is_append_only(store: Store, database: str, statement: str) -> None:
    if database.startswith("sqlite") and statement.startswith("TRUNCATE"):
        pytest.skip("SQLite has no such statement")
    with store.transaction(NOW) as transaction:
        transaction.append(entry())
    with (
        pytest.raises(DBAPIError, match="append-only"),
        somebody_else(database) as other,
    ):
        other.exec_driver_sql(statement)
    with store.reading(NOW) as reading:
        assert [row.subject for row in reading.ledger()] == ["build-7"]


def test_ledger_rows_are_numbered_and_read_in_order(store: Store) -> None:
    with store.transaction(NOW) as transaction:
        numbers = [transaction.append(entry(str(n))) for n in range(5)]
        assert numbers == [1, 2, 3, 4, 5]
        assert [row.subject for row in transaction.ledger(after=1, most=2)] == ["1", "2"]
        assert [row.subject for row in transaction.ledger(most=2, last=True)] == ["3", "4"]
        assert transaction.ledger(most=1)[0].body == {"a": ["ü"], "b": 1}


def test_what_an_exception_leaves_never_was(store: Store) -> None:
    def fail() -> None:
        with store.transaction(NOW) as transaction:
            transaction.append(entry())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with store.transaction(NOW) as transaction:
        assert not transaction.ledger()
        assert transaction.append(entry()) == 1


def test_an_ek_belongs_to_one_node(store: Store) -> None:
    with store.transaction(NOW) as transaction:
        transaction.insert(node("a"))
    with pytest.raises(IntegrityError), store.transaction(NOW) as transaction:
        transaction.insert(node("b"))


def test_a_changed_node_or_policy_is_stale(store: Store) -> None:
    with store.transaction(NOW) as transaction:
        transaction.insert(node())
        assert transaction.demand_unchanged("build-7", 1, 1).name == "build-7"
        for name, version, policy_version in (
            ("build-7", 2, 1),
            ("build-7", 1, 2),
            ("other", 1, 1),
        ):
            with pytest.raises(Stale):
                transaction.demand_unchanged(name, version, policy_version)


def test_documents_count_in_the_versions_between(store: Store) -> None:
    with store.transaction(NOW) as transaction:
        for one in (document("a", 1, 3), document("a", 3), document("b", 2, 4)):
            transaction.insert(one)
        counts = {v: [one.name for one in transaction.documents(v)] for v in range(5)}
        assert counts == {0: [], 1: ["a"], 2: ["a", "b"], 3: ["a", "b"], 4: ["a"]}
        now = transaction.document("workload", "a")
        assert now is not None
        assert now.since == 3
        assert transaction.document("workload", "b") is None


def test_no_list_number_is_used_twice(store: Store) -> None:
    """Not even by a later node of the same name: what old decisions rest on stays as it is."""
    with store.transaction(NOW) as transaction:
        assert transaction.next_list_number("a") == 1
        transaction.insert(ListPart(node="a", number=1, part=0, measured=b""))
        transaction.insert(node("a"))
        transaction.forget_node("a")
        assert transaction.next_list_number("a") == 2


def test_concurrent_writers_wait_for_each_other(store: Store) -> None:
    def write(_: int) -> int:
        with store.transaction(NOW) as transaction:
            version = transaction.next_policy_version()
            transaction.append(entry())
            return version

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(write, range(40)))
    assert sorted(versions) == list(range(2, 42))


def test_a_reader_sees_one_moment_and_waits_for_nobody(store: Store) -> None:
    with store.transaction(NOW) as writing:
        writing.append(entry("before"))
    with store.transaction(NOW) as writing, store.reading(NOW) as reading:
        writing.append(entry("after"))
        assert [row.subject for row in reading.ledger()] == ["before"]
    with store.reading(NOW) as reading:
        assert reading.last_row() == 2
        with store.transaction(NOW) as writing:
            writing.append(entry("later"))
        assert reading.last_row() == 2
        assert len(reading.ledger()) == 2


def test_rows_are_seen_in_order_while_many_write(database: str) -> None:
    """Two verifiers write; whoever asks for what is after the last row that it saw misses none."""
    stores = [Store(database), Store(database)]
    rows = 120

    def write(number: int) -> int:
        with stores[number % 2].transaction(NOW) as transaction:
            seq = transaction.append(entry(str(number)))
            if number % 10 == 9:
                raise ZeroDivisionError  # this one never was
        return seq

    def listen(store: Store) -> list[int]:
        seen: list[int] = []
        while len(seen) < rows * 9 // 10:
            with store.reading(NOW) as reading:
                seen += [row.seq for row in reading.ledger(after=seen[-1] if seen else 0)]
        return seen

    with ThreadPoolExecutor(10) as pool:
        listening = [pool.submit(listen, store) for store in stores]
        writing = [pool.submit(write, number) for number in range(rows)]
        acknowledged = sorted(one.result() for one in writing if one.exception() is None)
        assert acknowledged == [one + 1 for one in range(rows * 9 // 10)]
        assert [one.result() for one in listening] == [acknowledged, acknowledged]
    for store in stores:
        store.close()


def test_verifiers_that_start_at_once_make_one_database(database: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        stores = list(pool.map(Store, [database] * 6))
    with stores[0].transaction(NOW) as transaction:
        assert transaction.policy_version() == 1
    for store in stores:
        store.close()


def test_names_are_in_the_order_of_their_code_points(store: Store) -> None:
    """As on any host: the digest of a policy's documents rests on it."""
    names = ["B", "a", "a-b", "a.b", "ab", "é"]
    with store.transaction(NOW) as transaction:
        for name in reversed(names):
            transaction.insert(document(name, 1))
        assert [one.name for one in transaction.documents(1)] == names


def test_the_longest_errand_is_stored_once(store: Store) -> None:
    errand = Errand(
        workload="spiffe://example.org/payments",
        audience="https://ledger.example.org",
        scopes=tuple(sorted(sha256(bytes([one])).hexdigest() for one in range(64))),
        context=tuple(f"name-{one:02}={one:0200}" for one in range(16)),
        job="build-17",
    )

    def grant(id_: str) -> GrantRow:
        encoded = plain.encode(Errand, errand)
        what = {"workload": errand.workload, "errand": encoded, "pid": 7}
        return GrantRow(id=id_, node="build-7", asked=1, is_open=False, until=2, **what)

    with store.transaction(NOW) as transaction:
        transaction.insert(node())
        transaction.insert(grant("1"))
        found = transaction.grant_for("build-7", errand)
        assert found is not None
        assert found.errand_value == errand
    with pytest.raises(IntegrityError), store.transaction(NOW) as transaction:
        transaction.insert(grant("2"))


def test_a_text_that_can_be_no_name_is_nobodys(store: Store, database: str) -> None:
    with store.reading(NOW) as reading:
        assert reading.node("build-7") is None
    if database.startswith("sqlite"):
        with store.reading(NOW) as reading:
            assert reading.node("build-7\0") is None
    else:
        with pytest.raises(Malformed), store.reading(NOW) as reading:
            reading.node("build-7\0")


def test_sqlite_commits_are_durable(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'verifier.sqlite'}")
    with store.transaction(NOW) as transaction:
        connection = transaction._session.connection()  # noqa: SLF001
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    store.close()


def test_who_only_reads_cannot_write_to_a_postgresql(shared_database: str) -> None:
    store = Store(shared_database)
    with pytest.raises(DBAPIError, match="read-only"), store.reading(NOW) as reading:
        reading.append(entry())
    store.close()


@pytest.mark.usefixtures("store")
def test_a_database_of_another_schema_is_not_opened_and_not_touched(database: str) -> None:
    with somebody_else(database) as other:
        other.exec_driver_sql(f"UPDATE settings SET value = {SCHEMA - 1} WHERE name = 'schema'")
        other.exec_driver_sql("DROP TABLE uses")
    with pytest.raises(UnknownSchema):
        Store(database)
    with (
        pytest.raises(DBAPIError, match="uses"),
        somebody_else(database) as other,
    ):
        other.exec_driver_sql("SELECT * FROM uses")


@pytest.mark.parametrize("where", ["sqlite:////none/verifier.sqlite", "postgresql:///?host=/none"])
def test_a_database_that_cannot_be_opened_is_no_answer(where: str) -> None:
    with pytest.raises(OSError, match="database"):
        Store(where)


@pytest.mark.parametrize("url", ["mysql://x/y", "postgresql+asyncpg:///y", "sqlite+aiosqlite:///y"])
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(Misconfigured, match="database"):
        Store(url)


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca"])
def test_a_connection_that_anybody_could_answer_is_refused(mode: str) -> None:
    with pytest.raises(Misconfigured, match="sslmode"):
        Store(f"postgresql://localhost/procseal?sslmode={mode}")


def test_a_postgresql_without_tls_is_told_nothing() -> None:
    told: list[bytes] = []

    def serve(listening: socket.socket) -> None:
        with listening.accept()[0] as connection:
            told.append(connection.recv(1024))
            connection.sendall(b"N")  # no TLS here
            told.append(connection.recv(1024))

    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve, listening)
        with pytest.raises(OSError, match="SSL"):
            Store(f"postgresql://x:secret@127.0.0.1:{listening.getsockname()[1]}/procseal")
        serving.result()
    assert told == [SSL_REQUEST, b""]


def test_a_postgresql_that_promises_less(postgresql: PostgreSql, shared_database: str) -> None:
    """What may be lost after it was acknowledged is refused."""
    name = shared_database.partition("///")[2].partition("?")[0]
    postgresql.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(Misconfigured, match="synchronous_commit"):
        Store(shared_database)


def test_a_postgresql_of_another_encoding(postgresql: PostgreSql) -> None:
    with (
        postgresql.database("ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'") as url,
        pytest.raises(Misconfigured, match="UTF8"),
    ):
        Store(url)


def test_what_was_acknowledged_survives_the_servers_crash(
    postgresql: PostgreSql, shared_database: str
) -> None:
    store = Store(shared_database)
    with store.transaction(NOW) as transaction:
        transaction.append(entry("kept"))

    def crash() -> None:
        with store.transaction(NOW) as transaction:
            transaction.append(entry("lost"))
            postgresql.crash()

    with pytest.raises(DBAPIError):
        crash()
    with store.transaction(NOW) as transaction:  # on a new connection, without being told
        assert [row.subject for row in transaction.ledger()] == ["kept"]
        assert transaction.append(entry("next")) == 2
    postgresql.crash()  # while nobody asks for anything
    with store.reading(NOW) as reading:
        assert reading.last_row() == 2
    store.close()


def test_a_writer_that_says_nothing_loses_its_turn(
    shared_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its verifier was stopped, or its host is gone: the others go on, and it has done nothing."""
    monkeypatch.setattr(db, "BUSY_SECONDS", 1)
    silent, other = Store(shared_database), Store(shared_database)
    monkeypatch.undo()

    def wait() -> None:
        with silent.transaction(NOW) as transaction:
            transaction.append(entry("silent"))
            with ThreadPoolExecutor(1) as pool:
                pool.submit(write, other).result()
            transaction.append(entry("too late"))

    def write(store: Store) -> None:
        for _ in range(5):
            with suppress(OperationalError), store.transaction(NOW) as transaction:
                transaction.append(entry("other"))
                return

    with pytest.raises(DBAPIError):
        wait()
    with other.reading(NOW) as reading:
        assert [row.subject for row in reading.ledger()] == ["other"]
    silent.close()
    other.close()
