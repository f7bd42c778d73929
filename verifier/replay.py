"""Link 4: the measurement list is what the kernel extended, no more, no less.

The list is read after the quote, so it may hold more than the quote covers: replay stops at the
first record after which every register has its quoted value. What follows is not judged: it can
be true or invented, and the next quote will tell.
"""

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from evidence import Malformed, cbor
from evidence.ima import (
    EVIDENCE_TEMPLATES,
    LEGACY,
    Record,
    hash_of,
    read_measurement,
    read_records,
)
from verifier.file_signature import VERITY, text_of
from verifier.instance import REGISTER_BYTES, AcceptedInstance
from verifier.node import Checkpoint, Measured, Node
from verifier.policy import Policy
from verifier.reasons import MOST_FINDINGS, Finding, Reason, Rejected, capped, label, reject

EMPTY_ROOT = bytes(32)
"""Commitment to a stored set without members."""
VIOLATION = "violation"
"""In the place of an algorithm: the kernel could not vouch for what it measured."""
BUFFER_TEMPLATE = "ima-buf"
"""Of critical data: the record holds the measured bytes themselves."""
STRONG = ("sha256", "sha384", "sha512", "sm3", "sm3-256")
"""Algorithms that nobody finds collisions of. Sets hold SHA-256 alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedList:
    """The kernel's list so far, proven by the quote. Made by `replay_list` only."""

    instance: AcceptedInstance
    measured: tuple[Measured, ...]
    """Every record from the first one on: what was judged before, then what is new."""
    judged: int
    """How many of them were judged before."""
    registers: tuple[tuple[int, bytes], ...]
    """Value of each register of the list, ascending: the quoted ones."""
    judged_root: bytes
    """Commitment to those that were judged before."""

    @property
    def new(self) -> tuple[Measured, ...]:
        """The records that were not judged before."""
        return self.measured[self.judged :]

    @property
    def root(self) -> bytes:
        """Commitment to `measured`, computed here: a list that is refused needs none."""
        return fold_root(self.judged_root, self.new)

    @property
    def starts_over(self) -> bool:
        """Whether the list was read from its first record on."""
        return self.judged == 0


def fold_root(root: bytes, measured: Iterable[Measured]) -> bytes:
    """Return the commitment to a stored set of commitment `root` with these added: a hash chain."""
    for one in measured:
        member = cbor.encode(
            [one.register, one.algorithm, one.digest, one.path, one.template, one.signature]
        )
        root = hashlib.sha256(root + member).digest()
    return root


def first_record_wanted(
    node: Node, checkpoint: Checkpoint | None, *, signer: bytes, policy: Policy
) -> int:
    """Return the index of the first record to ask for: 0 unless the checkpoint still counts."""
    if checkpoint is None or checkpoint.instance != signer:
        return 0
    if _numbers(checkpoint) != policy.list_registers:
        return 0
    is_same_boot = node.clock is None or node.clock.reset_count == checkpoint.reset_count
    return checkpoint.records if is_same_boot else 0


