"""What survives a restart: one database, every change one transaction.

SQLite by default, PostgreSQL by configuration (`verifier.database`): what was acknowledged
survives SIGKILL and power loss. Nothing here decides anything.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, tuple_, update
from sqlalchemy.exc import DataError, SQLAlchemyError
from sqlalchemy.orm import Session

from evidence import Malformed
from verifier import plain
from verifier.config import Misconfigured
from verifier.database import only_reading, open_engine
from verifier.ledger import STATUS_CHANGES, Entry, Kind, Row, to_text
from verifier.mint import Random, Slot
from verifier.node import Errand
from verifier.rows import (
    REVOKED,
    SCHEMA,
    SUSPENDED,
    VALID,
    ActivationRow,
    AgreedRow,
    Base,
    BootLogRow,
    ChallengeRow,
    DocumentRow,
    EvidenceRow,
    GrantRow,
    LedgerRow,
    ListPart,
    NodeRow,
    ProcessRow,
    RelyingPartyRow,
    Setting,
    TokenRow,
    UseRow,
)

LIST_ENTRIES = 1 << 14
"""Places in one status list, of which half are used: a free one is found at once."""
_PLACE_BYTES = 8

SKEW_SECONDS = 60
"""For so long after its end a token may still be taken for good by somebody whose clock is late:
`credential.check` allows for half of it."""


class Stale(Exception):
    """Somebody else changed what this transaction was about: nothing was done."""


class UnknownSchema(Misconfigured):
    """The database was made by another version of this program."""


class Transaction:
    """Everything that one transaction may ask and change."""

    def __init__(self, session: Session, now: datetime) -> None:
        self._session = session
        self.now = int(now.timestamp())

    # Nodes

    def node(self, name: str) -> NodeRow | None:
        """Return the node of this name, removed ones too."""
        return self._session.get(NodeRow, name)

    def node_with_ek(self, ek_hash: str) -> NodeRow | None:
        """Return the node with this EK, removed ones too."""
        return self._session.scalar(select(NodeRow).where(NodeRow.ek_hash == ek_hash))

    def nodes(self) -> Sequence[NodeRow]:
        """Return all nodes by name."""
        return self._session.scalars(select(NodeRow).order_by(NodeRow.name)).all()

    def next_list_number(self, name: str) -> int:
        """Return a number that no list of a node of this name has had."""
        query = select(func.max(ListPart.number)).where(ListPart.node == name)
        return (self._session.scalar(query) or 0) + 1

    def demand_unchanged(self, name: str, version: int, policy_version: int) -> NodeRow:
        """Return the node if it and the policy are of these versions; raise Stale otherwise."""
        node = self.node(name)
        if node is None or node.version != version or self.policy_version() != policy_version:
            raise Stale(name)
        return node

    def forget_node(self, name: str) -> None:
        """Delete the node, and what only it gave a meaning to."""
        for table in (ChallengeRow, ProcessRow, GrantRow):
            self._session.execute(delete(table).where(table.node == name))
        self._session.execute(delete(NodeRow).where(NodeRow.name == name))

    # Challenges and activations

    def activation(self, id_: str) -> ActivationRow | None:
        """Return the enrolment that waits under this id."""
        return self._session.get(ActivationRow, id_)

    def count_activations(self) -> int:
        """Return how many enrolments wait, once those whose time is over are deleted."""
        self._session.execute(delete(ActivationRow).where(ActivationRow.expires < self.now))
        return self._session.scalar(select(func.count()).select_from(ActivationRow)) or 0

    def challenge(self, node: str, signer: bytes) -> ChallengeRow | None:
        """Return the challenge of the node that waits for this key's answer."""
        return self._session.get(ChallengeRow, (node, signer))

    def trim_challenges(self, node: str, *, instance: bytes, most: int) -> None:
        """Delete those whose time is over, and of keys other than `instance` all but `most`."""
        mine = ChallengeRow.node == node
        self._session.execute(delete(ChallengeRow).where(mine, ChallengeRow.expires < self.now))
        newcomers = select(ChallengeRow.signer).where(mine, ChallengeRow.signer != instance)
        newest = newcomers.order_by(ChallengeRow.expires.desc())
        surplus = self._session.scalars(newest.offset(most)).all()
        if surplus:
            gone = delete(ChallengeRow).where(mine, ChallengeRow.signer.in_(surplus))
            self._session.execute(gone)

    def drop_challenges(self, node: str) -> None:
        """Delete the node's challenges."""
        self._session.execute(delete(ChallengeRow).where(ChallengeRow.node == node))

    # The measurement list

    def list_parts(self, node: str, number: int, parts: int) -> Sequence[bytes]:
        """Return the first `parts` parts of a list."""
        wanted = (ListPart.node == node, ListPart.number == number, ListPart.part < parts)
        query = select(ListPart.measured).where(*wanted).order_by(ListPart.part)
        return self._session.scalars(query).all()

    def boot_log(self, node: str, number: int, parts: int) -> bytes:
        """Return the event log that came with a list's first part; nothing where none had come."""
        row = self._session.get(BootLogRow, (node, number)) if parts else None
        return row.log if row else b""

    # Processes and their credentials

    def process(self, node: str, key_name: bytes) -> ProcessRow | None:
        """Return the process whose credential is sealed to this key."""
        return self._session.get(ProcessRow, (node, key_name))

    def processes(  # noqa: PLR0913 - by what they may be chosen
        self,
        *,
        node: str = "",
        workload: str = "",
        approval: str = "",
        accepted_before: int = 0,
        over_by: int = 0,
        is_suspended: bool | None = None,
    ) -> Sequence[ProcessRow]:
        """Return the processes that fit."""
        query = select(ProcessRow).order_by(ProcessRow.node, ProcessRow.key_name)
        if node:
            query = query.where(ProcessRow.node == node)
        if workload:
            query = query.where(ProcessRow.workload == workload)
        if approval:
            query = query.where(ProcessRow.approval == approval)
        if accepted_before:
            query = query.where(ProcessRow.accepted < accepted_before)
        if over_by:
            query = query.where(ProcessRow.until > 0, ProcessRow.until <= over_by)
        if is_suspended is not None:
            query = query.where(ProcessRow.is_suspended == is_suspended)
        return self._session.scalars(query).all()

    def steps(self, parent: ProcessRow) -> Sequence[ProcessRow]:
        """Return the processes that this one had launched for its jobs."""
        mine = (ProcessRow.node == parent.node, ProcessRow.parent_key == parent.key_name)
        return self._session.scalars(select(ProcessRow).where(*mine)).all()

    def token(self, jti: str) -> TokenRow | None:
        """Return what is known of the token with this id."""
        return self._session.get(TokenRow, jti)

    def tokens(self, *, expires_after: int = 0) -> Sequence[TokenRow]:
        """Return the tokens, those that expire later, in the order of their issue."""
        query = select(TokenRow).where(TokenRow.expires > expires_after)
        return self._session.scalars(query.order_by(TokenRow.issued, TokenRow.jti)).all()

    def revoke_tokens(self, process: ProcessRow, cause: str) -> None:
        """Give all tokens of a process, renewed ones too, this cause to be valid no more."""
        change = {"status": REVOKED, "cause": cause, "revoked": self.now}
        self._change_tokens(process, (VALID, SUSPENDED), change)

    def suspend_tokens(self, process: ProcessRow, cause: str) -> None:
        """Let the valid tokens of a process, renewed ones too, not count for now."""
        self._change_tokens(process, (VALID,), {"status": SUSPENDED, "cause": cause})
        process.is_suspended = True

    def reinstate_tokens(self, process: ProcessRow) -> None:
        """Let the suspended tokens of a process count again."""
        self._change_tokens(process, (SUSPENDED,), {"status": VALID, "cause": ""})
        process.is_suspended = False

    def _change_tokens(
        self, process: ProcessRow, those: Sequence[str], change: Mapping[str, object]
    ) -> None:
        mine = (TokenRow.node == process.node, TokenRow.key_name == process.key_name)
        query = update(TokenRow).where(*mine, TokenRow.status.in_(those))
        self._session.execute(query.values(dict(change)))

    # What operators approve

    def grant(self, id_: str) -> GrantRow | None:
        """Return the grant, asked for or open, of this id."""
        return self._session.get(GrantRow, id_)

    def grant_for(self, node: str, errand: Errand) -> GrantRow | None:
        """Return the grant, asked for or open, for this errand on this node."""
        encoded = plain.encode(Errand, errand)
        wanted = (GrantRow.node == node, GrantRow.errand == encoded)
        return self._session.scalar(select(GrantRow).where(*wanted))

    def grants(
        self,
        *,
        node: str = "",
        workload: str = "",
        is_open: bool | None = None,
        over_by: int = 0,
    ) -> Sequence[GrantRow]:
        """Return the grants that fit, in the order in which they were asked for."""
        query = select(GrantRow).order_by(GrantRow.asked, GrantRow.id)
        if node:
            query = query.where(GrantRow.node == node)
        if workload:
            query = query.where(GrantRow.workload == workload)
        if is_open is not None:
            query = query.where(GrantRow.is_open == is_open)
        if over_by:
            query = query.where(GrantRow.until <= over_by)
        return self._session.scalars(query).all()

    # Status lists

    def new_slot(self, random: Random) -> Slot:
        """Return a place that no token has had, which tells nothing of when it was taken."""
        newest = self._setting("status-list")
        taken = select(func.count()).select_from(TokenRow)
        if (self._session.scalar(taken.where(_in_list(newest.value))) or 0) >= LIST_ENTRIES // 2:
            newest.value += 1
        while True:
            index = int.from_bytes(random(_PLACE_BYTES), "big") % LIST_ENTRIES
            here = (_in_list(newest.value), TokenRow.status_index == index)
            if not self._session.scalar(taken.where(*here)):
                return Slot(number=newest.value, index=index)

    def newest_status_list(self) -> int:
        """Return the number of the list that tokens are put into; the first is 1."""
        return self._session.get_one(Setting, "status-list").value

    def status_list(self, number: int) -> Mapping[int, str]:
        """Return the status by place of those tokens in a list that are not valid."""
        query = select(TokenRow.status_index, TokenRow.status)
        rows = self._session.execute(query.where(_in_list(number), TokenRow.status != VALID))
        return {row.status_index: row.status for row in rows}

    def last_row(self) -> int:
        """Return the number of the ledger's last row, 0 where there is none."""
        return self._session.scalar(select(func.max(LedgerRow.seq))) or 0

    def changed_lists(self, after: int) -> frozenset[int]:
        """Return the numbers of the status lists that rows after this one have changed."""
        changes = [str(one) for one in STATUS_CHANGES]
        rows = select(LedgerRow.body).where(LedgerRow.seq > after, LedgerRow.kind.in_(changes))
        bodies = [json.loads(body) for body in self._session.scalars(rows)]
        of = {(one["node"], bytes.fromhex(one["key"])) for one in bodies}
        process = tuple_(TokenRow.node, TokenRow.key_name)
        lives = TokenRow.expires > self.now - SKEW_SECONDS
        lists = select(TokenRow.status_list).where(process.in_(of), lives)
        return frozenset(self._session.scalars(lists.distinct())) if of else frozenset()

    # Relying parties

    def relying_party(self, name: str) -> RelyingPartyRow | None:
        """Return the relying party of this name."""
        return self._session.get(RelyingPartyRow, name)

    def relying_parties(self) -> Sequence[RelyingPartyRow]:
        """Return all of them by name."""
        return self._session.scalars(select(RelyingPartyRow).order_by(RelyingPartyRow.name)).all()

    def use(self, party: str, id_: str) -> UseRow | None:
        """Return what is known of a line that this relying party has reported."""
        return self._session.get(UseRow, (party, id_))

    # Policy

    def policy_version(self) -> int:
        """Return the version that counts now."""
        return self._setting("policy-version").value

    def next_policy_version(self) -> int:
        """Make and return a new version."""
        setting = self._setting("policy-version")
        setting.value += 1
        return setting.value

    def document(self, kind: str, name: str) -> DocumentRow | None:
        """Return the document of this name that counts now."""
        wanted = (DocumentRow.kind == kind, DocumentRow.name == name, DocumentRow.until.is_(None))
        return self._session.scalar(select(DocumentRow).where(*wanted))

    def documents(self, version: int) -> Sequence[DocumentRow]:
        """Return the documents that count in this version, by kind and name."""
        counts = (DocumentRow.until.is_(None)) | (DocumentRow.until > version)
        query = select(DocumentRow).where(DocumentRow.since <= version, counts)
        return self._session.scalars(query.order_by(DocumentRow.kind, DocumentRow.name)).all()

    # The ledger, and what it rests on

    def append(self, entry: Entry) -> int:
        """Write the row and return its number."""
        row = LedgerRow(
            seq=self.last_row() + 1,  # not a sequence's: a row that was taken back leaves no gap
            time=self.now,
            kind=str(entry.kind),
            subject=entry.subject,
            body=to_text(entry.body),
            evidence=entry.evidence,
        )
        self._session.add(row)
        self._session.flush()
        return row.seq

    def ledger(
        self,
        *,
        after: int = 0,
        most: int = 0,
        last: bool = False,
        kinds: Sequence[Kind] = (),
        subject: str = "",
    ) -> Sequence[Row]:
        """Return rows in order: the first `most` after `after`, or the `last` of them.

        With `kinds` or `subject`, those alone.
        """
        query = select(LedgerRow).where(LedgerRow.seq > after)
        if kinds:
            query = query.where(LedgerRow.kind.in_([str(one) for one in kinds]))
        if subject:
            query = query.where(LedgerRow.subject == subject)
        query = query.order_by(LedgerRow.seq.desc() if last else LedgerRow.seq)
        rows = self._session.scalars(query.limit(most) if most else query).all()
        read = [
            Row(
                seq=row.seq,
                time=row.time,
                kind=row.kind,
                subject=row.subject,
                body=json.loads(row.body),
                evidence=row.evidence,
            )
            for row in rows
        ]
        return read[::-1] if last else read

    def evidence(self, digest: bytes) -> EvidenceRow | None:
        """Return what the decision with this digest was made from."""
        return self._session.get(EvidenceRow, digest)

    # Any of them

    def add(self, row: Base) -> None:
        """Insert a row, or replace the one with its key."""
        self._session.merge(row)

    def insert(self, row: Base) -> None:
        """Insert a row."""
        self._session.add(row)
        self._session.flush()

    def remove(self, row: Base) -> None:
        """Delete a row."""
        self._session.delete(row)
        self._session.flush()

    def _setting(self, name: str) -> Setting:
        return self._session.get_one(Setting, name)


