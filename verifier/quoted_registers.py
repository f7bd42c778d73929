"""What the quoted registers held: found out from values, logs and the one hash that was signed.

A quote has only a hash over all registers. Nothing that is put together here is believed unless
it leads to that hash, so a wrong guess is a refusal and never an accept.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from evidence import Malformed, tpm
from evidence.ima import Measurement, Record, read_measurement
from verifier.boot import AGGREGATE_PATHS, AGGREGATED_REGISTERS, OLD_AGGREGATED_REGISTERS
from verifier.check_log import LOCKED
from verifier.reasons import Finding, Reason, reject

REGISTERS = range(24)
"""Of a PC's TPM (PC Client Platform TPM Profile 1.05, 4.6.1)."""
BOOT_REGISTERS = (*range(10), 14)
"""Registers that firmware and boot loaders extend, and nothing that runs after them."""
RESETTABLE = (16, *LOCKED, 23)
"""Registers that software may reset while the machine runs (the same, 4.6.2)."""

MOST_AGGREGATES = 64
"""A list in which each kexec leaves one more, and nobody asks about more."""

Register = tuple[str, int]
"""A bank (`sha256`) and a number."""
Values = Mapping[Register, bytes]


def text_of(registers: Iterable[Register]) -> str:
    """Return the registers as `--pcr` has them: `sha256:0, sha256:7`."""
    return ", ".join(f"{bank}:{number}" for bank, number in registers)


def reset_value(register: Register) -> bytes:
    """Return what a register holds before anything extends it (locality 0)."""
    bank, number = register
    return (b"\xff" if number in LOCKED else b"\0") * hashlib.new(bank).digest_size


def selected(quote: tpm.Quote) -> tuple[Register, ...]:
    """Return the quoted registers in the order of the hash; raise Rejected if they are unclear.

    At least one, each bank once and known, numbers up to 23 (CVE-2022-0317: a quote of none).
    """
    banks = [one.bank for one in quote.selections if one.registers]
    found = "; ".join(f"bank {one.bank:#x}: {list(one.registers)}" for one in quote.selections)
    if not banks:
        raise reject(Reason.QUOTE_EMPTY, expected="at least one register", found=found or "none")
    numbers = {number for one in quote.selections for number in one.registers}
    if len(set(banks)) != len(banks) or not numbers <= set(REGISTERS):
        expected = "each bank once, registers 0 to 23"
        raise reject(Reason.QUOTE_SELECTION, expected=expected, found=found)
    if not set(banks) <= set(tpm.HASHES):
        expected = f"banks among {', '.join(tpm.HASHES.values())}"
        raise reject(Reason.QUOTE_BANK, expected=expected, found=found)
    return tuple(
        (tpm.HASHES[one.bank], number) for one in quote.selections for number in one.registers
    )


def digest_of(values: Iterable[bytes], algorithm: str) -> bytes:
    """Return the hash that a quote has over these values."""
    return hashlib.new(algorithm, b"".join(values)).digest()


# The measurement list


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a prefix of a list has to lead to."""

    registers: tuple[Register, ...]
    """The quoted ones, in the order of the hash."""
    known: Values
    """Values that are settled: of registers that the list does not extend, or given."""
    start: Values
    """Where the list's registers start: reset, or where firmware left them."""
    algorithm: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """A boot_aggregate record of the list."""

    index: int
    measurement: Measurement | None
    """None where the record is not what it is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A prefix of the list leads to the quoted digest. Made by `search` only."""

    entries: int
    """The length of the prefix."""
    values: Values
    """Of every quoted register, proven by the digest."""
    is_padded: bool
    """Only with SHA-1 and zeros in the larger banks, as kernels before 5.8 extended them."""
    aggregates: tuple[Aggregate, ...]
    """In the prefix."""


def search(records: Iterable[Record], target: Target) -> Reached | None:
    """Return the shortest prefix, of one record at least, that leads to the target.

    One step per record, whose cost does not depend on what came before. Both ways of extending
    the larger banks are followed side by side; which one it was is told.
    """
    ways = [_Way(target=target, extension=Record.extension, is_padded=False)]
    if any(bank != "sha1" for bank, _ in target.registers):
        ways.append(_Way(target=target, extension=Record.padded_extension, is_padded=True))
    aggregates: list[Aggregate] = []
    for index, record in enumerate(records):
        if len(aggregates) < MOST_AGGREGATES and _is_aggregate(record):
            aggregates.append(Aggregate(index=index, measurement=_measurement(record)))
        for way in ways:
            if way.extend(record):
                return Reached(
                    entries=index + 1,
                    values=way.values(),
                    is_padded=way.is_padded,
                    aggregates=tuple(aggregates),
                )
    return None


