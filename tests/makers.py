"""Makers of TPMs and their certificates, with whatever may be wrong with them."""

# ruff: noqa: ANN401 - options and extensions of any type

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from evidence import der
from evidence.certificate import Certificate
from tests.simulated_keys import private_key
from tests.simulated_node import NOW
from tests.simulated_tpm import FAR
from verifier.endorsement import Endorsement, Trust, verify_endorsement

EK_USE = "2.23.133.8.1"
START = datetime(2020, 1, 1, tzinfo=UTC)
USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip

Change = tuple[x509.ExtensionType, bool] | None
"""An extension and whether it is critical; None leaves it out."""


def key_usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in uses for name in USAGES})


def distinguished(*parts: tuple[ObjectIdentifier, str] | str) -> x509.Name:
    """Return a name: a common name, or attributes each in a relative name of its own."""
    pairs = [(NameOID.COMMON_NAME, one) if isinstance(one, str) else one for one in parts]
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in pairs])


def device(*, number: str = "id:49424D00", model: str = "tpm", version: str = "id:1") -> x509.Name:
    """Return the name in an EK certificate; one relative name has all three, as Nuvoton's."""
    oids = [ObjectIdentifier(f"2.23.133.2.{n}") for n in (1, 2, 3)]
    texts = (number, model, version)
    return x509.Name(
        [
            x509.RelativeDistinguishedName(
                [x509.NameAttribute(*pair) for pair in zip(oids, texts, strict=True)]
            )
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A CA of a maker's."""

    name: x509.Name
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    der: bytes

    @property
    def certificate(self) -> Certificate:
        return Certificate.decode(self.der)


def found(name: str | x509.Name, issuer: Maker | None = None, **changes: Any) -> Maker:
    """Return a new CA, a root unless somebody issues it. `changes` are those of `issue`."""
    subject = name if isinstance(name, x509.Name) else distinguished(name)
    seed = changes.pop("seed", f"maker {subject.rfc4514_string()}")
    key = changes.pop("key", None) or private_key(seed)
    extensions: dict[str, Change] = {
        "constraints": (x509.BasicConstraints(ca=True, path_length=None), True),
        "usage": (key_usage("key_cert_sign"), True),
        "subject_key": (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    }
    own = Maker(name=subject, key=key, der=b"")
    made = issue(subject, key.public_key(), issuer or own, extensions, **changes)
    return replace(own, der=made)


def certify(issuer: Maker, key: Any = None, **changes: Any) -> bytes:
    """Return the certificate of an EK, DER; the options are those of `issue`."""
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    names = changes.pop("names", [x509.DirectoryName(changes.pop("device", device()))])
    extensions: dict[str, Change] = {
        "constraints": (x509.BasicConstraints(ca=False, path_length=None), True),
        "usage": (key_usage("key_agreement"), True),
        "extended": (x509.ExtendedKeyUsage([ObjectIdentifier(EK_USE)]), False),
        "names": (x509.SubjectAlternativeName(names), True),
        "authority_key": (issuer_key, False),
    }
    subject = changes.pop("subject", distinguished())
    return issue(subject, key or private_key("an EK").public_key(), issuer, extensions, **changes)


def issue(  # noqa: PLR0913 - a certificate has that many parts
    subject: x509.Name,
    key: Any,
    issuer: Maker,
    extensions: dict[str, Change],
    *,
    start: datetime = START,
    end: datetime = FAR,
    signer: Any = None,
    hash_: hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    **changed: Change,
) -> bytes:
    """Return a certificate, DER, with the extensions changed by name and those of `more`."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.name)
        .public_key(key)
        .serial_number(0x5EA1)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    assert set(changed) <= set(extensions), changed
    for one in (*(extensions | changed).values(), *more):
        if one is not None:
            builder = builder.add_extension(one[0], critical=one[1])
    certificate = builder.sign(signer or issuer.key, hash_ or hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.DER)


SHA256_WITH_RSA = bytes.fromhex("300d06092a864886f70d01010b0500")
SHA1_WITH_RSA = bytes.fromhex("300d06092a864886f70d0101050500")


def over_sha1(certificate: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """Return the certificate signed once more, over SHA-1, which the library does no longer."""
    tbs = Certificate.decode(certificate).tbs.replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
    signature = key.sign(tbs, padding.PKCS1v15(), hashes.SHA1())
    bits = der.encode(der.BIT_STRING, b"\0" + signature)
    return der.encode(der.SEQUENCE, tbs + SHA1_WITH_RSA + bits)


def trusting(roots: Iterable[Maker], intermediates: Iterable[Maker] = (), **changes: Any) -> Trust:
    """Return whose word counts."""
    return Trust(
        roots=tuple(one.certificate for one in roots),
        intermediates=tuple(one.certificate for one in intermediates),
        **changes,
    )


def verify(certificate: bytes, trust: Trust, at: datetime = NOW) -> Endorsement:
    """Judge a certificate."""
    return verify_endorsement(Certificate.decode(certificate), trust=trust, at=at)