def _in_list(number: int) -> ColumnElement[bool]:
    return TokenRow.status_list == number


class Store:
    """The database."""

    def __init__(self, url: str) -> None:
        try:
            self._engine = open_engine(url)
            self._reading = only_reading(self._engine)
            with self._closed_on_failure():
                self._prepare()
        except SQLAlchemyError as error:
            raise OSError(f"database: {error}") from error

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        """Make the tables where there are none; another verifier may be about to do the same."""
        with Session(self._engine) as session, session.begin():
            Base.metadata.create_all(session.connection())
            for name, value in (("schema", SCHEMA), ("policy-version", 1), ("status-list", 1)):
                if session.get(Setting, name) is None:
                    session.add(Setting(name=name, value=value))
            found = session.get_one(Setting, "schema").value
            if found != SCHEMA:
                raise UnknownSchema(f"expected a database of schema {SCHEMA}, found {found}")

    @contextmanager
    def transaction(self, now: datetime) -> Iterator[Transaction]:
        """Everything done in it is there after it, or nothing where it is left by an exception."""
        with (
            _storable(),
            Session(self._engine, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield Transaction(session, now)

    @contextmanager
    def reading(self, now: datetime) -> Iterator[Transaction]:
        """See the database as of one moment, without a place in the queue of those who write."""
        with _storable(), Session(self._reading, expire_on_commit=False) as session:
            yield Transaction(session, now)

    def demand_agreed(self, values: Mapping[str, str]) -> None:
        """Raise Misconfigured where another verifier of a shared database has another value.

        An SQLite file has one verifier, and may have another one after it.
        """
        if self._engine.dialect.name == "sqlite":
            return
        with Session(self._engine) as session, session.begin():
            for name, value in values.items():
                held = session.get(AgreedRow, name)
                if held is None:
                    session.add(AgreedRow(name=name, value=value))
                elif held.value != value:
                    expected = f"{held.value}, as its other verifiers have it"
                    raise Misconfigured(f"database: {name}: expected {expected}, got {value}")

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


@contextmanager
def _storable() -> Iterator[None]:
    """Raise Malformed for what can be no value: PostgreSQL has no text with a NUL."""
    try:
        yield
    except DataError as error:
        raise Malformed("expected what a database can hold") from error
