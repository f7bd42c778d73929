"""Links 2 and 9: the enrolled key signed this, now, for this verifier and this body.

Nothing unsigned is believed: register numbers come from the signed selection, values from the
signed digest, and the body's bytes are read only once the quote binds them.
"""

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from evidence import Malformed, tpm
from evidence.messages import QUOTED_REGISTERS, Body, Challenge, Evidence, quote_binding
from verifier.attestation_key import AttestationKey, scheme_label, scheme_of, verify_ak
from verifier.bounds import LEAST_PROCESS_BYTES, demand_body
from verifier.node import Node
from verifier.reasons import ClockSeen, Finding, Reason, Rejected, label, reject


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedQuote:
    """The enrolled key signed a quote, whatever it answers. Made by `verify_signature` only."""

    ak: AttestationKey
    attest: tpm.Attest
    attested: tpm.Quote
    hash: str
    """The signing scheme's: the hash over the registers' values too (Part 3, 18.4)."""

    @property
    def clock_seen(self) -> ClockSeen:
        """What the TPM says of time, believed even where the evidence is refused."""
        info = self.attest.clock_info
        return ClockSeen(
            reset_count=info.reset_count, restart_count=info.restart_count, clock=info.clock
        )

    def answers(self, evidence: Evidence, challenge: Challenge) -> bool:
        """Say whether it was made for the challenge, and so since that: another says when not."""
        return not any(_binding(self, evidence, challenge))


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedQuote:
    """The quote answers the challenge for this body. Made by `verify_quote` only."""

    ak: AttestationKey
    challenge: Challenge
    body: Body
    registers: tuple[bytes, ...]
    """Values of sha256:0-15, proven by the quote."""
    clock_info: tpm.ClockInfo
    firmware_version: int

    @property
    def reported(self) -> tuple[Finding, ...]:
        """What refuses nothing: an unclean shutdown lets the clock repeat, and no more."""
        if self.clock_info.safe:
            return ()
        return (Finding(reason=Reason.QUOTE_CLOCK_UNSAFE, expected="safe", found="not safe"),)


def verify_signature(evidence: Evidence, node: Node) -> SignedQuote:
    """Return what the node's AK signed, a quote; raise Rejected if it signed anything else."""
    ak = verify_ak(node.ak_public, Reason.QUOTE_AK)
    signature = tpm.Signature.decode(evidence.signature)
    if not ak.is_of_scheme(signature):
        expected, found = scheme_label(ak.scheme), scheme_label(scheme_of(signature))
        raise reject(Reason.QUOTE_SCHEME, expected=expected, found=found)
    if not ak.has_signed(evidence.quote, signature):
        raise reject(Reason.QUOTE_SIGNATURE, f"the AK enrolled for {node.name}")
    attest = tpm.Attest.decode(evidence.quote)
    if not isinstance(attest.attested, tpm.Quote):
        raise reject(Reason.QUOTE_TYPE, expected="a quote", found="another attestation")
    hash_ = tpm.HASHES[signature.hash]
    return SignedQuote(ak=ak, attest=attest, attested=attest.attested, hash=hash_)


def verify_quote(  # noqa: PLR0913 - all that a quote is compared with
    signed: SignedQuote,
    *,
    evidence: Evidence,
    challenge: Challenge,
    node: Node,
    trust_domain: str,
    now: datetime,
) -> VerifiedQuote:
    """Return the quote with what it proves; raise Rejected unless it answers the challenge."""
    findings = (
        *_envelope(evidence, challenge, node, trust_domain, now),
        *_binding(signed, evidence, challenge),
        *_registers(signed, evidence),
        *_clock(signed, node),
    )
    if findings:
        raise Rejected(findings)
    return VerifiedQuote(
        ak=signed.ak,
        challenge=challenge,
        body=_read_body(evidence.body),
        registers=evidence.registers,
        clock_info=signed.attest.clock_info,
        firmware_version=signed.attest.firmware_version,
    )


