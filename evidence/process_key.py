"""The one template of a process key, which the attestor makes and the verifier demands.

The key lives under a storage primary in the NULL hierarchy, so nothing outlives a reset. Its
policy lets it be used by whoever holds its auth value (the attestor's memory) and for
ActivateCredential alone; where it is the process's use key too, for Sign besides.
"""

import hashlib

from evidence import tpm

CC_ACTIVATE_CREDENTIAL = 0x00000147
CC_SIGN = 0x0000015D
CC_POLICY_AUTH_VALUE = 0x0000016B
CC_POLICY_COMMAND_CODE = 0x0000016C
CC_POLICY_OR = 0x00000171
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


COORDINATE_BYTES = 32
"""Of P-256; a TPM may leave out leading zeros."""


def _policy_step(policy: bytes, code: int, *arguments: bytes) -> bytes:
    return hashlib.sha256(policy + code.to_bytes(4, "big") + b"".join(arguments)).digest()


def branch_digest(command: int) -> bytes:
    """Return PolicyAuthValue then PolicyCommandCode(command) (Part 3, 23.15, 23.11)."""
    with_auth_value = _policy_step(bytes(32), CC_POLICY_AUTH_VALUE)
    return _policy_step(with_auth_value, CC_POLICY_COMMAND_CODE, command.to_bytes(4, "big"))


SIGNING_BRANCHES = (branch_digest(CC_ACTIVATE_CREDENTIAL), branch_digest(CC_SIGN))
"""Of a key that signs too, in the order in which PolicyOR takes them."""


def policy_digest(*, may_sign: bool) -> bytes:
    """Return the branch of ActivateCredential, or PolicyOR of both (Part 3, 23.6)."""
    if may_sign:
        return _policy_step(bytes(32), CC_POLICY_OR, *SIGNING_BRANCHES)
    return branch_digest(CC_ACTIVATE_CREDENTIAL)


def point_of(public: tpm.Public) -> bytes:
    """Return the point of an ECC key on P-256, uncompressed, 65 bytes."""
    coordinates = (one.rjust(COORDINATE_BYTES, b"\0") for one in public.unique)
    return b"\x04" + b"".join(coordinates)


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
