"""The one template of a process key, which the attestor makes and the verifier demands.

The key lives under a storage primary in the NULL hierarchy, so nothing outlives a reset. Its
policy lets it be used by whoever holds its auth value (the attestor's memory) and for
ActivateCredential alone; it never signs.
"""

import hashlib

from evidence import tpm

CC_ACTIVATE_CREDENTIAL = 0x00000147
CC_POLICY_AUTH_VALUE = 0x0000016B
CC_POLICY_COMMAND_CODE = 0x0000016C
"""TPM_CC values (Part 2, 6.5.2)."""

ATTRIBUTES = (
    tpm.FIXED_TPM
    | tpm.FIXED_PARENT
    | tpm.SENSITIVE_DATA_ORIGIN
    | tpm.ADMIN_WITH_POLICY
    | tpm.NO_DA
    | tpm.SIGN
)

CREATION_REGISTERS = tuple(range(8))
"""creationPCR, sha256 bank: what the machine booted. Never 10, which moves all the time."""


def _policy_step(policy: bytes, code: int, *arguments: bytes) -> bytes:
    return hashlib.sha256(policy + code.to_bytes(4, "big") + b"".join(arguments)).digest()


def policy_digest() -> bytes:
    """Return PolicyAuthValue then PolicyCommandCode(ActivateCredential) (Part 3, 23.15, 23.11)."""
    with_auth_value = _policy_step(bytes(32), CC_POLICY_AUTH_VALUE)
    command = CC_ACTIVATE_CREDENTIAL.to_bytes(4, "big")
    return _policy_step(with_auth_value, CC_POLICY_COMMAND_CODE, command)


STORAGE_ATTRIBUTES = (
    tpm.FIXED_TPM
    | tpm.FIXED_PARENT
    | tpm.SENSITIVE_DATA_ORIGIN
    | tpm.USER_WITH_AUTH
    | tpm.NO_DA
    | tpm.RESTRICTED
    | tpm.DECRYPT
)
"""Of the storage primary: ECC P-256, AES-128-CFB, restricted, decrypt."""
