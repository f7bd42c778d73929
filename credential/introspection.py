"""The verifier's answer about one token (RFC 7662), for who asks and reads no status lists."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from credential import wit
from credential.members import Members
from credential.reasons import Malformed, Reason, Refused

MOST_BYTES = 1 << 17
"""Of an answer: the claims of a token of 16 kB, and the scopes once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introspected:
    """What the verifier has said of one token. Made by `read`."""

    token: str
    """The token that was asked about, its text."""
    is_active: bool
    asked: datetime
    """Before the question was sent: the answer is not older."""

    @classmethod
    def read(cls, body: bytes, *, token: str, asked: datetime) -> Self:
        """Return what an answer to the question about `token` says (RFC 7662, section 2.2).

        Raise Malformed where it is none, Refused where it is about another token.
        """
        if len(body) > MOST_BYTES:
            raise Malformed(Reason.INTROSPECTION_MALFORMED, f"more than {MOST_BYTES} bytes")
        members = Members.parse(body, Reason.INTROSPECTION_MALFORMED)
        is_active = members.values.get("active")
        if not isinstance(is_active, bool):
            raise Malformed(Reason.INTROSPECTION_MALFORMED, "expected active to be true or false")
        if is_active:
            _demand_same(members, wit.read_unverified(token))
        return cls(token=token, is_active=is_active, asked=asked)


def _demand_same(members: Members, claims: wit.Claims) -> None:
    for name, expected in (("jti", claims.jti), ("sub", claims.id)):
        found = members.values.get(name)
        if found != expected:
            raise Refused.because(
                Reason.INTROSPECTION_OTHER, name, expected=expected, found=ascii(found)[:256]
            )
