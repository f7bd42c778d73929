"""What a process wants its identity for, and what its workload allows, where and when.

A request names an audience, scopes and a context, or nothing. What it leaves open is whatever its
workload allows now without an operator's approval; where that is not one list of scopes for all
audiences, it has to say more. No token ever holds a scope at an audience whose use does not
allow it, and none outlives what it rests on.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from evidence.process import MOST_CONTEXT_BYTES, Purpose
from verifier.node import Approval, Errand
from verifier.policy import Use, Workload
from verifier.reasons import Finding, Reason, Rejected, label, reject
from verifier.verdict import Granted

CONTEXT = re.compile(r"([a-z][a-z0-9_.-]{0,62})=[ -~]{1,255}")
"""A member of a context: its name is the group."""


class NotApproved(Rejected):
    """Nothing is missing but an operator's approval of `errand`."""

    def __init__(self, errand: Errand, *, what: str) -> None:
        self.errand = errand
        expected, found = "an operator's approval", f"none: {label(_words(errand))}"
        reason = Reason.USE_GRANT
        super().__init__([Finding(reason=reason, what=what, expected=expected, found=found)])


def find_unsound(purpose: Purpose, *, what: str) -> Iterator[Finding]:
    """Find what no purpose of an honest attestor's says."""
    names = [found[1] for one in purpose.context if (found := CONTEXT.fullmatch(one))]
    size = sum(len(one) for one in purpose.context)
    is_context = len(names) == len(purpose.context) and names == sorted(set(names))
    if not is_context or size > MOST_CONTEXT_BYTES:
        expected = f"NAME=VALUE, names ascending, in all {MOST_CONTEXT_BYTES} bytes"
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=f"context, {what}", expected=expected)
    if len(set(purpose.scopes)) != len(purpose.scopes):
        expected = "no scope twice"
        yield Finding(reason=Reason.MALFORMED_PROCESS, what=f"scopes, {what}", expected=expected)


def find_unallowed(workload: Workload, purpose: Purpose, *, what: str) -> Iterator[Finding]:
    """Find what a process wants and its workload does not allow, whatever the time."""
    there = [one for one in workload.uses if purpose.audience in ("", one.audience)]
    if not there:
        expected = label(" ".join(dict.fromkeys(one.audience for one in workload.uses)))
        found = label(purpose.audience)
        yield Finding(reason=Reason.USE_AUDIENCE, what=what, expected=expected, found=found)
    elif not _fitting(workload, purpose):
        expected = label(" or ".join(dict.fromkeys(" ".join(one.scopes) for one in there)))
        found = label(" ".join(purpose.scopes))
        yield Finding(reason=Reason.USE_SCOPE, what=what, expected=expected, found=found)
    if {one.partition("=")[0] for one in purpose.context} != {*workload.context}:
        expected = ", ".join(workload.context) or "no context"
        found = label(" ".join(purpose.context)) or "no context"
        yield Finding(reason=Reason.USE_CONTEXT, what=what, expected=expected, found=found)


def decide(  # noqa: PLR0913 - each is of another origin
    workload: Workload,
    purpose: Purpose,
    *,
    job: str,
    approvals: tuple[Approval, ...],
    now: datetime,
    what: str,
) -> Granted:
    """Return what is granted now; raise Rejected, or NotApproved where an operator may help.

    `job` is the one that the process is a step of; `approvals` are the node's. An operator is asked
    only for what a request names, or where its workload has nothing else.
    """
    findings = tuple(find_unallowed(workload, purpose, what=what))
    if findings:
        raise Rejected(findings)
    fitting = _fitting(workload, purpose)
    free = [one for one in fitting if not one.needs_approval]
    now_free = [one for one in free if _counts_now(one, now)]
    if now_free:
        scopes = _common_scopes(now_free, purpose, what)
        audiences = tuple(dict.fromkeys(one.audience for one in now_free))
        until = _first_end(now_free, now)
        return Granted(audiences=audiences, scopes=scopes, until=until, approval="")
    if free and not purpose.audience:
        raise _closed(free, now, what)
    asked = [one for one in fitting if one.needs_approval and _counts_now(one, now)]
    if not asked:
        raise _closed(fitting, now, what)
    return _approved(workload, purpose, asked, job=job, approvals=approvals, now=now, what=what)


def _fitting(workload: Workload, purpose: Purpose) -> list[Use]:
    """Return the uses that allow all that the request names."""
    return [
        one
        for one in workload.uses
        if purpose.audience in ("", one.audience) and set(purpose.scopes) <= set(one.scopes)
    ]


def _counts_now(use: Use, now: datetime) -> bool:
    return use.window is None or use.window.end(now) is not None


def _first_end(uses: list[Use], now: datetime) -> datetime | None:
    """Return when the first of these uses, all of them open, closes; None where none does."""
    ends = (one.window.end(now) for one in uses if one.window)
    return min((end for end in ends if end), default=None)


def _common_scopes(uses: list[Use], purpose: Purpose, what: str) -> tuple[str, ...]:
    """Return the scopes asked for, or those of each of the uses; raise Rejected if they differ."""
    if not purpose.scopes and len({frozenset(one.scopes) for one in uses}) > 1:
        shown = " or ".join(f"{one.audience} {' '.join(one.scopes)}" for one in uses)
        expected = f"name an audience and scopes: {label(shown)}"
        found = purpose.audience or "no audience"
        raise reject(Reason.USE_AMBIGUOUS, what, expected=expected, found=label(found))
    return purpose.scopes or uses[0].scopes


def _closed(uses: list[Use], now: datetime, what: str) -> Rejected:
    windows = [one.window for one in uses if one.window]
    openings = [opening for one in windows if (opening := one.next_opening(now))]
    opens = f", opens {min(openings).isoformat()}" if openings else ""
    expected = " or ".join(dict.fromkeys(map(str, windows))) + opens
    found = now.astimezone(UTC).isoformat(timespec="seconds")
    return reject(Reason.USE_WINDOW, what, expected=expected, found=found)


def _approved(  # noqa: PLR0913 - what `decide` knows
    workload: Workload,
    purpose: Purpose,
    uses: list[Use],
    *,
    job: str,
    approvals: tuple[Approval, ...],
    now: datetime,
    what: str,
) -> Granted:
    """Return what an approval grants; raise NotApproved where there is none, or none any more."""
    scopes = _common_scopes(uses, purpose, what)
    audiences = {one.audience for one in uses}
    if len(audiences) > 1:
        expected = f"name an audience: {label(' or '.join(sorted(audiences)))}"
        raise reject(Reason.USE_AMBIGUOUS, what, expected=expected, found="no audience")
    errand = Errand(
        workload=workload.id,
        audience=uses[0].audience,
        scopes=tuple(sorted(scopes)),
        context=purpose.context,
        job=job,
    )
    for one in approvals:
        end = datetime.fromtimestamp(one.until, UTC)
        if one.errand == errand and now < end:
            until = min(end, _first_end(uses, now) or end)
            granted = (errand.audience,)
            return Granted(audiences=granted, scopes=scopes, until=until, approval=one.id)
    raise NotApproved(errand, what=what)


def _words(errand: Errand) -> str:
    job = (f"for job {errand.job}",) if errand.job else ()
    return " ".join((errand.audience, *errand.scopes, *errand.context, *job))
