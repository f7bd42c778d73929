"""Deterministic CBOR (RFC 8949, section 4.2.1): one encoding for each value."""

import cbor2

from evidence.malformed import Malformed


def encode(value: object) -> bytes:
    """Return the one encoding of `value`, made of None, bool, int, str, bytes and sequences."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes) -> object:
    """Return the value that `data` encodes; arrays come back as lists.

    Encoding it again is the whole check. cbor2 accepts duplicate keys, indefinite
    lengths, over-long integers and trailing bytes; none of those encodes back to
    the bytes that came in.
    """
    try:
        value = cbor2.loads(data)
        again = encode(value)
    except Exception as error:  # decoders of tags raise anything; none of it is an answer
        raise Malformed(f"not CBOR: {type(error).__name__}") from error
    if again != data:
        raise Malformed("not deterministic CBOR")
    return value
