"""Certificates of real makers are read; anything cut, bent or padded with more is Malformed."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from evidence import Malformed, der
from evidence.certificate import (
    MOST_CERTIFICATE_BYTES,
    Certificate,
    is_attribute_certificate,
    split,
    trim,
)
from tests.makers import certify, device, distinguished, found
from tests.shared_vectors import VECTORS, needs_vectors

FOLDERS = (
    "keylime/tpm_cert_store", "keylime/certs", "ibmtss/certificates", "hirs/certs",
    "go-tpm-tools/ca-certs", "go-tpm-tools/certificates", "go-tpm-tools/secure-boot",
    "generated-swtpm",
)  # fmt: skip
SUFFIXES = {".pem", ".crt", ".cer", ".der"}

ROOT = found("root")
EK = certify(ROOT)


def certificates_in(path: Path) -> list[bytes]:
    """Return the certificates in a file of the vectors, as they are in it."""
    data = path.read_bytes()
    if b"-----BEGIN" not in data:
        return [data]
    texts = re.findall(rb"-----BEGIN CERTIFICATE-----(.*?)-----END", data, re.DOTALL)
    return [base64.b64decode(text) for text in texts]


def vectors() -> Iterator[tuple[str, bytes]]:
    for folder in FOLDERS if VECTORS.is_dir() else ():
        for path in sorted((VECTORS / folder).iterdir()):
            if path.suffix in SUFFIXES:
                for one in certificates_in(path):
                    yield f"{folder}/{path.name}", one


def is_read_by_cryptography(data: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        return False
    return True


@needs_vectors
def test_every_certificate_of_the_vectors_is_read() -> None:
    refused = []
    for name, data in vectors():
        trimmed = trim(data)
        assert Certificate.decode(trimmed).der == trimmed
        refused += [] if is_read_by_cryptography(trimmed) else [name]
    nuvoton = [one for one in refused if re.search(r"NTC\d|NUVO_|NuvotonTPMRootCA", one)]
    assert "hirs/certs/stmtpmekint02.pem" in refused
    assert len(nuvoton) == 13, "all of Nuvoton's roots of before 2021"
    assert len(list(vectors())) > 150


@needs_vectors
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_where_the_strict_parser_reads_one_too_both_say_the_same() -> None:
    compared = 0
    for _, data in vectors():
        trimmed = trim(data)
        if not is_read_by_cryptography(trimmed):
            continue
        ours, theirs = Certificate.decode(trimmed), x509.load_der_x509_certificate(trimmed)
        assert ours.tbs == theirs.tbs_certificate_bytes
        assert ours.signature == theirs.signature
        assert ours.algorithm == theirs.signature_algorithm_oid.dotted_string
        assert ours.not_before == theirs.not_valid_before_utc
        assert ours.not_after == theirs.not_valid_after_utc
        assert ours.issuer.der == theirs.issuer.public_bytes()
        assert ours.subject.der == theirs.subject.public_bytes()
        assert_same_extensions(ours, theirs)
        compared += 1
    assert compared > 120


def assert_same_extensions(ours: Certificate, theirs: x509.Certificate) -> None:
    extensions = {one.oid.dotted_string: one for one in theirs.extensions}
    assert set(ours.extensions) == set(extensions)
    assert set(ours.critical) == {oid for oid, one in extensions.items() if one.critical}
    for one in extensions.values():
        value = one.value
        if isinstance(value, x509.BasicConstraints):
            assert (ours.is_ca, ours.path_length) == (value.ca, value.path_length)
        if isinstance(value, x509.ExtendedKeyUsage):
            assert ours.extended_key_usage == tuple(oid.dotted_string for oid in value)
        if isinstance(value, x509.SubjectKeyIdentifier):
            assert ours.subject_key == value.digest
        if isinstance(value, x509.AuthorityKeyIdentifier):
            assert ours.authority_key == (value.key_identifier or b"")
        if isinstance(value, x509.KeyUsage):
            assert ours.key_usage is not None
            assert (5 in ours.key_usage) == value.key_cert_sign
            assert (0 in ours.key_usage) == value.digital_signature
            assert (2 in ours.key_usage) == value.key_encipherment
        if isinstance(value, x509.SubjectAlternativeName):
            names = value.get_values_for_type(x509.DirectoryName)
            assert [{(a.oid.dotted_string, a.value) for a in name} for name in names] == [
                {(a.kind, a.text()) for a in one.directory.attributes()}
                for one in ours.alternative_names
                if one.directory
            ]


@needs_vectors
def test_platform_certificates_are_told_from_those_of_keys() -> None:
    folder = VECTORS / "go-attestation" / "platform-certs"
    attributes = [path for path in sorted(folder.iterdir()) if "Signing" not in path.name]
    assert len(attributes) == 4
    for path in attributes:
        assert is_attribute_certificate(trim(path.read_bytes())), path
        with pytest.raises(Malformed):
            Certificate.decode(trim(path.read_bytes()))
    assert not any(is_attribute_certificate(trim(data)) for _, data in vectors())


SAMPLES = [
    pytest.param("keylime/certs/st_ecdsa_sha256.der", id="ST, ECC"),
    pytest.param("keylime/tpm_cert_store/NUVO_2110.pem", id="Nuvoton's root"),
    pytest.param("hirs/certs/nuc-1_tpmcert.pem", id="ST, RSAES-OAEP"),
]


@needs_vectors
@pytest.mark.parametrize("name", SAMPLES)
def test_every_truncation_of_a_real_one_is_malformed(name: str) -> None:
    (data,) = certificates_in(VECTORS / name)
    for end in range(len(trim(data))):
        with pytest.raises(Malformed):
            Certificate.decode(data[:end])


@needs_vectors
@pytest.mark.parametrize("name", SAMPLES)
def test_no_changed_byte_of_a_real_one_makes_another_error(name: str) -> None:
    (data,) = certificates_in(VECTORS / name)
    data = trim(data)
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            try:
                read = Certificate.decode(bytes(changed))
            except Malformed:
                continue
            parts = (read.tbs, read.signature, read.algorithm, read.parameters)
            honest = Certificate.decode(data)
            assert parts != (honest.tbs, honest.signature, honest.algorithm, honest.parameters)


@given(st.binary(max_size=200))
def test_no_bytes_make_another_error(data: bytes) -> None:
    with pytest.raises(Malformed):
        Certificate.decode(data)
    assert split(data) is not None
    try:
        trim(data)
    except Malformed:
        return


# What an NV index adds


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(EK, EK, id="bare"),
        pytest.param(EK + b"\xff" * 40, EK, id="filled with ones"),
        pytest.param(EK + b"\0" * 40, EK, id="filled with zeros"),
        pytest.param(EK + b"\x11" * 192, EK, id="filled as Nuvoton did"),
        pytest.param(bytes.fromhex("10010004641002") + EK, EK, id="TPM 1.2 header"),
        pytest.param(b"\xff" * 300, b"", id="never written"),
        pytest.param(b"", b"", id="empty"),
    ],
)
def test_trimming(content: bytes, expected: bytes) -> None:
    assert trim(content) == expected


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(EK + b"rest", id="something behind"),
        pytest.param(EK + b"\xff\x01\xff", id="something in the padding"),
        pytest.param(EK + EK, id="two"),
        pytest.param(EK[:-1], id="cut short"),
        pytest.param(b"\0" + EK, id="padding before"),
        pytest.param(bytes.fromhex("10010004641003") + EK, id="header of something else"),
        pytest.param(bytes.fromhex("1001000464") + EK, id="part of the header"),
        pytest.param(b"junk", id="junk"),
    ],
)
def test_nothing_else_is_trimmed(content: bytes) -> None:
    with pytest.raises(Malformed):
        trim(content)


def test_certificates_one_after_the_other() -> None:
    assert split(EK + ROOT.der + b"\xff" * 9) == (EK, ROOT.der)
    assert split(EK + b"\xff" * 9 + ROOT.der) == (EK, ROOT.der)
    assert split(EK + ROOT.der[:-1]) == (EK,)
    assert split(b"") == ()
    assert split(b"junk") == ()


# What is not DER, or no certificate


def parts(data: bytes) -> list[bytes]:
    return [one.whole for one in der.element(data, der.SEQUENCE, "").children()]


def rebuilt(fields: list[bytes]) -> bytes:
    """Return the EK's certificate with these fields in its signed part."""
    _, *rest = parts(EK)
    return der.encode(der.SEQUENCE, der.encode(der.SEQUENCE, b"".join(fields)) + b"".join(rest))


