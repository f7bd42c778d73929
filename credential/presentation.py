"""Token and proof in the headers of a request, in both directions and of both kinds.

wpt     Workload-Identity-Token: TOKEN     Workload-Proof-Token: PROOF
dpop    Authorization: DPoP TOKEN          DPoP: PROOF
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from credential import dpop, jws, wit, wpt
from credential.dpop import DPoP
from credential.nonces import Nonces
from credential.reasons import Finding, Malformed, Reason, Refused

Kind = Literal["wpt", "dpop"]
KINDS: tuple[Kind, ...] = ("wpt", "dpop")

AUTHORIZATION = "Authorization"
NONCE_REASONS = (Reason.PROOF_NONCE_MISSING, Reason.PROOF_NONCE_UNKNOWN, Reason.PROOF_NONCE_TIME)
"""What a client can mend by itself, with the nonce of the answer."""
CHALLENGE = 'DPoP error="use_dpop_nonce", algs="ES256"'
"""Of the answer to such a request, 401, in WWW-Authenticate (RFC 9449, section 9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Presented:
    """What a request carried; nothing of it has been checked."""

    token: str
    proof: str | DPoP
    """Empty, or with an empty text, where there was none."""


def headers(kind: Kind, *, token: str, proof: str) -> dict[str, str]:
    """Return the two headers of a request."""
    if kind == "dpop":
        return {AUTHORIZATION: f"{dpop.SCHEME} {token}", dpop.HEADER: proof}
    return {wit.HEADER: token, wpt.HEADER: proof}


def presented(values_of: Callable[[str], Sequence[str]], *, nonces: Nonces) -> Presented:
    """Return what a request carries; `values_of` a header's name are its values.

    Raise Malformed where a header is there twice, or both kinds are; Refused where no token is.
    An `Authorization` of another scheme is not ours to read.
    """
    native = [values_of(name) for name in (wit.HEADER, wpt.HEADER)]
    tokens = _dpop_tokens(values_of(AUTHORIZATION))
    proofs = values_of(dpop.HEADER)
    if (tokens or proofs) and any(native):
        raise Malformed(Reason.PROOF_MALFORMED, "expected a WPT or DPoP, not both")
    if tokens or proofs:
        token = _one(tokens, AUTHORIZATION, Reason.TOKEN_MALFORMED)
        text = _one(proofs, dpop.HEADER, Reason.PROOF_MALFORMED)
        return _with_token(token, DPoP(proof=text, nonces=nonces))
    token = _one(native[0], wit.HEADER, Reason.TOKEN_MALFORMED)
    return _with_token(token, _one(native[1], wpt.HEADER, Reason.PROOF_MALFORMED))


def wants_nonce(findings: Sequence[Finding]) -> bool:
    """Say whether a nonce is all that a refused request lacked: its answer is a CHALLENGE."""
    return all(one.reason in NONCE_REASONS for one in findings)


def asks_for_nonce(challenge: str) -> bool:
    """Say whether a WWW-Authenticate is a CHALLENGE, of this server or another."""
    return re.search(r'(?i:DPoP)\b.*\berror="use_dpop_nonce"', challenge) is not None


def compose(  # noqa: PLR0913  (each is something that only the caller knows)
    kind: Kind,
    *,
    token: str,
    use_key: bytes,
    audience: str,
    method: str,
    url: str,
    nonce: str,
    now: datetime,
    jti: bytes,
) -> jws.Unsigned:
    """Return what the holder of `use_key` signs, in one of the two forms; raise Malformed."""
    if kind == "dpop":
        return dpop.compose(
            token=token, use_key=use_key, method=method, url=url, nonce=nonce, now=now, jti=jti
        )
    if nonce:
        raise Malformed(Reason.PROOF_MALFORMED, "a WPT has no nonce")
    return wpt.compose(token=token, audience=audience, method=method, url=url, now=now, jti=jti)


def _dpop_tokens(values: Sequence[str]) -> list[str]:
    """Return the tokens of those Authorization headers that are DPoP's."""
    found = [re.fullmatch(rf"(?i:{dpop.SCHEME})(?: +(.*))?", one) for one in values]
    return [one[1] or "" for one in found if one]


def _one(values: Sequence[str], name: str, reason: Reason) -> str:
    """Return the only value, empty if there is none (WIMSE WPT, RFC 9449: exactly one)."""
    if len(values) > 1:
        raise Malformed(reason, f"{name} more than once")
    return values[0] if values else ""


def _with_token(token: str, proof: str | DPoP) -> Presented:
    if not token:
        names = f"no {wit.HEADER}, no {AUTHORIZATION}: {dpop.SCHEME}"
        raise Refused.because(Reason.TOKEN_MISSING, names)
    return Presented(token=token, proof=proof)
