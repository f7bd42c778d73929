"""Names of objects and hierarchies (Part 1, section 16)."""

import hashlib

from evidence.malformed import Malformed
from evidence.tpm.algorithms import HASHES

RH_OWNER = 0x40000001
RH_NULL = 0x40000007
RH_ENDORSEMENT = 0x4000000B
RH_PLATFORM = 0x4000000C
"""TPM_RH values (7.4)."""


def hierarchy_name(handle: int) -> bytes:
    """Return the Name of a hierarchy: its handle (Part 1, section 16)."""
    return handle.to_bytes(4, "big")


def qualify(name: bytes, parent: bytes) -> bytes:
    """Return the Qualified Name of an object whose Name is `name` (Part 1, section 16)."""
    algorithm = int.from_bytes(name[:2], "big")
    if algorithm not in HASHES:
        raise Malformed(f"expected a Name of a known algorithm, got {algorithm:#x}")
    return name_of(algorithm, parent + name)


def name_of(algorithm: int, data: bytes) -> bytes:
    """Return the algorithm, 16 bits, and the hash of the bytes by it."""
    return algorithm.to_bytes(2, "big") + hashlib.new(HASHES[algorithm], data).digest()