def replay_list(
    instance: AcceptedInstance,
    *,
    records: bytes,
    checkpoint: Checkpoint | None,
    measured: tuple[Measured, ...],
    policy: Policy,
) -> ReplayedList:
    """Return the list; raise Rejected unless some prefix of it leads to the quoted registers."""
    start = _start(instance, checkpoint, measured, policy)
    prefix = _prefix(instance, start, records, policy)
    new = _read(prefix, first_index=len(start.measured), closed=policy.closed_registers)
    if not start.measured and not new:
        raise reject(Reason.LIST_MISSING, expected="the list from its first record on")
    return ReplayedList(
        instance=instance,
        measured=(*start.measured, *new),
        judged=len(start.measured),
        registers=_quoted(instance, policy),
        judged_root=start.root,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """Where the replay begins."""

    measured: tuple[Measured, ...]
    registers: tuple[tuple[int, bytes], ...]
    root: bytes


def _start(
    instance: AcceptedInstance,
    checkpoint: Checkpoint | None,
    measured: tuple[Measured, ...],
    policy: Policy,
) -> _Start:
    """Return the checkpoint's state, or nothing where the whole list was asked for."""
    asked = instance.quote.challenge.first_record
    if asked == 0:
        zeros = tuple((register, bytes(REGISTER_BYTES)) for register in policy.list_registers)
        return _Start(measured=(), registers=zeros, root=EMPTY_ROOT)
    if checkpoint is None or not _belongs(checkpoint, instance):
        expected = "the boot and instance that the last accepted list belongs to"
        raise reject(Reason.BOOT_CHANGED, expected=expected, found="another")
    held = (
        len(measured),
        fold_root(EMPTY_ROOT, measured),
        tuple(r for r, _ in checkpoint.registers),
    )
    if held != (checkpoint.records, checkpoint.root, policy.list_registers):
        raise reject(
            Reason.LIST_STORED, expected=f"{checkpoint.records} records as they were judged"
        )
    if asked != checkpoint.records:
        what = "first record"
        raise reject(Reason.BOOT_CHANGED, what, expected=f"{checkpoint.records}", found=f"{asked}")
    return _Start(measured=measured, registers=checkpoint.registers, root=checkpoint.root)


def _numbers(checkpoint: Checkpoint) -> tuple[int, ...]:
    return tuple(register for register, _ in checkpoint.registers)


def _belongs(checkpoint: Checkpoint, instance: AcceptedInstance) -> bool:
    quote = instance.quote
    return (checkpoint.ak_name, checkpoint.reset_count, checkpoint.instance) == (
        quote.ak.name,
        quote.clock_info.reset_count,
        instance.instance,
    )


def _quoted(instance: AcceptedInstance, policy: Policy) -> tuple[tuple[int, bytes], ...]:
    values = instance.quote.registers
    return tuple((register, values[register]) for register in policy.list_registers)


def _prefix(
    instance: AcceptedInstance, start: _Start, records: bytes, policy: Policy
) -> Sequence[Record]:
    """Return the records up to the quoted values. The rest only has to be well-formed.

    Nothing is read any further once more is wrong with the list than a refusal tells.
    """
    quoted = dict(_quoted(instance, policy))
    values = dict(start.registers)
    prefix: list[Record] = []
    wrong: list[Finding] = []
    violations: list[Finding] = []
    is_reached = values == quoted
    for record in read_records(records):
        if is_reached:
            continue
        index = len(start.measured) + len(prefix)
        prefix.append(record)
        wrong += _uncovered(index, record, values)
        if record.is_violation and record.register in policy.closed_registers:
            violations.append(violation(index, record.register))
        _demand_hope(wrong, violations)
        if record.register in values:
            extension = record.extension("sha256")
            values[record.register] = hashlib.sha256(values[record.register] + extension).digest()
            is_reached = values == quoted
    unreached = () if is_reached else (_unreached(prefix, start, values, quoted),)
    findings = capped(chain(unreached, wrong))
    if findings:
        raise Rejected(findings)
    return prefix


def _demand_hope(*found: Sequence[Finding]) -> None:
    """Raise Rejected once more is wrong with the list than a refusal tells."""
    for findings in found:
        if len(findings) > MOST_FINDINGS:
            raise Rejected(capped(findings))


def _unreached(
    records: Sequence[Record], start: _Start, values: dict[int, bytes], quoted: dict[int, bytes]
) -> Finding:
    """Return why the list leads elsewhere: kernels before 5.8 have their own way to extend."""
    if _is_padded(records, start, quoted):
        expected, found = "SHA-256 in the sha256 bank", "SHA-1 and zeros"
        return Finding(reason=Reason.LIST_PADDED, expected=expected, found=found)
    apart = [register for register in quoted if values[register] != quoted[register]]
    return Finding(
        reason=Reason.LIST_REPLAY,
        what=f"registers {', '.join(map(str, apart))}",
        expected=", ".join(quoted[register].hex() for register in apart),
        found=", ".join(values[register].hex() for register in apart),
    )


def _is_padded(records: Sequence[Record], start: _Start, quoted: dict[int, bytes]) -> bool:
    """Say whether some prefix leads to the quoted values by SHA-1, padded with zeros."""
    values = dict(start.registers)
    for record in records:
        if record.register in values:
            extension = record.padded_extension("sha256")
            values[record.register] = hashlib.sha256(values[record.register] + extension).digest()
            if values == quoted:
                return True
    return False


def is_weak(one: Measured) -> bool:
    """Say whether the record's digest says nothing of the bytes, or nothing that lasts."""
    return one.algorithm.removeprefix(VERITY) not in STRONG or not any(one.digest)


def weak_digest(index: int, one: Measured) -> Finding:
    """Return the finding of such a record in a register that has to have none."""
    what, found = named(index, one), label(text_of(one))
    return Finding(reason=Reason.LIST_DIGEST, what=what, expected="sha256", found=found)


def named(index: int, one: Measured) -> str:
    """Return what a finding calls the record."""
    return f"{label(one.path)}, record {index} of register {one.register}"


def violation(index: int, register: int) -> Finding:
    """Return the finding of a violation in a register that has to have none."""
    what = f"record {index} of register {register}"
    return Finding(reason=Reason.LIST_VIOLATION, what=what, expected="no violation")


def _uncovered(index: int, record: Record, registers: Collection[int]) -> Iterator[Finding]:
    """Judge what no register covers: the register's number, template hash and template name."""
    if record.register not in registers:
        expected, found = f"one of {tuple(registers)}", f"{record.register}"
        yield Finding(
            reason=Reason.LIST_REGISTER, what=f"record {index}", expected=expected, found=found
        )
    if record.is_violation:
        return
    if record.template not in EVIDENCE_TEMPLATES:
        reason = Reason.LIST_LEGACY if record.template == LEGACY else Reason.LIST_TEMPLATE
        expected, found = f"one of {', '.join(EVIDENCE_TEMPLATES)}", label(record.template)
        yield Finding(reason=reason, what=f"record {index}", expected=expected, found=found)
    computed = hashlib.sha1(record.hashed, usedforsecurity=False).digest()
    if record.template_hash != computed:
        expected, found = computed.hex(), record.template_hash.hex()
        yield Finding(
            reason=Reason.LIST_TEMPLATE_HASH,
            what=f"record {index}",
            expected=expected,
            found=found,
        )


def _read(
    prefix: Sequence[Record], *, first_index: int, closed: Collection[int]
) -> tuple[Measured, ...]:
    measured: list[Measured] = []
    findings: list[Finding] = []
    weak: list[Finding] = []
    for index, record in enumerate(prefix, first_index):
        try:
            one = _read_record(index, record)
        except Rejected as rejected:
            findings.extend(rejected.findings)
        else:
            measured.append(one)
            if is_weak(one) and one.register in closed:
                weak.append(weak_digest(index, one))
        _demand_hope(findings, weak)
    if findings:
        raise Rejected(findings)
    return tuple(measured)


def _read_record(index: int, record: Record) -> Measured:
    """Return what the record says. A template's name is not covered by any hash, its form is."""
    if record.is_violation:
        return Measured(
            register=record.register, algorithm=VIOLATION, digest=b"", path=b"", template=""
        )
    what = f"record {index}"
    try:
        measurement = read_measurement(record)
    except Malformed as malformed:
        found = label(str(malformed))
        raise reject(Reason.LIST_TEMPLATE, what, expected="a template", found=found) from malformed
    if measurement.buffer is not None:
        hashed = hash_of(measurement.algorithm, measurement.buffer)
        if hashed != measurement.digest:
            expected = "a hash that can be computed" if hashed is None else hashed.hex()
            found = measurement.digest.hex()
            raise reject(Reason.LIST_BUFFER, what, expected=expected, found=found)
    kind = "verity:" if measurement.is_verity else ""
    return Measured(
        register=record.register,
        algorithm=kind + measurement.algorithm,
        digest=measurement.digest,
        path=measurement.path,
        template=record.template,
        signature=measurement.signature,
    )
