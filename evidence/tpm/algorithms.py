"""Numbers of algorithms and curves, and the schemes that are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed

ALG_RSA = 0x0001
ALG_AES = 0x0006
ALG_SHA1 = 0x0004
ALG_SHA256 = 0x000B
ALG_SHA384 = 0x000C
ALG_SHA512 = 0x000D
ALG_NULL = 0x0010
ALG_RSASSA = 0x0014
ALG_RSAES = 0x0015
ALG_RSAPSS = 0x0016
ALG_OAEP = 0x0017
ALG_ECDSA = 0x0018
ALG_ECDH = 0x0019
ALG_ECDAA = 0x001A
ALG_SM2 = 0x001B
ALG_ECSCHNORR = 0x001C
ALG_ECC = 0x0023
ALG_CFB = 0x0043
"""TPM_ALG_ID values (6.3)."""

CURVE_P256 = 0x0003
CURVE_P384 = 0x0004
CURVE_P521 = 0x0005
"""TPM_ECC_CURVE values (6.4)."""

HASHES = {ALG_SHA1: "sha1", ALG_SHA256: "sha256", ALG_SHA384: "sha384", ALG_SHA512: "sha512"}
"""The hash algorithms that a Name can be computed with, by TPM_ALG_ID."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """An algorithm and its detail: TPMT_SYM_DEF_OBJECT (11.1.7) or an asymmetric scheme (11.2).

    `parameters` are the 16-bit words after the algorithm: key bits and mode of a symmetric
    cipher, the hash of a signing scheme, nothing for ALG_NULL and RSAES.
    """

    algorithm: int
    parameters: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        words = (self.algorithm, *self.parameters)
        return b"".join(word.to_bytes(2, "big") for word in words)

    @classmethod
    def read(cls, cursor: Cursor, words: Mapping[int, int]) -> Self:
        """Read a scheme at the cursor: `words` has the number of parameters by algorithm."""
        algorithm = cursor.u16()
        if algorithm not in words:
            raise Malformed(f"expected one of the algorithms {sorted(words)}, got {algorithm:#x}")
        parameters = tuple(cursor.u16() for _ in range(words[algorithm]))
        return cls(algorithm=algorithm, parameters=parameters)


NO_SCHEME = Scheme(algorithm=ALG_NULL)
AES_128_CFB = Scheme(algorithm=ALG_AES, parameters=(128, ALG_CFB))
ECDSA_SHA256 = Scheme(algorithm=ALG_ECDSA, parameters=(ALG_SHA256,))

SYMMETRIC_WORDS = {ALG_NULL: 0, ALG_AES: 2}
SCHEME_WORDS = {
    ALG_RSA: {ALG_NULL: 0, ALG_RSASSA: 1, ALG_RSAPSS: 1, ALG_OAEP: 1, ALG_RSAES: 0},
    ALG_ECC: {
        ALG_NULL: 0, ALG_ECDSA: 1, ALG_ECDH: 1, ALG_ECDAA: 2, ALG_SM2: 1, ALG_ECSCHNORR: 1,
    },
}  # fmt: skip
KDF_WORDS = {ALG_NULL: 0}
"""How many parameters an algorithm has, where a public area has it (12.2.3): those of symmetric
ciphers, those of schemes by the type of the key, those of key derivation."""
