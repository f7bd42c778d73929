"""How much work a message may make, found out before any of it is done.

A CBOR decoder makes an object of each item, so 64 MiB of empty arrays become gigabytes. Walking
the heads (RFC 8949, section 3) costs nothing but time, and stops at the first item too many.
"""

from evidence import Malformed

MOST_ITEMS = 1 << 17
"""Of one message. An array of 65536 key Names, each an item, and all else that evidence has."""
MOST_ENVELOPE_ITEMS = 32
"""Of a message that comes in at the door: one array of plain members."""
MOST_CORE_ITEMS = 192
"""Of a core record, with 16 files of a configuration, 64 scopes and 16 members of a context."""
MOST_BODY_ITEMS = 1 << 20
"""Of a body, which is bytes within a message: some 10,000 processes."""
FEWEST_ITEMS = 64
"""As many are allowed to the shortest message."""
PAYLOAD_ITEM_BYTES = 8
"""On average an item of what is signed is longer: a key Name has 36 bytes with its head, a process
that has ended 52 in three items."""
MOST_BODY_ITEMS_PER_BYTE = 3 / 5
"""A mapping of nothing but short numbers has 13 bytes in seven items."""
LEAST_PROCESS_BYTES = 256
"""On average: keys, digests and signatures alone are more."""
DEEPEST = 16
"""Arrays within arrays; evidence has four."""

_BYTES, _TEXT, _ARRAY, _MAP, _TAG = 2, 3, 4, 5, 6
_FIRST_LONG = 24
"""Arguments of the head itself are lower."""
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}


def demand_envelope(data: bytes) -> None:
    """Raise Malformed if the message has more items than any that comes in at the door."""
    demand_bounded(data, MOST_ENVELOPE_ITEMS)


def demand_core(data: bytes) -> None:
    """Raise Malformed if a core record has more items than any."""
    demand_bounded(data, MOST_CORE_ITEMS)


def demand_payload(data: bytes) -> None:
    """Raise Malformed if what is signed has more items than its length explains."""
    demand_bounded(data, min(MOST_ITEMS, FEWEST_ITEMS + len(data) // PAYLOAD_ITEM_BYTES))


def demand_body(data: bytes) -> None:
    """Raise Malformed if the body has more items than its length explains."""
    most = FEWEST_ITEMS + int(len(data) * MOST_BODY_ITEMS_PER_BYTE)
    demand_bounded(data, min(MOST_BODY_ITEMS, most))


def demand_bounded(data: bytes, most_items: int = MOST_ITEMS) -> None:
    """Raise Malformed if the CBOR in `data` has too many items or is too deep.

    Messages are made of arrays; what a decoder makes of a tag may cost anything.
    """
    at, left = 0, 1
    outer: list[int] = []  # how many items are left in each array that this one is in
    for _ in range(most_items):
        major, argument, at = _read_head(data, at)
        left -= 1
        if major in (_BYTES, _TEXT):
            at += argument
        elif major == _ARRAY and argument:
            outer.append(left)
            left = argument
        elif major in (_MAP, _TAG):
            raise Malformed("expected no maps and no tags")
        while left == 0 and outer:
            left = outer.pop()
        if at > len(data):
            raise Malformed(f"expected {at} bytes, got {len(data)}")
        if left == 0:
            return
        if len(outer) >= DEEPEST:
            break
    raise Malformed(f"expected at most {most_items} items, {DEEPEST} deep")


def _read_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the major type and the argument of an item, and where its head ends."""
    head = data[at : at + 1]
    if not head:
        raise Malformed(f"expected more than {at} bytes")
    major, detail = head[0] >> 5, head[0] & 0x1F
    if detail < _FIRST_LONG:
        return major, detail, at + 1
    if detail not in _ARGUMENT_BYTES:
        raise Malformed("expected a definite length")
    end = at + 1 + _ARGUMENT_BYTES[detail]
    return major, int.from_bytes(data[at + 1 : end]), end
