"""The tables of the database, a class each; what they hold is read and written by `store`."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import (
    DDL,
    BigInteger,
    ForeignKey,
    Index,
    Integer,
    String,
    UniqueConstraint,
    event,
    func,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from verifier import plain
from verifier.mint import Token
from verifier.node import Approval, Canary, Checkpoint, Errand, Known, Node
from verifier.reasons import ClockSeen

SCHEMA = 9
"""Grows with every change of a table."""

ENROLLED, PENDING, REMOVED = "enrolled", "pending", "removed"
"""Status of a node. A removed one keeps its name and its EK together."""

VALID, SUSPENDED, REVOKED = "valid", "suspended", "revoked"
"""Status of a token. A revoked one stays revoked."""

DIGEST_BYTES = 32

_seq = BigInteger().with_variant(Integer, "sqlite")
_text = String().with_variant(String(collation="C"), "postgresql")
"""In the order of its code points on either, whatever a PostgreSQL's locale is: what documents
are digested to depends on it (`verifier.case`)."""


class Base(DeclarativeBase):
    """The tables."""

    type_annotation_map = {int: BigInteger, str: _text}  # noqa: RUF012 - SQLAlchemy reads it from the class


class Setting(Base):
    """A number that there is once: `schema`, `policy-version`, `status-list`."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class AgreedRow(Base):
    """What the verifiers of a shared database have in common, as the first of them had it."""

    __tablename__ = "agreed"
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


class NodeRow(Base):
    """A node that has proven its TPM. Its keys never change."""

    __tablename__ = "nodes"
    name: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    is_barred: Mapped[bool] = mapped_column(default=False)
    """An operator has removed it: until one approves it, the inventory alone does not enrol it."""
    ek_hash: Mapped[str] = mapped_column(unique=True)
    ek_public: Mapped[bytes]
    certificate: Mapped[bytes]
    ak_public: Mapped[bytes]
    ak_name: Mapped[bytes]
    enrolled: Mapped[int]
    """Unix seconds, as every time here."""
    instance: Mapped[bytes] = mapped_column(default=b"")
    """SHA-256 of the instance key accepted last."""
    instance_reset_count: Mapped[int] = mapped_column(default=0)
    approved: Mapped[bytes] = mapped_column(default=b"")
    """SHA-256 of approved later instance keys, 32 bytes each."""
    clock: Mapped[bytes] = mapped_column(default=b"")
    """An encoded ClockSeen; empty before the first."""
    firmware: Mapped[str] = mapped_column(default="")
    """What the TPM signed as its firmware's version, hexadecimal; empty before the first."""
    checkpoint: Mapped[bytes] = mapped_column(default=b"")
    """An encoded Checkpoint; empty where the whole list has to be judged."""
    list_number: Mapped[int] = mapped_column(default=0)
    """Which of the node's lists the checkpoint is about: each start over has its own."""
    list_parts: Mapped[int] = mapped_column(default=0)
    list_digest: Mapped[bytes] = mapped_column(default=b"")
    """Chain over the parts of that list: see `verifier.case.chain`."""
    accepted: Mapped[int] = mapped_column(default=0)
    """When its last evidence was accepted; 0 before the first, and after a refusal."""
    canaries: Mapped[bytes] = mapped_column(default=b"")
    """Encoded Canary values, of the boot of `instance`; empty before the first."""
    labels: Mapped[str] = mapped_column(default="{}")
    """JSON object of texts."""
    version: Mapped[int] = mapped_column(default=1)
    """Grows with every change of anything that belongs to the node."""

    @property
    def approved_instances(self) -> tuple[bytes, ...]:
        """The approved later instances, in the order of their approval."""
        starts = range(0, len(self.approved), DIGEST_BYTES)
        return tuple(self.approved[start : start + DIGEST_BYTES] for start in starts)

    @property
    def label_values(self) -> tuple[tuple[str, str], ...]:
        """Names and values of its labels, by name."""
        return tuple(sorted(json.loads(self.labels).items()))

    @property
    def clock_value(self) -> ClockSeen | None:
        """The highest clock that its TPM has signed."""
        return plain.decode(ClockSeen, self.clock) if self.clock else None

    @property
    def checkpoint_value(self) -> Checkpoint | None:
        """How far its list has been judged."""
        return plain.decode(Checkpoint, self.checkpoint) if self.checkpoint else None

    @property
    def canary_values(self) -> tuple[Canary, ...]:
        """The canaries of the boot, oldest first."""
        return plain.decode(tuple[Canary, ...], self.canaries) if self.canaries else ()

    @canary_values.setter
    def canary_values(self, canaries: tuple[Canary, ...]) -> None:
        self.canaries = plain.encode(tuple[Canary, ...], canaries)

    def value(
        self, processes: Iterable["ProcessRow"] = (), approvals: Iterable[Approval] = ()
    ) -> Node:
        """Return the node as the deciding part knows it."""
        return Node(
            name=self.name,
            ak_public=self.ak_public,
            ek_public=self.ek_public,
            instance=self.instance,
            instance_reset_count=self.instance_reset_count,
            approved_instances=self.approved_instances,
            known=tuple(one.known for one in processes),
            clock=self.clock_value,
            canaries=self.canary_values,
            labels=self.label_values,
            approvals=tuple(approvals),
        )


