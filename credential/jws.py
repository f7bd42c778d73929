"""Compact JWS (RFC 7515) with ES256: one text for each message, and nothing optional.

PyJWT makes and checks the signature. What it leaves open is closed here, before it is asked:
the exact members of the header, `typ`, spare base64 bits, sizes, members named twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jwt

from credential import base64url, crypto
from credential.keys import ALGORITHM, KID
from credential.members import Members
from credential.reasons import Malformed, Reason

MOST_HEADER_BYTES = 1024

_JWS = jwt.PyJWS(algorithms=[ALGORITHM])


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """A JWS whose form is right and whose signature nobody has looked at."""

    text: str
    kid: str
    """Empty where the format has none."""
    payload: bytes
    """Not to be believed, nor even parsed."""

    def is_signed_by(self, point: bytes) -> bool:
        """Say whether the key with this P-256 point, 65 bytes, has signed it."""
        try:
            _JWS.decode(self.text, key=crypto.public_key(point), algorithms=[ALGORITHM])
        except jwt.InvalidTokenError:
            return False
        return True


def sign(payload: bytes, key: crypto.PrivateKey, header: Mapping[str, str]) -> str:
    """Return the JWS of `payload`; `header` has its `typ` and, where the format wants, `kid`."""
    return _JWS.encode(payload, key, algorithm=ALGORITHM, headers=dict(header))


def read(text: str, *, typ: str, has_kid: bool, most_bytes: int, reason: Reason) -> Unverified:
    """Return the JWS in `text`; raise Malformed, with `reason`, on any other form."""
    if len(text) > most_bytes:
        raise Malformed(reason, f"longer than {most_bytes} bytes")
    try:
        header, payload, signature = (base64url.decode(part) for part in text.split("."))
    except ValueError as error:
        raise Malformed(reason, "expected three parts of base64url") from error
    if len(header) > MOST_HEADER_BYTES or len(signature) != crypto.SIGNATURE_BYTES:
        raise Malformed(reason, "expected a short header and a signature of 64 bytes")
    members = Members.parse(header, reason)
    members.exactly(("alg", "typ", "kid") if has_kid else ("alg", "typ"))
    members.text("alg", ALGORITHM)
    if members.values["typ"] != typ:
        raise Malformed(reason, f"expected typ {typ}")
    kid = members.text("kid", KID) if has_kid else ""
    return Unverified(text=text, kid=kid, payload=payload)
