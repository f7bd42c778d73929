"""What the verifier does when a node speaks: each verb is decode, ask the deciding part, record.

The deciding part judges; here is only what follows from its answer, each verb's consequences in
one transaction. Clock and chance are arguments of the constructor; every verb may be called from
any thread.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from threading import Lock
from typing import Self

import credential
from evidence import Malformed
from evidence.canary import Place
from evidence.messages import (
    Activation,
    ActivationAnswer,
    Challenge,
    ChallengeRequest,
    Enrol,
    Enrolled,
    Evidence,
    Gone,
    GoneAnswer,
    Outcome,
    Result,
    SignedMessage,
    Wanted,
    WantedAnswer,
)
from evidence.process import NO_ORIGIN, CoreRecord
from verifier import case as cases
from verifier import plain
from verifier.appraisal import highest
from verifier.bounds import demand_core
from verifier.canary import choose_places, remember_asked, remember_missing, remember_outcome
from verifier.case import Case, Document, Frame, Head, judge, outcome_of
from verifier.certificates import read_folder
from verifier.config import Config, Misconfigured
from verifier.consequences import (
    advance,
    cause_of,
    forget_known,
    reinstate,
    remember,
    revoke,
    revoke_all,
    revoke_unreported,
    start_over,
    suspend_all,
    verdict_json,
    void_untrue,
)
from verifier.crypto.activation import ENTROPY_BYTES, make_credential
from verifier.endorsement import Trust
from verifier.enrolment import JudgedEnrolment, ek_hash, judge_enrolment, verify_answer
from verifier.grants import ask, close_all, end_over
from verifier.instance import verify_signed
from verifier.inventory import read_inventory
from verifier.keys import Keys
from verifier.ledger import TOLD_BY_NODE, Cause, Entry, Kind, findings_json, refusal_json
from verifier.mint import Occasion, Random, mint
from verifier.node import Errand
from verifier.policy import Policy
from verifier.reasons import ClockSeen, Finding, Reason, Rejected, label, reject
from verifier.replay import first_record_wanted
from verifier.rows import (
    ENROLLED,
    PENDING,
    REMOVED,
    ActivationRow,
    ChallengeRow,
    EvidenceRow,
    NodeRow,
)
from verifier.selection import select_workload
from verifier.store import Stale, Store, Transaction
from verifier.verdict import Accepted, NodeVerdict, Refused

NONCE_BYTES = SECRET_BYTES = 32
ID_BYTES = 16
DIGEST_BYTES = 32
MOST_ACTIVATIONS = 10_000
"""Enrolments that wait at a time: what strangers can make the database hold."""
MOST_NEWCOMERS = 4096
"""Challenges that a node's name has outstanding, but for the accepted instance's: anybody can ask
for one, and none displaces another until there are so many."""
STRANGERS_PER_HOUR = 1_000
"""Refusals of those who have proven nothing that go into the ledger; more are only logged."""
ATTEMPTS = 3
"""How often evidence is judged when what it was judged with changes meanwhile."""

log = logging.getLogger("verifier")


class Busy(Exception):
    """There is no room for another one now: nothing was decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInForce:
    """A policy with what it was made of."""

    policy: Policy
    documents: bytes
    """`digest_of` its documents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Snapshot:
    """A case, and the state of the database that it was taken from."""

    case: Case
    version: int
    """Of the node's row."""
    list_number: int
    list_parts: int
    list_digest: bytes
    frame: Frame
    documents: bytes

    def is_overtaken_by(self, other: "_Snapshot") -> bool:
        """Say whether other evidence of the node has been decided on since."""
        mine, its = self.case, other.case
        return (mine.node.clock, mine.checkpoint) != (its.node.clock, its.checkpoint)


