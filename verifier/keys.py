"""Private keys and certificates as files: made once by `verifier init`, read at every start.

P-256 throughout. The WIT key signs tokens and the lists of their status, the grant key signs
grants and exported evidence; neither ever signs anything else.
The CA is for the doors' TLS alone and certifies no workload.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from credential import keys as public_keys
from credential.crypto import PrivateKey, generate, point_of
from verifier.config import Misconfigured

WIT_KEY, GRANT_KEY = "wit.pem", "grant.pem"
"""In the state directory."""
CA_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=397)
"""What browsers accept; nothing here demands it."""
CLOCK_SKEW = timedelta(hours=1)
"""How far a reader's clock may be behind when a certificate is new."""

_READABLE_BY_OTHERS = 0o077


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A private key and the name that readers find its public half by."""

    private: PrivateKey
    kid: str
    """RFC 7638 thumbprint."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the key in the PEM file, which nobody but its owner may read."""
        private = read_private(path)
        return cls(private=private, kid=public_keys.thumbprint(point_of(private)))

    @property
    def point(self) -> bytes:
        """The public half, 65 bytes."""
        return point_of(self.private)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What this verifier signs with."""

    wit: SigningKey
    grant: SigningKey

    @classmethod
    def load(cls, state: Path) -> Self:
        """Return the keys in the state directory."""
        wit, grant = SigningKey.load(state / WIT_KEY), SigningKey.load(state / GRANT_KEY)
        if wit.kid == grant.kid:
            raise Misconfigured(f"{state}: the WIT key and the grant key are the same")
        return cls(wit=wit, grant=grant)

    @property
    def names(self) -> dict[str, str]:
        """Return the name of each key by its file."""
        return {WIT_KEY: self.wit.kid, GRANT_KEY: self.grant.kid}


def jwks(key: SigningKey) -> dict[str, list[dict[str, str]]]:
    """Return the JWK set with the public half of `key`."""
    return {"keys": [{**public_keys.to_jwk(key.point), "kid": key.kid, "use": "sig"}]}


def read_private(path: Path) -> PrivateKey:
    """Return the P-256 key in a PEM file; raise Misconfigured on anything else."""
    try:
        if path.stat().st_mode & _READABLE_BY_OTHERS:
            raise Misconfigured(f"{path}: others may read this key; chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise Misconfigured(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise Misconfigured(f"{path}: expected a private key, PEM without a password") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise Misconfigured(f"{path}: expected a key on P-256")
    return key


def make_private(path: Path) -> PrivateKey:
    """Return a new key, written to a PEM file of mode 0600 that must not exist."""
    key = generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    write_new(path, pem, mode=0o600)
    return key


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that must not exist; it never has a wider mode than this one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


# The CA


def make_authority(key: PrivateKey, *, trust_domain: str, now: datetime) -> bytes:
    """Return the PEM certificate of a CA that signs TLS servers of the trust domain."""
    name = _name(f"procseal CA of {trust_domain}")
    usage = _key_usage(is_ca=True)
    certificate = (
        _builder(name, key, now=now, lifetime=CA_LIFETIME)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def issue(
    key: PrivateKey, hosts: Sequence[str], *, ca: bytes, ca_key: PrivateKey, now: datetime
) -> bytes:
    """Return the PEM certificate of a TLS server with these host names and addresses."""
    authority = x509.load_pem_x509_certificate(ca)
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        _builder(_name(hosts[0]), key, now=now, lifetime=SERVER_LIFETIME)
        .issuer_name(authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_ca=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(names, critical=False)
        .add_extension(issuer_key, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, key: PrivateKey, *, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
