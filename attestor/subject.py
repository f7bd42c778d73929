"""One process that has an identity or wants one, and everything that is kept for it.

What is secret here (the use key, the chain key, the process key's auth value) is in this memory
and nowhere else, and goes when the process goes, executes something else, or is refused.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from attestor.interpreter import PythonProgram
from attestor.jobs import Job
from attestor.look import Glance, Pins
from attestor.peer import Peer
from attestor.reasons import Local, refuse
from attestor.tpm import ProcessKey
from credential import crypto, grant, jws, local, presentation, wit
from credential.reasons import Finding, Refused
from evidence.canary import Place
from evidence.process import (
    ATTACHED,
    IN_RECORD,
    LAUNCHED,
    NO_ORIGIN,
    ConfigurationFile,
    CoreRecord,
    Look,
    Purpose,
)

JTI_BYTES = 16

EXITED = "process.exited"
EXECUTED = "process.executed"
CHANGED = "process.changed"
"""Causes of evidence.messages.GoneProcess."""


def boot_seconds() -> float:
    """Return seconds since boot, those asleep included: a lease does not outlive a nap."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def is_same_process(first: Look, second: Look) -> bool:
    """Say whether two looks are at one process that executed nothing in between."""
    return _who(first) == _who(second)


def _who(look: Look) -> tuple[object, ...]:
    file = look.executable
    return (
        look.boot,
        look.pid,
        look.pidfs_inode,
        look.start_ticks,
        (file.digest, file.device, file.inode, file.size),
        look.uids,
        look.gids,
        look.namespaces,
    )


def is_unchanged(first: Look, second: Look) -> bool:
    """Say whether two looks are equal; a parent may end, whose children get another."""
    return replace(first, parent=0) == replace(second, parent=0)


@dataclass(slots=True)
class Chain:
    """Where the process stands in the chain of keys that its tokens are sealed with."""

    step: int
    key: bytes = field(repr=False)


