"""Everything that one decision was made from, so that anybody can make it again.

The service judges a `Case`; `verifier appraise` judges the same one years later, without a
server. What a decision's ledger row names is SHA-256 of the case's head; the head commits to all
the rest, and an exported case carries the verifier's signature over it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from credential import crypto
from evidence import Malformed, cbor
from evidence.messages import Challenge, Evidence, SignedMessage
from verifier import plain
from verifier.appraisal import appraise
from verifier.boot_policy import read_boot_policy
from verifier.bounds import demand_bounded
from verifier.confinement import Confinement
from verifier.instance import verify_signed
from verifier.keys import SigningKey
from verifier.node import Checkpoint, Measured, Node
from verifier.policy import Policy, ReferenceSet, Signer, build_policy
from verifier.policy.kernel import KernelPolicy
from verifier.reasons import Rejected
from verifier.reference import read_reference_value
from verifier.verdict import Accepted, Granted, NodeVerdict
from verifier.verity import Verity
from verifier.workload import read_workload

WORKLOAD, REFERENCE, KERNEL_POLICY = "workload", "reference", "kernel-policy"
BOOT_POLICY = "boot-policy"
KINDS = (WORKLOAD, REFERENCE, KERNEL_POLICY, BOOT_POLICY)
"""Kinds of policy documents."""

TYPE = "procseal case 5"
SIGNED_TYPE = "procseal case signature 1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A policy document, as an operator wrote it."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What a policy has besides its documents."""

    version: int
    trust_domain: str
    execute_register: int
    user_register: int
    attestor_register: int


def policy_of(frame: Frame, documents: Iterable[Document]) -> Policy:
    """Return the policy that the documents make; raise Rejected where they make none."""
    texts: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for one in documents:
        if one.kind not in texts:
            raise Malformed(f"expected a document of one of the kinds {', '.join(KINDS)}")
        texts[one.kind].append(one.text)
    values = [read_reference_value(text) for text in texts[REFERENCE]]
    return build_policy(
        version=frame.version,
        trust_domain=frame.trust_domain,
        sets=[one for one in values if isinstance(one, ReferenceSet)],
        signers=[one for one in values if isinstance(one, Signer)],
        verities=[one for one in values if isinstance(one, Verity)],
        confinements=[one for one in values if isinstance(one, Confinement)],
        workloads=[read_workload(text) for text in texts[WORKLOAD]],
        kernel_policies=[KernelPolicy.of(text.encode()) for text in texts[KERNEL_POLICY]],
        boot_policies=[read_boot_policy(text) for text in texts[BOOT_POLICY]],
        execute_register=frame.execute_register,
        user_register=frame.user_register,
        attestor_register=frame.attestor_register,
    )


def digest_of(documents: Sequence[Document]) -> bytes:
    """Return SHA-256 over the documents, in their order."""
    return hashlib.sha256(plain.encode(tuple[Document, ...], tuple(documents))).digest()


def chain(digest: bytes, part: bytes) -> bytes:
    """Return the digest over a list of parts, given that over all but its last one.

    The digest over none is empty.
    """
    return hashlib.sha256(digest + hashlib.sha256(part).digest()).digest()


def chain_over(parts: Iterable[bytes]) -> bytes:
    """Return the digest over the parts, in their order."""
    digest = b""
    for part in parts:
        digest = chain(digest, part)
    return digest


def read_measured(parts: Iterable[bytes]) -> tuple[Measured, ...]:
    """Return the stored set."""
    return tuple(one for part in parts for one in plain.decode(tuple[Measured, ...], part))


def write_measured(measured: tuple[Measured, ...]) -> bytes:
    """Return a part of the stored set."""
    return plain.encode(tuple[Measured, ...], measured)


# Judging


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The arguments of an appraisal."""

    message: SignedMessage
    challenge: Challenge
    node: Node
    checkpoint: Checkpoint | None
    measured: tuple[Measured, ...]
    boot_log: bytes
    """The stored one; what the message brings is in the message."""
    policy: Policy
    address: str
    """Where the message came from, empty where nobody knows."""
    now: datetime


def judge(case: Case) -> NodeVerdict:
    """Appraise the case; raise Malformed or Rejected."""
    signed = verify_signed(case.message)
    return appraise(
        Evidence.decode(signed.payload),
        signer=signed.signer,
        challenge=case.challenge,
        node=case.node,
        checkpoint=case.checkpoint,
        measured=case.measured,
        boot_log=case.boot_log,
        policy=case.policy,
        address=case.address,
        now=case.now,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOutcome:
    """What became of one process."""

    key_name: bytes
    workload: str
    """Empty where it was refused."""
    level: str
    """Empty where it was refused."""
    granted: Granted | None
    """None where it was refused."""
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A decision in brief: two of them are equal if they say the same."""

    verdict: str
    """`accepted`, `refused` or `malformed`."""
    reasons: tuple[str, ...]
    processes: tuple[ProcessOutcome, ...]


