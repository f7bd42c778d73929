"""Files of certificates: DER or PEM, with what an NV index adds to them."""

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from evidence import Malformed
from evidence.certificate import STORED, Certificate, trim
from verifier.reasons import Finding, Reason, label, printable

MOST_FILE_BYTES = 1 << 20
"""Of one file, which may be a bundle of many in PEM."""

_BEGIN = b"-----BEGIN CERTIFICATE-----"
_OTHER = b"-----BEGIN "
_DER = (b"\x30\x81", b"\x30\x82", STORED)
"""How a certificate in DER begins, or the content of an NV index: PEM in one of its names is not
to be taken for it."""
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([^-]*)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """The certificates in a directory."""

    certificates: tuple[Certificate, ...]
    findings: tuple[Finding, ...]
    """Files that are none."""


def read_folder(directory: Path) -> Folder:
    """Return what is in the files of a directory, in the order of their names.

    Directories in it are left out; whatever else is no file is not opened, which could wait.
    """
    certificates: list[Certificate] = []
    findings = []
    for path in sorted(directory.iterdir()):
        if path.is_dir():
            continue
        try:
            certificates += _read_all(path)
        except (Malformed, OSError) as error:
            finding = Finding(
                reason=Reason.EK_FILE,
                what=printable(str(path)),
                expected="certificates, DER or PEM",
                found=label(str(error)),
            )
            findings.append(finding)
    return Folder(certificates=tuple(certificates), findings=tuple(findings))


def _read_all(path: Path) -> Iterator[Certificate]:
    if not path.is_file():
        raise Malformed("neither a file nor a link to one")
    return map(Certificate.decode, read_file(path))


def read_file(path: Path) -> tuple[bytes, ...]:
    """Return the certificates in a file, DER, at least one; raise Malformed where it has none."""
    with path.open("rb") as file:
        data = file.read(MOST_FILE_BYTES + 1)
    if len(data) > MOST_FILE_BYTES:
        raise Malformed(f"expected at most {MOST_FILE_BYTES} bytes")
    is_pem = _BEGIN in data and not data.startswith(_DER)
    if not is_pem and data.lstrip().startswith(_OTHER):
        raise Malformed("expected a certificate, got something else in PEM")
    found = tuple(trim(one) for one in (_pem(data) if is_pem else (data,)))
    if not all(found) or not found:
        raise Malformed("expected a certificate, got none")
    return found


def _pem(data: bytes) -> Iterator[bytes]:
    texts = _PEM.findall(data)
    if len(texts) != data.count(_BEGIN):
        raise Malformed("expected each certificate in PEM to be whole")
    for text in texts:
        try:
            yield base64.b64decode(b"".join(text.split()), validate=True)
        except binascii.Error as error:
            raise Malformed(f"expected base64 in PEM: {error}") from error
