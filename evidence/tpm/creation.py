"""The circumstances under which a TPM made an object."""

from dataclasses import dataclass
from typing import Self

from evidence.cursor import Cursor
from evidence.tpm.registers import PcrSelection, encode_selections, read_selections
from evidence.tpm.sized import tpm2b


@dataclass(frozen=True, slots=True, kw_only=True)
class CreationData:
    """TPMS_CREATION_DATA (15.1): the circumstances under which an object was made."""

    selections: tuple[PcrSelection, ...]
    digest: bytes
    """Hash of the selected registers' values, in the object's name algorithm."""
    locality: int
    parent_name_hash: int
    """TPM_ALG_ID of the parent's Name; ALG_NULL for a primary."""
    parent_name: bytes
    parent_qualified_name: bytes
    outside_info: bytes
    """The caller's bytes: for a process key, SHA-256 of its core record."""

    def encode(self) -> bytes:
        """Return the structure's bytes, as their hash is certified."""
        return b"".join(
            (
                encode_selections(self.selections),
                tpm2b(self.digest),
                bytes([self.locality]),
                self.parent_name_hash.to_bytes(2, "big"),
                tpm2b(self.parent_name),
                tpm2b(self.parent_qualified_name),
                tpm2b(self.outside_info),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the structure in `data`; raise Malformed on anything else."""
        cursor = Cursor(data)
        creation = cls(
            selections=read_selections(cursor),
            digest=cursor.sized(2, 64),
            locality=cursor.u8(),
            parent_name_hash=cursor.u16(),
            parent_name=cursor.sized(2, 68),
            parent_qualified_name=cursor.sized(2, 68),
            outside_info=cursor.sized(2, 64),
        )
        cursor.end()
        return creation
