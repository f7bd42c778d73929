"""Link 1: a manufacturer's word for an endorsement key, a certificate that chains to its root.

The word is "a TPM of ours has this key", and no more: whose TPM it is says the inventory. What is
judged is RFC 5280, section 6, as far as it concerns EK certificates, and the TCG EK Credential
Profile 2.5. Not judged are revocation lists, certificate policies (which all makers have, and none
of whose meaning anybody here relies on), and whether the TPM says the same maker of itself.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from evidence import Malformed
from evidence.certificate import (
    BASIC_CONSTRAINTS,
    CERTIFICATE_POLICIES,
    DIRECTORY_NAME,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    NAME_CONSTRAINTS,
    SUBJECT_ALTERNATIVE_NAME,
    Attribute,
    Certificate,
    GeneralName,
    Name,
    is_attribute_certificate,
)
from verifier.crypto import certified_keys
from verifier.reasons import Finding, Reason, Rejected, capped, label, reject

EK_CERTIFICATE = "2.23.133.8.1"
"""tcg-kp-EKCertificate (TCG EK Credential Profile 2.5, 3.5.16)."""
MANUFACTURER, MODEL, VERSION = "2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"
"""tcg-at-tpmManufacturer and so on (the same, 3.1.2)."""

DIGITAL_SIGNATURE, KEY_ENCIPHERMENT, KEY_AGREEMENT, KEY_CERT_SIGN = 0, 2, 4, 5
"""Bits of a key usage (RFC 5280, 4.2.1.3)."""

JUDGED = {
    BASIC_CONSTRAINTS,
    CERTIFICATE_POLICIES,
    EXTENDED_KEY_USAGE,
    KEY_USAGE,
    NAME_CONSTRAINTS,
    SUBJECT_ALTERNATIVE_NAME,
}
"""Extensions that may be critical: they are judged here, or said above not to be."""

DEEPEST = 8
"""Certificates in a chain, the EK's and the root's included. Real ones have up to six."""
MOST_SIGNATURES = DEEPEST - 1
"""Signatures that are checked for one certificate, however many issuers have the right name: as
many as the longest chain takes, so that refusing costs no more than accepting."""

MANUFACTURERS = {
    "AMD\0": "AMD",
    "ANT\0": "Ant Group",
    "ATML": "Atmel",
    "BRCM": "Broadcom",
    "CSCO": "Cisco",
    "FLYS": "Flyslice Technologies",
    "GOOG": "Google",
    "HISI": "Huawei",
    "HPE\0": "HPE",
    "IBM\0": "IBM",
    "IFX\0": "Infineon",
    "INTC": "Intel",
    "LEN\0": "Lenovo",
    "MSFT": "Microsoft",
    "NSM ": "National Semiconductor",
    "NTC\0": "Nuvoton",
    "NTZ\0": "Nationz",
    "QCOM": "Qualcomm",
    "ROCC": "Fuzhou Rockchip",
    "SEAL": "Wisekey",
    "SMSC": "SMSC",
    "SMSN": "Samsung",
    "SNS\0": "Sinosun",
    "STM ": "STMicroelectronics",
    "TXN\0": "Texas Instruments",
    "WEC\0": "Winbond",
}
"""Makers by the four characters of their number (TCG Vendor ID Registry 1.06, section 2), without
those that it gives to simulators."""

_NUMBER = re.compile(r"id:([0-9A-Fa-f]{8})")
_SHORT = {"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O",
          "2.5.4.11": "OU"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What an operator has decided about manufacturers."""

    roots: tuple[Certificate, ...]
    """Any of them ends a chain, that of an intermediate CA too; its own signature is not asked
    for. All else is judged as of any issuer."""
    intermediates: tuple[Certificate, ...] = ()
    """Believed as far as a root vouches for them; they may come from anywhere."""
    allow_sha1: bool = False
    """Whether a signature over SHA-1 counts, which chips of before 2016 have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a certificate says of its TPM, in its maker's words; empty where it says nothing."""

    manufacturer: str
    """Such as `id:53544D20`."""
    model: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsement:
    """A manufacturer's word for an EK that holds. Made by `verify_endorsement` only."""

    spki: bytes
    """The EK's SubjectPublicKeyInfo, DER, as `tpm_keys.spki` makes it of the public area."""
    device: Device
    chain: tuple[Certificate, ...]
    """From the EK's certificate to the root's."""
    notes: tuple[Finding, ...]
    """What is unusual and refuses nothing."""


def read_ek_certificate(data: bytes) -> Certificate:
    """Return the certificate in DER.

    Raise Malformed where it is none, Rejected where it is one of attributes, as a platform's.
    """
    try:
        return Certificate.decode(data)
    except Malformed:
        if is_attribute_certificate(data):
            raise reject(Reason.EK_ATTRIBUTES, expected="the certificate of a key") from None
        raise