class Service:
    """The verifier: everything but its doors."""

    def __init__(
        self,
        config: Config,
        store: Store,
        keys: Keys,
        *,
        now: Callable[[], datetime],
        random: Random,
    ) -> None:
        self.config = config
        self.store = store
        self.keys = keys
        self.trust = read_trust(config)
        self._now = now
        self.random = random
        self.started = self.now()
        self._swept = self._there_since = self.started
        self._strangers = [0, 0]
        self._counting = Lock()
        self._policy: tuple[int, PolicyInForce] | None = None
        with self.transaction() as transaction:
            self.policy(transaction)
        read_inventory(config.allow_list)

    @classmethod
    def open(cls, config: Config, *, now: Callable[[], datetime], random: Random) -> Self:
        """Return the service that the configuration describes, its database opened."""
        keys = Keys.load(config.state)
        store = Store(config.database_url)
        store.demand_agreed(config.shared | keys.names)
        return cls(config, store, keys, now=now, random=random)

    def now(self) -> datetime:
        """Return the time in whole seconds: finer ones would not survive being stored."""
        return self._now().astimezone(UTC).replace(microsecond=0)

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Open a transaction at the present time."""
        return self.store.transaction(self.now())

    def reading(self) -> AbstractContextManager[Transaction]:
        """Look at the database at the present time."""
        return self.store.reading(self.now())

    # Policy

    def frame(self, version: int) -> Frame:
        """Return what a policy of this version has besides its documents."""
        return Frame(
            version=version,
            trust_domain=self.config.trust_domain,
            execute_register=self.config.execute_register,
            user_register=self.config.user_register,
            attestor_register=self.config.attestor_register,
        )

    def policy(self, transaction: Transaction) -> PolicyInForce:
        """Return the policy that counts now. One of the same version is the same."""
        version = transaction.policy_version()
        if self._policy is None or self._policy[0] != version:
            documents = read_documents(transaction, version)
            try:
                policy = cases.policy_of(self.frame(version), documents)
            except Rejected as rejected:
                raise Misconfigured(f"the stored policy does not fit: {rejected}") from rejected
            digest = cases.digest_of(documents)
            self._policy = version, PolicyInForce(policy=policy, documents=digest)
        return self._policy[1]

    # Enrolment

    def enrol(self, message: Enrol) -> Activation:
        """Return the question whose answer proves that the node's EK and AK share a TPM."""
        recorded = self._recorded(Kind.NODE_ENROLMENT_REFUSED, message.node)
        with recorded, self.transaction() as transaction:
            judged = self._judge_enrolment(transaction, message)
        id_, secret = self.random(ID_BYTES).hex(), self.random(SECRET_BYTES)
        expires = self.now() + self.config.activation_lifetime
        id_object, encrypted_secret = make_credential(
            judged.ek, name=judged.ak_name, secret=secret, entropy=self.random(ENTROPY_BYTES)
        )
        until = int(expires.timestamp())
        row = ActivationRow(id=id_, enrol=message.encode(), secret=secret, expires=until)
        with self.transaction() as transaction:
            if transaction.count_activations() >= MOST_ACTIVATIONS:
                raise Busy("too many enrolments wait for their answers")
            transaction.insert(row)
        return Activation(
            id=id_, expires=until, id_object=id_object, encrypted_secret=encrypted_secret
        )

    def answer_activation(self, message: ActivationAnswer) -> Enrolled:
        """Enrol the node, or keep it pending, if the answer is right; it counts once."""
        activation = self._spend_activation(message.id)
        enrol = Enrol.decode(activation.enrol)
        recorded = self._recorded(Kind.NODE_ENROLMENT_REFUSED, enrol.node)
        with recorded, self.transaction() as transaction:
            judged = self._judge_enrolment(transaction, enrol)
            verify_answer(message, judged=judged, id_=activation.id, secret=activation.secret)
            row = transaction.node(judged.node) or _new_node(transaction, judged)
            row.status = _next_status(row, is_allowed=judged.is_allowed)
            row.version += 1
            kind = Kind.NODE_ENROLLED if row.status == ENROLLED else Kind.NODE_PENDING
            body = {
                "ek_hash": judged.ek_hash,
                "ak": judged.ak_name.hex(),
                "findings": findings_json(judged.reported),
            }
            transaction.append(Entry(kind=kind, subject=judged.node, body=body))
            return Enrolled(node=judged.node, status=row.status, ek_hash=judged.ek_hash)

    def _spend_activation(self, id_: str) -> ActivationRow:
        """Return the enrolment that waits under this id; it waits no longer."""
        with self.transaction() as transaction:
            found = transaction.activation(id_)
            if found is not None:
                transaction.remove(found)
        if found is None or found.expires < self.now().timestamp():
            raise reject(Reason.ENROL_CHALLENGE, "activation", expected="one that waits")
        return found

    def _judge_enrolment(self, transaction: Transaction, message: Enrol) -> JudgedEnrolment:
        holder = transaction.node(message.node)
        ek_holder = transaction.node_with_ek(_ek_hash(message))
        return judge_enrolment(
            message,
            holder=holder.value() if holder else None,
            ek_holder=ek_holder.name if ek_holder else "",
            inventory=read_inventory(self.config.allow_list),
            trust=self.trust,
            require_certificate=self.config.require_ek_certificate,
            now=self.now(),
        )

    # The words of a running attestor

    def wanted(self, message: SignedMessage) -> WantedAnswer:
        """Say that a workload wants this core record; raise Rejected if none does."""
        signed = verify_signed(message)
        wanted = Wanted.decode(signed.payload)
        with self.reading() as reading:
            _demand_instance(reading, wanted.node, signed.signer)
            policy = self.policy(reading).policy
        demand_core(wanted.core)
        core = CoreRecord.decode(wanted.core)
        workload = select_workload(core, node=wanted.node, policy=policy)
        return WantedAnswer(core=core.digest(), wants_canary=workload.needs_canary)

    def challenge(self, message: SignedMessage) -> Challenge:
        """Return a fresh challenge in the place of the one that the asker has, if any.

        Whoever asks displaces nobody else's: a node that has rebooted is as unknown as a stranger.
        """
        signed = verify_signed(message)
        request = ChallengeRequest.decode(signed.payload)
        name = request.node
        expires = int((self.now() + self.config.challenge_lifetime).timestamp())
        with self.reading() as reading:  # strangers do not make anybody wait who writes
            _demand_enrolled(reading, name)
        with self.transaction() as transaction:
            node = _demand_enrolled(transaction, name)
            first = _first_record(node, signed.signer, self.policy(transaction).policy)
            challenge = Challenge(
                verifier=self.config.issuer,
                trust_domain=self.config.trust_domain,
                node=name,
                nonce=self.random(NONCE_BYTES),
                expires=expires,
                first_record=first,
                wants_boot_log=first == 0,
                canaries=self._canaries(node, signed.signer, request.places),
            )
            node.canary_values = remember_asked(
                node.canary_values,
                nonce=challenge.nonce,
                places=challenge.canaries,
                now=transaction.now,
            )
            transaction.trim_challenges(name, instance=node.instance, most=MOST_NEWCOMERS - 1)
            transaction.add(
                ChallengeRow(
                    node=name,
                    signer=signed.signer,
                    challenge=challenge.encode(),
                    expires=expires,
                )
            )
        return challenge

    def _canaries(
        self, node: NodeRow, signer: bytes, places: tuple[Place, ...]
    ) -> tuple[Place, ...]:
        """Return where canaries are wanted: strangers are asked for none."""
        if signer != node.instance:
            return ()
        every = int(self.config.canary_every.total_seconds())
        now = int(self.now().timestamp())
        return choose_places(places, node.canary_values, now=now, every=every)

    def gone(self, message: SignedMessage) -> GoneAnswer:
        """End the credentials of processes that ended; keys that have none are answered too."""
        signed = verify_signed(message)
        gone = Gone.decode(signed.payload)
        causes = {one.key_name: _told_cause(one.cause) for one in gone.processes}
        with self.reading() as reading:
            _demand_instance(reading, gone.node, signed.signer)
        with self.transaction() as transaction:
            _demand_instance(transaction, gone.node, signed.signer)
            for key_name, cause in causes.items():
                process = transaction.process(gone.node, key_name)
                if process is not None:
                    revoke_all(transaction, [process], cause)
        return GoneAnswer(key_names=tuple(one.key_name for one in gone.processes))

    # Evidence

    def evidence(self, message: SignedMessage, *, address: str = "") -> Result:
        """Judge the evidence, and record what follows: credentials, or their end.

        `address` is where it came from, empty where nobody knows.
        """
        signed = verify_signed(message)
        evidence = Evidence.decode(signed.payload)
        with self._recorded(Kind.EVIDENCE_REFUSED, evidence.node):
            snapshot = self._spend_challenge(message, evidence, signed.signer, address)
        for _ in range(ATTEMPTS):
            verdict = self._judge(snapshot, signed.signer)
            try:
                return self._accept(snapshot, verdict)
            except Stale:
                log.info("%s: what its evidence was judged with has changed", evidence.node)
            with self.transaction() as transaction:
                again = self._snapshot(transaction, message, snapshot.case.challenge, address)
            if snapshot.is_overtaken_by(again):
                break
            snapshot = again
        raise Stale(evidence.node)

    def _spend_challenge(
        self, message: SignedMessage, evidence: Evidence, signer: bytes, address: str
    ) -> _Snapshot:
        """Return the case that the evidence makes; its challenge can never be answered again."""
        with self.transaction() as transaction:
            node = _demand_enrolled(transaction, evidence.node)
            found = transaction.challenge(node.name, signer)
            if found is None or sha256(found.challenge).digest() != evidence.challenge:
                expected = "the digest of the challenge that waits for this key's answer"
                raise reject(Reason.CHALLENGE_UNKNOWN, node.name, expected=expected)
            transaction.remove(found)
            challenge = Challenge.decode(found.challenge)
            snapshot = self._snapshot(transaction, message, challenge, address)
            wanted = _first_record(node, signer, snapshot.case.policy)
        if challenge.expires < self.now().timestamp():
            raise reject(Reason.CHALLENGE_EXPIRED, node.name)
        if challenge.first_record != wanted:
            found_text, expected = f"from record {challenge.first_record}", f"from record {wanted}"
            raise reject(Reason.CHALLENGE_UNKNOWN, node.name, expected=expected, found=found_text)
        return snapshot

    def _snapshot(
        self, transaction: Transaction, message: SignedMessage, challenge: Challenge, address: str
    ) -> _Snapshot:
        row = _demand_enrolled(transaction, challenge.node)
        processes = transaction.processes(node=row.name)
        parts = transaction.list_parts(row.name, row.list_number, row.list_parts)
        approvals = [one.approval for one in transaction.grants(node=row.name, is_open=True)]
        in_force = self.policy(transaction)
        case = Case(
            message=message,
            challenge=challenge,
            node=row.value(processes, approvals),
            checkpoint=row.checkpoint_value,
            measured=cases.read_measured(parts),
            boot_log=transaction.boot_log(row.name, row.list_number, row.list_parts),
            policy=in_force.policy,
            address=address,
            now=self.now(),
        )
        return _Snapshot(
            case=case,
            version=row.version,
            list_number=row.list_number,
            list_parts=row.list_parts,
            list_digest=row.list_digest,
            frame=self.frame(in_force.policy.version),
            documents=in_force.documents,
        )

    def _judge(self, snapshot: _Snapshot, signer: bytes) -> NodeVerdict:
        """Return the verdict; a refusal is recorded, with all that follows, before it is raised."""
        try:
            return judge(snapshot.case)
        except (Malformed, Rejected) as refusal:
            self._refuse(snapshot, signer, refusal)
            raise
        except Exception as error:
            log.exception("%s: the appraisal failed", snapshot.case.node.name)
            rejected = reject(Reason.INTERNAL, found=type(error).__name__)
            self._refuse(snapshot, signer, rejected)
            raise rejected from error

    def _refuse(self, snapshot: _Snapshot, signer: bytes, refusal: Malformed | Rejected) -> None:
        """Record the refusal. If it is the node's, its credentials end and its list starts over.

        It is the node's if the accepted instance has signed it, or if the TPM has, in a later
        boot. What another key says in the same boot is refused and changes nothing: else anybody
        could end a node's credentials.
        """
        log.warning("%s: evidence refused: %s", snapshot.case.node.name, label(str(refusal)))
        seen = refusal.clock_seen if isinstance(refusal, Rejected) else None
        with self.transaction() as transaction:
            node = transaction.node(snapshot.case.node.name)
            if node is None:
                return
            is_instance = signer == node.instance
            is_rebooted = seen is not None and _is_later_boot(seen, node)
            if is_instance or is_rebooted:
                live = transaction.processes(node=node.name)
                cause = Cause.NODE_REFUSED if is_instance else Cause.NODE_REBOOTED
                revoke_all(transaction, live, cause)
                start_over(node)
                transaction.drop_challenges(node.name)
            if is_instance and _misses_canary(refusal):
                nonce = snapshot.case.challenge.nonce
                node.canary_values = remember_missing(node.canary_values, nonce=nonce)
            if seen is not None and seen != node.clock_value:
                node.clock = plain.encode(ClockSeen, highest(seen, node.clock_value))
                node.version += 1
            is_the_nodes = is_instance or is_rebooted
            if not is_the_nodes and not self.has_room_for_stranger():
                return
            digest = self._keep(transaction, snapshot, refusal) if is_the_nodes else b""
            body = {"findings": refusal_json(refusal), "signer": signer.hex()}
            kind = Kind.EVIDENCE_REFUSED
            transaction.append(Entry(kind=kind, subject=node.name, body=body, evidence=digest))

    def _keep(
        self,
        transaction: Transaction,
        snapshot: _Snapshot,
        decision: NodeVerdict | Rejected | Malformed,
    ) -> bytes:
        """Store what the decision was made from, and return its digest."""
        case = snapshot.case
        message = case.message.encode()
        head = Head(
            message=sha256(message).digest(),
            challenge=case.challenge.encode(),
            node=case.node,
            checkpoint=case.checkpoint,
            measured=snapshot.list_digest,
            boot_log=sha256(case.boot_log).digest(),
            frame=snapshot.frame,
            documents=snapshot.documents,
            address=case.address,
            now=case.now,
            outcome=outcome_of(decision),
        ).encode()
        row = EvidenceRow(
            digest=sha256(head).digest(),
            head=head,
            message=message,
            node=case.node.name,
            list_number=snapshot.list_number,
            list_parts=snapshot.list_parts,
            policy_version=snapshot.frame.version,
        )
        transaction.insert(row)
        return row.digest

    def _accept(self, snapshot: _Snapshot, verdict: NodeVerdict) -> Result:
        """Record the verdict with all that follows, in one transaction."""
        case = snapshot.case
        version = snapshot.frame.version
        with self.transaction() as transaction:
            node = transaction.demand_unchanged(case.node.name, snapshot.version, version)
            digest = self._keep(transaction, snapshot, verdict)
            if verdict.checkpoint.reset_count != node.instance_reset_count:
                close_all(transaction, node=node.name, cause=Cause.NODE_REBOOTED)
            if verdict.forgets_known:
                forget_known(transaction, node, verdict)
            advance(transaction, node, verdict)
            node.canary_values = remember_outcome(
                node.canary_values, nonce=case.challenge.nonce, shown=verdict.canaries
            )
            body = {**verdict_json(verdict), "address": case.address}
            kind = Kind.EVIDENCE_ACCEPTED
            entry = Entry(kind=kind, subject=node.name, body=body, evidence=digest)
            occasion = Occasion(
                issuer=self.config.issuer,
                ek_public=case.node.ek_public,
                challenge=case.challenge.digest(),
                evidence=digest,
                ledger=transaction.append(entry),
                policy_version=version,
                now=case.now,
            )
            revoke_unreported(transaction, node.name, verdict)
            outcomes = tuple(
                self._settle(transaction, node.name, one, occasion) for one in verdict.processes
            )
        return Result(challenge=occasion.challenge, outcomes=outcomes)

    def _settle(
        self, transaction: Transaction, node: str, judged: Accepted | Refused, occasion: Occasion
    ) -> Outcome:
        """Give the process its credential, or end the one that it has."""
        held = transaction.process(node, judged.key_name)
        if isinstance(judged, Accepted):
            try:
                minted = mint(
                    judged,
                    held.token if held else None,
                    occasion=_bounded(transaction, judged, occasion),
                    keys=self.keys,
                    random=self.random,
                    new_slot=lambda: transaction.new_slot(self.random),
                )
            except credential.Malformed as malformed:
                finding = Finding(reason=Reason.MALFORMED_PROCESS, found=label(str(malformed)))
                judged = Refused(key_name=judged.key_name, findings=(finding,))
            except Rejected as rejected:
                judged = Refused(key_name=judged.key_name, findings=rejected.findings)
            else:
                if held is not None:
                    reinstate(transaction, held)
                    void_untrue(transaction, held, judged)
                remember(transaction, node, judged, minted, occasion)
                return Outcome(key_name=judged.key_name, grant=minted.grant, findings=())
        if held is not None:
            revoke(transaction, held, cause_of(judged.findings), judged.findings)
        elif judged.asking is not None:
            judged = self._ask(transaction, judged, *judged.asking)
        findings = tuple(one.text() for one in judged.findings)
        return Outcome(key_name=judged.key_name, grant="", findings=findings)

    def _ask(
        self, transaction: Transaction, refused: Refused, core: CoreRecord, errand: Errand
    ) -> Refused:
        """Have an operator asked, and tell the process what he has to do."""
        id_ = ask(transaction, core, errand, random=self.random)
        waits = f"verifier grant approve {id_}" if id_ else "fewer requests that wait already"
        findings = tuple(replace(one, expected=waits) for one in refused.findings)
        return replace(refused, findings=findings)

    # What happens by itself

    def sweep(self) -> int:
        """End what is over; suspend, later end, what is of silent nodes; say how many of all.

        To be called every second. The time that this verifier was not there does not count: before
        its start, and where a whole interval went by without a call that came to its end, as on a
        host that slept, or while the database was away.
        """
        now = self.now()
        if now - self._swept > self.config.interval:
            self._there_since = now
        count = self._end_over() + self._end_silent(now)
        self._swept = now
        return count

    def _end_silent(self, now: datetime) -> int:
        """Suspend, later end, what is of silent nodes; say how many credentials."""
        config, there = self.config, now - self._there_since
        late, too_old = (
            int((now - intervals * config.interval).timestamp())
            if there >= intervals * config.interval
            else 0
            for intervals in (config.suspend_after, config.late_after)
        )
        with self.reading() as reading:
            if not (late and reading.processes(accepted_before=late, is_suspended=False)) and not (
                too_old and reading.processes(accepted_before=too_old)
            ):
                return 0
        with self.transaction() as transaction:
            count = 0
            if too_old:
                silent = transaction.processes(accepted_before=too_old)
                count += revoke_all(transaction, silent, Cause.TOO_OLD)
            silent = transaction.processes(accepted_before=late, is_suspended=False)
            return count + suspend_all(transaction, silent, Cause.LATE)

    def _end_over(self) -> int:
        """End what rests on a grant or a window that has closed; say how many credentials."""
        now = int(self.now().timestamp())
        with self.reading() as reading:
            if not (reading.grants(over_by=now) or reading.processes(over_by=now)):
                return 0
        with self.transaction() as transaction:
            return end_over(transaction, self.policy(transaction).policy)

    # The record of refusals

    @contextmanager
    def _recorded(self, kind: Kind, subject: str) -> Iterator[None]:
        """Record a refusal of somebody who has proven nothing yet."""
        try:
            yield
        except Rejected as rejected:
            log.info("%s: %s: %s", kind, label(subject), rejected)
            if self.has_room_for_stranger():
                body = {"findings": findings_json(rejected.findings)}
                with self.transaction() as transaction:
                    transaction.append(Entry(kind=kind, subject=label(subject), body=body))
            raise

    def has_room_for_stranger(self) -> bool:
        """Say whether this hour's share of the ledger has room: strangers fill no disk."""
        hour = int(self.now().timestamp()) // 3600
        with self._counting:
            if self._strangers[0] != hour:
                self._strangers = [hour, 0]
            self._strangers[1] += 1
            return self._strangers[1] <= STRANGERS_PER_HOUR


