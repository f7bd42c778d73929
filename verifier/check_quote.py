"""Whether a quote in files is genuine, not whether the software in its logs is known.

A tool for people who have files: a restricted key of a TPM signed the quote, for this nonce, over
registers that the given values and logs lead to.
Every finding rejects unless its reason is tolerated: those in NOTED are, and those that somebody
asked for by name; a policy takes some of them back.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from evidence import Malformed, tpm
from evidence.event_log import EventLog
from evidence.ima import LIST_HASHES, read_records
from verifier import crypto
from verifier.attestation_key import (
    STRONG,
    scheme_label,
    scheme_of,
    schemes_of,
    verify_public,
    verify_sound,
)
from verifier.check_log import check_log, detail
from verifier.event_log import judge_event_log
from verifier.quoted_registers import (
    BOOT_REGISTERS,
    REGISTERS,
    RESETTABLE,
    Reached,
    Register,
    Target,
    Values,
    digest_of,
    judge_aggregates,
    reset_value,
    search,
    selected,
    text_of,
)
from verifier.reasons import Finding, Reason, Rejected, reject
from verifier.tables import Table

MOST_SMALL_BYTES = 1 << 16
"""Of a message, a signature or a key: each is a few hundred bytes."""
LEAST_NONCE_BYTES = 8
"""What RFC 9711 demands of a nonce (4.1); a shorter one is a finding."""
MOST_NONCE_BYTES = 64
"""Of extraData (TPM 2.0 Part 2, 10.4.3): no TPM signs a longer one."""

NOTED = frozenset(
    {
        Reason.QUOTE_NONCE_SHORT,
        Reason.QUOTE_CLOCK_UNSAFE,
        Reason.QUOTE_OBFUSCATED,
        Reason.QUOTE_RESETTABLE,
        Reason.LIST_TEMPLATE,
        Reason.LIST_LEGACY,
        Reason.LIST_ALGORITHM,
        Reason.LIST_PADDED,
        Reason.LIST_DIGEST,
        Reason.LIST_BUFFER,
        Reason.LIST_VIOLATION,
        Reason.LIST_LONGER,
        Reason.LIST_UNQUOTED,
        Reason.BOOT_AGGREGATE_AGAIN,
        Reason.BOOT_AGGREGATE_OLD,
        Reason.BOOT_AGGREGATE_OPEN,
        Reason.EVENT_LOG_UNQUOTED,
        Reason.EVENT_LOG_BANK_INCOMPLETE,
        Reason.EVENT_LOG_BANK_UNKNOWN,
        Reason.EVENT_LOG_DATA,
        Reason.EVENT_LOG_DYNAMIC,
        Reason.EVENT_LOG_SEPARATOR_MISSING,
        Reason.EVENT_LOG_SEPARATOR_AGAIN,
        Reason.EVENT_LOG_SEPARATOR_VALUE,
        Reason.EVENT_LOG_LATE,
        Reason.EVENT_LOG_EXIT,
        Reason.EVENT_LOG_SECURE_BOOT,
    }
)
"""Findings that reject only where a policy says so."""
REQUESTS = frozenset({Reason.QUOTE_AK_UNCHECKED, Reason.QUOTE_SHA1, Reason.LIST_PADDED_BANK})
"""Findings that are tolerated where somebody asks for it by name."""

_PEM = b"-----BEGIN "
_PCR = re.compile(r"([a-z0-9]+):([0-9]{1,2})=((?:[0-9a-fA-F]{2})+)")
_REASON = re.compile(r"[a-z0-9.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteFiles:
    """What is to be judged: the bytes of the files, and what was asked of the TPM."""

    message: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""
    ak: bytes
    """TPM2B_PUBLIC, TPMT_PUBLIC, or PEM."""
    nonce: bytes
    """As it was asked: the extraData is this, no more, no less."""
    values: Values = field(default_factory=dict)
    """Registers whose values somebody gives."""
    ima_log: bytes | None = None
    log_hash: str = "sha1"
    """Algorithm of the list's template hashes."""
    event_log: bytes | None = None
    tolerated: frozenset[Reason] = NOTED
    """Reasons that do not reject: see `tolerate`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedList:
    """What became of the measurement list."""

    entries: int
    violations: int
    matched: int | None
    """After how many entries it led to the quoted registers; None where it did not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedQuote:
    """The answer. Made by `check_quote` only."""

    findings: tuple[Finding, ...]
    refused: frozenset[Reason]
    """Which of their reasons reject; nothing is accepted while there is one."""
    quote: Mapping[str, object]
    """What was signed, empty unless the signature is good."""
    ima: CheckedList | None
    """None where no list was given, or the quote was rejected before it was read."""

    @property
    def is_accepted(self) -> bool:
        """Whether the quote is genuine."""
        return not self.refused

    def answer(self) -> dict[str, object]:
        """Return the answer for machines."""
        return {
            "verdict": "accepted" if self.is_accepted else "rejected",
            "findings": [
                {"reason": str(one.reason), "detail": detail(one)} for one in self.findings
            ],
            "quote": dict(self.quote),
            "ima": None
            if self.ima is None
            else {
                "entries": self.ima.entries,
                "matched": self.ima.matched,
                "violations": self.ima.violations,
            },
        }


