"""Event logs of boots that never took place: a unified kernel image under Secure Boot, or GRUB.

Each register that a boot leads to is `leads_to(events)`; `encode(events)` is the log as a kernel
shows it. An attack is another list of events.
"""

import hashlib
from collections.abc import Iterable, Sequence

from evidence.event_log import (
    ALG_SHA1,
    ALG_SHA256,
    EFI_ACTION,
    EFI_BOOT_SERVICES_APPLICATION,
    EFI_FIRMWARE_BLOB,
    EFI_GPT_EVENT,
    EFI_VARIABLE_AUTHORITY,
    EFI_VARIABLE_DRIVER_CONFIG,
    EVENT_TAG,
    IPL,
    S_CRTM_VERSION,
    SEPARATOR,
    Event,
    EventLog,
    SpecId,
    Variable,
)
from verifier.event_log import GLOBAL_VARIABLE

SECURITY_DATABASE = bytes.fromhex("cbb219d73a3d9645a3bcdad00e67656f")
"""EFI_IMAGE_SECURITY_DATABASE_GUID, d719b2cb-3d3a-4596-a3bc-dad00e67656f."""
SHIM = bytes.fromhex("50ab5d6046e00043abb63dd810dd8b23")
"""605dab50-e046-4300-abb6-3dd810dd8b23."""
COMMAND_LINE = "root=/dev/vda ro ima_policy=tcb|critical_data ima_hash=sha256"
UKI = b"MZ a unified kernel image"
KERNEL = b"MZ a kernel"
GRUB_COMMAND_LINE = "/vmlinuz root=/dev/vda ro ima_hash=sha256"
KEYS: dict[str, bytes] = {"PK": b"pk", "KEK": b"kek", "db": b"db", "dbx": b"dbx of 2026"}


def make_event(register: int, type_: int, data: bytes, *, of: bytes | None = None) -> Event:
    """Return an event with digests of its data, or of something else."""
    measured = data if of is None else of
    digests = (
        (ALG_SHA1, hashlib.sha1(measured, usedforsecurity=False).digest()),
        (ALG_SHA256, hashlib.sha256(measured).digest()),
    )
    return Event(register=register, type=type_, digests=digests, data=data)


def variable(name: str, value: bytes, *, is_authority: bool = False) -> Event:
    """Return the event of a key variable, or of a signature in one that let an image start."""
    vendors = {
        "db": SECURITY_DATABASE,
        "dbx": SECURITY_DATABASE,
        "SbatLevel": SHIM,
        "MokList": SHIM,
    }
    data = Variable(vendor=vendors.get(name, GLOBAL_VARIABLE), name=name, value=value).encode()
    type_ = EFI_VARIABLE_AUTHORITY if is_authority else EFI_VARIABLE_DRIVER_CONFIG
    return make_event(7, type_, data)


def secure_boot(value: bytes = b"\1") -> Event:
    """Return the event of the variable SecureBoot."""
    return variable("SecureBoot", value)


def image(contents: bytes, file: str = "\\EFI\\BOOT\\BOOTX64.EFI") -> Event:
    """Return the event of an image that is started from a file."""
    name = (file + "\0").encode("utf-16-le")
    path = b"\x04\x04" + (4 + len(name)).to_bytes(2, "little") + name + b"\x7f\xff\x04\0"
    numbers = (0x7D00_0000, len(contents), 0, len(path))
    head = b"".join(number.to_bytes(8, "little") for number in numbers)
    return make_event(4, EFI_BOOT_SERVICES_APPLICATION, head + path, of=contents)


def section(name: str, contents: bytes) -> list[Event]:
    """Return what systemd-stub measures of a section: its name, and what is in it."""
    told = (name + "\0").encode("utf-16-le")
    return [
        make_event(11, IPL, told, of=name.encode() + b"\0"),
        make_event(11, IPL, told, of=contents),
    ]


def tagged(name: str, contents: bytes) -> Event:
    """Return what the Linux EFI stub measures."""
    told = name.encode() + b"\0"
    data = b"\xed\x22\x3b\x8f" + len(told).to_bytes(4, "little") + told
    return make_event(9, EVENT_TAG, data, of=contents)


