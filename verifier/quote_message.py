"""What a key has signed: a quote, for this nonce, of registers that say something."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evidence import tpm
from evidence.malformed import naming
from verifier.crypto import tpm_keys
from verifier.inquiry import Inquiry
from verifier.quote_key import SignedMessage, SigningKey, weak_sha1
from verifier.quoted_registers import RESETTABLE, Register, Values, selected, text_of
from verifier.reasons import Finding, Reason, reject

LEAST_NONCE_BYTES = 8
"""What RFC 9711 demands of a nonce (4.1); a shorter one is a finding."""

_HIERARCHIES = {
    "endorsement": tpm.RH_ENDORSEMENT,
    "owner": tpm.RH_OWNER,
    "platform": tpm.RH_PLATFORM,
    "null": tpm.RH_NULL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshQuote:
    """What was signed is a quote, for this nonce. Made by `verify_attest` only."""

    quote: tpm.Quote
    hash: str
    """That its digest is made with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotedSelection:
    """It is of registers that can be told apart. Made by `verify_selection` only."""

    registers: tuple[Register, ...]
    """In the order of the hash."""
    hash: str
    digest: bytes


def verify_attest(inquiry: Inquiry, signed: SignedMessage) -> FreshQuote:
    """Return the quote; raise Rejected unless it is one, and for the nonce of the files."""
    with naming("message"):
        attest = tpm.Attest.decode(signed.message)
    if not isinstance(attest.attested, tpm.Quote):
        found = type(attest.attested).__name__.lower()
        raise reject(Reason.QUOTE_TYPE, expected="a quote", found=f"an attestation of {found}")
    hierarchy = _hierarchy(attest, signed.key)
    inquiry.quote |= _quote_json(
        attest, attested=attest.attested, key=signed.key, hierarchy=hierarchy
    )
    inquiry.settle(*_judge_attest(attest, inquiry.files.nonce, hierarchy))
    return FreshQuote(quote=attest.attested, hash=signed.hash)


def verify_selection(inquiry: Inquiry, fresh: FreshQuote) -> QuotedSelection:
    """Return the quoted registers; raise Rejected where they say nothing, or others are given."""
    registers = selected(fresh.quote)
    inquiry.quote["selection"] = _grouped(registers)
    inquiry.settle(*_judge_selection(registers, inquiry.files.values))
    return QuotedSelection(registers=registers, hash=fresh.hash, digest=fresh.quote.digest)


def _hierarchy(attest: tpm.Attest, key: SigningKey) -> str:
    """Return the hierarchy that the key is a primary of, empty for none or unknown."""
    for name, handle in _HIERARCHIES.items():
        parent = tpm.hierarchy_name(handle)
        if key.public is not None and key.public.qualified_name(parent) == attest.qualified_signer:
            return name
    return ""


def _quote_json(
    attest: tpm.Attest, *, attested: tpm.Quote, key: SigningKey, hierarchy: str
) -> dict[str, object]:
    info = attest.clock_info
    return {
        "key": tpm_keys.label_of(key.key),
        "hierarchy": hierarchy,
        "signer": attest.qualified_signer.hex(),
        "nonce": attest.extra_data.hex(),
        "clock": info.clock,
        "reset_count": info.reset_count,
        "restart_count": info.restart_count,
        "safe": info.safe,
        "firmware_version": f"{attest.firmware_version:#018x}",
        "digest": attested.digest.hex(),
    }


def _judge_attest(attest: tpm.Attest, nonce: bytes, hierarchy: str) -> Iterator[Finding]:
    if not nonce or attest.extra_data != nonce:
        expected, found = nonce.hex() or "a nonce", attest.extra_data.hex() or "nothing"
        yield Finding(reason=Reason.QUOTE_NONCE, expected=expected, found=found)
    elif len(nonce) < LEAST_NONCE_BYTES:
        expected, found = f"{LEAST_NONCE_BYTES} bytes or more", f"{len(nonce)}"
        yield Finding(reason=Reason.QUOTE_NONCE_SHORT, expected=expected, found=found)
    if not attest.qualified_signer:
        expected = "the Qualified Name of the key, which a TPM always writes"
        yield Finding(reason=Reason.QUOTE_SIGNER, expected=expected, found="nothing")
    if not attest.clock_info.safe:
        yield Finding(reason=Reason.QUOTE_CLOCK_UNSAFE, expected="safe", found="not safe")
    if hierarchy in ("owner", "null"):
        expected = "a key under endorsement, whose counts and firmware version are the TPM's own"
        yield Finding(reason=Reason.QUOTE_OBFUSCATED, expected=expected, found=hierarchy)


def _judge_selection(registers: Sequence[Register], given: Values) -> Iterator[Finding]:
    """Judge which registers were signed: unsigned data may not name others."""
    grouped = _grouped(registers)
    numbers = {number for _, number in registers}
    whole = [bank for bank, quoted in grouped.items() if set(quoted) == numbers]
    found = "; ".join(f"{bank}:{quoted}" for bank, quoted in grouped.items())
    if not whole:
        expected = "a bank that has all of the quoted registers"
        yield Finding(reason=Reason.QUOTE_BANKS_MIXED, expected=expected, found=found)
    elif whole == ["sha1"]:
        yield weak_sha1("bank")
    more = sorted(set(given) - set(registers))
    if more:
        expected = f"{text_of(more)}, which is given"
        yield Finding(reason=Reason.QUOTE_SELECTION, expected=expected, found=found)
    resettable = sorted(numbers.intersection(RESETTABLE))
    if resettable:
        found = ", ".join(map(str, resettable))
        found += " alone" if len(resettable) == len(numbers) else ""
        expected = "registers that only a reset of the TPM resets"
        yield Finding(reason=Reason.QUOTE_RESETTABLE, expected=expected, found=found)


def _grouped(registers: Sequence[Register]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = {}
    for bank, number in registers:
        grouped.setdefault(bank, []).append(number)
    return grouped
