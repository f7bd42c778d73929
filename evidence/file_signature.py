"""A file's signature, as the kernel's list shows it: the whole of its attribute security.ima.

Source: Linux security/integrity/integrity.h (`enum evm_ima_xattr_type`, `struct
signature_v2_hdr`, `struct ima_file_id`) and ima/ima_appraise.c (`calc_file_id_hash`), as of 6.12;
version 3 of plain files since 7.2. The kernel copies the attribute into the list unverified.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed

PLAIN, VERITY = 3, 6
"""EVM_IMA_XATTR_DIGSIG and IMA_VERITY_DIGSIG. A portable EVM signature (5), which the list shows
where a file has no other, is over the file's metadata: it says nothing of contents alone."""

OVER_DIGEST, OVER_FILE_ID = 2, 3
"""Versions: what is signed is the file's digest, or the hash of what kind of digest it is."""

_VERSIONS = {PLAIN: (OVER_DIGEST, OVER_FILE_ID), VERITY: (OVER_FILE_ID,)}

_ALGORITHMS = {1: "md5", 2: "sha1", 4: "sha256", 5: "sha384", 6: "sha512", 7: "sha224", 17: "sm3"}
"""The kernel's names by their number (include/uapi/linux/hash_info.h, `enum hash_algo`)."""
_NUMBERS = {name: number for number, name in _ALGORITHMS.items()}

KEY_ID_BYTES = 4
MOST_SIGNATURE_BYTES = (1 << 16) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSignature:
    """A signature by somebody, over a digest by an algorithm, if it holds."""

    is_verity: bool
    """Over the digest of fs-verity's tree, not over the hash of the file's bytes."""
    version: int
    algorithm: str
    """The kernel's name of the hash algorithm: of the digest and of the signature."""
    key_id: bytes
    """The last four bytes of the key's identifier: a hint, anybody can write any."""
    signature: bytes
    """Of RSA: PKCS #1 v1.5. Of ECDSA: DER."""

    def encode(self) -> bytes:
        """Return security.ima."""
        header = bytes((self._type, self.version, _NUMBERS[self.algorithm]))
        size = len(self.signature).to_bytes(2, "big")
        return header + self.key_id + size + self.signature

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the signature in security.ima; raise Malformed where there is another thing."""
        cursor = Cursor(data)
        kind, version, number = cursor.u8(), cursor.u8(), cursor.u8()
        if version not in _VERSIONS.get(kind, ()):
            raise Malformed(f"expected a file signature, got type {kind}, version {version}")
        if number not in _ALGORITHMS:
            raise Malformed(f"expected a hash algorithm of {sorted(_ALGORITHMS)}, got {number}")
        key_id = cursor.take(KEY_ID_BYTES)
        signature = cursor.sized(2, MOST_SIGNATURE_BYTES)
        cursor.end()
        if not signature:
            raise Malformed("expected a signature, got no bytes of it")
        return cls(
            is_verity=kind == VERITY,
            version=version,
            algorithm=_ALGORITHMS[number],
            key_id=key_id,
            signature=signature,
        )

    def signed_hash(self, digest: bytes) -> bytes:
        """Return the hash that the key has signed if it has signed this digest of a file.

        ValueError where nobody here can compute the algorithm.
        """
        if self.version == OVER_DIGEST:
            return digest
        file_id = bytes((self._type, _NUMBERS[self.algorithm])) + digest
        return hashlib.new(self.algorithm, file_id).digest()

    @property
    def _type(self) -> int:
        return VERITY if self.is_verity else PLAIN