# What is given


def read_register(text: str) -> tuple[Register, bytes]:
    """Return what `BANK:N=HEX` says; raise Malformed on anything else."""
    match = _PCR.fullmatch(text)
    banks = tuple(tpm.HASHES.values())
    if match is None or match[1] not in banks or int(match[2]) not in REGISTERS:
        expected = f"BANK:N=HEX, with a bank among {', '.join(banks)} and a number up to 23"
        raise Malformed(f"expected {expected}, got {text[:80]!r}")
    bank, value = match[1], bytes.fromhex(match[3])
    size = hashlib.new(bank).digest_size
    if len(value) != size:
        raise Malformed(f"expected {size} bytes in {bank}:{match[2]}, got {len(value)}")
    return (bank, int(match[2])), value


def read_registers(texts: Sequence[str]) -> Values:
    """Return the given registers; raise Malformed where one is given twice."""
    values: dict[Register, bytes] = {}
    for text in texts:
        register, value = read_register(text)
        if register in values:
            raise Malformed(f"expected one value for {text_of([register])}, got two")
        values[register] = value
    return values


def read_policy(text: str) -> frozenset[Reason]:
    """Return the reasons of NOTED that reject; raise Rejected unless it is a policy.

    TOML: `version = 1` and `reject`, an array of reasons with at least one.
    """
    table = Table.parse(text, "policy")
    reasons = table.texts("reject", _REASON)
    table.end()
    noted = {str(one): one for one in (*NOTED, *REQUESTS)}
    if not reasons or not set(reasons) <= set(noted):
        expected = f"some of {', '.join(sorted(noted))}"
        raise table.refuse("reject", expected=expected)
    return frozenset(noted[one] for one in reasons)


def tolerate(
    *, asked: frozenset[Reason] = frozenset(), rejected: frozenset[Reason] = frozenset()
) -> frozenset[Reason]:
    """Return the reasons that do not reject: NOTED and those asked for, but those of a policy."""
    return (NOTED | (asked & REQUESTS)) - rejected


# The judgement


def check_quote(files: QuoteFiles) -> CheckedQuote:
    """Return whether the quote is genuine; raise Malformed where a file is not what it should be.

    What follows a step that rejects is not looked at: bytes that nobody has signed are not read.
    """
    case = _Case(files=files)
    refused: set[Reason] = set()
    try:
        _judge(case)
    except Rejected as rejected:
        case.findings += [one for one in rejected.findings if one not in case.findings]
        refused = {one.reason for one in rejected.findings}
    return CheckedQuote(
        findings=tuple(case.findings),
        refused=frozenset(refused),
        quote=case.quote,
        ima=case.ima,
    )


