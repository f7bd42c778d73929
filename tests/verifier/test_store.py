"""The database: whole transactions, one writer at a time, and a ledger that only grows."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from tests.simulated_node import NOW
from verifier.ledger import Entry, Kind
from verifier.rows import DocumentRow, ListPart, NodeRow
from verifier.store import Stale, Store, UnknownSchema


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "verifier.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{file}")
    yield store
    store.close()


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


@pytest.mark.parametrize("statement", ["UPDATE ledger SET subject = 'x'", "DELETE FROM ledger"])
def test_the_ledger_is_append_only(store: Store, file: Path, statement: str) -> None:
    with store.transaction(NOW) as transaction:
        transaction.append(entry())
    other = sqlite3.connect(file)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        other.execute(statement)
    other.close()


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


def test_commits_are_durable(store: Store, file: Path) -> None:
    with store.transaction(NOW) as transaction:
        connection = transaction._session.connection()  # noqa: SLF001
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert file.exists()


@pytest.mark.usefixtures("store")
def test_a_database_of_another_schema_is_not_opened(file: Path) -> None:
    other = sqlite3.connect(file)
    other.execute("UPDATE settings SET value = 99 WHERE name = 'schema'")
    other.commit()
    other.close()
    with pytest.raises(UnknownSchema):
        Store(f"sqlite:///{file}")


def test_a_database_that_cannot_be_opened_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="database"):
        Store(f"sqlite:///{tmp_path / 'none' / 'verifier.sqlite'}")