def verify_endorsement(leaf: Certificate, *, trust: Trust, at: datetime) -> Endorsement:
    """Return what the certificate vouches for at that time; raise Rejected if nothing.

    1. It is an EK's: the usage, no CA, a maker's name, a key that can be one.
    2. It is valid at that time, and says nothing critical that is not judged here.
    3. A chain of signatures leads from it to a root, over CAs that are valid at that time and
       may issue it: certificates are searched upwards from the EK's, within fixed bounds.

    What costs no signature is judged first.
    """
    spki = certified_keys.certified_spki(leaf.spki)
    findings = [
        *_usage(leaf),
        *_manufacturer(leaf),
        *_key(spki),
        *_validity(leaf, at),
        *_extensions(leaf),
        *_signature_algorithm(leaf, trust),
        *_no_roots(trust),
    ]
    if findings or spki is None:
        raise Rejected(capped(findings))
    search = _Search.of(trust, at)
    chain = search.climb((leaf,))
    if chain is None:
        raise Rejected(capped(dict.fromkeys(search.findings)))
    return Endorsement(spki=spki, device=device_of(leaf), chain=chain, notes=tuple(_notes(leaf)))


# The EK's certificate


def device_of(leaf: Certificate) -> Device:
    """Return what the certificate says of its TPM, whoever vouches for it."""
    names = [one.directory for one in leaf.alternative_names if one.directory is not None]
    manufacturer, model, version = (
        next((value for name in names if (value := name.value(kind))), "")
        for kind in (MANUFACTURER, MODEL, VERSION)
    )
    return Device(manufacturer=label(manufacturer), model=label(model), version=label(version))


def manufacturer_name(number: str) -> str:
    """Return whose number it is, such as `id:53544D20`; empty where the registry has it not."""
    match = _NUMBER.fullmatch(number)
    return MANUFACTURERS.get(bytes.fromhex(match[1]).decode("latin-1"), "") if match else ""


def _usage(leaf: Certificate) -> Iterator[Finding]:
    if leaf.is_ca or KEY_CERT_SIGN in (leaf.key_usage or ()):
        expected, found = "the certificate of an endorsement key", "the certificate of a CA"
        yield Finding(reason=Reason.EK_CA, expected=expected, found=found)
    usages = leaf.extended_key_usage or ()
    if EK_CERTIFICATE not in usages:
        expected = f"extended key usage {EK_CERTIFICATE}"
        found = label(", ".join(usages)) or "none"
        yield Finding(reason=Reason.EK_USAGE, expected=expected, found=found)


def _manufacturer(leaf: Certificate) -> Iterator[Finding]:
    if not device_of(leaf).manufacturer:
        expected = f"an alternative name with one manufacturer, {MANUFACTURER}"
        yield Finding(reason=Reason.EK_MANUFACTURER, expected=expected)


def _key(spki: bytes | None) -> Iterator[Finding]:
    if spki is None:
        expected = "an RSA key of 2048 to 8192 bits, or one on P-256, P-384 or P-521"
        yield Finding(reason=Reason.EK_KEY, expected=expected)
    elif certified_keys.is_factorable(spki):
        expected = "a key without the mark of CVE-2017-15361 (ROCA)"
        yield Finding(reason=Reason.EK_KEY_FACTORABLE, expected=expected)


def _notes(leaf: Certificate) -> Iterator[Finding]:
    usage = leaf.key_usage
    if usage is not None and not usage & {KEY_ENCIPHERMENT, KEY_AGREEMENT}:
        expected, found = "a key for encryption", "one for signatures, as attestation keys are"
        yield Finding(reason=Reason.EK_SIGNER, expected=expected, found=found)
    if certified_keys.is_for_oaep_only(leaf.spki):
        expected = "the algorithm rsaEncryption"
        yield Finding(reason=Reason.EK_OAEP, expected=expected, found=certified_keys.RSAES_OAEP)
    number = device_of(leaf).manufacturer
    if not manufacturer_name(number):
        expected = "a manufacturer of the TCG's registry"
        yield Finding(reason=Reason.EK_MANUFACTURER_UNKNOWN, expected=expected, found=number)


# Any certificate


def name_text(name: Name) -> str:
    """Return a name for people, empty for an empty one, as most subjects of EKs' are."""
    parts = (
        f"{_SHORT.get(one.kind, one.kind)}={one.value.hex() if one.text() is None else one.text()}"
        for one in name.attributes()
    )
    return label(", ".join(parts))


