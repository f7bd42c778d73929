"""Link 7, first part: a core record is what an honest attestor writes, of this node and boot."""

from collections.abc import Iterator
from dataclasses import dataclass

from evidence.process import BINDINGS, IN_RECORD, LAUNCHED, PEER_PROOFS, CoreRecord
from verifier.crypto import p256
from verifier.instance import AcceptedInstance
from verifier.origin import find_unsound_origin
from verifier.policy import SHA256_BYTES
from verifier.process_key import CertifiedKey
from verifier.purpose import find_unsound
from verifier.reasons import Finding, Reason, Rejected, label


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRecord:
    """The key's record is of this node, instance and boot. Made by `verify_record` only."""

    key: CertifiedKey

    @property
    def core(self) -> CoreRecord:
        """The record; whether anybody wants such a process is not said."""
        return self.key.core


def verify_record(key: CertifiedKey, *, instance: AcceptedInstance, node: str) -> OwnRecord:
    """Return the record; raise Rejected unless it is of this node, instance and boot."""
    core = key.core
    pairs = (
        (Reason.PROCESS_NODE, node, core.node),
        (Reason.PROCESS_INSTANCE, instance.instance.hex(), core.instance.hex()),
        (Reason.PROCESS_BOOT, instance.quote.body.boot, core.boot),
    )
    what = process_label(core)
    findings = [
        Finding(reason=reason, what=what, expected=label(expected), found=label(found))
        for reason, expected, found in pairs
        if expected != found
    ]
    if findings:
        raise Rejected(findings)
    return OwnRecord(key=key)


def find_unsound_record(core: CoreRecord) -> Iterator[Finding]:
    """Find what no record of an honest attestor says."""
    what = process_label(core)
    yield from _binding(core, what)
    yield from _peer_proof(core, what)
    yield from _namespaces(core, what)
    yield from _launch(core, what)
    yield from find_unsound(core.purpose, what=what)
    yield from find_unsound_origin(core, what=what)
    yield from _use_key(core, what)


def process_label(core: CoreRecord) -> str:
    """Return what people call the process of a record."""
    return f"pid {core.pid} on {label(core.node)}"


def _binding(core: CoreRecord, what: str) -> Iterator[Finding]:
    if core.binding not in BINDINGS:
        expected, found = f"one of {BINDINGS}", label(core.binding)
        yield Finding(reason=Reason.PROCESS_BINDING, what=what, expected=expected, found=found)


def _peer_proof(core: CoreRecord, what: str) -> Iterator[Finding]:
    allowed = ("child",) if core.binding == LAUNCHED else PEER_PROOFS[1:]
    if core.peer_proof not in allowed or (core.peer_proof == "pidfs" and not core.pidfs_inode):
        expected, found = f"one of {allowed}", label(core.peer_proof)
        yield Finding(reason=Reason.PROCESS_PEER_PROOF, what=what, expected=expected, found=found)


def _namespaces(core: CoreRecord, what: str) -> Iterator[Finding]:
    if len(core.namespaces) != IN_RECORD:
        expected, found = f"{IN_RECORD} namespaces", str(len(core.namespaces))
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=what, expected=expected, found=found)


def _launch(core: CoreRecord, what: str) -> Iterator[Finding]:
    digests = {len(core.arguments), len(core.environment)}
    paths = [one.path for one in core.configuration]
    is_launch_told = digests == {SHA256_BYTES} and len(set(paths)) == len(paths)
    if not (is_launch_told if core.binding == LAUNCHED else digests == {0} and not paths):
        expected = "what it was launched with, and nothing where it was not"
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=what, expected=expected)


def _use_key(core: CoreRecord, what: str) -> Iterator[Finding]:
    is_not_made_yet = core.proof_key == "tpm" and not core.use_key
    if not is_not_made_yet and not p256.is_uncompressed_p256(core.use_key):
        expected = "use key: an uncompressed point of P-256"
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=what, expected=expected)
