"""The proof in the form of RFC 9449 (DPoP), for one request.

Header `{"alg": "ES256", "typ": "dpop+jwt", "jwk"}`; the `jwk` has to be the token's `cnf`. Unlike a
WPT it names no audience: its URL is what binds it to a relying party. `Authorization: DPoP TOKEN`
and `DPoP: PROOF` carry it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from credential import base64url, jws
from credential.keys import thumbprint, to_bare_jwk
from credential.members import Members, numeric_date, to_json
from credential.nonces import Nonces
from credential.reasons import Reason, Refused
from credential.wit import METHOD
from credential.wpt import HASH, JTI, LIFETIME, MOST_BYTES, asked_target, hash_of, read_target

HEADER = "DPoP"
SCHEME = "DPoP"
"""Of `Authorization` (section 7.1); its case does not count."""
NONCE_HEADER = "DPoP-Nonce"
TYPE = "dpop+jwt"

NONCE = r"[\x21\x23-\x5b\x5d-\x7e]{1,256}"
"""NQCHAR of section 8.1, and a bound."""

_CLAIMS = ("jti", "htm", "htu", "iat", "ath")


@dataclass(frozen=True, slots=True, kw_only=True)
class DPoP:
    """A proof as a request carried it, and the nonces that this server gives out."""

    proof: str
    nonces: Nonces | Literal["unchecked"]
    """`"unchecked"` is for servers that give out none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a proof says."""

    target: str
    """`htu`: target URI without query and fragment, as `wpt.target_of` writes it."""
    method: str
    """`htm`: HTTP method, whose case counts."""
    issued: datetime
    """Whole seconds."""
    jti: str
    """16 random bytes, base64url."""
    token_hash: str
    """`ath`: base64url SHA-256 of the token's text."""
    nonce: str
    """The server's; empty where it gave none."""

    @property
    def expires(self) -> datetime:
        """How long it counts: it does not say so itself, and lives as long as a WPT may."""
        return self.issued + LIFETIME


def compose(  # noqa: PLR0913  (each is something that only the caller knows)
    *,
    token: str,
    use_key: bytes,
    method: str,
    url: str,
    nonce: str,
    now: datetime,
    jti: bytes,
) -> jws.Unsigned:
    """Return what the holder of `use_key`, a P-256 point, signs to make this request, now.

    `jti` is 16 random bytes, never used before; `nonce` is empty where the server gave none.
    Raise Malformed where `method`, `url` or `nonce` is not what its name says: they come from the
    process.
    """
    proof = Proof(
        target=asked_target(url),
        method=method,
        issued=now,
        jti=base64url.encode(jti),
        token_hash=hash_of(token),
        nonce=nonce,
    )
    payload = to_json(_to_json(proof))
    _read_proof(payload)
    return jws.unsigned(payload, {"typ": TYPE, "jwk": to_bare_jwk(use_key)})


def read(proof: str, *, use_key: bytes) -> Proof:
    """Return what `proof` says, if the key with the P-256 point `use_key` has signed it.

    Whether it fits a request, and is of now, is for `check` to say.
    """
    unverified = jws.read(
        proof,
        typ=TYPE,
        has_kid=False,
        has_jwk=True,
        most_bytes=MOST_BYTES,
        reason=Reason.PROOF_MALFORMED,
    )
    expected, found = thumbprint(use_key), thumbprint(unverified.point)
    if expected != found:  # RFC 9449, section 4.3, step 12
        raise Refused.because(Reason.PROOF_KEY, "jwk", expected=expected, found=found)
    if not unverified.is_signed_by(use_key):
        raise Refused.because(Reason.PROOF_SIGNATURE, "not signed by the token's cnf key")
    return _read_proof(unverified.payload)


def _to_json(proof: Proof) -> dict[str, object]:
    claims = {
        "jti": proof.jti,
        "htm": proof.method,
        "htu": proof.target,
        "iat": numeric_date(proof.issued),
        "ath": proof.token_hash,
    }
    return {**claims, "nonce": proof.nonce} if proof.nonce else claims


def _read_proof(payload: bytes) -> Proof:
    members = Members.parse(payload, Reason.PROOF_MALFORMED)
    has_nonce = "nonce" in members.values
    members.exactly((*_CLAIMS, "nonce") if has_nonce else _CLAIMS)
    return Proof(
        target=read_target(members, "htu"),
        method=members.text("htm", METHOD),
        issued=members.time("iat"),
        jti=members.text("jti", JTI),
        token_hash=members.text("ath", HASH),
        nonce=members.text("nonce", NONCE) if has_nonce else "",
    )