class ActivationRow(Base):
    """An enrolment that waits for its answer."""

    __tablename__ = "activations"
    id: Mapped[str] = mapped_column(primary_key=True)
    enrol: Mapped[bytes]
    """The encoded Enrol message."""
    secret: Mapped[bytes]
    """What the TPM has to find."""
    expires: Mapped[int] = mapped_column(index=True)


class ChallengeRow(Base):
    """A challenge that waits for its evidence."""

    __tablename__ = "challenges"
    node: Mapped[str] = mapped_column(ForeignKey("nodes.name"), primary_key=True)
    signer: Mapped[bytes] = mapped_column(primary_key=True)
    """SHA-256 of the instance key that asked: it displaces no other one's challenge."""
    challenge: Mapped[bytes]
    """The encoded Challenge."""
    expires: Mapped[int]


class ListPart(Base):
    """What one accepted evidence added to the set of judged records of a boot. Never deleted."""

    __tablename__ = "list_parts"
    node: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    part: Mapped[int] = mapped_column(primary_key=True)
    measured: Mapped[bytes]
    """Encoded Measured values."""


class BootLogRow(Base):
    """The event log of the boot that a list belongs to, sent with its first part. Never deleted."""

    __tablename__ = "boot_logs"
    node: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    """Of the list."""
    log: Mapped[bytes]


class ProcessRow(Base):
    """A process with a valid credential: revocation deletes it, and with it the chain key."""

    __tablename__ = "processes"
    node: Mapped[str] = mapped_column(ForeignKey("nodes.name"), primary_key=True)
    key_name: Mapped[bytes] = mapped_column(primary_key=True)
    core: Mapped[bytes]
    workload: Mapped[str] = mapped_column(index=True)
    parent_key: Mapped[bytes] = mapped_column(index=True)
    """Of the process that had it launched for a job; empty where none had."""
    chain_key: Mapped[bytes]
    """What the current token is sealed under."""
    step: Mapped[int]
    jti: Mapped[str]
    """Of the current token."""
    issued: Mapped[int]
    expires: Mapped[int]
    policy_version: Mapped[int]
    """That allowed what the current token says."""
    level: Mapped[str]
    """What the current token says."""
    says: Mapped[bytes]
    """Digest of what else it says that may change; empty where another token is due."""
    until: Mapped[int]
    """When what it is granted ends by itself; 0 where nothing but its tokens does."""
    approval: Mapped[str] = mapped_column(index=True)
    """Id of the grant that it rests on; empty where none was needed."""
    accepted: Mapped[int]
    """When it was accepted last."""
    is_suspended: Mapped[bool] = mapped_column(default=False)
    """Its node is silent: its tokens count again when it is accepted again."""

    @property
    def known(self) -> Known:
        """The process as the deciding part knows it."""
        return Known(key_name=self.key_name, core=self.core, workload=self.workload)

    @property
    def token(self) -> Token:
        """The token that it holds."""
        return Token(
            chain_key=self.chain_key,
            step=self.step,
            jti=self.jti,
            issued=datetime.fromtimestamp(self.issued, UTC),
            expires=datetime.fromtimestamp(self.expires, UTC),
            policy_version=self.policy_version,
            level=self.level,
            says=self.says,
        )


class GrantRow(Base):
    """What a process asked for that an operator has to approve, or has approved: until it ends."""

    __tablename__ = "grants"
    id: Mapped[str] = mapped_column(primary_key=True)
    """16 hexadecimal digits."""
    node: Mapped[str] = mapped_column(ForeignKey("nodes.name"))
    workload: Mapped[str] = mapped_column(index=True)
    errand: Mapped[bytes]
    """An encoded Errand."""
    pid: Mapped[int]
    """Of the process that asked first."""
    asked: Mapped[int]
    is_open: Mapped[bool]
    """An operator has approved it."""
    until: Mapped[int] = mapped_column(index=True)
    """When it ends, or when nobody waits any longer for an operator."""

    @property
    def errand_value(self) -> Errand:
        """What it is about."""
        return plain.decode(Errand, self.errand)

    @property
    def approval(self) -> Approval:
        """The same, once it is open, as the deciding part knows it."""
        return Approval(id=self.id, errand=self.errand_value, until=self.until)