def _validity(one: Certificate, at: datetime) -> Iterator[Finding]:
    if one.not_before <= at <= one.not_after:
        return
    what, found = name_text(one.subject), at.isoformat()
    if at < one.not_before:
        expected = f"a time from {one.not_before.isoformat()} on"
        yield Finding(reason=Reason.EK_NOT_YET, what=what, expected=expected, found=found)
    if at > one.not_after:
        expected = f"a time up to {one.not_after.isoformat()}"
        yield Finding(reason=Reason.EK_EXPIRED, what=what, expected=expected, found=found)


def _extensions(one: Certificate) -> Iterator[Finding]:
    for kind in one.critical:
        if kind not in JUDGED:
            what, found = name_text(one.subject), label(kind)
            expected = "no critical extension that is not judged"
            yield Finding(reason=Reason.EK_EXTENSION, what=what, expected=expected, found=found)


def _signature_algorithm(one: Certificate, trust: Trust) -> Iterator[Finding]:
    if one.algorithm not in certified_keys.SIGNATURE_ALGORITHMS or one.parameters:
        what, found = name_text(one.subject), label(one.algorithm)
        expected = "RSA PKCS #1 v1.5 or ECDSA, with SHA-256, SHA-384 or SHA-512"
        yield Finding(reason=Reason.EK_ALGORITHM, what=what, expected=expected, found=found)
    elif one.algorithm == certified_keys.SHA1_WITH_RSA and not trust.allow_sha1:
        what, expected, found = name_text(one.subject), "SHA-256 or longer", "SHA-1"
        yield Finding(reason=Reason.EK_SHA1, what=what, expected=expected, found=found)


# The chain


def _no_roots(trust: Trust) -> Iterator[Finding]:
    if not trust.roots:
        yield Finding(reason=Reason.EK_NO_ROOTS, expected="certificates of manufacturers")


Path = tuple[Certificate, ...]
"""From the EK's certificate upwards; each is signed by the next."""


@dataclass(slots=True, kw_only=True)
class _Search:
    """A search for a chain: what it may still do, and why each way that it tried ends."""

    trust: Trust
    at: datetime
    roots: frozenset[bytes]
    """DER."""
    issuers: dict[bytes, list[Certificate]]
    """By their names in DER, roots first."""
    signatures_left: int = MOST_SIGNATURES
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def of(cls, trust: Trust, at: datetime) -> "_Search":
        """Return a search that has not begun."""
        issuers: dict[bytes, list[Certificate]] = {}
        for one in {one.der: one for one in (*trust.roots, *trust.intermediates)}.values():
            issuers.setdefault(one.subject.der, []).append(one)
        roots = frozenset(one.der for one in trust.roots)
        return cls(trust=trust, at=at, roots=roots, issuers=issuers)

    def climb(self, path: Path) -> Path | None:
        """Return the path continued to a root, None where none of the ways leads to one.

        A root that somebody else has issued is continued too, if that can be: it names the maker.
        """
        flaws = [*_signature_algorithm(path[-1], self.trust), *self._length(path)]
        if flaws:
            self.findings += flaws
            return None
        named = self.issuers.get(path[-1].issuer.der, [])
        issuers = [one for one in named if one.der not in {below.der for below in path}]
        if not issuers:
            self.findings.append(self._end(path))
        for issuer in issuers:
            longer = (*path, issuer)
            if not self._is_issuer(path, issuer):
                continue
            if issuer.der not in self.roots:
                found = self.climb(longer)
            elif _is_own_issuer(issuer):
                found = longer
            else:
                found = self.climb(longer) or longer
            if found is not None:
                return found
        return None

    def _length(self, path: Path) -> Iterator[Finding]:
        if len(path) >= DEEPEST:
            expected = f"a chain of at most {DEEPEST} certificates"
            yield Finding(reason=Reason.EK_CHAIN_LONG, expected=expected)

    def _end(self, path: Path) -> Finding:
        """Say what the way lacks that ends here."""
        issuer = name_text(path[-1].issuer)
        if _is_own_issuer(path[-1]):
            expected = "a chain that ends in a configured root"
            return Finding(reason=Reason.EK_ROOT, expected=expected, found=issuer)
        expected = f"the certificate of {issuer}"
        what = name_text(path[-1].subject)
        return Finding(reason=Reason.EK_CHAIN, what=what, expected=expected, found="none")

    def _is_issuer(self, path: Path, issuer: Certificate) -> bool:
        """Say whether it may have issued the last one of the path, and has; note why not."""
        flaws = [
            replace(flaw, what=name_text(issuer.subject)) for flaw in _issuer(path, issuer, self.at)
        ]
        if not flaws and not self.signatures_left:
            expected = f"a chain that is found with {MOST_SIGNATURES} signatures"
            flaws.append(Finding(reason=Reason.EK_CHAIN_WORK, expected=expected))
        elif not flaws:
            self.signatures_left -= 1
            flaws += _signature(path[-1], issuer)
        self.findings += flaws
        return not flaws


