"""Somebody who signs files, as evmctl does: security.ima of a digest, and a signer's document."""

import json
from functools import cache

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from evidence.file_signature import OVER_DIGEST, FileSignature
from evidence.ima import Record
from tests.simulated_node import record_of
from verifier.crypto import file_keys
from verifier.policy import Signer
from verifier.reference import read_signer

HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def make_key(kind: str, seed: str = "") -> PrivateKey:
    """Return one key of a kind (`rsa2048`, `secp256r1`) and seed per run."""
    assert isinstance(seed, str)
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    curve = {one.name: one for one in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}[kind]
    return ec.generate_private_key(curve)


def public_pem(key: PrivateKey) -> str:
    """Return the public half as it stands in a document."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


class SimulatedSigner:
    """A name, a key, and what it signs."""

    def __init__(self, name: str = "vendor", *, kind: str = "rsa2048", seed: str = "") -> None:
        self.name = name
        self.key = make_key(kind, seed)
        self.pem = public_pem(self.key)

    def toml(
        self,
        *,
        paths: tuple[str, ...] = ("usr/bin/", "usr/lib/"),
        revoked: tuple[str, ...] = (),
        nodes: tuple[str, ...] = (),
    ) -> str:
        """Return the signer's document."""
        lines = [
            "version = 1",
            'kind = "signer"',
            f"name = {json.dumps(self.name)}",
            f"keys = {json.dumps([self.pem])}",
            f"paths = {json.dumps(paths)}",
            *([f"revoked = {json.dumps(revoked)}"] if revoked else []),
            *([f"nodes = {json.dumps(nodes)}"] if nodes else []),
        ]
        return "\n".join([*lines, ""])

    def value(self, **changes: tuple[str, ...]) -> Signer:
        """Return the signer as a policy has it."""
        return read_signer(self.toml(**changes))

    def signature(
        self,
        digest: bytes,
        *,
        algorithm: str = "sha256",
        version: int = OVER_DIGEST,
        is_verity: bool = False,
    ) -> bytes:
        """Return security.ima of a file with this digest."""
        key_id = file_keys.file_key_id(file_keys.file_key(self.pem))
        unsigned = FileSignature(
            is_verity=is_verity, version=version, algorithm=algorithm, key_id=key_id, signature=b"?"
        )
        prehashed, signed = Prehashed(HASHES[algorithm]), unsigned.signed_hash(digest)
        if isinstance(self.key, rsa.RSAPrivateKey):
            signature = self.key.sign(signed, padding.PKCS1v15(), prehashed)
        else:
            signature = self.key.sign(signed, ec.ECDSA(prehashed))
        return FileSignature(
            is_verity=is_verity,
            version=version,
            algorithm=algorithm,
            key_id=key_id,
            signature=signature,
        ).encode()


def verity_record(path: str, digest: bytes, signature: bytes, *, register: int = 10) -> Record:
    """Return the record of a file that fs-verity guards."""
    fields = (b"verity:sha256:\0" + digest, path.encode() + b"\0", signature)
    data = b"".join(len(one).to_bytes(4, "little") + one for one in fields)
    return record_of(data, register=register, template="ima-sigv2")