def _judge(case: "_Case") -> None:
    files = case.files
    # (1) The key is one that signs only what its TPM has made.
    key = _read_key(case)
    # (2) The key has signed these bytes, by its own scheme.
    hash_ = _verify_signature(case, key)
    # (3) They are a quote, for this nonce.
    quote = _verify_attest(case, key)
    # (4) Of registers that say something.
    registers = selected(quote)
    case.quote["selection"] = _grouped(registers)
    case.settle(*_judge_selection(registers, files.values))
    # (5) Each register's value is given, or what a log leads to.
    known, start = _gather_values(case, registers)
    # (6) Together they have the quoted digest; with a list, after some of its entries.
    target = Target(
        registers=registers, known=known, start=start, algorithm=hash_, digest=quote.digest
    )
    if files.ima_log is None:
        _verify_digest(target)
        return
    reached = _verify_list(case, files.ima_log, target)
    # (7) The list is of the boot that the registers show.
    judged = judge_aggregates(reached)
    case.quote["boot_aggregate"] = judged.form
    case.settle(*judged.findings)


@dataclass(slots=True, kw_only=True)
class _Case:
    """What is known so far."""

    files: QuoteFiles
    findings: list[Finding] = field(default_factory=list)
    quote: dict[str, object] = field(default_factory=dict)
    ima: CheckedList | None = None
    list_registers: frozenset[int] = frozenset()
    """Which the list extends."""

    def settle(self, *findings: Finding) -> None:
        """Keep findings; raise Rejected where one of them rejects."""
        self.findings += findings
        refused = [one for one in findings if one.reason not in self.files.tolerated]
        if refused:
            raise Rejected(refused)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Key:
    key: crypto.PublicKey
    schemes: tuple[tpm.Scheme, ...]
    """A signature has one of these; a key from a TPM has one scheme."""
    public: tpm.Public | None
    """None of a key without attributes."""


def _read_key(case: _Case) -> _Key:
    encoded = case.files.ak
    hashes = (tpm.ALG_SHA1, *STRONG)
    if encoded.lstrip()[: len(_PEM)] != _PEM:
        ak = verify_public(tpm.Public.decode_sized(encoded), Reason.QUOTE_AK, hashes)
        return _Key(key=ak.key, schemes=(ak.scheme,), public=ak.public)
    key = crypto.pem_key(encoded)
    if key is None:
        raise Malformed("expected the PEM of an RSA or ECC public key that a TPM may have")
    found = f"PEM, {crypto.label_of(key)}"
    expected = "a public area, whose attributes say what the key signs"
    case.settle(Finding(reason=Reason.QUOTE_AK_UNCHECKED, expected=expected, found=found))
    verify_sound(key, Reason.QUOTE_AK)
    return _Key(key=key, schemes=schemes_of(crypto.type_of(key), hashes), public=None)


def _verify_signature(case: _Case, key: _Key) -> str:
    """Return the hash of the scheme that the key has signed by."""
    files = case.files
    signature = tpm.Signature.decode(files.signature)
    if files.message[:4] != tpm.GENERATED.to_bytes(4, "big"):
        found = files.message[:4].hex()
        raise Malformed(f"expected a TPMS_ATTEST as message, which begins ff544347, got {found}")
    if scheme_of(signature) not in key.schemes:
        expected = ", ".join(scheme_label(one) for one in key.schemes)
        found = scheme_label(scheme_of(signature))
        raise reject(Reason.QUOTE_SCHEME, expected=expected, found=found)
    if signature.hash not in STRONG:
        case.settle(_sha1("signature"))
    if not crypto.is_signed(key.key, signature, files.message):
        raise reject(Reason.QUOTE_SIGNATURE, expected="the signature of this key over this message")
    case.quote["scheme"] = scheme_label(scheme_of(signature))
    return tpm.HASHES[signature.hash]


