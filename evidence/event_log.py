"""Boot event logs: what firmware and boot loaders say that they extended registers with.

Source: TCG PC Client Platform Firmware Profile, revision 1.05, section 10 (TCG_PCR_EVENT2 and
TCG_EfiSpecIDEvent of the crypto-agile log; TCG_PCClientPCREvent of the SHA-1 log of TPM 1.2),
and UEFI 2.10, section 38, for the CCEL, whose "registers" are measurement registers.
Numbers are little endian.

Only digests are extended: register, type and data of an event are words of whoever wrote the
log. `verifier.event_log` says which of them the digests bear out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed

MOST_LOG_BYTES = 4 << 20
"""Logs of real machines have 2 to 75 kB, a CCEL area 64 KiB."""
MOST_EVENTS = 10_000
"""Logs of real machines have up to 200."""
MOST_DATA_BYTES = 1 << 20
"""Of one event; the largest are dbx variables and option ROM tables, tens of kB."""
MOST_ALGORITHMS = 16
"""HASH_COUNT of TPM 2.0: no TPM has more banks."""
MOST_DIGEST_BYTES = 64
"""Of an algorithm that is not known here."""

LAST_REGISTER = 23
"""PC Client platforms have registers 0 to 23."""
NO_REGISTER = 0xFFFF_FFFF
"""Of EV_NO_ACTION events that belong to no register (SP 800-155 reference manifests)."""

ALG_SHA1 = 0x0004
ALG_SHA256 = 0x000B
ALGORITHMS = {
    ALG_SHA1: ("sha1", 20),
    ALG_SHA256: ("sha256", 32),
    0x000C: ("sha384", 48),
    0x000D: ("sha512", 64),
    0x0012: ("sm3_256", 32),
}
"""Name of the bank and size of its digests in bytes, by TPM_ALG_ID."""

POST_CODE = 0x1
NO_ACTION = 0x3
SEPARATOR = 0x4
ACTION = 0x5
EVENT_TAG = 0x6
S_CRTM_VERSION = 0x8
IPL = 0xD
EFI_EVENTS = 0x8000_0000
"""The types of UEFI firmware start here."""
EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001
EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003
EFI_BOOT_SERVICES_DRIVER = 0x8000_0004
EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005
EFI_GPT_EVENT = 0x8000_0006
EFI_ACTION = 0x8000_0007
EFI_FIRMWARE_BLOB = 0x8000_0008
EFI_VARIABLE_BOOT2 = 0x8000_000C
EFI_HCRTM_EVENT = 0x8000_0010
EFI_VARIABLE_AUTHORITY = 0x8000_00E0

SPEC_ID = b"Spec ID Event03\0"
"""What the first event of a crypto-agile log begins with."""
_POINTER_SIZES = (1, 2)
"""sizeof(UINTN) of the firmware in 32-bit units."""
_SPEC_ID_REGISTERS = (0, 1)
_SHORTEST_PADDING_BYTES = {0xFF: 5, 0x00: 9}
"""A shorter run can be what is left of an event: 4 bytes of 0xff are NO_REGISTER, 8 bytes of 0
are register 0 and type 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event, verbatim."""

    register: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    """TPM_ALG_ID and digest, in the order of the log; each algorithm once."""
    data: bytes

    @property
    def is_measured(self) -> bool:
        """Whether a register was extended."""
        return self.type != NO_ACTION


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecId:
    """TCG_EfiSpecIDEvent: what a crypto-agile log says of itself, in its first event."""

    register: int
    """0; 1 in a CCEL, whose measurement registers 1 to 4 are no registers of a TPM."""
    digest: bytes
    """20 bytes that nothing is extended with: zeros, but some firmware writes what it likes."""
    platform_class: int
    """0 client, 1 server."""
    minor: int
    major: int
    errata: int
    pointer_size: int
    algorithms: tuple[tuple[int, int], ...]
    """TPM_ALG_ID of each declared bank and the size of its digests in bytes."""
    vendor: bytes

    @property
    def is_confidential(self) -> bool:
        """Whether the log is a CCEL: of the registers of a confidential machine, not a TPM's."""
        return self.register == 1

    @classmethod
    def decode(cls, event: Event) -> Self:
        """Return what the first event of the log says; raise Malformed on anything else."""
        if event.register not in _SPEC_ID_REGISTERS:
            raise Malformed(f"expected the Spec ID event in register 0, got {event.register}")
        ((_, digest),) = event.digests
        cursor = Cursor(event.data, "little")
        if cursor.take(len(SPEC_ID)) != SPEC_ID:
            raise Malformed(f"expected {SPEC_ID!r}")
        platform_class, minor, major = cursor.u32(), cursor.u8(), cursor.u8()
        errata, pointer_size = cursor.u8(), cursor.u8()
        if pointer_size not in _POINTER_SIZES:
            raise Malformed(f"expected a UINTN of 1 or 2 words, got {pointer_size}")
        spec = cls(
            register=event.register,
            digest=digest,
            platform_class=platform_class,
            minor=minor,
            major=major,
            errata=errata,
            pointer_size=pointer_size,
            algorithms=_read_algorithms(cursor),
            vendor=cursor.sized(1, 255),
        )
        cursor.end()
        return spec

    def event(self) -> Event:
        """Return the first event of the log."""
        numbers = (self.minor, self.major, self.errata, self.pointer_size)
        algorithms = (_u16(one) + _u16(size) for one, size in self.algorithms)
        start = SPEC_ID + _u32(self.platform_class) + bytes(numbers) + _u32(len(self.algorithms))
        data = b"".join((start, *algorithms, bytes([len(self.vendor)]), self.vendor))
        digests = ((ALG_SHA1, self.digest),)
        return Event(register=self.register, type=NO_ACTION, digests=digests, data=data)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventLog:
    """A whole log."""

    spec: SpecId | None
    """None of a SHA-1 log."""
    events: tuple[Event, ...]
    """Without the event that holds `spec`."""
    padding: bytes = b""
    """0xff or 0x00 up to the end of the area that a crypto-agile log was given."""

    @property
    def algorithms(self) -> tuple[int, ...]:
        """TPM_ALG_ID of each declared bank, known or not."""
        if self.spec is None:
            return (ALG_SHA1,)
        return tuple(algorithm for algorithm, _ in self.spec.algorithms)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the log in `data`; raise Malformed on anything else, nothing at all included."""
        if len(data) > MOST_LOG_BYTES:
            raise Malformed(f"expected at most {MOST_LOG_BYTES} bytes of log, got {len(data)}")
        cursor = Cursor(data, "little")
        first = _read_sha1_event(cursor)
        if first.type != NO_ACTION or not first.data.startswith(SPEC_ID):
            events = _read_events(cursor, _read_sha1_event, end=len(data), first=(first,))
            return cls(spec=None, events=events)
        spec = SpecId.decode(first)
        sizes = dict(spec.algorithms)
        end = _end_of_events(data)
        events = _read_events(cursor, lambda it: _read_event(it, sizes), end=end)
        return cls(spec=spec, events=events, padding=_read_padding(cursor))

    def encode(self) -> bytes:
        """Return the log as firmware writes it."""
        if self.spec is None:
            return b"".join(map(_encode_sha1_event, self.events))
        encoded = map(_encode_event, self.events)
        return b"".join((_encode_sha1_event(self.spec.event()), *encoded, self.padding))


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """UEFI_VARIABLE_DATA: the data of an event about a UEFI variable."""

    vendor: bytes
    """EFI_GUID as it lies in memory, 16 bytes."""
    name: str
    value: bytes

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the variable; raise Malformed on anything else."""
        cursor = Cursor(data, "little")
        vendor, characters, size = cursor.take(16), cursor.u64(), cursor.u64()
        raw = cursor.take(2 * characters)
        value = cursor.take(size)
        cursor.end()
        try:
            name = raw.decode("utf-16-le")
        except UnicodeDecodeError as error:
            raise Malformed(f"expected UTF-16 in the name of a variable: {error}") from error
        return cls(vendor=vendor, name=name, value=value)

    def encode(self) -> bytes:
        """Return the data of the event."""
        name = self.name.encode("utf-16-le")
        sizes = (len(name) // 2).to_bytes(8, "little") + len(self.value).to_bytes(8, "little")
        return self.vendor + sizes + name + self.value


def _read_algorithms(cursor: Cursor) -> tuple[tuple[int, int], ...]:
    count = cursor.u32()
    if not 1 <= count <= MOST_ALGORITHMS:
        raise Malformed(f"expected 1 to {MOST_ALGORITHMS} algorithms, got {count}")
    algorithms = tuple((cursor.u16(), cursor.u16()) for _ in range(count))
    if len(dict(algorithms)) != count:
        raise Malformed("expected each algorithm once")
    for algorithm, size in algorithms:
        _, expected = ALGORITHMS.get(algorithm, ("", size))
        if size != expected or not 1 <= size <= MOST_DIGEST_BYTES:
            raise Malformed(f"expected another digest size of algorithm {algorithm:#x} than {size}")
    return algorithms


def _read_events(
    cursor: Cursor, read: Callable[[Cursor], Event], *, end: int, first: tuple[Event, ...] = ()
) -> tuple[Event, ...]:
    """Return the events from here on; the last one may end behind `end`, none begins there."""
    events = list(first)
    while cursor.position < end:
        if len(events) == MOST_EVENTS:
            raise Malformed(f"expected at most {MOST_EVENTS} events")
        events.append(read(cursor))
    return tuple(events)


def _read_sha1_event(cursor: Cursor) -> Event:
    register, type_ = _read_place(cursor)
    digests = ((ALG_SHA1, cursor.take(20)),)
    data = cursor.sized(4, MOST_DATA_BYTES)
    return Event(register=register, type=type_, digests=digests, data=data)


def _read_event(cursor: Cursor, sizes: dict[int, int]) -> Event:
    register, type_ = _read_place(cursor)
    count = cursor.u32()
    if not 1 <= count <= len(sizes):
        raise Malformed(f"expected 1 to {len(sizes)} digests, got {count}")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = cursor.u16()
        if algorithm not in sizes or algorithm in digests:
            raise Malformed(f"expected each declared algorithm once, got {algorithm:#x}")
        digests[algorithm] = cursor.take(sizes[algorithm])
    data = cursor.sized(4, MOST_DATA_BYTES)
    return Event(register=register, type=type_, digests=tuple(digests.items()), data=data)


def _read_place(cursor: Cursor) -> tuple[int, int]:
    register, type_ = cursor.u32(), cursor.u32()
    if register > LAST_REGISTER and (register, type_) != (NO_REGISTER, NO_ACTION):
        raise Malformed(f"expected a register up to {LAST_REGISTER}, got {register}")
    return register, type_


def _end_of_events(data: bytes) -> int:
    """Return where the run of padding at the end begins; an event before it may end within it."""
    return min(len(data.rstrip(bytes([value]))) for value in _SHORTEST_PADDING_BYTES)


def _read_padding(cursor: Cursor) -> bytes:
    padding = cursor.take(len(cursor.data) - cursor.position)
    if padding and len(padding) < _SHORTEST_PADDING_BYTES[padding[0]]:
        raise Malformed(f"expected an event or more padding, got {padding!r}")
    return padding


def _encode_event(event: Event) -> bytes:
    digests = (_u16(algorithm) + digest for algorithm, digest in event.digests)
    count = _u32(len(event.digests))
    place = _u32(event.register) + _u32(event.type)
    return b"".join((place, count, *digests, _u32(len(event.data)), event.data))


def _encode_sha1_event(event: Event) -> bytes:
    ((_, digest),) = event.digests
    place = _u32(event.register) + _u32(event.type)
    return b"".join((place, digest, _u32(len(event.data)), event.data))


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
