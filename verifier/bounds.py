"""How much work a message may make, found out before any of it is done.

A CBOR decoder makes an object of each item, so 64 MiB of empty arrays become gigabytes. Walking
the heads (RFC 8949, section 3) costs nothing but time, and stops at the first item too many.
"""

from evidence import Malformed
from evidence.cursor import Cursor

MOST_ITEMS = 1 << 17
"""Of one message. An array of 65536 key Names, each an item, and all else that evidence has."""
MOST_BODY_ITEMS = 1 << 20
"""Of a body, which is bytes within a message: some 10,000 processes."""
DEEPEST = 16
"""Arrays within arrays; evidence has four."""

_BYTES, _TEXT, _ARRAY, _MAP, _TAG = 2, 3, 4, 5, 6
_ARGUMENT_BYTES = {24: 1, 25: 2, 26: 4, 27: 8}


def demand_bounded(data: bytes, most_items: int = MOST_ITEMS) -> None:
    """Raise Malformed if the CBOR in `data` has too many items or is too deep."""
    cursor = Cursor(data)
    waiting = [1]
    items = 0
    while waiting:
        if waiting[-1] == 0:
            waiting.pop()
            continue
        waiting[-1] -= 1
        items += 1
        within = _step_over(cursor)
        if within:
            waiting.append(within)
        if items > most_items or len(waiting) > DEEPEST:
            raise Malformed(f"expected at most {most_items} items, {DEEPEST} deep")


def _step_over(cursor: Cursor) -> int:
    """Step over a head, and a string's bytes; return how many items are within."""
    head = cursor.u8()
    major, detail = head >> 5, head & 0x1F
    if detail in _ARGUMENT_BYTES:
        argument = cursor.number(_ARGUMENT_BYTES[detail])
    elif detail < min(_ARGUMENT_BYTES):
        argument = detail
    else:
        raise Malformed("expected a definite length")
    if major in (_BYTES, _TEXT):
        cursor.take(argument)
    return {_ARRAY: argument, _MAP: 2 * argument, _TAG: 1}.get(major, 0)
