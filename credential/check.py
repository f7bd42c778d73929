"""The relying party's decision: may this request be taken for this process's? Pure and offline.

The clock, the keys, the name of the audience, the request and the store of proofs already seen
are arguments. `check` reads nothing else: who has read this file has read the decision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from credential import wit, wpt
from credential.keys import Keys
from credential.members import numeric_date
from credential.reasons import Finding, Reason, Refused
from credential.seen import ReplayStore
from credential.status import Place, Status, StatusList
from credential.wit import LEVELS, Claims, Level
from credential.wpt import Proof

SKEW = timedelta(seconds=30)
"""How far two honest clocks may be apart, in either direction."""
MAX_STATUS_AGE = timedelta(minutes=5)
"""How long the last status list counts while no newer one can be had."""


class StatusLists(Protocol):
    """The newest list of each URI that somebody has read; a dict of them will do."""

    def get(self, uri: str, /) -> StatusList | None:
        """Return the list, None where none was ever read."""


def check(  # noqa: PLR0913  (each is something that only the caller knows)
    token: str,
    proof: str | None,
    *,
    keys: Keys,
    audience: str,
    method: str,
    url: str,
    now: datetime,
    seen: ReplayStore,
    minimum: Level,
    status: StatusLists | Literal["unchecked"],
    max_status_age: timedelta = MAX_STATUS_AGE,
    allow_lab: bool = False,
) -> Claims:
    """Return the claims of the process that made this request, or raise Malformed or Refused.

    `audience` is this relying party's own name and `url` the request's URL as its clients
    know it; neither may come from the request's headers. `now` knows its time zone.
    The level `lab` proves nothing about what was booted and is refused without `allow_lab`.
    `status` has the verifier's status lists; `"unchecked"` takes a token for as long as it says
    itself, minutes, whatever has become of the process. A list older than `max_status_age` is no
    list.

    Returning means:

    1. One of `keys` has signed the token, and speaks for its trust domain.
    2. The token is of now, its level is enough, it may be used for this audience, and its
       status list, of one of `keys` and of now, says that it is valid.
    3. The proof is signed by the key that the token names, for this token and audience, this
       method and URL, at most 60 seconds ago (and SKEW), and was not let in before.

    It does not say that the token has not been revoked since the status list was made, that
    headers and body are the process's, or what the process may do: the application looks at the
    claims' `id` and `procseal.scopes`.
    """
    numeric_date(now)  # a time without a time zone is the caller's mistake
    if minimum not in LEVELS:
        raise ValueError(f"expected a minimum among {LEVELS}")
    request = _Request(audience=audience, method=method, target=_target_of(url), now=now)
    claims = wit.read(token, keys)  # (1)
    _refuse_any(
        [
            *_judge_level(claims.procseal.level, minimum, allow_lab),
            *_judge_token(claims, request),
            *_judge_status(claims.status, status, max_status_age, now),
        ]
    )  # (2)
    if not proof:
        raise Refused.because(Reason.PROOF_MISSING, "a token alone lets nobody in")
    found = wpt.read(proof, use_key=claims.use_key)
    _refuse_any([*_judge_proof(found, request, token), *_judge_proof_times(found, now)])  # (3)
    if not seen.add(f"{found.token_hash}.{found.jti}", now=now, until=found.expires + SKEW):
        raise Refused.because(Reason.PROOF_REPLAYED, f"jti {found.jti}")
    return claims


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


def _judge_level(level: Level, minimum: Level, allow_lab: bool) -> Iterator[Finding]:  # noqa: FBT001
    if level == "lab" and not allow_lab:
        yield Finding(reason=Reason.TOKEN_LAB, what="level", expected=minimum, found=level)
    elif LEVELS.index(level) < LEVELS.index(minimum):
        yield Finding(reason=Reason.TOKEN_LEVEL, what="level", expected=minimum, found=level)


def _judge_token(claims: Claims, request: _Request) -> Iterator[Finding]:
    if request.now >= claims.expires + SKEW:
        yield _late(Reason.TOKEN_EXPIRED, claims.expires, request.now)
    if request.now < claims.issued - SKEW:
        yield _early(Reason.TOKEN_EARLY, claims.issued, request.now)
    allowed = claims.procseal.audiences
    if request.audience not in allowed:
        yield Finding(
            reason=Reason.TOKEN_AUDIENCE,
            what="audience",
            expected=" ".join(allowed),
            found=request.audience,
        )


def _judge_status(
    place: Place, lists: StatusLists | Literal["unchecked"], max_age: timedelta, now: datetime
) -> Iterator[Finding]:
    if isinstance(lists, str):
        if lists != "unchecked":
            raise ValueError('expected status lists, or "unchecked"')
        return
    found = lists.get(place.uri)
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


def _judge_proof(found: Proof, request: _Request, token: str) -> Iterator[Finding]:
    pairs = (
        (Reason.PROOF_TOKEN, "wth", wpt.hash_of(token), found.token_hash),
        (Reason.PROOF_AUDIENCE, "audience", request.audience, found.audience),
        (Reason.PROOF_METHOD, "method", request.method, found.method),
        (Reason.PROOF_URL, "url", request.target, found.target),
    )
    for reason, what, wanted, got in pairs:
        if wanted != got:
            yield Finding(reason=reason, what=what, expected=wanted, found=got)


def _judge_proof_times(found: Proof, now: datetime) -> Iterator[Finding]:
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
