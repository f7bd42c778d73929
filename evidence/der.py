"""DER (X.690, 10), the encoding of certificates: elements, read and written.

Lengths are definite and minimal, tags are one byte, nothing may be left over: there is one way
to divide given bytes into elements, and their own bytes are kept, because signatures are over
them. The rules of DER for what is *in* an element are the reader's of that element. Two of them
nobody here demands, since vendors break them: the order of a SET's members, and that a default
value is left out.
"""

from typing import NamedTuple

from evidence.cursor import Cursor
from evidence.malformed import Malformed

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31

MOST_LENGTH_BYTES = 3
"""Of a long length: 16 MiB, more than any reader here takes."""

MOST_ELEMENTS = 32
"""One after the other. Certificates have no more than 12 extensions, or 10 parts of a name."""

_SMALL_BYTES = 4
_MOST_OID_BYTES = 64
_LONG = 0x80
_HIGH_TAG = 0x1F


class Element(NamedTuple):
    """One element of DER."""

    tag: int
    """The identifier octet: class, constructed bit and number."""
    content: bytes
    whole: bytes
    """Header and content, the bytes as they came."""

    def children(self) -> tuple["Element", ...]:
        """Return the elements that the content consists of."""
        return elements(self.content)

    def expect(self, tag: int, what: str) -> "Element":
        """Return this element; raise Malformed unless its tag is `tag`."""
        if self.tag != tag:
            raise Malformed(f"{what}: expected tag {tag:#04x}, got {self.tag:#04x}")
        return self


def elements(data: bytes) -> tuple[Element, ...]:
    """Return the elements that `data` consists of."""
    cursor = Cursor(data)
    found: list[Element] = []
    while not cursor.is_at_end():
        if len(found) == MOST_ELEMENTS:
            raise Malformed(f"expected at most {MOST_ELEMENTS} elements one after the other")
        found.append(read_element(cursor))
    return tuple(found)


def element(data: bytes, tag: int, what: str) -> Element:
    """Return the one element that `data` consists of; raise Malformed unless it has this tag."""
    cursor = Cursor(data)
    found = read_element(cursor).expect(tag, what)
    cursor.end()
    return found


def read_element(cursor: Cursor) -> Element:
    """Return the next element."""
    start = cursor.position
    tag = cursor.u8()
    if tag & _HIGH_TAG == _HIGH_TAG:
        raise Malformed(f"expected a tag of one byte at offset {start}")
    length = cursor.u8()
    if length >= _LONG:
        length = _long_length(cursor, length - _LONG)
    content = cursor.take(length)
    size = cursor.position - start
    cursor.position = start
    return Element(tag=tag, content=content, whole=cursor.take(size))


def _long_length(cursor: Cursor, count: int) -> int:
    if not 1 <= count <= MOST_LENGTH_BYTES:
        raise Malformed(f"expected a definite length of at most {MOST_LENGTH_BYTES} bytes")
    length = cursor.number(count)
    if length < max(_LONG, 1 << 8 * (count - 1)):
        raise Malformed(f"expected the shortest form of the length {length}")
    return length


def encode(tag: int, content: bytes) -> bytes:
    """Return an element."""
    size = len(content)
    if size < _LONG:
        return bytes([tag, size]) + content
    count = (size.bit_length() + 7) // 8
    return bytes([tag, _LONG | count]) + size.to_bytes(count, "big") + content


def boolean(content: bytes) -> bool:
    """Return a BOOLEAN; vendors write true in other ways than 0xFF."""
    if len(content) != 1:
        raise Malformed(f"expected a boolean of one byte, got {len(content)}")
    return content != b"\0"


def small_number(content: bytes) -> int:
    """Return an INTEGER that is no less than 0 and takes no more than four bytes."""
    if not 1 <= len(content) <= _SMALL_BYTES or content[0] & 0x80:
        raise Malformed("expected a small number")
    return int.from_bytes(content, "big")


def bits(content: bytes) -> frozenset[int]:
    """Return which bits of a BIT STRING are set, the first one of them 0."""
    spare = content[0] if content else 0
    value = octets(content, spare=spare)
    if spare and (not value or value[-1] & (1 << spare) - 1):
        raise Malformed("expected the unused bits of a bit string to be zero")
    return frozenset(n for n in range(8 * len(value)) if value[n // 8] & (0x80 >> n % 8))


def octets(content: bytes, *, spare: int = 0) -> bytes:
    """Return the bytes of a BIT STRING that leaves `spare` bits of its last byte unused."""
    cursor = Cursor(content)
    if cursor.u8() != spare or spare > 7:  # noqa: PLR2004 bits of a byte that can be unused
        raise Malformed("expected whole bytes in a bit string")
    return cursor.take(len(content) - 1)


def oid(content: bytes) -> str:
    """Return an OBJECT IDENTIFIER in dots."""
    if len(content) > _MOST_OID_BYTES:
        raise Malformed(f"expected an object identifier of at most {_MOST_OID_BYTES} bytes")
    arcs: list[int] = []
    arc, is_within = 0, False
    for byte in content:
        if not is_within and byte == _LONG:
            raise Malformed("expected the shortest form of an object identifier")
        arc = arc << 7 | byte & 0x7F
        is_within = byte >= _LONG
        if not is_within:
            arcs.append(arc)
            arc = 0
    if not arcs or is_within:
        raise Malformed("expected an object identifier")
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
