"""What a measurement list in a file says: whether it is whole, not whether it is known.

A tool for people who have files. It judges one thing, that every recorded template hash is that
of its data. Violations, old templates, weak digests and unknown names are findings. Without a
quote nothing here is proven: anybody can write a list.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from evidence import Malformed
from evidence.ima import (
    DIGEST_BYTES,
    DIGEST_FIELDS,
    LEGACY,
    LIST_HASHES,
    NAME_FIELDS,
    Digest,
    Record,
    fields_of,
    hash_of,
    read_digest,
    read_records,
    read_values,
)
from evidence.ima_ascii import read_ascii_records, template_hash_width
from verifier.reasons import Finding, Reason, label

BANKS = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
"""The banks that registers are computed for, and the bytes of a register."""
WEAK = ("md5", "sha1")
MOST_OF_A_KIND = 64
"""A list with more findings of one reason says how many more, and no more than that."""
LOCKED = range(17, 23)
"""Registers that a TPM starts at all ones (PC Client Platform TPM Profile, 4.6.2)."""
_TEXT = re.compile(rb" ?[0-9]{1,2} [0-9a-f]{32}")
"""How a list in text begins."""
BOOT_AGGREGATES = (b"boot_aggregate\0", b"boot_aggregate_late\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLog:
    """What a list says."""

    entries: int
    violations: int
    templates: dict[str, int]
    pcrs: dict[str, dict[str, str]]
    """By bank, then by number, hexadecimal: where the list leads if nothing else extended them."""
    findings: tuple[Finding, ...]
    is_consistent: bool
    """Whether every recorded template hash, violations aside, is that of its data."""

    def answer(self) -> dict[str, object]:
        """Return the answer for machines."""
        return {
            "entries": self.entries,
            "violations": self.violations,
            "templates": self.templates,
            "pcrs": self.pcrs,
            "findings": details(self.findings),
        }


def detail(finding: Finding) -> str:
    """Return in one line what the finding is about, what was expected and what was found."""
    told = {"expected": finding.expected, "found": finding.found}
    rest = ", ".join(f"{name} {words}" for name, words in told.items() if words)
    return ": ".join(part for part in (finding.what, rest) if part)


def details(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return findings for machines, as every tool for files has them."""
    return [{"reason": str(one.reason), "detail": detail(one)} for one in findings]


def log_hash_of(name: str) -> str | None:
    """Return the algorithm in a file's name as kernels write it, None where there is none."""
    suffix = name.rpartition("_")[2]
    return suffix if suffix in LIST_HASHES and suffix != name else None


def check_log(data: bytes, *, log_hash: str | None = None, is_ascii: bool = False) -> CheckedLog:
    """Return what the list in `data` says; raise Malformed where it is none.

    `log_hash` is the algorithm of its template hashes. By default that is SHA-1; a list in text
    shows how long they are.
    """
    if is_ascii:
        width = template_hash_width(data) if log_hash is None else LIST_HASHES[log_hash]
        check = _Check(log_hash=log_hash or _algorithm_of_width(width), is_ascii=True)
        records = read_ascii_records(data, template_hash_bytes=width)
    else:
        check = _Check(log_hash=log_hash or "sha1")
        records = read_records(data, template_hash_bytes=LIST_HASHES[check.log_hash])
    if hash_of(check.log_hash, b"") is None:
        raise Malformed(f"{check.log_hash} cannot be computed on this machine")
    try:
        for record in records:
            check.add(record)
    except Malformed as malformed:
        hint = f"is this a list of {check.log_hash} template hashes?"
        if not is_ascii and _TEXT.match(data):
            hint = "this is a list in text, which `check-log --ascii` reads"
        raise Malformed(f"record {check.entries}: {malformed}; {hint}") from malformed
    if not check.entries:
        raise Malformed("expected a measurement list, got no record")
    return check.result()


def _algorithm_of_width(width: int) -> str:
    for algorithm, size in BANKS.items():
        if size == width:
            return algorithm
    raise Malformed(f"expected a template hash of {sorted(BANKS.values())} bytes, got {width}")


