"""Link 1: whose TPM this is, and that the attestation key is in it.

A certificate says that some manufacturer made the TPM; only the inventory says that it is ours.
Nothing is issued to an EK that is not in it, whatever its certificate.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from evidence import Malformed, tpm
from evidence.certificate import Certificate
from evidence.messages import ActivationAnswer, Enrol, activation_text
from verifier.attestation_key import verify_ak
from verifier.crypto import certified_keys, tpm_keys
from verifier.endorsement import Trust, read_ek_certificate, verify_endorsement
from verifier.node import Node
from verifier.reasons import Finding, Reason, Rejected, label, reject
from verifier.reference import NODE

EK_ATTRIBUTES = (
    tpm.FIXED_TPM
    | tpm.FIXED_PARENT
    | tpm.SENSITIVE_DATA_ORIGIN
    | tpm.ADMIN_WITH_POLICY
    | tpm.RESTRICTED
    | tpm.DECRYPT
)
"""0x300b2 (TCG EK Credential Profile 2.5, B.3.3 and B.3.4)."""
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicySecret(TPM_RH_ENDORSEMENT), SHA-256 (the same, B.3.3)."""
MOST_INTERMEDIATES = 16
"""That a node may send. Intel's chips hold three."""
EK_KINDS = ((tpm.ALG_RSA, 2048), (tpm.ALG_ECC, tpm.CURVE_P256))
"""Templates L-1 and L-2: type, and key bits or curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """A line of the inventory: this EK may be this node."""

    ek_hash: str
    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedEnrolment:
    """A node that may prove its keys by an activation. Made by `judge_enrolment` only."""

    node: str
    ek_public: bytes
    ek: tpm.Public
    ek_hash: str
    ek_certificate: bytes
    ak_public: bytes
    ak_name: bytes
    """Computed here: the activation is made for it, and a Name covers all attributes."""
    is_allowed: bool
    """The inventory has it. Otherwise it stays pending, once proven, until an operator says."""
    reported: tuple[Finding, ...]
    """Why it is not."""


def ek_hash(ek_public: bytes) -> str:
    """Return the hash that names an EK: SHA-256 of its SubjectPublicKeyInfo, hexadecimal."""
    return _hash_of(verify_ek(tpm.Public.decode(ek_public)))


def verify_ek(public: tpm.Public) -> bytes:
    """Return the DER SubjectPublicKeyInfo; raise Rejected unless it is of a template we know."""
    wanted = tpm.Public(
        type=public.type,
        name_hash=tpm.ALG_SHA256,
        attributes=EK_ATTRIBUTES,
        policy=EK_POLICY,
        symmetric=tpm.AES_128_CFB,
        scheme=tpm.NO_SCHEME,
        size=public.size,
        exponent=0,
        unique=public.unique,
    )
    spki = tpm_keys.spki(public)
    if public != wanted or (public.type, public.size) not in EK_KINDS or spki is None:
        expected = f"RSA 2048 or ECC P-256, {EK_ATTRIBUTES:#x}, PolicySecret(endorsement)"
        found = f"type {public.type:#x}, size {public.size}, attributes {public.attributes:#x}"
        raise reject(Reason.ENROL_EK_TEMPLATE, expected=expected, found=found)
    return spki


def judge_enrolment(  # noqa: PLR0913 - everything that the decision depends on
    enrol: Enrol,
    *,
    holder: Node | None,
    ek_holder: str,
    inventory: Collection[Allowed],
    trust: Trust,
    require_certificate: bool,
    now: datetime,
) -> JudgedEnrolment:
    """Return the enrolment to be proven; raise Rejected if it cannot become a node.

    `holder` is the node that has the name already, removed ones included; `ek_holder` the name
    of the node that has the EK, empty for none. Ask again with both before an activation's
    answer is believed: another one may have been faster.
    """
    ek = tpm.Public.decode(enrol.ek_public)
    spki = verify_ek(ek)
    ak = verify_ak(enrol.ak_public, Reason.ENROL_AK)
    findings = (
        *_name(enrol.node),
        *_taken(enrol, holder, ek_holder),
        *_reserved(enrol.node, spki, inventory),
        *_certificate(enrol, spki, trust, now, is_required=require_certificate),
    )
    if findings:
        raise Rejected(findings)
    hash_ = _hash_of(spki)
    is_allowed = Allowed(ek_hash=hash_, node=enrol.node) in inventory
    return JudgedEnrolment(
        node=enrol.node,
        ek_public=enrol.ek_public,
        ek=ek,
        ek_hash=hash_,
        ek_certificate=enrol.ek_certificate,
        ak_public=enrol.ak_public,
        ak_name=ak.name,
        is_allowed=is_allowed,
        reported=() if is_allowed else (_not_in_inventory(enrol.node, hash_),),
    )


def verify_answer(
    answer: ActivationAnswer, *, judged: JudgedEnrolment, id_: str, secret: bytes
) -> None:
    """Raise Rejected unless the answer shows the activation's secret: EK and AK share a TPM."""
    text = activation_text(id_, judged.node, judged.ak_name)
    expected = hmac.digest(secret, text, "sha256")
    if answer.id != id_ or not hmac.compare_digest(answer.answer, expected):
        raise reject(Reason.ENROL_ANSWER, judged.node, expected="the activated secret's answer")


