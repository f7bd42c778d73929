"""What the events of a boot are about: for whoever reads a log, a boot policy or a refusal.

No trust rests on it. Type and data are words of whoever wrote the log, and what counts of an
event is its digest alone (`verifier.boot`). The text of a command line is told only where the
digest is that of the text.
"""

from collections.abc import Iterator
from enum import StrEnum

from evidence import Malformed
from evidence.cursor import Cursor
from evidence.event_log import (
    EFI_BOOT_SERVICES_APPLICATION,
    EFI_BOOT_SERVICES_DRIVER,
    EFI_FIRMWARE_BLOB,
    EFI_RUNTIME_SERVICES_DRIVER,
    EFI_VARIABLE_AUTHORITY,
    EFI_VARIABLE_DRIVER_CONFIG,
    EVENT_TAG,
    IPL,
    POST_CODE,
    SEPARATOR,
    Event,
)
from verifier.event_log import is_digest_of, read_variable
from verifier.reasons import label

FIRMWARE_REGISTERS = (0, 2)
"""Firmware itself, and what it loads from cards."""
OVERRIDE_REGISTER = 12
"""systemd-stub and systemd-boot measure a command line here that was not built into the image."""

GRUB_COMMAND_LINE = (b"kernel_cmdline: ", b"grub_kernel_cmdline ")
"""What GRUB puts before a command line in the data; the digest is of what follows, without the
NUL (grub-core/commands/tpm.c; the second, of RHEL 8's)."""
COMMAND_LINE_LABELS = frozenset({".cmdline", "LOADED_IMAGE::LoadOptions"})
"""Of systemd-stub's section and of the Linux EFI stub, which log what they measure by name only
(Linux drivers/firmware/efi/libstub/efi-stub-helper.c)."""

IMAGES = frozenset(
    {EFI_BOOT_SERVICES_APPLICATION, EFI_BOOT_SERVICES_DRIVER, EFI_RUNTIME_SERVICES_DRIVER}
)
_MEDIA_FILE_PATH = (4, 4)
"""UEFI 2.10, section 10.3.5.4: type and subtype of a device path's node that names a file."""
_NODE_HEAD_BYTES = 4
_TAG_HEAD_BYTES = 8
"""TCG_PCClientTaggedEvent: its number and its size, 4 bytes each."""
_BLOBS = {POST_CODE: "POST code", EFI_FIRMWARE_BLOB: "firmware volume"}
_BLOB_BYTES = 16
"""UEFI_PLATFORM_FIRMWARE_BLOB: where it lies and how long it is, 8 bytes each."""
_SHOWN_VALUE_BYTES = 64
_MOST_TEXT_BYTES = 1 << 14
"""Of an event that is shown as more than so many bytes; menus of GRUB have up to 10 kB."""
_UTF16_BYTES = 2


class Kind(StrEnum):
    """What an event is about."""

    SEPARATOR = "separator"
    VARIABLE = "key variable"
    AUTHORITY = "authority"
    IMAGE = "image"
    COMMAND_LINE = "command line"
    FIRMWARE = "firmware"
    OTHER = "event"


def kind_of(event: Event) -> Kind:
    """Return what the event says that it is about."""
    kinds = {
        SEPARATOR: Kind.SEPARATOR,
        EFI_VARIABLE_DRIVER_CONFIG: Kind.VARIABLE,
        EFI_VARIABLE_AUTHORITY: Kind.AUTHORITY,
        **dict.fromkeys(IMAGES, Kind.IMAGE),
    }
    if event.type in kinds:
        return kinds[event.type]
    if _is_command_line(event):
        return Kind.COMMAND_LINE
    return Kind.FIRMWARE if event.register in FIRMWARE_REGISTERS else Kind.OTHER


def _is_command_line(event: Event) -> bool:
    if event.data.startswith(GRUB_COMMAND_LINE) or event_label(event) in COMMAND_LINE_LABELS:
        return True
    return event.register == OVERRIDE_REGISTER and event.type == IPL


def command_line_of(event: Event) -> str | None:
    """Return the command line that was measured, if the log holds it and the digest is its."""
    if len(event.data) > _MOST_TEXT_BYTES:
        return None
    for prefix in GRUB_COMMAND_LINE:
        text = event.data.removeprefix(prefix).removesuffix(b"\0")
        if event.data.startswith(prefix) and is_digest_of(event, text):
            return _decoded(text, "utf-8")
    is_override = event.register == OVERRIDE_REGISTER and event.type == IPL
    if is_override and is_digest_of(event, event.data):
        return _decoded(event.data.removesuffix(bytes(_UTF16_BYTES)), "utf-16-le")
    return None


def event_label(event: Event) -> str:
    """Return a short name of what was measured: printable, never empty."""
    shown = label(label(_told(event)))  # what the first one has to write out gets longer
    return shown or f"type {event.type:#x}"


def _told(event: Event) -> str:
    if event.type in (EFI_VARIABLE_DRIVER_CONFIG, EFI_VARIABLE_AUTHORITY):
        return _variable(event)
    if len(event.data) > _MOST_TEXT_BYTES:
        return f"type {event.type:#x}, {len(event.data)} bytes"
    if event.type in IMAGES:
        return _image(event.data)
    if event.type in _BLOBS and len(event.data) == _BLOB_BYTES:
        base, size = (int.from_bytes(event.data[at : at + 8], "little") for at in (0, 8))
        return f"{_BLOBS[event.type]} at {base:#x}, {size} bytes"
    data = event.data
    if event.type == EVENT_TAG:
        data = data[_TAG_HEAD_BYTES:]
    return _text(data) or f"type {event.type:#x}, {len(event.data)} bytes"


def _variable(event: Event) -> str:
    variable = read_variable(event)
    if variable is None:
        return f"type {event.type:#x}, {len(event.data)} bytes"
    if event.type == EFI_VARIABLE_DRIVER_CONFIG:
        return variable.name
    value = _text(variable.value) if len(variable.value) <= _SHOWN_VALUE_BYTES else ""
    return f"authority {variable.name} {value}".rstrip()


def _text(data: bytes) -> str:
    """Return the text that the data are, in UTF-8 or UTF-16; empty where they are none.

    Of UTF-16 only what is ASCII: any bytes are some text in it.
    """
    text = _decoded(data.removesuffix(b"\0"), "utf-8")
    if text is None or "\0" in text:
        text = _decoded(data.removesuffix(bytes(_UTF16_BYTES)), "utf-16-le")
        text = text if text is not None and text.isascii() else None
    if text is None or not all(c.isprintable() or c in "\t\n" for c in text):
        return ""
    return text


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


def _image(data: bytes) -> str:
    """Return the file that an image was loaded from, or its size where no file is named."""
    try:
        cursor = Cursor(data, "little")
        _, size, _ = cursor.u64(), cursor.u64(), cursor.u64()
        path = "".join(_files(Cursor(cursor.take(cursor.u64()), "little")))
    except Malformed:
        return f"image, {len(data)} bytes of description"
    return path or f"image of {size} bytes"


def _files(cursor: Cursor) -> Iterator[str]:
    """Yield the file names in a device path."""
    while cursor.position < len(cursor.data):
        kind, size = (cursor.u8(), cursor.u8()), cursor.u16()
        if size < _NODE_HEAD_BYTES:
            raise Malformed(f"expected a node of {_NODE_HEAD_BYTES} bytes or more, got {size}")
        rest = cursor.take(size - _NODE_HEAD_BYTES)
        if kind == _MEDIA_FILE_PATH:
            yield _text(rest)