FIELDS = parts(parts(EK)[0])
VERSION, SERIAL, ALGORITHM, ISSUER, VALIDITY, SUBJECT, KEY, EXTENSIONS = FIELDS


def test_the_parts_fit_together() -> None:
    assert rebuilt(FIELDS) == EK


def extension(oid: str, value: bytes, *critical: bytes) -> bytes:
    encoded = x509.ObjectIdentifier(oid)
    body = der.encode(der.OID, _oid_bytes(encoded.dotted_string)) + b"".join(critical)
    return der.encode(der.SEQUENCE, body + der.encode(der.OCTET_STRING, value))


def _oid_bytes(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    content = b""
    for arc in (40 * first + second, *rest):
        digits = [arc & 0x7F]
        while arc := arc >> 7:
            digits.insert(0, arc & 0x7F | 0x80)
        content += bytes(digits)
    return content


def extensions(*ones: bytes) -> bytes:
    return der.encode(0xA3, der.encode(der.SEQUENCE, b"".join(ones)))


FIVE = [
    x509.NameAttribute(x509.ObjectIdentifier(f"2.23.133.2.{number}"), "x") for number in range(5)
]
LONG_OID = der.encode(der.SEQUENCE, der.encode(der.OID, b"\x81" * 64 + b"\x01"))
TIME = b"\x17\x0d200101000000Z"
CONSTRAINTS = extension("2.5.29.19", bytes.fromhex("30030101ff"))


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(FIELDS[1:], id="version 1"),
        pytest.param([bytes.fromhex("a003020101"), *FIELDS[1:]], id="version 2"),
        pytest.param(FIELDS[:-2], id="no key"),
        pytest.param([], id="nothing"),
        pytest.param([*FIELDS, EXTENSIONS], id="extensions twice"),
        pytest.param([*FIELDS, b"\x05\0"], id="something behind the extensions"),
        pytest.param([*FIELDS[:7], extensions(CONSTRAINTS, CONSTRAINTS)], id="one twice"),
        pytest.param([*FIELDS[:2], KEY, *FIELDS[3:]], id="two algorithms"),
        pytest.param([*FIELDS[:4], der.encode(0x30, TIME), *FIELDS[5:]], id="one time"),
        pytest.param(
            [*FIELDS[:4], der.encode(0x30, TIME + b"\x17\x0b2001010000Z"), *FIELDS[5:]],
            id="no seconds",
        ),
        pytest.param(
            [*FIELDS[:4], der.encode(0x30, TIME + b"\x17\x0d209901000000Z"), *FIELDS[5:]],
            id="month 99",
        ),
        pytest.param(
            [*FIELDS[:4], der.encode(0x30, TIME + b"\x17\x11200101000000+0100"), *FIELDS[5:]],
            id="another time zone",
        ),
        pytest.param([*FIELDS[:3], b"\x30\x02\x31\x00", *FIELDS[4:]], id="empty relative name"),
        pytest.param([VERSION, b"\x04\x01\x01", *FIELDS[2:]], id="serial number of bytes"),
    ],
)
def test_signed_parts_that_are_none(fields: list[bytes]) -> None:
    with pytest.raises(Malformed):
        Certificate.decode(rebuilt(fields))


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(extension("2.5.29.19", b"\x30\x00" + b"\0"), id="something behind"),
        pytest.param(extension("2.5.29.19", b"\x30\x04\x02\x02\xff\xff"), id="negative length"),
        pytest.param(extension("2.5.29.19", b"\x30\x02\x05\x00"), id="constraints of NULL"),
        pytest.param(extension("2.5.29.19", b"\x30\x00", b"\x01\x02\0\0"), id="long boolean"),
        pytest.param(extension("2.5.29.19", b"\x30\x00", b"\x05\x00"), id="critical is NULL"),
        pytest.param(extension("2.5.29.15", b"\x03\x00"), id="no bits"),
        pytest.param(extension("2.5.29.15", b"\x03\x02\x08\x00"), id="eight spare bits"),
        pytest.param(extension("2.5.29.37", b"\x30\x02\x05\x00"), id="usage of NULL"),
        pytest.param(extension("2.5.29.37", b"\x30\x03\x06\x01\x80"), id="endless identifier"),
        pytest.param(extension("2.5.29.37", b"\x30\x04\x06\x02\x80\x01"), id="long identifier"),
        pytest.param(extension("2.5.29.17", b"\x30\x02\xa4\x00"), id="directory name of nothing"),
        pytest.param(extension("2.5.29.30", b"\x30\x00"), id="constraints on nothing"),
        pytest.param(extension("2.5.29.30", b"\x30\x02\xa0\x00"), id="permitted nothing"),
        pytest.param(
            extension("2.5.29.30", bytes.fromhex("300ba009300782017880010181")), id="distances"
        ),
        pytest.param(der.encode(der.SEQUENCE, b""), id="extension of nothing"),
    ],
)
def test_extensions_that_are_none(one: bytes) -> None:
    with pytest.raises(Malformed):
        Certificate.decode(rebuilt([*FIELDS[:7], extensions(one)]))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x30\x80" + EK[4:] + b"\0\0", id="indefinite length"),
        pytest.param(b"\x30\x83\x00" + EK[2:], id="length with a zero before it"),
        pytest.param(b"\x30\x84\x00\x00" + EK[2:], id="length of four bytes"),
        pytest.param(b"\x3f\x30" + EK[1:], id="tag of two bytes"),
        pytest.param(EK + b"\0", id="padded"),
        pytest.param(b"\x31" + EK[1:], id="a set"),
        pytest.param(der.encode(der.SEQUENCE, EK[4:] + b"\x05\0"), id="four members"),
    ],
)
def test_other_encodings_than_der(data: bytes) -> None:
    with pytest.raises(Malformed):
        Certificate.decode(data)