_ERRAND = (GrantRow.node, func.sha256(GrantRow.errand))
"""PostgreSQL indexes no value as long as an errand may be (64.4.1: a third of a page)."""
Index("grants_of_errand", GrantRow.node, GrantRow.errand, unique=True).ddl_if(dialect="sqlite")
Index("grants_by_errand", *_ERRAND, unique=True).ddl_if(dialect="postgresql")


class TokenRow(Base):
    """A token that was issued. Never deleted."""

    __tablename__ = "tokens"
    __table_args__ = (UniqueConstraint("status_list", "status_index"),)
    jti: Mapped[str] = mapped_column(primary_key=True)
    node: Mapped[str]
    key_name: Mapped[bytes]
    workload: Mapped[str]
    thumbprint: Mapped[str]
    """Of the use key, RFC 7638."""
    step: Mapped[int]
    level: Mapped[str]
    issued: Mapped[int]
    expires: Mapped[int] = mapped_column(index=True)
    ledger: Mapped[int]
    """Number of the decision's row."""
    status_list: Mapped[int]
    """Number of the status list that it stands in."""
    status_index: Mapped[int]
    """Its place in that list, which no other token ever has."""
    status: Mapped[str] = mapped_column(default=VALID)
    cause: Mapped[str] = mapped_column(default="")
    revoked: Mapped[int] = mapped_column(default=0)


class RelyingPartyRow(Base):
    """Somebody who may ask about tokens for one audience."""

    __tablename__ = "relying_parties"
    name: Mapped[str] = mapped_column(primary_key=True)
    secret: Mapped[bytes]
    """SHA-256 of its secret, which is random and of 32 bytes: nobody guesses it."""
    audience: Mapped[str]
    minimum: Mapped[str]
    """The lowest level of which a token is active to it."""
    may_revoke: Mapped[bool]
    added: Mapped[int]


class UseRow(Base):
    """A line that a relying party has reported. Never deleted: each is recorded once."""

    __tablename__ = "uses"
    party: Mapped[str] = mapped_column(primary_key=True)
    """Name of the relying party."""
    id: Mapped[str] = mapped_column(primary_key=True)
    """The line's."""
    ledger: Mapped[int]
    """Number of its row."""


class DocumentRow(Base):
    """A policy document and the policy versions in which it counted. Never deleted."""

    __tablename__ = "documents"
    kind: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    since: Mapped[int] = mapped_column(primary_key=True)
    until: Mapped[int | None]
    """The first version in which it no longer counts."""
    text: Mapped[str]


class EvidenceRow(Base):
    """What a decision was made from. Never deleted."""

    __tablename__ = "evidence"
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    """SHA-256 of `head`."""
    head: Mapped[bytes]
    """See `verifier.case`."""
    message: Mapped[bytes]
    """The encoded SignedMessage."""
    node: Mapped[str]
    list_number: Mapped[int]
    list_parts: Mapped[int]
    """The stored part of the list that it was judged with, and its boot's event log."""
    policy_version: Mapped[int]


class LedgerRow(Base):
    """The record. Append-only: the database refuses anything else."""

    __tablename__ = "ledger"
    seq: Mapped[int] = mapped_column(_seq, primary_key=True, autoincrement=False)
    """1 and up, without gaps: whoever reads what is after a row misses none."""
    time: Mapped[int]
    kind: Mapped[str]
    subject: Mapped[str]
    body: Mapped[str]
    """JSON."""
    evidence: Mapped[bytes]


def _after_ledger(dialect: str, statement: str) -> None:
    ddl = DDL(statement)  # type: ignore[no-untyped-call]
    event.listen(LedgerRow.__table__, "after_create", ddl.execute_if(dialect=dialect))


for _change in ("UPDATE", "DELETE"):
    _after_ledger(
        "sqlite",
        f"CREATE TRIGGER ledger_no_{_change.lower()} BEFORE {_change} ON ledger "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    )
_after_ledger(
    "postgresql",
    "CREATE OR REPLACE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS "
    "'BEGIN RAISE EXCEPTION $$the ledger is append-only$$; END'",
)
_after_ledger(
    "postgresql",
    "CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger "
    "EXECUTE FUNCTION ledger_is_append_only()",
)
