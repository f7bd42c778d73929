"""X.509 certificates (RFC 5280), as the makers of TPMs write them: bytes to frozen values.

One reader for all of them. It is as strict as DER where that decides what the bytes mean, and
lenient in what real certificates need, each of it named here:

* members of a SET in any order (Nuvoton's roots), default values written out (Intel's, ST's),
  a serial number of any form (ST's), which nothing reads, text of any length (Google's issuers);
* a key of any algorithm: what a key is good for is the judge's business (ST's RSAES-OAEP);
* the header and the padding of an NV index (`trim`), which are no part of the certificate.

Everything else is Malformed. Nothing is written again: the signed bytes are those that came.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from evidence import der
from evidence.cursor import Cursor
from evidence.der import Element
from evidence.malformed import Malformed

MOST_CERTIFICATE_BYTES = 8 << 10
"""Longest certificate that is read. EK certificates have up to 2000 bytes, an NV index 2048."""

STORED = bytes.fromhex("100100")
"""Start of TCG_PCCLIENT_STORED_CERT, which some vendors put before the DER: tag and type (TCG PC
Client Specific Implementation Specification 1.21, 7.4.5)."""
STORED_FULL = bytes.fromhex("1002")
"""Tag of a full certificate in it."""
PADDING = b"\x00\xff\x11"
"""What vendors fill an NV index up with; Nuvoton used 0x11."""

BASIC_CONSTRAINTS, KEY_USAGE, EXTENDED_KEY_USAGE = "2.5.29.19", "2.5.29.15", "2.5.29.37"
SUBJECT_ALTERNATIVE_NAME, NAME_CONSTRAINTS = "2.5.29.17", "2.5.29.30"
SUBJECT_KEY_IDENTIFIER, AUTHORITY_KEY_IDENTIFIER = "2.5.29.14", "2.5.29.35"
CERTIFICATE_POLICIES = "2.5.29.32"

DIRECTORY_NAME = 0xA4
"""Tag of a GeneralName of the form directoryName (RFC 5280, 4.2.1.6)."""

_VERSION = 0xA0
_VERSION_3, _VERSION_2 = bytes.fromhex("020102"), bytes.fromhex("020101")
_TAGGED = 0x80
_LEAST_FIELDS, _MOST_FIELDS = 7, 10
"""Of the signed part: all but unique identifiers and extensions, which may be missing."""
_UNIQUE_IDS = (0x81, 0x82)
_EXTENSIONS = 0xA3
_KEY_IDENTIFIER = 0x80
_PERMITTED, _EXCLUDED = 0xA0, 0xA1

_PIVOT_YEAR = 50
"""UTCTime's 50 is 1950 and its 49 is 2049 (RFC 5280, 4.1.2.5.1)."""
_TIME = {
    der.UTC_TIME: re.compile(rb"([0-9]{2})" * 6 + rb"Z"),
    der.GENERALIZED_TIME: re.compile(rb"([0-9]{4})" + rb"([0-9]{2})" * 5 + rb"Z"),
}
_TEXT = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
"""UTF8String, PrintableString, TeletexString, IA5String, BMPString."""


def trim(content: bytes) -> bytes:
    """Return the DER in the content of an NV index, empty where the index holds only padding.

    Cut are a header of seven bytes before it and padding behind it. Raise Malformed on anything
    else: other bytes may be something that their writer meant.
    """
    if not content.strip(PADDING):
        return b""
    cursor = Cursor(content)
    if content.startswith(STORED):
        cursor.take(len(STORED))
        cursor.u16()
        if cursor.take(len(STORED_FULL)) != STORED_FULL:
            raise Malformed("expected a full certificate behind the header of an NV index")
    certificate = der.read_element(cursor).expect(der.SEQUENCE, "certificate").whole
    if cursor.take(len(content) - cursor.position).strip(PADDING):
        raise Malformed("expected nothing but padding behind the certificate")
    return certificate


