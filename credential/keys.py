"""Public keys as JWK (RFC 7517), their thumbprints, and the key set that a reader trusts."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from credential import base64url, crypto
from credential.members import Members, to_json
from credential.reasons import Malformed, Reason

ALGORITHM = "ES256"
"""RFC 7518, section 3.4; WIMSE demands it. The only one that is signed or accepted here."""
MOST_KEYS = 64
MOST_SET_BYTES = 65536
KID = r"[A-Za-z0-9_.-]{1,128}"
TRUST_DOMAIN = r"[a-z0-9._-]{1,255}"
"""SPIFFE-ID, section 2.1."""

_COORDINATE = r"[A-Za-z0-9_-]{43}"
_BARE_MEMBERS = ("kty", "crv", "x", "y")
_MEMBERS = (*_BARE_MEMBERS, "alg")


def to_bare_jwk(point: bytes) -> dict[str, str]:
    """Return the JWK of a P-256 point of 65 bytes, with what it must have and nothing else."""
    x, y = point[1 : 1 + crypto.COORDINATE_BYTES], point[1 + crypto.COORDINATE_BYTES :]
    coordinates = {"x": base64url.encode(x), "y": base64url.encode(y)}
    return {"kty": "EC", "crv": "P-256", **coordinates}


def to_jwk(point: bytes) -> dict[str, str]:
    """Return the JWK of a P-256 point of 65 bytes, with its `alg` as WIMSE wants it in `cnf`."""
    return {**to_bare_jwk(point), "alg": ALGORITHM}


def read_bare_jwk(jwk: Members) -> bytes:
    """Return the point, 65 bytes, of a JWK that has `to_bare_jwk`'s members and no others."""
    bare = jwk.exactly(_BARE_MEMBERS).values
    return read_jwk(Members.of({**bare, "alg": ALGORITHM}, jwk.reason))


def read_jwk(jwk: Members) -> bytes:
    """Return the point, 65 bytes, of a JWK that has `to_jwk`'s members and no others."""
    jwk.exactly(_MEMBERS)
    jwk.text("kty", "EC")
    jwk.text("crv", "P-256")
    jwk.text("alg", ALGORITHM)
    try:
        coordinates = [base64url.decode(jwk.text(name, _COORDINATE)) for name in ("x", "y")]
        point = b"\x04" + b"".join(coordinates)
        crypto.public_key(point)
    except ValueError as error:
        raise Malformed(jwk.reason, "expected a JWK to be a point of P-256") from error
    return point


def thumbprint(point: bytes) -> str:
    """Return the RFC 7638 thumbprint of a P-256 point: base64url SHA-256, 43 characters."""
    jwk = to_bare_jwk(point)
    required = {name: jwk[name] for name in sorted(jwk)}
    return base64url.encode(hashlib.sha256(to_json(required)).digest())


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The keys that speak for one trust domain; never taken from what they have signed.

    WIMSE workload credentials: trust anchors are configured per trust domain, not found by
    a token's `iss`.
    """

    trust_domain: str
    """Such as `example.org`: a token of any other is refused."""
    points: Mapping[str, bytes]
    """Public keys, 65 bytes each, by `kid`; at least one."""

    def __post_init__(self) -> None:
        if not self.points:
            raise Malformed(Reason.KEYS_MALFORMED, "no key that can be used")

    @classmethod
    def read(cls, jwks: bytes | str, *, trust_domain: str) -> Self:
        """Return the ES256 signature keys of a JWK set, whose other keys are left out.

        Raise Malformed if one of them is no key, has a private half or a `kid` that another
        has, and if there is none.
        """
        if len(jwks) > MOST_SET_BYTES:
            raise Malformed(Reason.KEYS_MALFORMED, "a key set of this size is not read")
        found = Members.parse(jwks, Reason.KEYS_MALFORMED).array("keys", most=MOST_KEYS)
        jwk_list = [Members.of(one, Reason.KEYS_MALFORMED) for one in found]
        return cls.of(trust_domain, [_read_entry(jwk) for jwk in jwk_list if _is_ours(jwk)])

    @classmethod
    def of(cls, trust_domain: str, keys: list[tuple[str, bytes]]) -> Self:
        """Return the set of these keys, each a `kid` and a point of 65 bytes."""
        points = dict(keys)
        if len(points) != len(keys):
            raise Malformed(Reason.KEYS_MALFORMED, "two keys have the same kid")
        named = Members.of({"trust domain": trust_domain}, Reason.KEYS_MALFORMED)
        return cls(trust_domain=named.text("trust domain", TRUST_DOMAIN), points=points)

    def to_jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the JWK set, as `read` reads it."""
        known = self.points.items()
        return {"keys": [{**to_jwk(point), "kid": kid, "use": "sig"} for kid, point in known]}


def _is_ours(jwk: Members) -> bool:
    """Say whether a key is of the one kind that is used here (RFC 7517, section 5: ignore)."""
    wanted = {"kty": "EC", "crv": "P-256", "alg": ALGORITHM, "use": "sig"}
    return all(jwk.values.get(name) == value for name, value in wanted.items())


def _read_entry(jwk: Members) -> tuple[str, bytes]:
    jwk.exactly((*_MEMBERS, "kid", "use"))
    bare = {name: jwk.values[name] for name in _MEMBERS}
    return jwk.text("kid", KID), read_jwk(Members.of(bare, jwk.reason))
