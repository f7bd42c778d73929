"""The kernel's measurement list as text, for people who have such a file: never evidence.

Source: Linux security/integrity/ima, ima_fs.c (`ima_ascii_measurements_show`), read at 6.12. A
line is `PCR HASH TEMPLATE FIELD...`, single spaces between, an empty field empty. A name may hold
newlines, so what begins like no record continues the one before: whoever names files can write
lines, and only the template hash of the record that was cut short shows it.
"""

import re
from collections.abc import Iterator

from evidence.cursor import Cursor
from evidence.ima import (
    DIGEST_FIELDS,
    LEGACY,
    LIST_HASHES,
    MOST_NAME_BYTES,
    MOST_REGISTER,
    NAME_FIELDS,
    NUMBER_BYTES,
    Record,
    encode_values,
    fields_of,
    read_legacy,
)
from evidence.malformed import Malformed

_START = re.compile(
    rb"^ ?([0-9]{1,2}) ((?:[0-9a-f]{2}){%d,%d}) ([!-~]{1,%d})(?: |$)"
    % (min(LIST_HASHES.values()), max(LIST_HASHES.values()), MOST_NAME_BYTES),
    re.MULTILINE,
)


def read_ascii_records(data: bytes, *, template_hash_bytes: int) -> Iterator[Record]:
    """Yield the records in `data`, their template data rebuilt; raise Malformed at what is none.

    Nobody can rebuild the data of a template that is not known: it is left empty.
    """
    starts = list(_START.finditer(data))
    if data and (not starts or starts[0].start() != 0):
        raise Malformed(f"expected a record of a measurement list, got {data[:24]!r}")
    ends = [*(start.start() for start in starts[1:]), len(data)]
    for start, end in zip(starts, ends, strict=False):
        yield _read_record(start, data[start.end() : end].removesuffix(b"\n"), template_hash_bytes)


def template_hash_width(data: bytes) -> int:
    """Return how many bytes the template hash of the first record has."""
    start = _START.match(data)
    if start is None:
        raise Malformed(f"expected a record of a measurement list, got {data[:24]!r}")
    return len(start[2]) // 2


def _read_record(start: re.Match[bytes], text: bytes, template_hash_bytes: int) -> Record:
    register, template_hash = int(start[1]), bytes.fromhex(start[2].decode())
    template = start[3].decode()
    if register > MOST_REGISTER:
        raise Malformed(f"expected a register up to {MOST_REGISTER}, got {register}")
    if len(template_hash) != template_hash_bytes:
        raise Malformed(
            f"expected {template_hash_bytes} bytes of template hash, got {len(template_hash)}"
        )
    fields = fields_of(template)
    data = b"" if fields is None else _template_data(template, fields, text)
    return Record(register=register, template_hash=template_hash, template=template, data=data)


def _template_data(template: str, fields: tuple[str, ...], text: bytes) -> bytes:
    texts = _split(text, fields)
    values = [_value(field, one) for field, one in zip(fields, texts, strict=True)]
    data = encode_values(template, values)
    if template == LEGACY:
        read_legacy(Cursor(data, "little"))
    return data


def _split(text: bytes, fields: tuple[str, ...]) -> list[bytes]:
    """Return one text per field: spaces too many are the name's, fields too few are empty."""
    parts = text.split(b" ")
    parts.extend([b""] * (len(fields) - len(parts)))
    extra = len(parts) - len(fields)
    name = next((at for at, field in enumerate(fields) if field in NAME_FIELDS), None)
    if extra and name is None:
        raise Malformed(f"expected {len(fields)} fields, got {len(parts)}")
    if extra and name is not None:
        parts[name : name + extra + 1] = [b" ".join(parts[name : name + extra + 1])]
    return parts


def _value(field: str, text: bytes) -> bytes:
    """Return the value that the kernel shows as this text."""
    if field in NAME_FIELDS:
        if b"\0" in text:
            raise Malformed(f"expected a name without NUL, got {text[:24]!r}")
        return text + b"\0"
    if field == "xattrnames":
        return text + b"\0" if text else b""
    if field in NUMBER_BYTES:
        return _number(text, NUMBER_BYTES[field]) if text else b""
    if field != "d" and (field in DIGEST_FIELDS or field == "d-modsig"):
        kind, colon, digest = text.rpartition(b":")
        return kind + b":\0" + _hex(digest) if colon else _hex(text)
    return _hex(text)


def _number(text: bytes, size_bytes: int) -> bytes:
    if not re.fullmatch(rb"[0-9]{1,10}", text) or int(text) >= 1 << (8 * size_bytes):
        raise Malformed(f"expected a number of {size_bytes} bytes, got {text[:24]!r}")
    return int(text).to_bytes(size_bytes, "little")


def _hex(text: bytes) -> bytes:
    if not re.fullmatch(rb"(?:[0-9a-f]{2})*", text):
        raise Malformed(f"expected hexadecimal digits, got {text[:24]!r}")
    return bytes.fromhex(text.decode())