def split(content: bytes) -> tuple[bytes, ...]:
    """Return the DER certificates that follow one another, up to what is no certificate."""
    found = []
    cursor = Cursor(content)
    try:
        while not cursor.is_at_end():
            if content[cursor.position] in PADDING:
                cursor.take(1)
                continue
            found.append(der.read_element(cursor).expect(der.SEQUENCE, "certificate").whole)
    except Malformed:
        pass
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute of a name."""

    kind: str
    """Object identifier."""
    tag: int
    """Of its value, which text is one."""
    value: bytes

    def text(self) -> str | None:
        """Return the value as text, None where it is no text or not valid in its encoding."""
        if self.tag not in _TEXT:
            return None
        try:
            return self.value.decode(_TEXT[self.tag])
        except UnicodeDecodeError:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A distinguished name."""

    der: bytes
    """Names are the same if these bytes are: issuers copy their subject."""
    parts: tuple[tuple[Attribute, ...], ...]
    """Relative names from the root on. One may have several attributes (Nuvoton, Infineon)."""

    @classmethod
    def read(cls, one: Element) -> Self:
        """Return the name in an element."""
        parts = []
        for part in one.expect(der.SEQUENCE, "name").children():
            attributes = _members(part.expect(der.SET, "relative name"), "relative name", 1, 4)
            parts.append(tuple(_attribute(attribute) for attribute in attributes))
        return cls(der=one.whole, parts=tuple(parts))

    def attributes(self) -> Iterator[Attribute]:
        """Yield every attribute."""
        for part in self.parts:
            yield from part

    def value(self, kind: str) -> str | None:
        """Return the text of the one attribute of a kind, None where there is none or more."""
        found = [one.text() for one in self.attributes() if one.kind == kind]
        return found[0] if len(found) == 1 else None


