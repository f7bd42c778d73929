"""The relying party's decision: may this request be taken for this process's? Pure and offline.

The clock, the keys, the requirements, the request and the store of proofs already seen are
arguments. `check` reads nothing else: who has read this file has read the decision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, Unpack

from credential import dpop, nonces, wit, wpt
from credential.dpop import DPoP
from credential.introspection import Introspected
from credential.keys import Keys
from credential.members import numeric_date
from credential.reasons import Finding, Reason, Refused
from credential.requirements import Demands, Requirements
from credential.seen import ReplayStore
from credential.status import Place, Status, StatusList
from credential.wit import Claims

SKEW = timedelta(seconds=30)
"""How far two honest clocks may be apart, in either direction."""


class StatusLists(Protocol):
    """The newest list of each URI that somebody has read; a dict of them will do."""

    def get(self, uri: str, /) -> StatusList | None:
        """Return the list, None where none was ever read."""


Statuses = StatusLists | Introspected | Literal["unchecked"]


def check(  # noqa: PLR0913  (each is something that only the caller knows)
    token: str,
    proof: str | DPoP | None,
    *,
    keys: Keys,
    method: str,
    url: str,
    now: datetime,
    seen: ReplayStore,
    status: Statuses,
    **demands: Unpack[Demands],
) -> Claims:
    """Return the claims of the process that made this request, or raise Malformed or Refused.

    `url` is the request's URL as this relying party's clients know it, not as the request's headers
    say. `demands` are the fields of `Requirements`; `audience` and `minimum` have to be there.
    `proof` is a WPT, or a DPoP proof with the nonces that this server gives out. `now` knows its
    time zone. `status` has the verifier's status lists, or its answer about this token;
    `"unchecked"` takes a token for as long as it says itself, minutes, whatever has become of the
    process.

    Returning means:

    1. One of `keys` has signed the token, and speaks for its trust domain.
    2. The token is of now and meets each of the requirements, and its status list, of one of
       `keys` and of now, says that it is valid, or the verifier's answer of now does.
    3. The proof is signed by the key that the token names, for this token, this method and URL,
       at most 60 seconds ago (and SKEW), and was not let in before; a WPT is for this audience,
       a DPoP proof has a nonce of this server's and of now.

    It does not say that the token has not been revoked since that list or answer was made, that
    headers and body are the process's, or what the process may do: the application looks at the
    claims' `id` and `procseal.scopes`.
    """
    return decide(
        token,
        proof,
        keys=keys,
        require=Requirements(**demands),
        method=method,
        url=url,
        now=now,
        seen=seen,
        status=status,
    )


def decide(  # noqa: PLR0913
    token: str,
    proof: str | DPoP | None,
    *,
    keys: Keys,
    require: Requirements,
    method: str,
    url: str,
    now: datetime,
    seen: ReplayStore,
    status: Statuses,
) -> Claims:
    """Do what `check` says, for whoever has made up his requirements beforehand."""
    numeric_date(now)  # a time without a time zone is the caller's mistake
    request = _Request(audience=require.audience, method=method, target=_target_of(url), now=now)
    claims = wit.read(token, keys)  # (1)
    _refuse_any(
        [
            *require.judge(claims, now),
            *_judge_times(claims, now),
            *_judge_status(claims.status, token, status, require.max_status_age, now),
        ]
    )  # (2)
    found = _read_proof(proof, claims.use_key)
    _refuse_any(
        [
            *_judge_proof(found, request, token),
            *_judge_proof_times(found, now),
            *_judge_nonce(proof, found, now),
        ]
    )  # (3)
    if not seen.add(f"{found.token_hash}.{found.jti}", now=now, until=found.expires + SKEW):
        raise Refused.because(Reason.PROOF_REPLAYED, f"jti {found.jti}")
    return claims


def demand_active(
    claims: Claims, token: str, status: Statuses, *, max_age: timedelta, now: datetime
) -> None:
    """Do what `decide` does about a status that was asked for only once all else had held."""
    _refuse_any([*_judge_status(claims.status, token, status, max_age, now)])


def _read_proof(proof: str | DPoP | None, use_key: bytes) -> wpt.Proof | dpop.Proof:
    if isinstance(proof, DPoP) and proof.proof:
        return dpop.read(proof.proof, use_key=use_key)
    if isinstance(proof, str) and proof:
        return wpt.read(proof, use_key=use_key)
    raise Refused.because(Reason.PROOF_MISSING, "a token alone lets nobody in")


def _target_of(url: str) -> str:
    try:
        return wpt.target_of(url)
    except ValueError as error:  # its path may be of the client's making: no proof can name it
        raise Refused.because(Reason.PROOF_URL, "url", expected=str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    audience: str
    method: str
    target: str
    now: datetime


def _judge_times(claims: Claims, now: datetime) -> Iterator[Finding]:
    if now >= claims.expires + SKEW:
        yield _late(Reason.TOKEN_EXPIRED, claims.expires, now)
    if now < claims.issued - SKEW:
        yield _early(Reason.TOKEN_EARLY, claims.issued, now)


def _judge_status(
    place: Place, token: str, status: Statuses, max_age: timedelta, now: datetime
) -> Iterator[Finding]:
    if isinstance(status, str):
        if status != "unchecked":
            raise ValueError('expected status lists, an answer, or "unchecked"')
    elif isinstance(status, Introspected):
        yield from _judge_answer(status, token, max_age, now)
    else:
        yield from _judge_list(place, status.get(place.uri), max_age, now)


def _judge_answer(
    found: Introspected, token: str, max_age: timedelta, now: datetime
) -> Iterator[Finding]:
    if found.token != token:
        yield Finding(reason=Reason.INTROSPECTION_OTHER, what="token", expected="this one")
    elif now - found.asked > max_age:
        yield Finding(
            reason=Reason.INTROSPECTION_OLD,
            what="answer",
            expected=f"at most {max_age} old",
            found=f"of {found.asked.isoformat()}",
        )
    elif now < found.asked - SKEW:
        yield _early(Reason.INTROSPECTION_EARLY, found.asked, now)
    elif not found.is_active:
        yield Finding(reason=Reason.TOKEN_INACTIVE, what="active", expected="true", found="false")


def _judge_list(
    place: Place, found: StatusList | None, max_age: timedelta, now: datetime
) -> Iterator[Finding]:
    if found is None:
        yield Finding(reason=Reason.STATUS_MISSING, what=place.uri, expected="a status list")
        return
    if found.uri != place.uri:
        yield Finding(reason=Reason.STATUS_OTHER, what="sub", expected=place.uri, found=found.uri)
        return
    if now - found.issued > max_age or now >= found.expires:
        yield Finding(
            reason=Reason.STATUS_OLD,
            what="status list",
            expected=f"at most {max_age} old, and used before {found.expires.isoformat()}",
            found=f"of {found.issued.isoformat()}",
        )
    elif now < found.issued - SKEW:
        yield _early(Reason.STATUS_EARLY, found.issued, now)
    else:
        yield from _judge_value(found.at(place.index))


def _judge_value(status: Status) -> Iterator[Finding]:
    reasons = {
        Status.INVALID: Reason.TOKEN_REVOKED,
        Status.SUSPENDED: Reason.TOKEN_SUSPENDED,
        Status.UNKNOWN: Reason.STATUS_UNKNOWN,
    }
    if status is not Status.VALID:
        yield Finding(
            reason=reasons[status], what="status", expected="valid", found=status.name.lower()
        )


def _judge_proof(found: wpt.Proof | dpop.Proof, request: _Request, token: str) -> Iterator[Finding]:
    pairs = [
        (Reason.PROOF_TOKEN, "token hash", wpt.hash_of(token), found.token_hash),
        (Reason.PROOF_METHOD, "method", request.method, found.method),
        (Reason.PROOF_URL, "url", request.target, found.target),
    ]
    if isinstance(found, wpt.Proof):
        named = (Reason.PROOF_AUDIENCE, "audience", request.audience, found.audience)
        pairs.insert(1, named)
    for reason, what, wanted, got in pairs:
        if wanted != got:
            yield Finding(reason=reason, what=what, expected=wanted, found=got)


def _judge_proof_times(found: wpt.Proof | dpop.Proof, now: datetime) -> Iterator[Finding]:
    lifetime = found.expires - found.issued
    if not timedelta() < lifetime <= wpt.LIFETIME:
        limit = f"up to {wpt.LIFETIME}"
        yield Finding(
            reason=Reason.PROOF_LIFETIME, what="lifetime", expected=limit, found=str(lifetime)
        )
    if now >= found.expires + SKEW:
        yield _late(Reason.PROOF_LATE, found.expires, now)
    if now < found.issued - SKEW:
        yield _early(Reason.PROOF_EARLY, found.issued, now)


def _judge_nonce(
    proof: str | DPoP | None, found: wpt.Proof | dpop.Proof, now: datetime
) -> Iterator[Finding]:
    if not isinstance(proof, DPoP) or not isinstance(found, dpop.Proof):
        return
    if isinstance(proof.nonces, str):
        if proof.nonces != "unchecked":
            raise ValueError('expected nonces, or "unchecked"')
        return
    given = proof.nonces.time_of(found.nonce)
    if not found.nonce:
        yield Finding(reason=Reason.PROOF_NONCE_MISSING, what="nonce", expected="the server's")
    elif given is None:
        yield Finding(reason=Reason.PROOF_NONCE_UNKNOWN, what="nonce", found=found.nonce)
    elif not given - SKEW <= now < given + nonces.LIFETIME:
        limit = f"up to {nonces.LIFETIME} old, at {now.isoformat()}"
        yield Finding(
            reason=Reason.PROOF_NONCE_TIME,
            what="nonce",
            expected=limit,
            found=f"of {given.isoformat()}",
        )


def _late(reason: Reason, expires: datetime, now: datetime) -> Finding:
    return Finding(
        reason=reason, what="time", expected=f"before {expires.isoformat()}", found=now.isoformat()
    )


def _early(reason: Reason, issued: datetime, now: datetime) -> Finding:
    return Finding(
        reason=reason, what="time", expected=f"from {issued.isoformat()}", found=now.isoformat()
    )


def _refuse_any(findings: list[Finding]) -> None:
    if findings:
        raise Refused(findings)