def load_options(line: str) -> Event:
    """Return what the Linux EFI stub measures of a command line that systemd-stub gave it."""
    return tagged("LOADED_IMAGE::LoadOptions", (line + "\0").encode("utf-16-le"))


def grub(register: int, kind: str, text: str, *, of: bytes | None = None) -> Event:
    """Return what GRUB measures: a command, or (`of`) a file that it reads."""
    measured = text.encode() if of is None else of
    return make_event(register, IPL, f"{kind}{text}\0".encode(), of=measured)


def firmware(secure: bytes = b"\1", keys: dict[str, bytes] | None = None) -> list[Event]:
    """Return the events up to the separators."""
    return [
        make_event(0, S_CRTM_VERSION, "edk2\0".encode("utf-16-le")),
        make_event(0, EFI_FIRMWARE_BLOB, bytes(16), of=b"firmware"),
        secure_boot(secure),
        *(variable(name, value) for name, value in (KEYS if keys is None else keys).items()),
        make_event(7, SEPARATOR, bytes(4)),
        make_event(1, 0xA, b"ACPI DATA", of=b"acpi"),
        make_event(4, EFI_ACTION, b"Calling EFI Application from Boot Option"),
        *(make_event(register, SEPARATOR, bytes(4)) for register in range(7)),
    ]


LEAVING = [
    make_event(5, EFI_ACTION, b"Exit Boot Services Invocation"),
    make_event(5, EFI_ACTION, b"Exit Boot Services Returned with Success"),
]
PARTITIONS = make_event(5, EFI_GPT_EVENT, b"EFI PART")


def boot_uki(line: str = COMMAND_LINE) -> list[Event]:
    """Return the boot of a unified kernel image whose signature db knows."""
    return [
        *firmware(),
        variable("db", b"our certificate", is_authority=True),
        PARTITIONS,
        image(UKI if line == COMMAND_LINE else UKI + line.encode()),
        *section(".linux", KERNEL),
        *section(".cmdline", line.encode()),
        image(KERNEL, ""),
        load_options(line),
        tagged("Linux initrd", b"initrd"),
        *LEAVING,
    ]


def boot_grub(line: str = GRUB_COMMAND_LINE) -> list[Event]:
    """Return a boot by shim and GRUB."""
    return [
        *firmware(),
        variable("db", b"a certificate", is_authority=True),
        PARTITIONS,
        image(b"MZ shim", "\\EFI\\debian\\shimx64.efi"),
        make_event(14, IPL, b"MokList\0", of=b"keys of the machine's owner"),
        variable("SbatLevel", b"sbat,1,2023012900\n", is_authority=True),
        image(b"MZ grub", "\\EFI\\debian\\grubx64.efi"),
        grub(9, "", "(hd0,gpt1)/EFI/debian/grub.cfg", of=b"configfile"),
        grub(8, "grub_cmd: ", f"linux {line}"),
        grub(9, "", "/vmlinuz", of=KERNEL),
        image(KERNEL, ""),
        grub(8, "kernel_cmdline: ", line),
        tagged("LOADED_IMAGE::LoadOptions", f"BOOT_IMAGE={line}".encode("utf-16-le")),
        *LEAVING,
    ]


def log_of(events: Iterable[Event], *, register: int = 0) -> EventLog:
    """Return the log with these events; of a confidential machine where `register` is 1."""
    spec = SpecId(
        register=register,
        digest=bytes(20),
        platform_class=0,
        minor=0,
        major=2,
        errata=0,
        pointer_size=2,
        algorithms=((ALG_SHA1, 20), (ALG_SHA256, 32)),
        vendor=b"",
    )
    return EventLog(spec=spec, events=tuple(events))


def without(events: Sequence[Event], one: Event) -> list[Event]:
    """Return the events but this one; ValueError where it is not there."""
    left = [*events]
    left.remove(one)
    return left


def instead(events: Sequence[Event], one: Event, other: Event) -> list[Event]:
    """Return the events with another in the place of this one."""
    left = [*events]
    left[left.index(one)] = other
    return left