def _attribute(one: Element) -> Attribute:
    kind, value = _members(one, "attribute of a name", 2)
    return Attribute(kind=_oid(kind), tag=value.tag, value=value.content)


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneralName:
    """A name of any form: a directoryName, or what this reader leaves alone."""

    form: int
    """Its tag."""
    directory: Name | None

    @classmethod
    def read(cls, one: Element) -> Self:
        """Return the general name in an element."""
        if one.tag != DIRECTORY_NAME:
            return cls(form=one.tag, directory=None)
        (name,) = _members(one, "directory name", 1)
        return cls(form=one.tag, directory=Name.read(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a certificate says, and the bytes that its issuer signed."""

    der: bytes
    tbs: bytes
    """TBSCertificate, the signed bytes."""
    algorithm: str
    """Of the signature: object identifier."""
    parameters: bytes
    """Of that algorithm, DER; empty where there are none, or NULL (RFC 3279, 2.2)."""
    signature: bytes
    issuer: Name
    subject: Name
    not_before: datetime
    not_after: datetime
    spki: bytes
    """SubjectPublicKeyInfo, DER."""
    extensions: tuple[str, ...]
    """Which there are, each once."""
    critical: tuple[str, ...]
    """Those that a reader who does not know them must not pass over."""
    is_ca: bool
    path_length: int | None
    """How many more CAs may follow, without those that issued to themselves; None for any."""
    key_usage: frozenset[int] | None
    """Bits (RFC 5280, 4.2.1.3); None where nothing is said."""
    extended_key_usage: tuple[str, ...] | None
    alternative_names: tuple[GeneralName, ...]
    subject_key: bytes
    """Key identifier, empty where none is given; so is the next."""
    authority_key: bytes
    permitted: tuple[GeneralName, ...]
    """Where what is issued under this CA must be."""
    excluded: tuple[GeneralName, ...]
    """Where it must not be."""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the certificate in DER; raise Malformed on anything else."""
        if len(data) > MOST_CERTIFICATE_BYTES:
            raise Malformed(
                f"expected a certificate of at most {MOST_CERTIFICATE_BYTES} bytes, got {len(data)}"
            )
        outer = der.element(data, der.SEQUENCE, "certificate")
        tbs, algorithm, signature = _members(outer, "certificate", 3)
        tbs.expect(der.SEQUENCE, "signed part")
        fields = _members(tbs, "signed part", _LEAST_FIELDS, _MOST_FIELDS)
        version, serial, inner, issuer, validity, subject, key, *rest = fields
        if version.tag != _VERSION or version.content != _VERSION_3:
            raise Malformed("expected a certificate of version 3")
        serial.expect(der.INTEGER, "serial number")
        if inner.whole != algorithm.whole:
            raise Malformed("expected one signature algorithm, got two")
        algorithm_oid, parameters = _algorithm(algorithm)
        not_before, not_after = _members(validity, "validity", 2)
        extensions = _extensions(rest)
        values = {kind: value for kind, _, value in extensions}
        is_ca, path_length = _basic_constraints(values)
        permitted, excluded = _name_constraints(values)
        return cls(
            der=data,
            tbs=tbs.whole,
            algorithm=algorithm_oid,
            parameters=parameters,
            signature=der.octets(signature.expect(der.BIT_STRING, "signature").content),
            issuer=Name.read(issuer),
            subject=Name.read(subject),
            not_before=_time(not_before),
            not_after=_time(not_after),
            spki=key.expect(der.SEQUENCE, "public key").whole,
            extensions=tuple(values),
            critical=tuple(kind for kind, is_critical, _ in extensions if is_critical),
            is_ca=is_ca,
            path_length=path_length,
            key_usage=_key_usage(values),
            extended_key_usage=_extended_key_usage(values),
            alternative_names=_alternative_names(values),
            subject_key=_subject_key(values),
            authority_key=_authority_key(values),
            permitted=permitted,
            excluded=excluded,
        )


def is_attribute_certificate(data: bytes) -> bool:
    """Say whether the DER is an attribute certificate (RFC 5755, 4.1), as of a platform.

    Its signed part starts with a version of 2 and a holder, which has tagged parts only.
    """
    try:
        outer = der.element(data, der.SEQUENCE, "certificate")
        version, holder, *_ = outer.children()[0].children()
        parts = holder.expect(der.SEQUENCE, "holder").children()
    except (Malformed, IndexError, ValueError):
        return False
    return version.whole == _VERSION_2 and all(part.tag & _TAGGED for part in parts)


def _members(one: Element, what: str, least: int, most: int | None = None) -> tuple[Element, ...]:
    """Return the elements in an element, from `least` to `most` of them, by default `least`."""
    found = one.children()
    if not least <= len(found) <= (most or least):
        raise Malformed(f"{what}: expected {least} to {most or least} members, got {len(found)}")
    return found


def _oid(one: Element) -> str:
    return der.oid(one.expect(der.OID, "object identifier").content)


def _algorithm(one: Element) -> tuple[str, bytes]:
    kind, *rest = _members(one.expect(der.SEQUENCE, "algorithm"), "algorithm", 1, 2)
    parameters = b"".join(part.whole for part in rest)
    return _oid(kind), b"" if parameters == der.encode(der.NULL, b"") else parameters


def _time(one: Element) -> datetime:
    pattern = _TIME.get(one.tag)
    match = pattern.fullmatch(one.content) if pattern else None
    if match is None:
        raise Malformed("expected a time in UTC, to the second")
    year, month, day, hour, minute, second = (int(number) for number in match.groups())
    if one.tag == der.UTC_TIME:
        year += 1900 if year >= _PIVOT_YEAR else 2000
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise Malformed(f"expected a time: {error}") from error


# Extensions: a dictionary has the value of each by its identifier


def _extensions(fields: list[Element]) -> list[tuple[str, bool, bytes]]:
    """Return identifier, whether it is critical, and value of each extension."""
    rest = [one for one in fields if one.tag not in _UNIQUE_IDS]
    if not rest:
        return []
    if len(rest) != 1:
        raise Malformed("expected extensions, and nothing behind them")
    (sequence,) = _members(rest[0].expect(_EXTENSIONS, "extensions"), "extensions", 1)
    found = [_extension(one) for one in sequence.expect(der.SEQUENCE, "extensions").children()]
    if len({kind for kind, _, _ in found}) != len(found):
        raise Malformed("expected each extension once")
    return found


def _extension(one: Element) -> tuple[str, bool, bytes]:
    kind, *flags, value = _members(one.expect(der.SEQUENCE, "extension"), "extension", 2, 3)
    is_critical = any(der.boolean(flag.expect(der.BOOLEAN, "critical").content) for flag in flags)
    return _oid(kind), is_critical, value.expect(der.OCTET_STRING, "extension").content


Values = Mapping[str, bytes]


def _sequence(values: Values, kind: str, what: str) -> tuple[Element, ...]:
    return der.element(values[kind], der.SEQUENCE, what).children()


def _basic_constraints(values: Values) -> tuple[bool, int | None]:
    if BASIC_CONSTRAINTS not in values:
        return False, None
    is_ca, path_length = False, None
    rest = list(_sequence(values, BASIC_CONSTRAINTS, "basic constraints"))
    if rest and rest[0].tag == der.BOOLEAN:
        is_ca = der.boolean(rest.pop(0).content)
    if rest and rest[0].tag == der.INTEGER:
        path_length = der.small_number(rest.pop(0).content)
    if rest:
        raise Malformed("expected basic constraints")
    return is_ca, path_length


def _key_usage(values: Values) -> frozenset[int] | None:
    if KEY_USAGE not in values:
        return None
    return der.bits(der.element(values[KEY_USAGE], der.BIT_STRING, "key usage").content)


def _extended_key_usage(values: Values) -> tuple[str, ...] | None:
    if EXTENDED_KEY_USAGE not in values:
        return None
    return tuple(_oid(one) for one in _sequence(values, EXTENDED_KEY_USAGE, "extended key usage"))


def _alternative_names(values: Values) -> tuple[GeneralName, ...]:
    if SUBJECT_ALTERNATIVE_NAME not in values:
        return ()
    names = _sequence(values, SUBJECT_ALTERNATIVE_NAME, "alternative names")
    return tuple(GeneralName.read(one) for one in names)


def _subject_key(values: Values) -> bytes:
    if SUBJECT_KEY_IDENTIFIER not in values:
        return b""
    what = "subject key identifier"
    return der.element(values[SUBJECT_KEY_IDENTIFIER], der.OCTET_STRING, what).content


def _authority_key(values: Values) -> bytes:
    if AUTHORITY_KEY_IDENTIFIER not in values:
        return b""
    parts = _sequence(values, AUTHORITY_KEY_IDENTIFIER, "authority key identifier")
    return next((one.content for one in parts if one.tag == _KEY_IDENTIFIER), b"")


def _name_constraints(
    values: Values,
) -> tuple[tuple[GeneralName, ...], tuple[GeneralName, ...]]:
    if NAME_CONSTRAINTS not in values:
        return (), ()
    subtrees: dict[int, tuple[GeneralName, ...]] = {}
    for one in _sequence(values, NAME_CONSTRAINTS, "name constraints"):
        if one.tag not in (_PERMITTED, _EXCLUDED) or one.tag in subtrees:
            raise Malformed("expected permitted and excluded subtrees, each once")
        subtrees[one.tag] = tuple(_subtree(base) for base in one.children())
    if not any(subtrees.values()):
        raise Malformed("expected a subtree in name constraints")
    return subtrees.get(_PERMITTED, ()), subtrees.get(_EXCLUDED, ())


def _subtree(one: Element) -> GeneralName:
    """Return the base; a minimum of 0 is the default, anything else RFC 5280 forbids."""
    base, *rest = _members(one.expect(der.SEQUENCE, "subtree"), "subtree", 1, 3)
    if [part.whole for part in rest] not in ([], [b"\x80\x01\x00"]):
        raise Malformed("expected a subtree without distances")
    return GeneralName.read(base)