def read_trust(config: Config) -> Trust:
    """Return whose word for an EK counts; raise Misconfigured where a file says nothing."""
    allow_sha1 = config.allow_sha1_certificates
    if not config.ek_roots.is_dir():
        if config.require_ek_certificate:
            raise Misconfigured(f"ek_roots: {config.ek_roots} is not a directory")
        return Trust(roots=(), allow_sha1=allow_sha1)
    folder = read_folder(config.ek_roots)
    for one in folder.findings:
        raise Misconfigured(f"{one.what}: expected {one.expected}, found {one.found}")
    return Trust(roots=folder.certificates, allow_sha1=allow_sha1)


def read_documents(transaction: Transaction, version: int) -> tuple[Document, ...]:
    """Return the policy documents of a version."""
    rows = transaction.documents(version)
    return tuple(Document(kind=row.kind, name=row.name, text=row.text) for row in rows)


# Nodes


def _ek_hash(message: Enrol) -> str:
    """Return the EK's hash, empty where it has none: `judge_enrolment` will say why."""
    try:
        return ek_hash(message.ek_public)
    except Rejected:
        return ""


def _new_node(transaction: Transaction, judged: JudgedEnrolment) -> NodeRow:
    row = NodeRow(
        name=judged.node,
        status=PENDING,
        ek_hash=judged.ek_hash,
        ek_public=judged.ek_public,
        certificate=judged.ek_certificate,
        ak_public=judged.ak_public,
        ak_name=judged.ak_name,
        enrolled=transaction.now,
        list_number=transaction.next_list_number(judged.node),
    )
    transaction.insert(row)
    return row


