"""A TPM2B: a 16-bit length and that many bytes. `Cursor.sized` reads it."""


def tpm2b(data: bytes) -> bytes:
    """Return the bytes with their length before them."""
    return len(data).to_bytes(2, "big") + data
