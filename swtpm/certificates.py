"""A manufacturer's CA, the certificates of endorsement keys that it issues, and an owner's keys."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier

from swtpm.programs import Failed

EK_CERTIFICATE_USE = ObjectIdentifier("2.23.133.8.1")
"""tcg-kp-EKCertificate, EK Credential Profile v2.5 3.2.16."""

SPECIFICATION = x509.UnrecognizedExtension(
    ExtensionOID.SUBJECT_DIRECTORY_ATTRIBUTES,
    bytes.fromhex("3019301706056781050210310e300c0c03322e300201000202008a"),
)
"""tpmSpecification (2.23.133.2.16): family "2.0", level 0, revision 138."""

FOREVER = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""RFC 5280 4.1.2.5: no well-defined end. EK certificates often carry it."""

YEAR = dt.timedelta(days=365)

SIGNER_BITS = 2048
"""RSA with which UEFI firmware of any age checks what it boots (UEFI 2.10, 32.4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a certificate says of its TPM: EK Credential Profile v2.5 3.2.9."""

    manufacturer: str
    model: str
    version: str


def found(name: str, issuer: Authority | None) -> Authority:
    """Make a CA: a root if nobody issues it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    builder = (
        _builder(subject, issuer, key.public_key(), now + 20 * YEAR)
        .add_extension(_constraints(is_ca=True), critical=True)
        .add_extension(_usage("key_cert_sign"), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    certificate = builder.sign(issuer.key if issuer else key, hashes.SHA256())
    return Authority(certificate=certificate, key=key)


def issue_ek(
    issuer: Authority, key: RSAPublicKey | ec.EllipticCurvePublicKey, device: Device
) -> bytes:
    """Return an EK certificate, DER, as EK Credential Profile v2.5 chapter 3 describes it."""
    name = x509.Name(
        x509.NameAttribute(ObjectIdentifier(f"2.23.133.2.{number}"), value)
        for number, value in enumerate((device.manufacturer, device.model, device.version), 1)
    )
    builder = (
        _builder(x509.Name([]), issuer, key, FOREVER)
        .add_extension(_constraints(is_ca=False), critical=True)
        .add_extension(
            _usage("key_encipherment" if isinstance(key, RSAPublicKey) else "key_agreement"),
            critical=True,
        )
        .add_extension(x509.SubjectAlternativeName([x509.DirectoryName(name)]), critical=True)
        .add_extension(x509.ExtendedKeyUsage([EK_CERTIFICATE_USE]), critical=False)
        .add_extension(SPECIFICATION, critical=False)
    )
    certificate = builder.sign(issuer.key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.DER)


def _builder(
    subject: x509.Name,
    issuer: Authority | None,
    key: RSAPublicKey | ec.EllipticCurvePublicKey,
    end: dt.datetime,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    issuer_key = issuer.key.public_key() if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(end)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
        )
    )


def _constraints(*, is_ca: bool) -> x509.BasicConstraints:
    return x509.BasicConstraints(ca=is_ca, path_length=None)


def _usage(use: str) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
        "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name == use for name in names})


def save_signer(name: str, path: Path) -> None:
    """Make an RSA key that signs what boots, and a certificate by itself; write both."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=SIGNER_BITS)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, None, key.public_key(), dt.datetime.now(dt.UTC) + 20 * YEAR)
    _write(builder.sign(key, hashes.SHA256()), key, path)


def save(authority: Authority, path: Path) -> None:
    """Write a certificate, and its key beside it for the owner's eyes."""
    _write(authority.certificate, authority.key, path)


def _write(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, path: Path
) -> None:
    secret = path.with_suffix(".key")
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def load(path: Path) -> Authority:
    """Return what `save` wrote."""
    key = serialization.load_pem_private_key(path.with_suffix(".key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failed(f"{path.with_suffix('.key')} is not a key of ours; delete its directory")
    return Authority(certificate=x509.load_pem_x509_certificate(path.read_bytes()), key=key)
