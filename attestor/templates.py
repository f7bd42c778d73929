"""The templates of the keys that a node's TPM makes, as evidence.tpm writes public areas."""

from attestor.config import EkKind
from evidence import process_key, tpm

EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
"""PolicySecret(endorsement), of the low-range templates (EK Credential Profile 2.x, B.3.3)."""

EK_ATTRIBUTES = (
    tpm.FIXED_TPM
    | tpm.FIXED_PARENT
    | tpm.SENSITIVE_DATA_ORIGIN
    | tpm.ADMIN_WITH_POLICY
    | tpm.RESTRICTED
    | tpm.DECRYPT
)

EK: dict[EkKind, tpm.Public] = {
    "rsa2048": tpm.Public(
        type=tpm.ALG_RSA,
        name_hash=tpm.ALG_SHA256,
        attributes=EK_ATTRIBUTES,
        policy=EK_POLICY,
        symmetric=tpm.AES_128_CFB,
        scheme=tpm.NO_SCHEME,
        size=2048,
        unique=(bytes(256),),
    ),
    "ecc256": tpm.Public(
        type=tpm.ALG_ECC,
        name_hash=tpm.ALG_SHA256,
        attributes=EK_ATTRIBUTES,
        policy=EK_POLICY,
        symmetric=tpm.AES_128_CFB,
        scheme=tpm.NO_SCHEME,
        size=tpm.CURVE_P256,
        unique=(bytes(32), bytes(32)),
    ),
}
"""Templates L-1 and L-2 of the TCG EK Credential Profile (B.3.3, B.3.4)."""

EK_CERTIFICATE_INDEX: dict[EkKind, int] = {"rsa2048": 0x01C00002, "ecc256": 0x01C0000A}
"""NV indices of the certificates of L-1 and L-2 (EK Credential Profile, 2.2.1.4)."""

EK_CHAIN_INDICES = range(0x01C00100, 0x01C00200)
"""NV indices whose contents, one after the other, are the certificates of CAs (2.2.1.5.2)."""

AK = tpm.Public(
    type=tpm.ALG_ECC,
    name_hash=tpm.ALG_SHA256,
    attributes=(
        tpm.FIXED_TPM
        | tpm.FIXED_PARENT
        | tpm.SENSITIVE_DATA_ORIGIN
        | tpm.USER_WITH_AUTH
        | tpm.NO_DA
        | tpm.RESTRICTED
        | tpm.SIGN
    ),
    policy=b"",
    symmetric=tpm.NO_SCHEME,
    scheme=tpm.ECDSA_SHA256,
    size=tpm.CURVE_P256,
    unique=(b"procseal attestation key 1".ljust(32, b"\0"), bytes(32)),
)
"""The attestation key: a primary of the endorsement hierarchy, the same at every start.

In any other hierarchy the TPM would obfuscate the clock and the counters of what it signs.
"""

STORAGE = tpm.Public(
    type=tpm.ALG_ECC,
    name_hash=tpm.ALG_SHA256,
    attributes=process_key.STORAGE_ATTRIBUTES,
    policy=b"",
    symmetric=tpm.AES_128_CFB,
    scheme=tpm.NO_SCHEME,
    size=tpm.CURVE_P256,
    unique=(b"", b""),
)
"""The parent of process keys, a primary of the NULL hierarchy; it also salts sessions."""


def process(*, may_sign: bool) -> tpm.Public:
    """Return the template of a process key."""
    return tpm.Public(
        type=tpm.ALG_ECC,
        name_hash=tpm.ALG_SHA256,
        attributes=process_key.ATTRIBUTES,
        policy=process_key.policy_digest(may_sign=may_sign),
        symmetric=tpm.NO_SCHEME,
        scheme=tpm.ECDSA_SHA256,
        size=tpm.CURVE_P256,
        unique=(b"", b""),
    )
