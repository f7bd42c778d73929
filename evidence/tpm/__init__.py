"""The TPM structures that a verifier reads, and their one encoding.

Source: TCG Trusted Platform Module Library, Part 2: Structures, revision 1.59; section numbers
stand beside each class. Everything is big endian; a TPM2B is a 16-bit length and that many bytes.
"""

from evidence.tpm.algorithms import (
    AES_128_CFB,
    ALG_AES,
    ALG_CFB,
    ALG_ECC,
    ALG_ECDAA,
    ALG_ECDH,
    ALG_ECDSA,
    ALG_ECSCHNORR,
    ALG_NULL,
    ALG_OAEP,
    ALG_RSA,
    ALG_RSAES,
    ALG_RSAPSS,
    ALG_RSASSA,
    ALG_SHA1,
    ALG_SHA256,
    ALG_SHA384,
    ALG_SHA512,
    ALG_SM2,
    CURVE_P256,
    CURVE_P384,
    CURVE_P521,
    ECDSA_SHA256,
    HASHES,
    NO_SCHEME,
    Scheme,
)
from evidence.tpm.attest import (
    GENERATED,
    ST_ATTEST_CERTIFY,
    ST_ATTEST_CREATION,
    ST_ATTEST_QUOTE,
    ST_ATTEST_TIME,
    Attest,
    Attested,
    Certification,
    ClockInfo,
    Creation,
    Quote,
    Time,
)
from evidence.tpm.creation import CreationData
from evidence.tpm.names import (
    RH_ENDORSEMENT,
    RH_NULL,
    RH_OWNER,
    RH_PLATFORM,
    hierarchy_name,
    qualify,
)
from evidence.tpm.public import (
    ADMIN_WITH_POLICY,
    DECRYPT,
    ENCRYPTED_DUPLICATION,
    FIXED_PARENT,
    FIXED_TPM,
    NO_DA,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
    ST_CLEAR,
    USER_WITH_AUTH,
    X509_SIGN,
    Public,
)
from evidence.tpm.registers import (
    MOST_SELECT_BYTES,
    MOST_SELECTIONS,
    PcrSelection,
    encode_selections,
    read_selections,
)
from evidence.tpm.signature import Signature

__all__ = [
    "ADMIN_WITH_POLICY", "AES_128_CFB", "ALG_AES", "ALG_CFB", "ALG_ECC", "ALG_ECDAA",
    "ALG_ECDH", "ALG_ECDSA", "ALG_ECSCHNORR", "ALG_NULL", "ALG_OAEP", "ALG_RSA", "ALG_RSAES",
    "ALG_RSAPSS", "ALG_RSASSA", "ALG_SHA1", "ALG_SHA256", "ALG_SHA384", "ALG_SHA512", "ALG_SM2",
    "CURVE_P256", "CURVE_P384", "CURVE_P521", "DECRYPT", "ECDSA_SHA256",
    "ENCRYPTED_DUPLICATION", "FIXED_PARENT", "FIXED_TPM", "GENERATED", "HASHES",
    "MOST_SELECTIONS", "MOST_SELECT_BYTES", "NO_DA", "NO_SCHEME", "RESTRICTED",
    "RH_ENDORSEMENT", "RH_NULL", "RH_OWNER", "RH_PLATFORM", "SENSITIVE_DATA_ORIGIN", "SIGN",
    "ST_ATTEST_CERTIFY", "ST_ATTEST_CREATION", "ST_ATTEST_QUOTE", "ST_ATTEST_TIME", "ST_CLEAR",
    "USER_WITH_AUTH", "X509_SIGN", "Attest", "Attested", "Certification", "ClockInfo",
    "Creation", "CreationData", "PcrSelection", "Public", "Quote", "Scheme", "Signature",
    "Time", "encode_selections", "hierarchy_name", "qualify", "read_selections",
]  # fmt: skip