def _sha1(what: str) -> Finding:
    return Finding(reason=Reason.QUOTE_SHA1, what=what, expected="SHA-256 or longer", found="SHA-1")


def _verify_attest(case: _Case, key: _Key) -> tpm.Quote:
    attest = tpm.Attest.decode(case.files.message)
    if not isinstance(attest.attested, tpm.Quote):
        found = type(attest.attested).__name__.lower()
        raise reject(Reason.QUOTE_TYPE, expected="a quote", found=f"an attestation of {found}")
    hierarchy = _hierarchy(attest, key)
    case.quote |= _quote_json(attest, attested=attest.attested, key=key, hierarchy=hierarchy)
    case.settle(*_judge_attest(attest, case.files.nonce, hierarchy))
    return attest.attested


_HIERARCHIES = {
    "endorsement": tpm.RH_ENDORSEMENT,
    "owner": tpm.RH_OWNER,
    "platform": tpm.RH_PLATFORM,
    "null": tpm.RH_NULL,
}


def _hierarchy(attest: tpm.Attest, key: _Key) -> str:
    """Return the hierarchy that the key is a primary of, empty for none or unknown."""
    for name, handle in _HIERARCHIES.items():
        parent = tpm.hierarchy_name(handle)
        if key.public is not None and key.public.qualified_name(parent) == attest.qualified_signer:
            return name
    return ""


