"""Bytes that are no message, and cost a reader of CBOR as much as they can."""

import cbor2

from evidence import cbor


def broken(room: int) -> dict[str, bytes]:
    """Return bytes of about this size, by what is odd about them."""
    return {
        "arrays within arrays": b"\x81" * room,
        "arrays within arrays, not too deep": cbor.encode([[[[[[[[[[]]]]]]]]]] * (room // 10)),
        "empty arrays": cbor.encode([[]] * (room - 10)),
        "empty maps": cbor.encode([{}] * (room - 10)),
        "tags within tags": b"\xc1" * room,
        "a number of the message's length": cbor2.dumps((1 << 8 * (room - 16)) - 1),
        "numbers": cbor.encode([0] * (room - 10)),
        "texts of one letter": cbor.encode(["a"] * (room // 2 - 10)),
        "floating-point numbers": cbor2.dumps([1.5] * (room // 9)),
        "a length of 2^64": b"\x9b" + b"\xff" * (room - 1),
        "indefinite lengths": b"\x9f" * room,
        "keys of one map": cbor2.dumps(dict.fromkeys(range(room // 8), 0)),
        "dates": cbor2.dumps([cbor2.CBORTag(1, number) for number in range(room // 8)]),
        "shared references": b"\x82\xd8\x1c\x80" + b"\xd8\x1d\0" * (room // 8),
        "a text that is no UTF-8": cbor.encode(["procseal signed 1", bytes(room)])[:-room - 5]
        + b"\x7a" + room.to_bytes(4, "big") + b"\xff" * room,
    }  # fmt: skip
