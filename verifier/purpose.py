"""What a process wants its identity for, and what its workload allows."""

import re
from collections.abc import Iterator

from evidence.process import MOST_CONTEXT_BYTES, Purpose
from verifier.policy import Workload
from verifier.reasons import Finding, Reason, label

CONTEXT = re.compile(r"([a-z][a-z0-9_.-]{0,62})=[ -~]{1,255}")
"""A member of a context: its name is the group."""


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
    """Find what a process wants and its workload does not allow."""
    if purpose.audience and purpose.audience not in workload.audiences:
        expected, found = " ".join(workload.audiences), label(purpose.audience)
        yield Finding(reason=Reason.USE_AUDIENCE, what=what, expected=expected, found=found)
    if not set(purpose.scopes) <= set(workload.scopes):
        expected, found = " ".join(workload.scopes), label(" ".join(purpose.scopes))
        yield Finding(reason=Reason.USE_SCOPE, what=what, expected=expected, found=found)
    if purpose.context:
        expected, found = "no context", label(" ".join(purpose.context))
        yield Finding(reason=Reason.USE_CONTEXT, what=what, expected=expected, found=found)