@dataclass(slots=True)
class Secrets:
    """What is forgotten first."""

    use_key: crypto.PrivateKey | None = field(repr=False)
    """None where the TPM or the process signs."""
    process_key: ProcessKey | None = field(default=None, repr=False)
    """Until the first token is open, or for good where it signs."""
    chain: Chain | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What is known of a process because we have launched it."""

    executable: bytes
    """SHA-256 of the file that it executes."""
    arguments: bytes
    """`evidence.process.arguments_digest`."""
    environment: bytes
    """`evidence.process.environment_digest`."""
    configuration: tuple[ConfigurationFile, ...]
    program: PythonProgram | None
    """What that is, where it is an interpreter with a script."""
    modules: bytes
    """The encoded ModuleTree of what it could import when it started; else empty."""
    job: Job | None
    """The one whose step it is, if it is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What a handshake found: one process, that asks for an identity."""

    peer: Peer
    pins: Pins
    look: Look
    """The second one."""
    glance: Glance
    """Of the same moment."""
    identity: str
    """The SPIFFE ID wanted, or nothing."""
    purpose: Purpose
    proof_key: str
    """One of `evidence.process.PROOF_KEYS`."""
    use_key: bytes
    """The point of a key that the process holds itself; else empty."""
    started: Started | None
    """How, if we have."""
    user: str
    """The name of its uid, empty where it has none."""


class Subject:
    """A process whose handshake succeeded, on the node `node` under the instance `instance`."""

    def __init__(self, met: Met, *, node: str, instance: bytes) -> None:
        self.peer = met.peer
        self.pins = met.pins
        self.look = met.look
        """The look that the verifier judged last, or will judge first."""
        self.glance = met.glance
        """Of the same moment."""
        own = crypto.generate() if met.proof_key == "attestor" else None
        self.secrets: Secrets | None = Secrets(own)
        point = met.use_key if own is None else crypto.point_of(own)
        self.core = core_record(met, point, node=node, instance=instance)
        self.core_hash = self.core.digest()
        self.modules = met.started.modules if met.started else b""
        """The ModuleTree that the core record has the digest of."""
        self.job = met.started.job if met.started else None
        """The one whose step it is, if it is one."""
        self.jobs: list[Job] = []
        """Its own."""
        self.key_name = b""
        self.needs_canary = False
        """The verifier has said so when it was asked whether it wants the process."""
        self.token = ""
        self.claims: wit.Claims | None = None
        self.findings: tuple[Finding, ...] = ()
        """Why it has no identity, if it has none any more."""
        self._lease_until = 0.0

    @property
    def label(self) -> str:
        """What people read of it."""
        return f"pid {self.core.pid}, uid {self.core.uid}"

    @property
    def place(self) -> Place:
        """Where the kernel has to be seen measuring."""
        return Place(uid=self.core.uid, device=self.look.executable.device)

    @property
    def lease_seconds(self) -> float:
        """How long proofs are still made without a new word of the verifier's."""
        return max(0.0, self._lease_until - boot_seconds())

    def own_secrets(self) -> Secrets:
        """Return the keys; raise Refused where they are forgotten, which can be at any time."""
        if self.secrets is None:
            raise Refused(self.findings)
        return self.secrets

    def take_key(self, key: ProcessKey) -> None:
        """Take the key that the TPM has made for the core record."""
        self.own_secrets().process_key = key
        self.key_name = key.name
        if key.may_sign:
            self.core = replace(self.core, use_key=key.point)

    def accept(self, granted: grant.Grant, token: str, chain: Chain, quoted: float) -> None:
        """Take a grant whose token, if it has one, is open; the lease runs from the quote."""
        own = self.own_secrets()
        own.chain = chain
        if not (own.process_key and own.process_key.may_sign):
            own.process_key = None
        if token:
            claims = wit.read_unverified(token)
            if claims.use_key != self.core.use_key:
                raise refuse(Local.PROCESS_CHANGED, "the token's key")
            self.token, self.claims = token, claims
        self.findings = ()
        self._lease_until = quoted + granted.lease_seconds

    def suspend(self, findings: Sequence[Finding]) -> None:
        """End the lease: the node was refused, and with it every process on it."""
        self.findings = tuple(findings)
        self._lease_until = 0.0

    def forget(self, findings: Sequence[Finding]) -> None:
        """Forget every key: this process has no identity any more."""
        if self.secrets is None:
            return  # the first cause is the one to tell
        self.suspend(findings)
        self.secrets = None
        self.token, self.claims = "", None

    def end(self, cause: str) -> None:
        """Forget every key, because of `cause`, one of evidence.messages.GoneProcess."""
        self.forget((Finding(reason=cause, what=self.label),))

    def current(self, now: datetime) -> wit.Claims:
        """Return the claims of the current token; raise Refused where there is none."""
        if self.findings:
            raise Refused(self.findings)
        if self.claims is None:
            raise refuse(Local.NO_CREDENTIAL, self.label)
        if now >= self.claims.expires:
            expired = self.claims.expires.isoformat()
            raise refuse(Local.TOKEN_EXPIRED, self.label, expected="a renewal", found=expired)
        return self.claims

    def compose(self, asked: local.Prove) -> jws.Unsigned:
        """Return the proof for one request, to be signed; the process has just been looked at."""
        now = datetime.now(UTC)
        claims = self.current(now)
        late = boot_seconds() - self._lease_until
        if late >= 0:
            raise refuse(
                Local.LEASE_ENDED, self.label, expected="a lease", found=f"ended {late:.0f} s ago"
            )
        if asked.audience not in claims.procseal.audiences:
            allowed = ", ".join(claims.procseal.audiences)
            raise refuse(Local.AUDIENCE, "audience", expected=allowed, found=asked.audience)
        return presentation.compose(
            "dpop" if asked.kind == "dpop" else "wpt",
            token=self.token,
            use_key=claims.use_key,
            audience=asked.audience,
            method=asked.method,
            url=asked.url,
            nonce=asked.nonce,
            now=now,
            jti=secrets.token_bytes(JTI_BYTES),
        )


def core_record(met: Met, use_key: bytes, *, node: str, instance: bytes) -> CoreRecord:
    """Return the unchanging part of a process's record; `use_key` is a point, or empty."""
    look, program = met.look, met.started.program if met.started else None
    return CoreRecord(
        node=node,
        instance=instance,
        boot=look.boot,
        pid=look.pid,
        pidfs_inode=look.pidfs_inode,
        start_ticks=look.start_ticks,
        uid=look.uids[1],
        user=met.user,
        executable=look.executable.digest,
        cgroup=look.cgroup,
        namespaces=look.namespaces[:IN_RECORD],
        binding=LAUNCHED if met.peer.proof == "child" else ATTACHED,
        peer_proof=met.peer.proof,
        arguments=met.started.arguments if met.started else b"",
        environment=met.started.environment if met.started else b"",
        configuration=met.started.configuration if met.started else (),
        use_key=use_key,
        script=program.script if program else "",
        modules=look.modules,
        identity=met.identity,
        proof_key=met.proof_key,
        purpose=met.purpose,
        origin=met.started.job.origin if met.started and met.started.job else NO_ORIGIN,
    )
