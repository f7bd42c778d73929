"""Token Status List, draft-ietf-oauth-status-list-17: what became of tokens since their issue.

A token names its list and its place in it (claim `status`). The list is a JWT by the verifier,
header `{"alg": "ES256", "typ": "statuslist+jwt", "kid"}`, claims `sub` (its own URI), `iat`,
`exp`, `ttl` and `status_list` {"bits": 2, "lst"}. It is no secret, and says nothing about whose
token has which place.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Self

from credential import base64url, crypto, jws
from credential.keys import Keys
from credential.members import Members, numeric_date, to_json
from credential.reasons import Malformed, Reason, Refused

TYPE = "statuslist+jwt"
MEDIA_TYPE = "application/statuslist+jwt"
BITS = 2
"""Of one status (section 4.2): the least that has room for `SUSPENDED`."""
MOST_STATUS_BYTES = 1 << 16
"""Of a list that is read, unpacked: 262144 tokens."""
MOST_BYTES = 1 << 17
"""Of a list's text."""
URI = r"https?://[!-~]{1,2040}"
MOST_INDEX = MOST_STATUS_BYTES * 8 // BITS - 1

_PER_BYTE = 8 // BITS
_MASK = (1 << BITS) - 1
_CLAIMS = ("sub", "iat", "exp", "ttl", "status_list")


class Status(IntEnum):
    """A token's status (section 7.1). The fourth value is nobody's, and lets nobody in."""

    VALID = 0
    INVALID = 1
    """For ever."""
    SUSPENDED = 2
    """For now."""
    UNKNOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a token's status stands."""

    uri: str
    """Of the list."""
    index: int

    def to_json(self) -> dict[str, object]:
        """Return the value of the claim `status` (section 6.2)."""
        return {"status_list": {"idx": self.index, "uri": self.uri}}

    @classmethod
    def read(cls, members: Members) -> Self:
        """Return what the claim `status` says; raise Malformed on any other form."""
        found = members.exactly(("status_list",)).child("status_list").exactly(("idx", "uri"))
        index = found.number("idx")
        if index > MOST_INDEX:
            raise Malformed(found.reason, f"expected idx to be at most {MOST_INDEX}")
        return cls(uri=found.text("uri", URI), index=index)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusList:
    """A list that one of the verifier's keys has signed. Made by `read`."""

    uri: str
    issued: datetime
    """Whole seconds, as is `expires`."""
    expires: datetime
    ttl: timedelta
    """After so long the verifier has a newer one."""
    statuses: bytes
    """BITS each, the first in the lowest bits of the first byte (section 4.1)."""

    def at(self, index: int) -> Status:
        """Return the status at a place; raise Refused where the list has no such place."""
        entries = len(self.statuses) * _PER_BYTE
        if not 0 <= index < entries:
            raise Refused.because(
                Reason.STATUS_INDEX,
                self.uri,
                expected=f"an index below {entries}",
                found=str(index),
            )
        return Status(self.statuses[index // _PER_BYTE] >> index % _PER_BYTE * BITS & _MASK)


def pack(statuses: Mapping[int, Status], *, entries: int) -> bytes:
    """Return the statuses of a list with `entries` places; those not given are VALID."""
    packed = bytearray(-(-entries // _PER_BYTE))
    for index, status in statuses.items():
        packed[index // _PER_BYTE] |= status << index % _PER_BYTE * BITS
    return bytes(packed)


def encode(found: StatusList, *, key: crypto.PrivateKey, kid: str) -> str:
    """Return the list, signed; raise Malformed if it could not be read."""
    packed = base64url.encode(zlib.compress(found.statuses, 9))
    payload = to_json(
        {
            "sub": found.uri,
            "iat": numeric_date(found.issued),
            "exp": numeric_date(found.expires),
            "ttl": int(found.ttl.total_seconds()),
            "status_list": {"bits": BITS, "lst": packed},
        }
    )
    _read_claims(payload)
    text = jws.sign(payload, key, {"typ": TYPE, "kid": kid})
    _read_form(text)
    return text


def read(text: str, keys: Keys) -> StatusList:
    """Return the list in `text`, if one of `keys` has signed it.

    It does not say that the list is of now, nor which tokens it is about: `check` does. Nothing
    in the payload is parsed, and nothing unpacked, before the signature holds.
    """
    unverified = _read_form(text)
    if unverified.kid not in keys.points:
        raise Refused.because(Reason.STATUS_KEY_UNKNOWN, "kid", found=unverified.kid)
    if not unverified.is_signed_by(keys.points[unverified.kid]):
        raise Refused.because(Reason.STATUS_SIGNATURE, f"key {unverified.kid}")
    return _read_claims(unverified.payload)


def _read_form(text: str) -> jws.Unverified:
    return jws.read(
        text, typ=TYPE, has_kid=True, most_bytes=MOST_BYTES, reason=Reason.STATUS_MALFORMED
    )


def _read_claims(payload: bytes) -> StatusList:
    members = Members.parse(payload, Reason.STATUS_MALFORMED).exactly(_CLAIMS)
    inner = members.child("status_list").exactly(("bits", "lst"))
    if inner.number("bits") != BITS:
        raise Malformed(Reason.STATUS_MALFORMED, f"expected bits to be {BITS}")
    found = StatusList(
        uri=members.text("sub", URI),
        issued=members.time("iat"),
        expires=members.time("exp"),
        ttl=timedelta(seconds=members.number("ttl")),
        statuses=_unpack(inner.text("lst", r"[A-Za-z0-9_-]+")),
    )
    if found.expires <= found.issued or not found.ttl:
        raise Malformed(Reason.STATUS_MALFORMED, "expected exp after iat, and a ttl above 0")
    return found


def _unpack(text: str) -> bytes:
    """Return what `text` holds: one zlib stream (RFC 1950), all of it, of a bounded size."""
    stream = zlib.decompressobj()
    try:
        data = stream.decompress(base64url.decode(text), MOST_STATUS_BYTES + 1)
    except (ValueError, zlib.error) as error:
        raise Malformed(Reason.STATUS_MALFORMED, "expected lst to be base64url of zlib") from error
    if not data or len(data) > MOST_STATUS_BYTES or not stream.eof or stream.unused_data:
        expected = f"expected lst to be one stream of 1 to {MOST_STATUS_BYTES} bytes"
        raise Malformed(Reason.STATUS_MALFORMED, expected)
    return data