@dataclass(slots=True, kw_only=True)
class _Check:
    """What has been found so far: lists may be long, so nothing is kept per record."""

    log_hash: str
    is_ascii: bool = False
    banks: tuple[str, ...] = tuple(BANKS)
    """Those in which every extension so far is known."""
    entries: int = 0
    violations: int = 0
    aggregates: int = 0
    templates: Counter[str] = field(default_factory=Counter)
    registers: dict[int, dict[str, bytes]] = field(default_factory=dict)
    findings: dict[Reason, list[Finding]] = field(default_factory=dict)
    counts: Counter[Reason] = field(default_factory=Counter)

    def add(self, record: Record) -> None:
        """Judge one more record."""
        is_as_recorded = False
        if record.is_violation:
            self.violations += 1
            self._find(Reason.LIST_VIOLATION, expected="no violation")
        elif fields_of(record.template) is None and self.is_ascii:
            self.banks = tuple(bank for bank in self.banks if bank == self.log_hash)
            is_as_recorded = True
        else:
            is_as_recorded = self._is_padded_sha1(record)
        self._check_template(record)
        self._extend(record, is_as_recorded=is_as_recorded)
        self.templates[record.template] += 1
        self.entries += 1

    def result(self) -> CheckedLog:
        """Return what was found."""
        registers = sorted(self.registers.items())
        return CheckedLog(
            entries=self.entries,
            violations=self.violations,
            templates=dict(self.templates),
            pcrs={
                bank: {str(register): values[bank].hex() for register, values in registers}
                for bank in self.banks
            },
            findings=tuple(self._capped()),
            is_consistent=not self.counts[Reason.LIST_TEMPLATE_HASH],
        )

    def _capped(self) -> Iterator[Finding]:
        for reason, findings in self.findings.items():
            yield from findings
            rest = self.counts[reason] - len(findings)
            if rest:
                yield Finding(reason=reason, what="and more", found=f"{rest} more")

    def _find(self, reason: Reason, *, expected: str, found: Callable[[], str] = str) -> None:
        """Count a finding; `found` is asked only for one that is kept."""
        self.counts[reason] += 1
        kept = self.findings.setdefault(reason, [])
        if len(kept) < MOST_OF_A_KIND:
            what = f"record {self.entries}"
            kept.append(Finding(reason=reason, what=what, expected=expected, found=found()))

    def _is_padded_sha1(self, record: Record) -> bool:
        """Judge the template hash; say whether it is SHA-1 and zeros.

        Kernels write that, and extend it, where they cannot compute the bank's algorithm.
        """
        computed = hash_of(self.log_hash, record.hashed) or b""
        if record.template_hash == computed:
            return False
        found = record.template_hash.hex
        is_longer = self.log_hash != "sha1"
        if is_longer and record.template_hash == record.padded_extension(self.log_hash):
            self._find(Reason.LIST_PADDED, expected=self.log_hash, found=found)
            return True
        self._find(Reason.LIST_TEMPLATE_HASH, expected=computed.hex(), found=found)
        return False

    def _check_template(self, record: Record) -> None:
        if record.template == LEGACY:
            self._find(Reason.LIST_LEGACY, expected="a template with named digests")
        if fields_of(record.template) is None:
            found = partial(label, record.template)
            self._find(Reason.LIST_TEMPLATE, expected="a known template", found=found)
        elif not record.is_violation:
            self._check_values(record)

    def _check_values(self, record: Record) -> None:
        try:
            values = read_values(record)
        except Malformed as malformed:
            found = partial(label, f"{record.template}: {malformed}")
            self._find(Reason.LIST_TEMPLATE, expected="data of its template", found=found)
            return
        for name, value in values:
            if name in DIGEST_FIELDS:
                self._check_digest(name, value, dict(values).get("buf"))
            elif name in NAME_FIELDS and value in BOOT_AGGREGATES:
                self._check_aggregate()

    def _check_digest(self, name: str, value: bytes, buffer: bytes | None) -> None:
        digest = read_digest(name, value)
        found = partial(_text_of, digest)
        if digest.algorithm not in DIGEST_BYTES:
            expected = f"one of {', '.join(DIGEST_BYTES)}"
            self._find(Reason.LIST_ALGORITHM, expected=expected, found=found)
            return
        if digest.algorithm in WEAK or not any(digest.digest):
            self._find(Reason.LIST_DIGEST, expected="sha256 or longer", found=found)
        if buffer is not None and hash_of(digest.algorithm, buffer) != digest.digest:
            self._find(Reason.LIST_BUFFER, expected="the hash of the buffer", found=found)

    def _check_aggregate(self) -> None:
        """Note each later boot: a kexec carries the list over to the next kernel."""
        self.aggregates += 1
        if self.aggregates > 1:
            expected = "one boot aggregate, or a list that kexec carried over"
            self._find(Reason.BOOT_AGGREGATE_AGAIN, expected=expected)

    def _extend(self, record: Record, *, is_as_recorded: bool) -> None:
        if record.register not in self.registers:
            start = b"\xff" if record.register in LOCKED else b"\0"
            self.registers[record.register] = {bank: start * BANKS[bank] for bank in BANKS}
        values = self.registers[record.register]
        hashed = b"" if record.is_violation else record.hashed
        for bank in self.banks:
            if record.is_violation:
                extension = b"\xff" * BANKS[bank]
            elif is_as_recorded and bank == self.log_hash:
                extension = record.template_hash
            else:
                extension = hashlib.new(bank, hashed).digest()
            values[bank] = hashlib.new(bank, values[bank] + extension).digest()


def _text_of(digest: Digest) -> str:
    return label(f"{digest.algorithm}:{digest.digest.hex()}")
