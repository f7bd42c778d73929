"""The one importer of `cryptography` here: how an endorsement key is known elsewhere.

Everything else that the attestor encrypts, signs or opens is in `credential.crypto`.
"""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evidence import tpm

DEFAULT_EXPONENT = 65537
"""What exponent 0 of a TPMS_RSA_PARMS stands for (Part 2, 12.2.3.5)."""


def spki_digest(public: tpm.Public) -> str:
    """Return SHA-256 of a key's SubjectPublicKeyInfo, hexadecimal (docs/decisions/0003)."""
    if public.type == tpm.ALG_RSA:
        modulus = int.from_bytes(public.unique[0], "big")
        key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey = rsa.RSAPublicNumbers(
            public.exponent or DEFAULT_EXPONENT, modulus
        ).public_key()
    else:
        x, y = (int.from_bytes(one, "big") for one in public.unique)
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()