def _read_body(data: bytes) -> Body:
    demand_body(data)
    body = Body.decode(data)
    most = 1 + len(data) // LEAST_PROCESS_BYTES
    if len(body.new) + len(body.known) > most:
        raise Malformed(f"expected at most {most} processes in {len(data)} bytes")
    return body


def _envelope(
    evidence: Evidence, challenge: Challenge, node: Node, trust_domain: str, now: datetime
) -> Iterator[Finding]:
    for name in (evidence.node, challenge.node):
        if name != node.name:
            reason = Reason.NODE_ANOTHER
            yield Finding(reason=reason, expected=node.name, found=label(name))
    if evidence.challenge != challenge.digest():
        reason = Reason.CHALLENGE_UNKNOWN
        found = evidence.challenge.hex()[:64]
        yield Finding(reason=reason, expected=challenge.digest().hex(), found=found)
    if challenge.trust_domain != trust_domain:
        reason = Reason.CHALLENGE_TRUST_DOMAIN
        yield Finding(reason=reason, expected=trust_domain, found=label(challenge.trust_domain))
    if now.timestamp() >= challenge.expires:
        expected = f"an answer before {challenge.expires}"
        found = f"{now.timestamp():.0f}"
        yield Finding(reason=Reason.CHALLENGE_EXPIRED, expected=expected, found=found)


def _binding(signed: SignedQuote, evidence: Evidence, challenge: Challenge) -> Iterator[Finding]:
    if signed.attest.qualified_signer != signed.ak.qualified_name:
        expected = signed.ak.qualified_name.hex()
        found = signed.attest.qualified_signer.hex()
        yield Finding(reason=Reason.QUOTE_SIGNER, expected=expected, found=found)
    body = hashlib.sha256(evidence.body).digest()
    bound = quote_binding(challenge.trust_domain, challenge.digest(), body)
    if not hmac.compare_digest(signed.attest.extra_data, bound):
        found = signed.attest.extra_data.hex()
        yield Finding(reason=Reason.QUOTE_BINDING, expected=bound.hex(), found=found)


def _registers(signed: SignedQuote, evidence: Evidence) -> Iterator[Finding]:
    selected = [(one.bank, one.registers) for one in signed.attested.selections]
    if selected != [(tpm.ALG_SHA256, QUOTED_REGISTERS)]:
        found = "; ".join(f"bank {bank:#x}: {list(registers)}" for bank, registers in selected)
        reason = Reason.QUOTE_SELECTION
        yield Finding(reason=reason, expected="sha256:0-15", found=found or "none")
    lengths = [len(value) for value in evidence.registers]
    values = hashlib.new(signed.hash, b"".join(evidence.registers)).digest()
    if lengths != [hashlib.sha256().digest_size] * len(QUOTED_REGISTERS):
        expected = "16 values of 32 bytes"
        yield Finding(reason=Reason.QUOTE_DIGEST, expected=expected, found=f"{lengths[:32]}")
    elif values != signed.attested.digest:
        expected, found = signed.attested.digest.hex(), values.hex()
        yield Finding(reason=Reason.QUOTE_DIGEST, expected=expected, found=found)


def _clock(signed: SignedQuote, node: Node) -> Iterator[Finding]:
    """Refuse a step back. A reset count that grew is another boot, whose clock goes on.

    A restart count that grew within a boot is a resume, or a TPM that started again under a
    kernel that did not: the counters do not say which, and the latter empties the registers.
    """
    seen, now = node.clock, signed.clock_seen
    if seen is None or now.reset_count > seen.reset_count:
        return
    if now.reset_count < seen.reset_count:
        expected = f"at least {seen.reset_count}"
        yield Finding(reason=Reason.QUOTE_RESET, expected=expected, found=f"{now.reset_count}")
        return
    if now.restart_count != seen.restart_count:
        expected, found = f"{seen.restart_count}, as when this boot began", f"{now.restart_count}"
        yield Finding(reason=Reason.QUOTE_RESTART, expected=expected, found=found)
    if now.clock <= seen.clock:
        expected = f"more than {seen.clock} ms"
        yield Finding(reason=Reason.QUOTE_CLOCK, expected=expected, found=f"{now.clock} ms")