def outcome_of(decision: NodeVerdict | Rejected | Malformed) -> Outcome:
    """Return a decision in brief."""
    if isinstance(decision, Malformed):
        return Outcome(verdict="malformed", reasons=(), processes=())
    if isinstance(decision, Rejected):
        reasons = tuple(str(one.reason) for one in decision.findings)
        return Outcome(verdict="refused", reasons=reasons, processes=())
    processes = tuple(
        ProcessOutcome(
            key_name=one.key_name,
            workload=one.workload.id,
            level=one.level,
            granted=one.granted,
            reasons=(),
        )
        if isinstance(one, Accepted)
        else ProcessOutcome(
            key_name=one.key_name,
            workload="",
            level="",
            granted=None,
            reasons=tuple(str(finding.reason) for finding in one.findings),
        )
        for one in decision.processes
    )
    reasons = tuple(str(one.reason) for one in decision.reported)
    return Outcome(verdict="accepted", reasons=reasons, processes=processes)


# Keeping


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A case and its outcome, the long parts as digests."""

    message: bytes
    """SHA-256 of the encoded SignedMessage."""
    challenge: bytes
    """The encoded Challenge."""
    node: Node
    checkpoint: Checkpoint | None
    measured: bytes
    """`chain_over` the stored set's parts."""
    boot_log: bytes
    """SHA-256 of the stored event log."""
    frame: Frame
    documents: bytes
    """`digest_of` the policy's documents."""
    address: str
    now: datetime
    outcome: Outcome

    def encode(self) -> bytes:
        """Return the head's one encoding; its SHA-256 names the case."""
        return plain.encode(Head, self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A case as a file of its own."""

    ledger: int
    """Number of the decision's row."""
    head: bytes
    message: bytes
    parts: tuple[bytes, ...]
    boot_log: bytes
    documents: tuple[Document, ...]
    signer: bytes
    """Public half of the verifier's grant key, 65 bytes."""
    signature: bytes

    @classmethod
    def make(  # noqa: PLR0913 - an export is made of this
        cls,
        *,
        ledger: int,
        head: bytes,
        message: bytes,
        parts: tuple[bytes, ...],
        boot_log: bytes,
        documents: tuple[Document, ...],
        key: SigningKey,
    ) -> Self:
        """Return the signed file's value."""
        return cls(
            ledger=ledger,
            head=head,
            message=message,
            parts=parts,
            boot_log=boot_log,
            documents=documents,
            signer=key.point,
            signature=crypto.sign(key.private, _signed_text(ledger, head)),
        )

    def encode(self) -> bytes:
        """Return the file."""
        return cbor.encode([TYPE, plain.pack(Exported, self)])

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the file's value; raise Malformed if a single bit is not as it was exported."""
        demand_bounded(data)
        match cbor.decode(data):
            case [str(kind), members] if kind == TYPE:
                found = plain.unpack(cls, members)
            case _:
                raise Malformed(f"expected {TYPE!r}")
        assert isinstance(found, cls)
        text = _signed_text(found.ledger, found.head)
        if not crypto.is_signed(found.signer, text, found.signature):
            raise Malformed("the signature does not hold")
        return found

    def open(self) -> tuple[Case, Outcome]:
        """Return the case and the recorded outcome; raise Malformed if they do not fit the head."""
        head = plain.decode(Head, self.head)
        found = (
            hashlib.sha256(self.message).digest(),
            chain_over(self.parts),
            hashlib.sha256(self.boot_log).digest(),
            digest_of(self.documents),
        )
        if found != (head.message, head.measured, head.boot_log, head.documents):
            raise Malformed("a part is not the one that the head names")
        case = Case(
            message=SignedMessage.decode(self.message),
            challenge=Challenge.decode(head.challenge),
            node=head.node,
            checkpoint=head.checkpoint,
            measured=read_measured(self.parts),
            boot_log=self.boot_log,
            policy=policy_of(head.frame, self.documents),
            address=head.address,
            now=head.now,
        )
        return case, head.outcome


def _signed_text(ledger: int, head: bytes) -> bytes:
    return cbor.encode([SIGNED_TYPE, ledger, hashlib.sha256(head).digest()])
