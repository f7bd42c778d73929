"""What the certificate of an endorsement key in a file is worth: a tool for people who have files.

It judges as enrolment does (`verifier.endorsement`), and names the root that the chain ends in.
Whether the TPM is one of ours it cannot say: that says the inventory, by the EK's hash.
"""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from evidence import Malformed
from evidence.certificate import Certificate
from verifier.certificates import Folder, read_file, read_folder
from verifier.check_log import detail, details
from verifier.crypto import certified_keys
from verifier.endorsement import (
    Device,
    Endorsement,
    Trust,
    device_of,
    manufacturer_name,
    name_text,
    read_ek_certificate,
    verify_endorsement,
)
from verifier.hints import next_step
from verifier.reasons import Finding, Reason, Rejected

MANUFACTURER_ROOTS = Path(__file__).with_name("manufacturer-roots.toml")
NOTHING = Device(manufacturer="", model="", version="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRoot:
    """A line of the list of manufacturers' roots: facts, no trust."""

    manufacturer: str
    subject: str
    """Common name."""
    sha256: str
    """Of the certificate in DER, hexadecimal."""
    published: str
    """Where its maker publishes it."""
    checked: str
    """How the fingerprint was come by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedEk:
    """What a certificate is worth."""

    is_accepted: bool
    is_malformed: bool
    """Whether it is no certificate at all."""
    findings: tuple[Finding, ...]
    device: Device
    """What it says of its TPM, believed or not."""
    ek_hash: str
    """What an inventory lists; empty where the key cannot be read."""

    @property
    def verdict(self) -> str:
        """Return `accepted`, `rejected` or `malformed`."""
        if self.is_malformed:
            return "malformed"
        return "accepted" if self.is_accepted else "rejected"

    def answer(self) -> dict[str, object]:
        """Return the answer for machines."""
        return {
            "verdict": self.verdict,
            "findings": details(self.findings),
            "manufacturer": self.device.manufacturer or None,
            "model": self.device.model or None,
            "version": self.device.version or None,
            "ek_hash": self.ek_hash or None,
        }

    def lines(self) -> Iterator[str]:
        """Yield the answer for people."""
        yield self.verdict
        name = manufacturer_name(self.device.manufacturer)
        yield f"manufacturer  {self.device.manufacturer or '-'}  {name}".rstrip()
        yield f"model         {self.device.model or '-'}"
        yield f"version       {self.device.version or '-'}"
        yield f"EK hash       {self.ek_hash or '-'}"
        yield from self.finding_lines()

    def finding_lines(self) -> Iterator[str]:
        """Yield the findings for people."""
        for one in self.findings:
            yield f"finding  {one.reason}  {detail(one)}"
            step = next_step(one.reason)
            if step:
                yield f"  {'next':<9} {step}"


def check_ek(
    path: Path, *, roots: Path, intermediates: Path | None, at: datetime, allow_sha1: bool
) -> CheckedEk:
    """Judge the certificate in a file under the certificates in directories."""
    anchors = read_folder(roots)
    links = read_folder(intermediates) if intermediates else Folder(certificates=(), findings=())
    trust = Trust(
        roots=anchors.certificates, intermediates=links.certificates, allow_sha1=allow_sha1
    )
    unread = (*anchors.findings, *links.findings)
    try:
        leaf = _read_one(path)
    except (Malformed, Rejected) as error:
        return CheckedEk(
            is_accepted=False,
            is_malformed=isinstance(error, Malformed),
            findings=(*_findings(error), *unread),
            device=NOTHING,
            ek_hash="",
        )
    spki = certified_keys.certified_spki(leaf.spki)
    findings: tuple[Finding, ...]
    try:
        findings = _accepted(verify_endorsement(leaf, trust=trust, at=at))
        is_accepted = True
    except Rejected as rejected:
        findings, is_accepted = rejected.findings, False
    return CheckedEk(
        is_accepted=is_accepted,
        is_malformed=False,
        findings=(*findings, *unread),
        device=device_of(leaf),
        ek_hash=hashlib.sha256(spki).hexdigest() if spki else "",
    )


def _read_one(path: Path) -> Certificate:
    found = read_file(path)
    if len(found) != 1:
        raise Malformed(f"expected one certificate, got {len(found)}")
    return read_ek_certificate(found[0])


def _findings(error: Malformed | Rejected) -> tuple[Finding, ...]:
    if isinstance(error, Rejected):
        return error.findings
    expected, found = "an X.509 certificate, DER or PEM", str(error)
    return (Finding(reason=Reason.EK_UNREADABLE, expected=expected, found=found),)


def _accepted(endorsement: Endorsement) -> tuple[Finding, ...]:
    """Return what is to be said of a good certificate: its notes, and its root."""
    root = endorsement.chain[-1]
    fingerprint = hashlib.sha256(root.der).hexdigest()
    listed = read_manufacturer_roots().get(fingerprint)
    if listed is None:
        reason, expected = Reason.EK_ROOT_NOT_LISTED, "one of the manufacturers' roots that we list"
    else:
        reason, expected = Reason.EK_ROOT_LISTED, listed.manufacturer
    found = f"{name_text(root.subject)}, sha256:{fingerprint}"
    return (*endorsement.notes, Finding(reason=reason, expected=expected, found=found))


def read_manufacturer_roots() -> dict[str, ListedRoot]:
    """Return the list of manufacturers' roots by their fingerprints."""
    table = tomllib.loads(MANUFACTURER_ROOTS.read_text(encoding="utf-8"))
    return {one["sha256"]: ListedRoot(**one) for one in table["root"]}
