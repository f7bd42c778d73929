"""Keys that certificates have, and the signatures on certificates."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from evidence import Malformed, der
from verifier.crypto.flaw import is_flawed
from verifier.crypto.tpm_keys import PublicKey

RSAES_OAEP = "1.2.840.113549.1.1.7"
"""id-RSAES-OAEP (RFC 4055, 4.1): the algorithm that certificates of TPM 1.2 EKs name."""
RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
"""AlgorithmIdentifier of rsaEncryption (RFC 3279, 2.3.1), DER."""
RSA_BITS = range(2048, 8192 + 1)
MOST_RSA_EXPONENT = 1 << 32
"""Long ones make a verification slow."""
CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
SIGNATURE_ALGORITHMS: dict[str, tuple[str, hashes.HashAlgorithm]] = {
    "1.2.840.113549.1.1.5": ("rsa", hashes.SHA1()),  # noqa: S303 - refused unless asked for
    "1.2.840.113549.1.1.11": ("rsa", hashes.SHA256()),
    "1.2.840.113549.1.1.12": ("rsa", hashes.SHA384()),
    "1.2.840.113549.1.1.13": ("rsa", hashes.SHA512()),
    "1.2.840.10045.4.3.2": ("ecdsa", hashes.SHA256()),
    "1.2.840.10045.4.3.3": ("ecdsa", hashes.SHA384()),
    "1.2.840.10045.4.3.4": ("ecdsa", hashes.SHA512()),
}
"""Kind of key and hash of what certificates are signed with (RFC 4055, 5; RFC 5758, 3.2)."""
SHA1_WITH_RSA = "1.2.840.113549.1.1.5"


def certified_spki(spki: bytes) -> bytes | None:
    """Return the DER SubjectPublicKeyInfo that a certified key has; None if it is none to use.

    It is the one that `tpm_keys.spki` makes of the same key's public area: a key that the
    certificate has for RSAES-OAEP only, as old TPMs' EKs, is an RSA key like others. RSA of 2048 to
    8192 bits, and the curves P-256, P-384 and P-521.
    """
    key = _certified_key(spki)
    if key is None:
        return None
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def is_for_oaep_only(spki: bytes) -> bool:
    """Say whether a DER SubjectPublicKeyInfo names RSAES-OAEP; raise Malformed where it is none."""
    for algorithm in der.element(spki, der.SEQUENCE, "public key").children()[:1]:
        for kind in algorithm.expect(der.SEQUENCE, "algorithm").children()[:1]:
            return der.oid(kind.expect(der.OID, "algorithm").content) == RSAES_OAEP
    raise Malformed("expected an algorithm")


def is_certificate_signature(issuer: bytes, algorithm: str, signature: bytes, tbs: bytes) -> bool:
    """Say whether a certificate's signature is by the key with this SubjectPublicKeyInfo.

    `algorithm` is the object identifier; the kind of the key has to be the algorithm's.
    """
    key = _certified_key(issuer)
    kind, hash_ = SIGNATURE_ALGORITHMS.get(algorithm, (None, None))
    if key is None or hash_ is None:
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey) and kind == "rsa":
            key.verify(signature, tbs, padding.PKCS1v15(), hash_)
        elif isinstance(key, ec.EllipticCurvePublicKey) and kind == "ecdsa":
            key.verify(signature, tbs, ec.ECDSA(hash_))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def is_factorable(spki: bytes) -> bool:
    """Say whether a certified key is flawed: see `verifier.crypto.flaw`."""
    key = _certified_key(spki)
    return key is not None and is_flawed(key)


def _certified_key(spki: bytes) -> PublicKey | None:
    try:
        if is_for_oaep_only(spki):
            _, bits = der.element(spki, der.SEQUENCE, "public key").children()
            spki = der.encode(der.SEQUENCE, RSA_ENCRYPTION + bits.whole)
        key = serialization.load_der_public_key(spki)
    except Exception:  # noqa: BLE001 - whatever the parser raises: no key that it could read
        return None
    if isinstance(key, rsa.RSAPublicKey):
        is_usable = key.key_size in RSA_BITS and key.public_numbers().e < MOST_RSA_EXPONENT
        return key if is_usable else None
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, CURVES):
        return key
    return None