def _is_own_issuer(one: Certificate) -> bool:
    return one.issuer.der == one.subject.der


def _issuer(path: Path, issuer: Certificate, at: datetime) -> Iterator[Finding]:
    """Judge all of an issuer but its signature; the caller says whose flaws they are."""
    child = path[-1]
    if child.authority_key and issuer.subject_key not in (b"", child.authority_key):
        expected, found = f"key {child.authority_key.hex()}", issuer.subject_key.hex()
        yield Finding(reason=Reason.EK_ISSUER_KEY, expected=expected, found=label(found))
    if not issuer.is_ca or not (issuer.key_usage is None or KEY_CERT_SIGN in issuer.key_usage):
        expected = "a CA whose key may sign certificates"
        yield Finding(reason=Reason.EK_ISSUER, expected=expected)
    below = sum(not _is_own_issuer(one) for one in path[1:])
    if issuer.path_length is not None and below > issuer.path_length:
        expected, found = f"at most {issuer.path_length} CAs under it", str(below)
        yield Finding(reason=Reason.EK_PATH_LENGTH, expected=expected, found=found)
    usages = issuer.extended_key_usage
    if usages is not None and EK_CERTIFICATE not in usages:
        expected, found = f"extended key usage {EK_CERTIFICATE}, or none", label(", ".join(usages))
        yield Finding(reason=Reason.EK_ISSUER_USAGE, expected=expected, found=found)
    yield from _validity(issuer, at)
    yield from _extensions(issuer)
    yield from _constrained(issuer, path)


def _signature(child: Certificate, issuer: Certificate) -> Iterator[Finding]:
    if not certified_keys.is_certificate_signature(
        issuer.spki, child.algorithm, child.signature, child.tbs
    ):
        what, expected = name_text(child.subject), f"a signature by {name_text(issuer.subject)}"
        yield Finding(reason=Reason.EK_SIGNATURE, what=what, expected=expected)


# Name constraints (RFC 5280, 4.2.1.10)


def _constrained(issuer: Certificate, path: Path) -> Iterator[Finding]:
    """Judge the names of all certificates below; a constraint on other names refuses them all."""
    constraints = (*issuer.permitted, *issuer.excluded)
    if not constraints:
        return
    if any(one.form != DIRECTORY_NAME for one in constraints):
        expected = "constraints on directory names alone"
        yield Finding(reason=Reason.EK_NAME, expected=expected)
        return
    for name in (name for one in path for name in _names(one)):
        if not _is_permitted(name, issuer):
            expected, found = "a name that it may issue for", name_text(name)
            yield Finding(reason=Reason.EK_NAME, expected=expected, found=found)


def _names(one: Certificate) -> Iterator[Name]:
    if one.subject.parts:
        yield one.subject
    yield from _directories(one.alternative_names)


def _directories(names: Iterable[GeneralName]) -> Iterator[Name]:
    return (one.directory for one in names if one.directory is not None)


def _is_permitted(name: Name, issuer: Certificate) -> bool:
    if issuer.excluded and not all(map(_is_plain, name.attributes())):
        return False
    if any(_is_excluded(name, base) for base in _directories(issuer.excluded)):
        return False
    permitted = list(_directories(issuer.permitted))
    return not permitted or any(_is_within(name, base) for base in permitted)


def _is_within(name: Name, base: Name) -> bool:
    """Say whether the name starts with the base, however both are written."""
    start = name.parts[: len(base.parts)]
    return [_written_alike(one) for one in start] == [_written_alike(one) for one in base.parts]


def _is_excluded(name: Name, base: Name) -> bool:
    """Say the same, also where a relative name of the base is only a part of the name's.

    Comparing whole ones, a CA would get around its constraint with one attribute more.
    """
    pairs = zip(name.parts, base.parts, strict=False)
    is_as_long = len(name.parts) >= len(base.parts)
    return is_as_long and all(_written_alike(of) <= _written_alike(one) for one, of in pairs)


def _is_plain(one: Attribute) -> bool:
    """Say whether the value is text that people see whole: what they do not see hides a name."""
    text = one.text()
    return text is not None and text.isprintable()


def _written_alike(part: tuple[Attribute, ...]) -> frozenset[tuple[str, str | bytes]]:
    """Return the relative name without case, width of letters and extra spaces (7.1)."""
    return frozenset((one.kind, _plain_text(one)) for one in part)


def _plain_text(one: Attribute) -> str | bytes:
    text = one.text()
    if text is None:
        return one.value
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