def _next_status(row: NodeRow, *, is_allowed: bool) -> str:
    """Return the status after a proven enrolment; what an operator removed waits for him."""
    if row.is_barred:
        return PENDING
    return ENROLLED if is_allowed else row.status


def _demand_enrolled(transaction: Transaction, name: str) -> NodeRow:
    node = transaction.node(name)
    if node is None or node.status == REMOVED:
        raise reject(Reason.NODE_UNKNOWN, label(name), expected="an enrolled node")
    if node.status != ENROLLED:
        raise reject(Reason.NODE_PENDING, node.name, expected="an operator's approval of its EK")
    return node


def _demand_instance(transaction: Transaction, name: str, signer: bytes) -> NodeRow:
    node = _demand_enrolled(transaction, name)
    if signer != node.instance:
        expected = "the instance key of the last accepted quote"
        raise reject(Reason.MESSAGE_INSTANCE, node.name, expected=expected, found=signer.hex())
    return node


def _first_record(row: NodeRow, signer: bytes, policy: Policy) -> int:
    return first_record_wanted(row.value(), row.checkpoint_value, signer=signer, policy=policy)


def _is_later_boot(seen: ClockSeen, node: NodeRow) -> bool:
    return bool(node.instance) and seen.reset_count > node.instance_reset_count


def _misses_canary(refusal: Malformed | Rejected) -> bool:
    findings = refusal.findings if isinstance(refusal, Rejected) else ()
    return any(one.reason == Reason.KERNEL_POLICY_CANARY for one in findings)


def _bounded(transaction: Transaction, accepted: Accepted, occasion: Occasion) -> Occasion:
    """Have a step's token end with its parent's at the latest; raise Rejected where that has none.

    The parent was settled before. Unless a window or an approval bounds its token, half of that
    one's life is left at least, and it is renewed before half of the step's is over.
    """
    core = accepted.core
    if core.origin == NO_ORIGIN:
        return occasion
    parent = transaction.process(core.node, core.origin.parent_key)
    if parent is None:
        raise reject(Reason.PROCESS_PARENT_GONE, expected=label(core.origin.parent))
    return replace(occasion, until=parent.token.expires)


def _told_cause(text: str) -> Cause:
    """Return a cause that a node may give; raise Malformed on any other."""
    if text not in TOLD_BY_NODE:
        raise Malformed(f"expected one of {', '.join(TOLD_BY_NODE)}, got {label(text)!r}")
    return Cause(text)
