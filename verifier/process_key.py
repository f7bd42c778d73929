"""Link 8: the TPM itself says that it made this key for this record, in this boot.

The attributes come first: certification and binding say nothing about a key that can leave its
TPM or be used by other means than the template's.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from evidence import Malformed, process_key, tpm
from evidence.messages import NewProcess
from evidence.process import CoreRecord
from verifier.instance import AcceptedInstance
from verifier.node import Node
from verifier.quote import VerifiedQuote
from verifier.reasons import Finding, Reason, Rejected, reject


@dataclass(frozen=True, slots=True, kw_only=True)
class CertifiedKey:
    """The key was made by this TPM, in this boot, for this record.

    Made by `verify_process_key` and `recall_process_key` only.
    """

    name: bytes
    core: CoreRecord
    """What the key was made for; whether the record is true is not said."""
    accepted_for: str | None
    """SPIFFE ID that it has been accepted for in this boot; None for a key that is new."""

    @property
    def is_new(self) -> bool:
        """Whether it came with this evidence."""
        return self.accepted_for is None


def verify_process_key(new: NewProcess, *, quote: VerifiedQuote) -> CertifiedKey:
    """Return the key; raise Rejected unless the AK certified it, in this boot, for its record."""
    core = CoreRecord.decode(new.core)
    public = tpm.Public.decode(new.public)
    creation_data = tpm.CreationData.decode(new.creation_data)
    attest, certified = _certified(new, quote)
    findings = (
        *_template(public, may_sign=core.proof_key == "tpm"),
        *_certification(new, public, certified),
        *_parent(creation_data),
        *_record(creation_data, core),
        *_use_key(public, core),
        *_boot(attest, creation_data, quote),
    )
    if findings:
        raise Rejected(findings)
    return CertifiedKey(name=public.name(), core=core, accepted_for=None)


def recall_process_key(key_name: bytes, *, node: Node, instance: AcceptedInstance) -> CertifiedKey:
    """Return a key that was accepted earlier; raise Rejected unless that still counts."""
    remembered = node.known if instance.is_same else ()
    known = next((one for one in remembered if one.key_name == key_name), None)
    if known is None:
        expected = "a key accepted under this boot and instance"
        raise reject(Reason.PROCESS_UNKNOWN_KEY, key_name.hex(), expected=expected)
    core = CoreRecord.decode(known.core)
    return CertifiedKey(name=known.key_name, core=core, accepted_for=known.workload)


def _certified(new: NewProcess, quote: VerifiedQuote) -> tuple[tpm.Attest, tpm.Creation]:
    """Return what the AK signed: the bytes are read only once the signature holds."""
    if not quote.ak.has_signed(new.certification, tpm.Signature.decode(new.signature)):
        raise reject(Reason.PROCESS_KEY_CERTIFICATION, expected="the AK's signature")
    attest = tpm.Attest.decode(new.certification)
    if not isinstance(attest.attested, tpm.Creation):
        raise reject(Reason.PROCESS_KEY_CERTIFICATION, expected="a creation", found="a quote")
    if attest.qualified_signer != quote.ak.qualified_name:
        expected, found = quote.ak.qualified_name.hex(), attest.qualified_signer.hex()
        raise reject(Reason.PROCESS_KEY_CERTIFICATION, expected=expected, found=found)
    return attest, attest.attested


def _template(public: tpm.Public, *, may_sign: bool) -> Iterator[Finding]:
    wanted = tpm.Public(
        type=tpm.ALG_ECC,
        name_hash=tpm.ALG_SHA256,
        attributes=process_key.ATTRIBUTES,
        policy=process_key.policy_digest(may_sign=may_sign),
        symmetric=tpm.NO_SCHEME,
        scheme=tpm.ECDSA_SHA256,
        size=tpm.CURVE_P256,
        unique=public.unique,
    )
    if public != wanted:
        expected = f"attributes {wanted.attributes:#x}, policy {wanted.policy.hex()}, ECDSA P-256"
        found = f"attributes {public.attributes:#x}, policy {public.policy.hex()}"
        yield Finding(reason=Reason.PROCESS_KEY_ATTRIBUTES, expected=expected, found=found)


def _certification(
    new: NewProcess, public: tpm.Public, certified: tpm.Creation
) -> Iterator[Finding]:
    creation_hash = hashlib.sha256(new.creation_data).digest()
    pairs = {
        "Name": (certified.name, public.name()),
        "creation hash": (certified.creation_hash, creation_hash),
    }
    for what, (expected, found) in pairs.items():
        if expected != found:
            yield Finding(
                reason=Reason.PROCESS_KEY_CERTIFICATION,
                what=what,
                expected=expected.hex(),
                found=found.hex(),
            )


def _parent(creation: tpm.CreationData) -> Iterator[Finding]:
    """Demand a primary of the NULL hierarchy as parent: nothing of it outlives a reset."""
    try:
        expected = tpm.qualify(creation.parent_name, tpm.hierarchy_name(tpm.RH_NULL))
    except Malformed:
        expected = b""
    if creation.parent_qualified_name != expected or not expected:
        yield Finding(
            reason=Reason.PROCESS_KEY_PARENT,
            expected=expected.hex() or "an object as parent",
            found=creation.parent_qualified_name.hex(),
        )


def _record(creation: tpm.CreationData, core: CoreRecord) -> Iterator[Finding]:
    if creation.outside_info != core.digest():
        expected, found = core.digest().hex(), creation.outside_info.hex()
        yield Finding(reason=Reason.PROCESS_KEY_RECORD, expected=expected, found=found)


def _use_key(public: tpm.Public, core: CoreRecord) -> Iterator[Finding]:
    """Demand the process key itself where the record says that it signs requests."""
    expected = process_key.point_of(public)
    if core.proof_key == "tpm" and core.use_key != expected:
        yield Finding(
            reason=Reason.PROCESS_KEY_RECORD,
            what="use key",
            expected=expected.hex(),
            found=core.use_key.hex(),
        )


def _boot(
    attest: tpm.Attest, creation: tpm.CreationData, quote: VerifiedQuote
) -> Iterator[Finding]:
    now, then = quote.clock_info, attest.clock_info
    expected = f"reset {now.reset_count}, restart {now.restart_count}"
    found = f"reset {then.reset_count}, restart {then.restart_count}"
    if expected != found:
        what = "counts"
        yield Finding(reason=Reason.PROCESS_KEY_RESET, what=what, expected=expected, found=found)
    registers = process_key.CREATION_REGISTERS
    values = hashlib.sha256(b"".join(quote.registers[register] for register in registers)).digest()
    selected = [(one.bank, one.registers) for one in creation.selections]
    if selected != [(tpm.ALG_SHA256, registers)] or creation.digest != values:
        what = "registers when it was made"
        expected, found = f"sha256:0-7 {values.hex()}", f"{selected} {creation.digest.hex()}"
        yield Finding(reason=Reason.PROCESS_KEY_RESET, what=what, expected=expected, found=found)
