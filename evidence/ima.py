"""The kernel's binary measurement list: records and the fields of their templates.

Source: Linux security/integrity/ima, ima_fs.c (`ima_measurements_show`), ima_template.c and
ima_template_lib.c, read at 6.12. Numbers are little endian, as on every little-endian machine
and with `ima_canonical_fmt` on the others. The ASCII list is never read: spaces and newlines
in file names make it ambiguous.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from evidence.cursor import Cursor
from evidence.malformed import Malformed

MOST_NAME_BYTES = 128
"""Longer than any template name or field list that the kernel accepts (about 70)."""
MOST_DATA_BYTES = 1 << 20
"""A record holds a path (4096), a signature or a critical-data buffer; 1 MiB is generous."""
MOST_REGISTER = 63
"""The kernel parses pcr= from 0 to 63."""

TEMPLATE_HASH_BYTES = 20
"""The list that every kernel has carries SHA-1 template hashes, whatever banks the TPM has."""
VIOLATION = bytes(TEMPLATE_HASH_BYTES)
"""The template hash of a violation; the register is then extended with 0xff."""

TEMPLATES = {
    "ima-ng": ("d-ng", "n-ng"),
    "ima-sig": ("d-ng", "n-ng", "sig"),
    "ima-buf": ("d-ng", "n-ng", "buf"),
    "ima-ngv2": ("d-ngv2", "n-ng"),
    "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
}
"""Fields of the templates that are read here."""

DIGEST_BYTES = {"sha1": 20, "md5": 16, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64}
"""Length of a digest, by the kernel's name of its algorithm (crypto/hash_info.c)."""

_DIGEST = {
    "d-ng": re.compile(rb"([a-z0-9_-]{1,16}):\0(.*)", re.DOTALL),
    "d-ngv2": re.compile(rb"(ima|verity):([a-z0-9_-]{1,16}):\0(.*)", re.DOTALL),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of the list, its template data verbatim."""

    register: int
    template_hash: bytes
    """SHA-1 over `data`, 20 bytes; zero for a violation."""
    template: str
    data: bytes
    """Template data: for each field a 32-bit length and that many bytes."""

    @property
    def is_violation(self) -> bool:
        """Whether the kernel could not vouch for what it measured."""
        return self.template_hash == VIOLATION

    def encode(self) -> bytes:
        """Return the record as the kernel writes it."""
        name = self.template.encode("ascii")
        parts = (self.register.to_bytes(4, "little"), self.template_hash)
        return b"".join((*parts, _field(name), _field(self.data)))

    def extension(self, bank: str) -> bytes:
        """Return what the kernel extends the register with in the bank `bank` ("sha256")."""
        if self.is_violation:
            return b"\xff" * hashlib.new(bank).digest_size
        return hashlib.new(bank, self.data).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a record says: these bytes, under this name."""

    algorithm: str
    """The kernel's name of the digest's algorithm."""
    digest: bytes
    is_verity: bool
    """The digest is fs-verity's, not the hash of the file's bytes."""
    path: bytes
    """A label of the first accessor's mount namespace, spaces turned to `_`; never evidence."""
    signature: bytes
    """security.ima, empty where the file has none or the template has no such field."""
    buffer: bytes | None
    """The measured bytes of an `ima-buf` record."""


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def read_records(data: bytes) -> Iterator[Record]:
    """Yield the records in `data`; raise Malformed at the first that is none."""
    cursor = Cursor(data, "little")
    while not cursor.is_at_end():
        yield _read_record(cursor)


def _read_record(cursor: Cursor) -> Record:
    register = cursor.u32()
    if register > MOST_REGISTER:
        raise Malformed(f"expected a register up to {MOST_REGISTER}, got {register}")
    template_hash = cursor.take(TEMPLATE_HASH_BYTES)
    name = cursor.sized(4, MOST_NAME_BYTES)
    if not re.fullmatch(rb"[!-~]+", name):
        raise Malformed(f"expected the name of a template, got {name!r}")
    if name == b"ima":
        raise Malformed("the legacy template ima has SHA-1 digests only and is not read")
    return Record(
        register=register,
        template_hash=template_hash,
        template=name.decode("ascii"),
        data=cursor.sized(4, MOST_DATA_BYTES),
    )


def encode_template(
    template: str, *, algorithm: str, digest: bytes, path: bytes, last: bytes = b""
) -> bytes:
    """Return template data, for those who make lists: `last` is the third field, if any."""
    prefix = b"ima:" if TEMPLATES[template][0] == "d-ngv2" else b""
    fields = [prefix + algorithm.encode() + b":\0" + digest, path + b"\0", last]
    return b"".join(_field(one) for one in fields[: len(TEMPLATES[template])])


def read_measurement(record: Record) -> Measurement:
    """Return what `record`, which is no violation, says; raise Malformed if it is not that.

    The template must be one of TEMPLATES. The template's name is not covered by any hash;
    only its strict reading here keeps one template from passing as another.
    """
    if record.template not in TEMPLATES:
        raise Malformed(f"expected one of {sorted(TEMPLATES)}, got {record.template!r}")
    fields = TEMPLATES[record.template]
    cursor = Cursor(record.data, "little")
    values = dict(zip(fields, (cursor.sized(4, MOST_DATA_BYTES) for _ in fields), strict=True))
    cursor.end()
    algorithm, digest, is_verity = _read_digest(fields[0], values[fields[0]])
    path = values["n-ng"]
    if not path.endswith(b"\0") or b"\0" in path[:-1]:
        raise Malformed("expected a path that ends with its only NUL")
    return Measurement(
        algorithm=algorithm,
        digest=digest,
        is_verity=is_verity,
        path=path[:-1],
        signature=values.get("sig", b""),
        buffer=values.get("buf"),
    )


def _read_digest(field: str, value: bytes) -> tuple[str, bytes, bool]:
    match = _DIGEST[field].fullmatch(value)
    if match is None:
        raise Malformed(f"expected a digest field {field}, got {value[:24]!r}")
    *kind, name, digest = match.groups()
    algorithm = name.decode("ascii")
    if algorithm not in DIGEST_BYTES:
        raise Malformed(f"expected a known digest algorithm, got {algorithm!r}")
    if len(digest) != DIGEST_BYTES[algorithm]:
        raise Malformed(f"expected {DIGEST_BYTES[algorithm]} bytes of digest, got {len(digest)}")
    return algorithm, digest, kind == [b"verity"]
