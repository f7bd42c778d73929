"""Server nonces (RFC 9449, section 8): they show that a DPoP proof was not made in advance.

A nonce is a time and a MAC over it, so nobody keeps a list of them: every server with the same
key knows them all. All that are given out within a minute are the same.
"""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from credential import base64url
from credential.members import MOST_NUMBER, numeric_date

KEY_BYTES = 32
PERIOD = timedelta(seconds=60)
"""How long the same nonce is given out."""
LIFETIME = timedelta(seconds=180)
"""How long it counts from the beginning of that time: two minutes at least."""

_TIME_BYTES = 8
_MAC_BYTES = 16
_LABEL = b"procseal dpop nonce 1"


@dataclass(frozen=True, slots=True)
class Nonces:
    """The nonces of the servers that share `key`."""

    key: bytes = field(repr=False)
    """32 random bytes."""

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"expected a key of {KEY_BYTES} bytes")

    def at(self, now: datetime) -> str:
        """Return the nonce to give out now, 32 characters of base64url."""
        period = int(PERIOD.total_seconds())
        time = (numeric_date(now) // period * period).to_bytes(_TIME_BYTES, "big")
        return base64url.encode(time + self._mac(time))

    def time_of(self, nonce: str) -> datetime | None:
        """Return since when `nonce` was given out, None where it never was."""
        try:
            data = base64url.decode(nonce)
        except ValueError:
            return None
        time, mac = data[:_TIME_BYTES], data[_TIME_BYTES:]
        seconds = int.from_bytes(time, "big")
        if not hmac.compare_digest(mac, self._mac(time)) or seconds > MOST_NUMBER:
            return None
        return datetime.fromtimestamp(seconds, UTC)

    def _mac(self, time: bytes) -> bytes:
        return hmac.digest(self.key, _LABEL + time, hashlib.sha256)[:_MAC_BYTES]
