"""The kernel's binary measurement list: records and the fields of their templates.

Source: Linux security/integrity/ima, ima_fs.c (`ima_measurements_show`), ima_template.c and
ima_template_lib.c, read at 6.12. Numbers are little endian, as on every little-endian machine
and with `ima_canonical_fmt` on the others. The ASCII list is no evidence: spaces and newlines
in file names make it ambiguous (`evidence.ima_ascii`).
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from evidence.cursor import Cursor
from evidence.malformed import Malformed

MOST_NAME_BYTES = 128
"""Longer than any template name or field list that the kernel accepts (about 70)."""
MOST_DATA_BYTES = 1 << 20
"""A record holds a path (4096), a signature or a critical-data buffer; 1 MiB is generous."""
MOST_REGISTER = 63
"""The kernel parses pcr= from 0 to 63."""

SHA1_BYTES = 20
LIST_HASHES = {"sha1": SHA1_BYTES, "sha256": 32, "sha384": 48, "sha512": 64, "sm3": 32}
"""Bytes of a template hash, by the algorithm of the list that it stands in.

The list that every kernel has carries SHA-1, whatever banks the TPM has. Kernels from 6.10 on
have one more list per bank. No record says which of them it comes from.
"""

LEGACY = "ima"
"""The first template: SHA-1 and a name, with lengths and padding of its own."""
MOST_LEGACY_NAME_BYTES = 255
"""IMA_EVENT_NAME_LEN_MAX; the hash covers the name, NUL-padded to one byte more."""

TEMPLATES = {
    LEGACY: ("d", "n"),
    "ima-ng": ("d-ng", "n-ng"),
    "ima-sig": ("d-ng", "n-ng", "sig"),
    "ima-buf": ("d-ng", "n-ng", "buf"),
    "ima-modsig": ("d-ng", "n-ng", "sig", "d-modsig", "modsig"),
    "evm-sig": (
        "d-ng", "n-ng", "evmsig", "xattrnames", "xattrlengths", "xattrvalues", "iuid", "igid",
        "imode",
    ),
    "ima-ngv2": ("d-ngv2", "n-ng"),
    "ima-sigv2": ("d-ngv2", "n-ng", "sig"),
}  # fmt: skip
"""Fields of every template that kernels have had (ima_template.c, `builtin_templates`)."""

EVIDENCE_TEMPLATES = ("ima-ng", "ima-sig", "ima-buf", "ima-ngv2", "ima-sigv2")
"""Those that nodes may send; the others are read by the tools for people who have files."""

DIGEST_FIELDS = ("d", "d-ng", "d-ngv2")
NAME_FIELDS = ("n", "n-ng")
FIELDS = frozenset(field for fields in TEMPLATES.values() for field in fields)
"""What a custom `ima_template_fmt` may name too."""
NUMBER_BYTES = {"iuid": 4, "igid": 4, "imode": 2}
"""Fields that hold a number, or nothing: its length."""

DIGEST_BYTES = {
    "md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64, "sm3": 32,
    "sm3-256": 32,
}  # fmt: skip
"""Length of a digest, by the kernel's name of its algorithm (crypto/hash_info.c).

`sm3-256` is how kernels before 5.16 write `sm3`.
"""

_DIGEST = {
    "d-ng": re.compile(rb"([a-z0-9_-]{1,16}):\0(.*)", re.DOTALL),
    "d-ngv2": re.compile(rb"(ima|verity):([a-z0-9_-]{1,16}):\0(.*)", re.DOTALL),
}


def hash_of(algorithm: str, data: bytes) -> bytes | None:
    """Return the hash, by the kernel's name of its algorithm; None where nobody can compute it."""
    name = "sm3" if algorithm == "sm3-256" else algorithm
    try:
        return hashlib.new(name, data, usedforsecurity=False).digest()
    except ValueError:
        return None


