"""What a relying party demands of a token besides that it is good: plain keywords, one value.

What is left out demands nothing. `audience` and `minimum` cannot be left out, and what is given and
empty is its author's mistake: it raises ValueError, and never means "anybody".
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Required, TypedDict

from credential.reasons import Finding, Reason
from credential.wit import (
    AUDIENCE,
    CONTEXT,
    DIGEST,
    JOB,
    LABEL,
    LABEL_VALUE,
    LEVELS,
    PROOF_KEYS,
    SCOPE,
    SPIFFE_ID,
    Claims,
    Level,
)

MAX_STATUS_AGE = timedelta(minutes=5)
"""How long the last word of the verifier counts while no newer one can be had."""

Binding = Literal["launched", "attached"]
BINDINGS: tuple[Binding, ...] = ("launched", "attached")


class Demands(TypedDict, total=False):
    """The fields of `Requirements`, as the keywords of `check`."""

    audience: Required[str]
    minimum: Required[Level]
    allow_lab: bool
    binding: Binding | None
    proof_keys: tuple[str, ...] | None
    max_evidence_age: timedelta | None
    scopes: tuple[str, ...] | None
    executables: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    parent: str | None
    job: str | None
    context: tuple[str, ...] | None
    max_status_age: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirements:
    """The demands of one relying party: the same for `check`, the servers and the command."""

    audience: str
    """Its own name; never from a request's headers."""
    minimum: Level
    """The lowest level that is enough."""
    allow_lab: bool = False
    """Whether level `lab`, which proves nothing about what was booted, can be enough."""
    binding: Binding | None = None
    """How the process has to have come to its attestor."""
    proof_keys: tuple[str, ...] | None = None
    """Who may hold the key that signs its proofs, of `wit.PROOF_KEYS`; `process` is the weakest."""
    max_evidence_age: timedelta | None = None
    """Since the verifier judged the evidence that the token was made from. Tokens are renewed when
    half of their life is over: less than that refuses honest processes now and then."""
    scopes: tuple[str, ...] | None = None
    """The token has to have all of them."""
    executables: tuple[str, ...] | None = None
    """`sha256:` and hexadecimal digest: the executable has to be one of them."""
    labels: tuple[str, ...] | None = None
    """`NAME=VALUE`: what the verifier's operators have to call the process's node, all of them."""
    parent: str | None = None
    """SPIFFE ID of the process that has to have had it launched."""
    job: str | None = None
    """What that process has to call the job."""
    context: tuple[str, ...] | None = None
    """`NAME=VALUE`, or `NAME` for any value: what the process has to have said that it is for."""
    max_status_age: timedelta = MAX_STATUS_AGE
    """How old the verifier's word on the token's status may be."""

    def __post_init__(self) -> None:
        """Refuse what nobody can mean."""
        _demand(re.fullmatch(AUDIENCE, self.audience), "audience", "a name without spaces")
        _demand(self.minimum in LEVELS, "minimum", f"one of {LEVELS}")
        _demand(self.binding in {None, *BINDINGS}, "binding", f"one of {BINDINGS}")
        _demand_texts("proof_keys", self.proof_keys, "|".join(PROOF_KEYS))
        _demand_text("parent", self.parent, SPIFFE_ID)
        _demand_text("job", self.job, JOB)
        _demand_texts("scopes", self.scopes, SCOPE)
        _demand_texts("executables", self.executables, DIGEST)
        _demand_texts("labels", self.labels, rf"{LABEL}={LABEL_VALUE}")
        _demand_texts("context", self.context, rf"{LABEL}|{CONTEXT}")
        age = self.max_evidence_age
        _demand(age is None or age > timedelta(), "max_evidence_age", "more than no time")
        _demand(self.max_status_age >= timedelta(), "max_status_age", "no time, or more")

    def judge(self, claims: Claims, now: datetime) -> Iterator[Finding]:
        """Say what of this a token does not meet, each demand with a reason of its own."""
        yield from self._judge_level(claims.procseal.level)
        yield from self._judge_audience(claims.procseal.audiences)
        yield from self._judge_evidence(claims.issued, now)
        yield from self._judge_process(claims)

    def _judge_level(self, level: Level) -> Iterator[Finding]:
        if level == "lab" and not self.allow_lab:
            yield _finding(Reason.TOKEN_LAB, "level", self.minimum, level)
        elif LEVELS.index(level) < LEVELS.index(self.minimum):
            yield _finding(Reason.TOKEN_LEVEL, "level", self.minimum, level)

    def _judge_audience(self, allowed: tuple[str, ...]) -> Iterator[Finding]:
        if self.audience not in allowed:
            yield _finding(Reason.TOKEN_AUDIENCE, "audience", " ".join(allowed), self.audience)

    def _judge_evidence(self, issued: datetime, now: datetime) -> Iterator[Finding]:
        """Judge the age: a token is issued while the evidence is judged, so `iat` is of both."""
        limit = self.max_evidence_age
        if limit is not None and now - issued > limit:
            expected, found = f"at most {limit} old", f"of {issued.isoformat()}"
            yield _finding(Reason.TOKEN_EVIDENCE, "evidence", expected, found)

    def _judge_process(self, claims: Claims) -> Iterator[Finding]:
        procseal = claims.procseal
        if self.binding not in {None, procseal.binding}:
            yield _finding(Reason.TOKEN_BINDING, "binding", str(self.binding), procseal.binding)
        if self.proof_keys is not None and procseal.proof_key not in self.proof_keys:
            expected = " ".join(self.proof_keys)
            yield _finding(Reason.TOKEN_PROOF_KEY, "proof key", expected, procseal.proof_key)
        if self.parent not in {None, procseal.parent}:
            yield _finding(Reason.TOKEN_PARENT, "parent", str(self.parent), procseal.parent)
        if self.job not in {None, procseal.job}:
            yield _finding(Reason.TOKEN_JOB, "job", str(self.job), procseal.job)
        yield from _missing(Reason.TOKEN_SCOPE, "scopes", self.scopes, procseal.scopes)
        labels = tuple(f"{name}={value}" for name, value in procseal.labels.items())
        yield from _missing(Reason.TOKEN_LABEL, "labels", self.labels, labels)
        said = tuple(f"{name}={value}" for name, value in procseal.context.items())
        values = tuple(one for one in self.context or () if one not in procseal.context)
        yield from _missing(Reason.TOKEN_CONTEXT, "context", values, said)
        if self.executables is not None and procseal.executable not in self.executables:
            expected = " ".join(self.executables)
            yield _finding(Reason.TOKEN_EXECUTABLE, "executable", expected, procseal.executable)


def _missing(
    reason: Reason, what: str, wanted: tuple[str, ...] | None, found: tuple[str, ...]
) -> Iterator[Finding]:
    missing = [one for one in wanted or () if one not in found]
    if missing:
        yield _finding(reason, what, " ".join(missing), " ".join(found))


def _finding(reason: Reason, what: str, expected: str, found: str) -> Finding:
    return Finding(reason=reason, what=what, expected=expected, found=found)


def _demand_text(name: str, value: str | None, pattern: str) -> None:
    _demand(value is None or re.fullmatch(pattern, value), name, f"a text that matches {pattern}")


def _demand_texts(name: str, values: Iterable[str] | None, pattern: str) -> None:
    if values is None:
        return
    good = isinstance(values, tuple) and values and all(re.fullmatch(pattern, v) for v in values)
    _demand(good, name, f"a tuple of at least one text that matches {pattern}")


def _demand(condition: object, name: str, what: str) -> None:
    if not condition:
        raise ValueError(f"{name}: expected {what}")