def test_a_signature_of_whole_bytes() -> None:
    *start, signature = parts(EK)
    content = der.element(signature, der.BIT_STRING, "").content
    for spare in (1, 7, 8, 255):
        bent = der.encode(der.BIT_STRING, bytes([spare]) + content[1:])
        with pytest.raises(Malformed):
            Certificate.decode(der.encode(der.SEQUENCE, b"".join([*start, bent])))


@pytest.mark.attack(
    number=101, attacker="the owner of another TPM", asset="the verifier's time and memory"
)
def test_101_a_name_of_ten_thousand_bytes_is_not_read() -> None:
    data = certify(ROOT, device=device(model="x" * 10_000))
    assert len(data) > MOST_CERTIFICATE_BYTES
    with pytest.raises(Malformed, match="at most"):
        Certificate.decode(data)


@pytest.mark.attack(
    number=101, attacker="the owner of another TPM", asset="the verifier's time and memory"
)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(certify(ROOT, subject=distinguished(*["x"] * 33)), id="parts of a name"),
        pytest.param(
            certify(ROOT, device=x509.Name([x509.RelativeDistinguishedName(FIVE)])),
            id="attributes of a part",
        ),
        pytest.param(
            certify(ROOT, names=[x509.DNSName(f"{n}.example") for n in range(33)]), id="names"
        ),
        pytest.param(rebuilt([*FIELDS[:7], extensions(*[CONSTRAINTS] * 33)]), id="extensions"),
        pytest.param(
            rebuilt([*FIELDS[:7], extensions(extension("2.5.29.37", LONG_OID))]), id="identifier"
        ),
    ],
)
def test_101_more_parts_than_any_certificate_has(data: bytes) -> None:
    """What takes long to read is not read."""
    with pytest.raises(Malformed, match=r"at most|members"):
        Certificate.decode(data)