@dataclass(slots=True, kw_only=True)
class _Way:
    """The registers so far, extended in one way."""

    target: Target
    extension: Callable[[Record, str], bytes]
    is_padded: bool
    places: dict[int, list[tuple[int, str]]] = field(init=False)
    """By register number: where its value stands in `held`, and in which bank."""
    held: list[bytes] = field(init=False)
    replayed: list[bytes] = field(init=False)
    """Where the list leads; `held` has a given value in its place."""
    wrong: set[int] = field(init=False)
    """Places whose given value the list has not reached, or has passed."""

    def __post_init__(self) -> None:
        registers = self.target.registers
        self.places = {}
        for place, (bank, number) in enumerate(registers):
            if (bank, number) in self.target.start:
                self.places.setdefault(number, []).append((place, bank))
        self.replayed = [self.target.start.get(one, b"") for one in registers]
        self.held = [
            self.target.known.get(one, self.replayed[place]) for place, one in enumerate(registers)
        ]
        moved = [place for places in self.places.values() for place, _ in places]
        self.wrong = {place for place in moved if self.held[place] != self.replayed[place]}

    def extend(self, record: Record) -> bool:
        """Extend the record's register; say whether the target has been reached."""
        places = self.places.get(record.register)
        if places is None:
            return False
        for place, bank in places:
            extended = self.replayed[place] + self.extension(record, bank)
            value = self.replayed[place] = hashlib.new(bank, extended).digest()
            if self.target.registers[place] not in self.target.known:
                self.held[place] = value
            elif self.held[place] == value:
                self.wrong.discard(place)
            else:
                self.wrong.add(place)
        if self.wrong:
            return False
        return digest_of(self.held, self.target.algorithm) == self.target.digest

    def values(self) -> Values:
        """Return the value of each quoted register."""
        return dict(zip(self.target.registers, self.held, strict=True))


def _is_aggregate(record: Record) -> bool:
    return b"boot_aggregate" in record.data and not record.is_violation


def _measurement(record: Record) -> Measurement | None:
    try:
        return read_measurement(record)
    except Malformed:
        return None


# The boot aggregate


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAggregate:
    """What a list's boot aggregates say of the boot."""

    form: str
    """Registers that the first one is the hash of, `sha256:0-9`; empty where it is not known."""
    findings: tuple[Finding, ...]


def judge_aggregates(reached: Reached) -> JudgedAggregate:
    """Compare each boot aggregate with the quoted registers that its kernel hashed.

    SHA-1 is over registers 0 to 7 of that bank, other algorithms are over 0 to 9 since Linux 5.8
    (ima_crypto.c, `ima_calc_boot_aggregate_tfm`) and were over 0 to 7 before.
    """
    named = [one for one in reached.aggregates if _is_named(one)]
    if not named or named[0].index != 0:
        finding = Finding(
            reason=Reason.BOOT_AGGREGATE_MISSING, what="record 0", expected="boot_aggregate"
        )
        return JudgedAggregate(form="", findings=(finding,))
    judged = [(one, *_form(one.measurement, reached.values)) for one in named if one.measurement]
    findings = [
        finding
        for one, form, hashes in judged
        for finding in _aggregate_findings(one, form, hashes)
    ]
    return JudgedAggregate(form=judged[0][1], findings=tuple(findings))


def _is_named(one: Aggregate) -> bool:
    measurement = one.measurement
    return (
        measurement is not None
        and measurement.buffer is None
        and measurement.path in AGGREGATE_PATHS
    )


def _form(measurement: Measurement, values: Values) -> tuple[str, dict[str, bytes]]:
    """Return the form that the digest has, and the hash of each that can be computed."""
    bank = measurement.algorithm
    hashes: dict[str, bytes] = {}
    for numbers in (AGGREGATED_REGISTERS, OLD_AGGREGATED_REGISTERS)[bank == "sha1" :]:
        registers = [(bank, number) for number in numbers]
        if all(one in values for one in registers):
            form = f"{bank}:0-{numbers[-1]}"
            hashes[form] = digest_of((values[one] for one in registers), bank)
    forms = [form for form, hashed in hashes.items() if hashed == measurement.digest]
    return (forms[0] if forms else ""), hashes


def _aggregate_findings(
    one: Aggregate, form: str, hashes: Mapping[str, bytes]
) -> Iterator[Finding]:
    assert one.measurement is not None
    algorithm, digest = one.measurement.algorithm, one.measurement.digest
    what, found = f"record {one.index}", f"{algorithm}:{digest.hex()}"
    newest = f"{algorithm}:0-{7 if algorithm == 'sha1' else 9}"
    if form and form != newest:
        yield Finding(reason=Reason.BOOT_AGGREGATE_OLD, what=what, expected=newest, found=form)
    elif not form and (newest in hashes or not any(digest)):
        expected = " or ".join(f"{form} {hashed.hex()}" for form, hashed in hashes.items())
        expected = expected or "not zero: the kernel has seen a TPM"
        yield Finding(reason=Reason.BOOT_AGGREGATE, what=what, expected=expected, found=found)
    elif not form:
        expected = f"{newest} in the quote"
        yield Finding(reason=Reason.BOOT_AGGREGATE_OPEN, what=what, expected=expected, found=found)
