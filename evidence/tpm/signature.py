"""A signature by a key of a TPM."""

from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.malformed import Malformed
from evidence.tpm.algorithms import ALG_ECDSA, ALG_RSAPSS, ALG_RSASSA
from evidence.tpm.sized import tpm2b


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """TPMT_SIGNATURE (11.3.4) by RSASSA, RSAPSS or ECDSA."""

    scheme: int
    """TPM_ALG_ID: ALG_RSASSA, ALG_RSAPSS or ALG_ECDSA."""
    hash: int
    """TPM_ALG_ID of the hash."""
    values: tuple[bytes, ...]
    """The RSA signature, or r and s."""

    def encode(self) -> bytes:
        """Return the structure's bytes."""
        head = self.scheme.to_bytes(2, "big") + self.hash.to_bytes(2, "big")
        return head + b"".join(tpm2b(value) for value in self.values)

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the structure in `data`; raise Malformed on anything else."""
        cursor = Cursor(data)
        scheme, hash_ = cursor.u16(), cursor.u16()
        if scheme not in (ALG_RSASSA, ALG_RSAPSS, ALG_ECDSA):
            raise Malformed(f"expected RSASSA, RSAPSS or ECDSA, got algorithm {scheme:#x}")
        count = 2 if scheme == ALG_ECDSA else 1
        values = tuple(cursor.sized(2, 512) for _ in range(count))
        cursor.end()
        return cls(scheme=scheme, hash=hash_, values=values)