def test_what_vendors_write_out_is_read() -> None:
    """Defaults, true as 01, a set in another order: they mean the same."""
    written_out = extension("2.5.29.19", bytes.fromhex("3003010100"), b"\x01\x01\x00")
    read = Certificate.decode(rebuilt([*FIELDS[:7], extensions(written_out)]))
    assert (read.is_ca, read.critical) == (False, ())
    loud = extension("2.5.29.19", bytes.fromhex("3003010101"), b"\x01\x01\x01")
    read = Certificate.decode(rebuilt([*FIELDS[:7], extensions(loud)]))
    assert (read.is_ca, read.critical) == (True, ("2.5.29.19",))


def test_the_last_moment_of_the_year_9999() -> None:
    times = der.encode(der.SEQUENCE, TIME + b"\x18\x0f99991231235959Z")
    read = Certificate.decode(rebuilt([*FIELDS[:4], times, *FIELDS[5:]]))
    assert read.not_after.year == 9999
    assert read.not_before.year == 2020


def test_text_that_is_none_has_no_text() -> None:
    attribute = Certificate.decode(EK).issuer.parts[0][0]
    assert attribute.text() == "root"
    assert type(attribute)(kind="2.5.4.3", tag=0x0C, value=b"\xff").text() is None
    assert type(attribute)(kind="2.5.4.3", tag=0x04, value=b"x").text() is None


def test_unique_identifiers_are_passed_over() -> None:
    read = Certificate.decode(rebuilt([*FIELDS[:7], b"\x81\x02\x00\x01", EXTENSIONS]))
    assert read.extended_key_usage == ("2.23.133.8.1",)


def test_der_round_trips() -> None:
    for size in (0, 127, 128, 255, 256, 65535, 65536):
        data = der.encode(der.OCTET_STRING, bytes(size))
        assert der.element(data, der.OCTET_STRING, "").content == bytes(size)
    key = serialization.load_der_public_key(KEY)
    assert key is not None