def _quote_json(
    attest: tpm.Attest, *, attested: tpm.Quote, key: _Key, hierarchy: str
) -> dict[str, object]:
    info = attest.clock_info
    return {
        "key": crypto.label_of(key.key),
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


def _grouped(registers: Sequence[Register]) -> dict[str, list[int]]:
    grouped: dict[str, list[int]] = {}
    for bank, number in registers:
        grouped.setdefault(bank, []).append(number)
    return grouped


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
        yield _sha1("bank")
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


# Where values come from


def _gather_values(case: _Case, registers: Sequence[Register]) -> tuple[Values, Values]:
    """Return the values that are settled, and where the list's registers start."""
    files = case.files
    logged = _replay_event_log(case, registers)
    _check_list(case)
    settled: dict[Register, bytes] = {**logged, **files.values}
    start: dict[Register, bytes] = {}
    for register in registers:
        if register[1] in case.list_registers:
            start[register] = logged.get(register, reset_value(register))
            if register not in files.values:
                settled.pop(register, None)
    case.settle(*_judge_list_registers(logged, start))
    case.settle(*_judge_log(registers, logged=logged, settled=settled, start=start))
    lacking = [one for one in registers if one not in start and one not in settled]
    if lacking:
        expected = "--pcr BANK:N=HEX for each, or a log that leads to it"
        raise reject(Reason.QUOTE_VALUE_MISSING, text_of(lacking), expected=expected)
    return settled, start


def _replay_event_log(case: _Case, registers: Sequence[Register]) -> dict[Register, bytes]:
    """Return the value of every quoted register that the log settles.

    One without an event still has its reset value, in a bank that every event has a digest for.
    """
    if case.files.event_log is None:
        return {}
    judged = judge_event_log(EventLog.decode(case.files.event_log))
    case.settle(*judged.notes, *judged.refusals)
    extended = {
        (bank, number): value
        for bank, values in judged.registers.items()
        for number, value in values.items()
    }
    numbers = {number for _, number in registers}
    unquoted = sorted({number for _, number in extended} - numbers)
    if not numbers.intersection(number for _, number in extended):
        expected, found = "a register of the log in the quote", f"{sorted(numbers)}"
        raise reject(Reason.EVENT_LOG_REPLAY, expected=expected, found=found)
    if unquoted:
        found = f"events of {', '.join(map(str, unquoted))}, which nobody vouches for"
        case.settle(Finding(reason=Reason.EVENT_LOG_UNQUOTED, expected="in the quote", found=found))
    return {
        one: extended.get(one, reset_value(one)) for one in registers if one[0] in judged.registers
    }


def _judge_list_registers(logged: Values, start: Values) -> Iterator[Finding]:
    """Find that the list extends a register of the boot: its records could hide events."""
    shared = [one for one in start if one in logged and one[1] in BOOT_REGISTERS]
    if shared:
        expected = "no record in a register of the boot's events"
        yield Finding(reason=Reason.LIST_REGISTER, what=text_of(shared), expected=expected)


def _judge_log(
    registers: Sequence[Register], *, logged: Values, settled: Values, start: Values
) -> Iterator[Finding]:
    """Compare given values with the event log's: an operating system extends some further."""
    apart = [
        one
        for one in registers
        if one not in start and one in logged and logged[one] != settled[one]
    ]
    closed = [one for one in apart if one[1] in BOOT_REGISTERS]
    further = [one for one in apart if one not in closed and logged[one] != reset_value(one)]
    if closed:
        yield Finding(
            reason=Reason.EVENT_LOG_REPLAY,
            what=text_of(closed),
            expected=", ".join(settled[one].hex() for one in closed),
            found=", ".join(logged[one].hex() for one in closed),
        )
    if further:
        expected, found = "what the log leads to", "extended after it, so nobody vouches for it"
        reason, what = Reason.EVENT_LOG_UNQUOTED, text_of(further)
        yield Finding(reason=reason, what=what, expected=expected, found=found)


def _check_list(case: _Case) -> None:
    """Judge what can be judged of the list without the quote."""
    files = case.files
    if files.ima_log is None:
        return
    checked = check_log(files.ima_log, log_hash=files.log_hash)
    case.ima = CheckedList(entries=checked.entries, violations=checked.violations, matched=None)
    case.settle(*checked.findings)
    registers = (register for bank in checked.pcrs.values() for register in bank)
    case.list_registers = frozenset(map(int, registers))


# What they lead to


def _verify_digest(target: Target) -> None:
    found = digest_of((target.known[one] for one in target.registers), target.algorithm)
    if found != target.digest:
        expected = target.digest.hex()
        what = "hash over the registers' values"
        raise reject(Reason.QUOTE_DIGEST, what, expected=expected, found=found.hex())


def _verify_list(case: _Case, ima_log: bytes, target: Target) -> Reached:
    """Return the prefix of the list that the quote proves; raise Rejected if there is none."""
    if not target.start:
        expected, found = "a register of the list in the quote", text_of(target.registers)
        raise reject(Reason.LIST_REPLAY, expected=expected, found=found)
    if set(target.registers) <= set(target.known):
        _verify_digest(target)
    records = read_records(ima_log, template_hash_bytes=LIST_HASHES[case.files.log_hash])
    reached = search(records, target)
    assert case.ima is not None
    if reached is None:
        what = text_of(target.start)
        expected = "values after some entry of the list that have the quoted digest"
        raise reject(
            Reason.LIST_REPLAY, what, expected=expected, found=f"none of {case.ima.entries}"
        )
    case.ima = CheckedList(
        entries=case.ima.entries, violations=case.ima.violations, matched=reached.entries
    )
    case.settle(*_judge_prefix(case, reached, case.ima.entries - reached.entries))
    return reached


def _judge_prefix(case: _Case, reached: Reached, more: int) -> Iterator[Finding]:
    if reached.is_padded:
        expected, found = "each bank's own hash of the template data", "SHA-1 and zeros"
        yield Finding(reason=Reason.LIST_PADDED_BANK, expected=expected, found=found)
    if more:
        found = f"{more} entries after the quote, which nobody vouches for"
        yield Finding(reason=Reason.LIST_LONGER, expected=f"{reached.entries} entries", found=found)
    unquoted = sorted(case.list_registers - {number for _, number in reached.values})
    if unquoted:
        found = f"entries of {', '.join(map(str, unquoted))}, which nobody vouches for"
        yield Finding(reason=Reason.LIST_UNQUOTED, expected="in the quote", found=found)