def _hash_of(spki: bytes) -> str:
    return hashlib.sha256(spki).hexdigest()


def _not_in_inventory(node: str, hash_: str) -> Finding:
    expected = f"an inventory entry of {hash_} for {node}"
    return Finding(reason=Reason.ENROL_EK_NOT_IN_INVENTORY, what=node, expected=expected)


def _name(node: str) -> Iterator[Finding]:
    if NODE.fullmatch(node) is None:
        expected = "lower-case letters, digits, . and -, at most 63"
        yield Finding(reason=Reason.ENROL_NAME, expected=expected, found=label(node))


def _taken(enrol: Enrol, holder: Node | None, ek_holder: str) -> Iterator[Finding]:
    """Refuse to change a node's keys, whoever asks: that is an operator's business."""
    if holder is not None and (holder.ek_public, holder.ak_public) != (
        enrol.ek_public,
        enrol.ak_public,
    ):
        expected = "the EK and AK that the name was enrolled with"
        yield Finding(
            reason=Reason.ENROL_TAKEN, what=label(enrol.node), expected=expected, found="others"
        )
    if ek_holder and ek_holder != enrol.node:
        expected, found = ek_holder, label(enrol.node)
        yield Finding(reason=Reason.ENROL_EK_ELSEWHERE, expected=expected, found=found)


def _reserved(node: str, spki: bytes, inventory: Collection[Allowed]) -> Iterator[Finding]:
    """Refuse a name that the inventory gives to another EK: it would be taken when that comes."""
    hash_ = _hash_of(spki)
    for one in inventory:
        if one.node == node and one.ek_hash != hash_:
            expected, found = f"the EK {one.ek_hash}", hash_
            yield Finding(reason=Reason.ENROL_TAKEN, what=node, expected=expected, found=found)


def _certificate(
    enrol: Enrol, spki: bytes, trust: Trust, now: datetime, *, is_required: bool
) -> Iterator[Finding]:
    """Judge the EK's certificate. Without need of one, none is fine, but never another key's."""
    if not enrol.ek_certificate:
        if is_required:
            expected = "the EK's certificate"
            yield Finding(reason=Reason.ENROL_EK_CERTIFICATE_MISSING, expected=expected)
        return
    try:
        leaf = read_ek_certificate(enrol.ek_certificate)
    except (Malformed, Rejected) as error:
        if is_required:
            yield from _not_trusted(error)
        return
    certified = certified_keys.certified_spki(leaf.spki)
    if certified not in (None, spki):
        expected, found = _hash_of(spki), _hash_of(certified)
        yield Finding(reason=Reason.ENROL_EK_CERTIFICATE_KEY, expected=expected, found=found)
    elif is_required:
        try:
            given = replace(trust, intermediates=(*trust.intermediates, *_intermediates(enrol)))
            verify_endorsement(leaf, trust=given, at=now)
        except Rejected as rejected:
            yield from _not_trusted(rejected)


def _intermediates(enrol: Enrol) -> Iterator[Certificate]:
    """Yield those that the node sent and that can be read: a chain may do without the others."""
    count = len(enrol.ek_intermediates)
    if count > MOST_INTERMEDIATES:
        expected, found = f"at most {MOST_INTERMEDIATES} intermediates", str(count)
        raise reject(Reason.EK_CHAIN_WORK, expected=expected, found=found)
    for one in enrol.ek_intermediates:
        with suppress(Malformed):
            yield Certificate.decode(one)


def _not_trusted(why: Malformed | Rejected) -> Iterator[Finding]:
    """Say that the certificate does not count, and then why."""
    expected = "an EK certificate under a configured root"
    yield Finding(reason=Reason.ENROL_EK_CERTIFICATE, expected=expected, found=label(str(why)))
    if isinstance(why, Rejected):
        yield from why.findings
    else:
        expected, found = "an X.509 certificate, DER", label(str(why))
        yield Finding(reason=Reason.EK_UNREADABLE, expected=expected, found=found)