def fields_of(template: str) -> tuple[str, ...] | None:
    """Return the fields of a template or of a custom format (`d-ng|n-ng`); None of another name.

    Where the kernel has a custom format, the list has it in the place of the template's name.
    """
    if template in TEMPLATES:
        return TEMPLATES[template]
    fields = tuple(template.split("|"))
    return fields if set(fields) <= FIELDS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record of the list, its template data verbatim."""

    register: int
    template_hash: bytes
    """Hash over `hashed`, by the list's algorithm; zero for a violation."""
    template: str
    """Or the custom format; covered by no hash."""
    data: bytes
    """Template data: for each field a 32-bit length and that many bytes.

    Of `ima`: 20 bytes of SHA-1, a 32-bit length and a name without NUL.
    """

    @property
    def is_violation(self) -> bool:
        """Whether the kernel could not vouch for what it measured."""
        return not any(self.template_hash)

    @property
    def hashed(self) -> bytes:
        """What the template hash covers (ima_crypto.c, `ima_calc_field_array_hash_tfm`)."""
        if self.template != LEGACY:
            return self.data
        digest, name = read_legacy(Cursor(self.data, "little"))
        return digest + name.ljust(MOST_LEGACY_NAME_BYTES + 1, b"\0")

    def encode(self) -> bytes:
        """Return the record as the kernel writes it."""
        name = self.template.encode("ascii")
        parts = (self.register.to_bytes(4, "little"), self.template_hash, _field(name))
        return b"".join((*parts, self.data if self.template == LEGACY else _field(self.data)))

    def extension(self, bank: str) -> bytes:
        """Return what the kernel extends the register with in the bank `bank` ("sha256")."""
        if self.is_violation:
            return b"\xff" * hashlib.new(bank).digest_size
        return hashlib.new(bank, self.hashed).digest()

    def padded_extension(self, bank: str) -> bytes:
        """Return the same where the kernel cannot compute the bank's algorithm: SHA-1 and zeros.

        Before 5.8 that is every bank but SHA-1; later those whose algorithm was a module that
        was not loaded when IMA started (SHA-384 and SHA-512 of Debian's 6.1).
        """
        return self.extension("sha1").ljust(hashlib.new(bank).digest_size, b"\0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What a digest field holds; the algorithm's name may be anybody's."""

    algorithm: str
    digest: bytes
    is_verity: bool = False


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
    """The measured bytes, where the template has such a field."""


def _field(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data


def read_records(data: bytes, *, template_hash_bytes: int = SHA1_BYTES) -> Iterator[Record]:
    """Yield the records in `data`; raise Malformed at the first that is none."""
    cursor = Cursor(data, "little")
    while not cursor.is_at_end():
        yield _read_record(cursor, template_hash_bytes)


def _read_record(cursor: Cursor, template_hash_bytes: int) -> Record:
    register = cursor.u32()
    if register > MOST_REGISTER:
        swapped = int.from_bytes(register.to_bytes(4, "little"), "big")
        hint = "; is this list of a big-endian machine?" if swapped <= MOST_REGISTER else ""
        raise Malformed(f"expected a register up to {MOST_REGISTER}, got {register}{hint}")
    template_hash = cursor.take(template_hash_bytes)
    template = _template_name(cursor.sized(4, MOST_NAME_BYTES))
    if template == LEGACY:
        digest, path = read_legacy(cursor)
        data = digest + _field(path)
    else:
        data = cursor.sized(4, MOST_DATA_BYTES)
    return Record(register=register, template_hash=template_hash, template=template, data=data)


@lru_cache(maxsize=64)
def _template_name(name: bytes) -> str:
    if not re.fullmatch(rb"[!-~]+", name):
        raise Malformed(f"expected the name of a template, got {name!r}")
    return name.decode("ascii")


def read_legacy(cursor: Cursor) -> tuple[bytes, bytes]:
    """Return digest and name. A NUL in the name would be one with the padding in the hash."""
    digest = cursor.take(SHA1_BYTES)
    name = cursor.sized(4, MOST_LEGACY_NAME_BYTES)
    if b"\0" in name:
        raise Malformed(f"expected a name without NUL, got {name[:24]!r}")
    return digest, name


def encode_template(
    template: str, *, algorithm: str, digest: bytes, path: bytes, last: bytes = b""
) -> bytes:
    """Return template data, for those who make lists: `last` is the third field, if any."""
    prefix = b"ima:" if TEMPLATES[template][0] == "d-ngv2" else b""
    fields = [prefix + algorithm.encode() + b":\0" + digest, path + b"\0", last]
    return encode_values(template, fields[: len(TEMPLATES[template])])


def encode_values(template: str, values: Sequence[bytes]) -> bytes:
    """Return template data with these values, a name among them ending with NUL."""
    if template == LEGACY:
        digest, name = values
        return digest + _field(name.removesuffix(b"\0"))
    return b"".join(_field(one) for one in values)


def read_values(record: Record) -> tuple[tuple[str, bytes], ...]:
    """Return field names and values of `record`, which is no violation; else raise Malformed.

    The name of a template is not covered by any hash; only its strict reading here keeps one
    from passing as another.
    """
    values = _split(record)
    for field, value in values:
        if field in DIGEST_FIELDS:
            read_digest(field, value)
        else:
            _check_value(field, value)
    return tuple(values)


def _split(record: Record) -> list[tuple[str, bytes]]:
    """Return field names and values, of whatever form the values are."""
    fields = fields_of(record.template)
    if fields is None:
        raise Malformed(f"expected one of {sorted(TEMPLATES)}, got {record.template!r}")
    cursor = Cursor(record.data, "little")
    if record.template == LEGACY:
        digest, name = read_legacy(cursor)
        values = [digest, name + b"\0"]
    else:
        values = [cursor.sized(4, MOST_DATA_BYTES) for _ in fields]
    cursor.end()
    return list(zip(fields, values, strict=True))


def _check_value(field: str, value: bytes) -> None:
    """Raise Malformed unless the value, of a field that is no digest, has the form of it."""
    # Numbers are of an inode, which boot_aggregate and critical data have none of
    # (ima_template_lib.c, `ima_eventinodedac_init_common`).
    is_optional = field in ("d-modsig", "xattrnames", *NUMBER_BYTES)
    if is_optional and not value:
        return
    if field == "d-modsig":
        read_digest(field, value)
    elif field in NAME_FIELDS or field == "xattrnames":
        if not value.endswith(b"\0") or b"\0" in value[:-1]:
            raise Malformed(f"expected a {field} that ends with its only NUL, got {value[:24]!r}")
    elif field in NUMBER_BYTES and len(value) != NUMBER_BYTES[field]:
        raise Malformed(f"expected {NUMBER_BYTES[field]} bytes of {field}, got {len(value)}")
    elif field == "xattrlengths" and len(value) % 4:
        raise Malformed(f"expected 32-bit lengths, got {len(value)} bytes")


def read_digest(field: str, value: bytes) -> Digest:
    """Return the digest in a field; raise Malformed unless it has the form of one."""
    if field == "d":
        return Digest(algorithm="sha1", digest=_sized_digest("sha1", value))
    match = _DIGEST["d-ng" if field == "d-modsig" else field].fullmatch(value)
    if match is None:
        raise Malformed(f"expected a digest field {field}, got {value[:24]!r}")
    *kind, name, digest = match.groups()
    algorithm = name.decode("ascii")
    return Digest(
        algorithm=algorithm,
        digest=_sized_digest(algorithm, digest),
        is_verity=kind == [b"verity"],
    )


def _sized_digest(algorithm: str, digest: bytes) -> bytes:
    size = DIGEST_BYTES.get(algorithm, len(digest))
    if len(digest) != size:
        raise Malformed(f"expected {size} bytes of digest, got {len(digest)}")
    return digest


def read_measurement(record: Record) -> Measurement:
    """Return what `record`, which is no violation, says; raise Malformed if it is not that.

    It must have one digest, of a known algorithm, and one name.
    """
    digests: list[Digest] = []
    others: dict[str, bytes] = {}
    names: list[bytes] = []
    for field, value in _split(record):
        if field in DIGEST_FIELDS:
            digests.append(read_digest(field, value))
            continue
        if field in NAME_FIELDS:
            names.append(value)
        _check_value(field, value)
        others[field] = value
    if len(digests) != 1 or len(names) != 1:
        raise Malformed(f"expected one digest and one name, got {record.template!r}")
    digest = digests[0]
    if digest.algorithm not in DIGEST_BYTES:
        raise Malformed(f"expected a known digest algorithm, got {digest.algorithm!r}")
    return Measurement(
        algorithm=digest.algorithm,
        digest=digest.digest,
        is_verity=digest.is_verity,
        path=names[0][:-1],
        signature=others.get("sig", b""),
        buffer=others.get("buf"),
    )
