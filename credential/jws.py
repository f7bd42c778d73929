"""Compact JWS (RFC 7515) with ES256: one text for each message, and nothing optional.

PyJWT checks the signature. What it leaves open is closed here, before it is asked: the exact
members of the header, `typ`, spare base64 bits, sizes, members named twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from credential import base64url, crypto
from credential.keys import ALGORITHM, KID, read_bare_jwk
from credential.members import Members, to_json
from credential.reasons import Malformed, Reason

MOST_HEADER_BYTES = 1024


def load() -> None:
    """Import now what is imported when it is needed, for a program that runs for long."""
    import jwt  # noqa: F401, PLC0415

    crypto.load()


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A JWS that lacks its signature, which may be a TPM's to make."""

    text: str
    """Header and payload: what is signed (RFC 7515, section 5.1, step 5)."""

    def sign(self, key: crypto.PrivateKey) -> str:
        """Return the JWS, signed by `key`."""
        return self.signed(crypto.sign(key, self.text.encode()))

    def signed(self, signature: bytes) -> str:
        """Return the JWS; `signature` is r and s, 64 bytes, over the text."""
        return f"{self.text}.{base64url.encode(signature)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unverified:
    """A JWS whose form is right and whose signature nobody has looked at."""

    text: str
    kid: str
    """Empty where the format has none."""
    point: bytes
    """Of its header's `jwk`, 65 bytes, which whoever made it has chosen; empty likewise."""
    payload: bytes
    """Not to be believed, nor even parsed."""

    def is_signed_by(self, point: bytes) -> bool:
        """Say whether the key with this P-256 point, 65 bytes, has signed it."""
        import jwt  # noqa: PLC0415 - as crypto.py does it

        checking = jwt.PyJWS(algorithms=[ALGORITHM])
        try:
            checking.decode(self.text, key=crypto.public_key(point), algorithms=[ALGORITHM])
        except jwt.InvalidTokenError:
            return False
        return True


def unsigned(payload: bytes, header: Mapping[str, object]) -> Unsigned:
    """Return the JWS of `payload` before it is signed; `header` has all of it but `alg`."""
    whole = to_json({"alg": ALGORITHM, **header})
    return Unsigned(f"{base64url.encode(whole)}.{base64url.encode(payload)}")


def sign(payload: bytes, key: crypto.PrivateKey, header: Mapping[str, object]) -> str:
    """Return the JWS of `payload`; `header` has its `typ` and, where the format wants, `kid`."""
    return unsigned(payload, header).sign(key)


def read(  # noqa: PLR0913  (what a format says)
    text: str,
    *,
    typ: str,
    has_kid: bool,
    has_jwk: bool = False,
    most_bytes: int,
    reason: Reason,
) -> Unverified:
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
    named = [name for name, is_there in (("kid", has_kid), ("jwk", has_jwk)) if is_there]
    members.exactly(("alg", "typ", *named))
    members.text("alg", ALGORITHM)
    if members.values["typ"] != typ:
        raise Malformed(reason, f"expected typ {typ}")
    kid = members.text("kid", KID) if has_kid else ""
    point = read_bare_jwk(members.child("jwk")) if has_jwk else b""
    return Unverified(text=text, kid=kid, point=point, payload=payload)
