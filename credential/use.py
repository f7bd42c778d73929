"""The log line: what a relying party decided about one request, and whose it was.

One JSON object (RFC 8259) on one line, without spaces, its members in the order of `Use` after
`type`: programs read it without a parser of our own, and it has an array and an object in it, for
which logfmt has no form. A line is ASCII, and no value holds a control character, not even an
escaped one: nothing that a client sends can begin a line or move a terminal's cursor.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Literal, cast

from credential.members import Members, to_json
from credential.reasons import Finding, Malformed, Reason
from credential.wit import CONTEXT_VALUE, LABEL, LEVELS, MOST_CONTEXT, MOST_SCOPES, SCOPE, Claims

TYPE = "procseal use 1"
MOST_BYTES = 64 * 1024
"""Of a line; the longest that a token of 16 kB makes is shorter."""
MEDIA_TYPE = "application/x-ndjson"
"""Of lines on their way to the verifier, each with its end."""
MOST_BATCH = 256
MOST_BATCH_BYTES = 1 << 20
"""Of the lines that travel together."""
MOST_REASONS = 16
MOST_TARGET = 2048
ID_BYTES = 16

Verdict = Literal["accepted", "refused"]

_ID = r"[A-Za-z0-9_-]{22}"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_REASON = r"[a-z0-9.-]{1,64}"
_PRINTABLE = r"[ -~]{0,2048}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What one line says. The members from `issuer` on are a token's, and empty where a request
    had no token that one of the verifier's keys has signed."""  # noqa: D205, D209

    id: str
    """16 random bytes, base64url: no other line has it."""
    time: datetime
    """Of the decision, whole seconds."""
    verdict: Verdict
    reasons: tuple[str, ...]
    """Why it was refused: codes of `credential.reasons`; none where it was accepted."""
    audience: str
    """The relying party's own name."""
    method: str
    """As sent, as is `target`; what is not printable ASCII stands as `?`."""
    target: str
    """Path of the request, without its query."""
    issuer: str = ""
    subject: str = ""
    """SPIFFE ID."""
    scopes: tuple[str, ...] = ()
    jti: str = ""
    executable: str = ""
    node: str = ""
    level: str = ""
    parent: str = ""
    job: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    grant: str = ""

    @property
    def is_accepted(self) -> bool:
        """Say whether the request was let in."""
        return self.verdict == "accepted"


def make(  # noqa: PLR0913  (each is something that only the caller knows)
    *,
    id: str,  # noqa: A002  (as in the line)
    now: datetime,
    audience: str,
    method: str,
    target: str,
    claims: Claims | None,
    findings: Iterable[Finding] = (),
) -> Use:
    """Return the line about a request; it was accepted if there are no findings."""
    reasons = tuple(dict.fromkeys(str(one.reason) for one in findings))[:MOST_REASONS]
    return Use(
        id=id,
        time=now.astimezone(UTC).replace(microsecond=0),
        verdict="refused" if reasons else "accepted",
        reasons=reasons,
        audience=audience,
        method=_printable(method, 32),
        target=_printable(target.partition("?")[0], MOST_TARGET),
        **(_of_token(claims) if claims else {}),  # type: ignore[arg-type]
    )


def _of_token(claims: Claims) -> dict[str, object]:
    said = claims.procseal
    return {
        "issuer": claims.issuer,
        "subject": claims.id,
        "scopes": said.scopes,
        "jti": claims.jti,
        "executable": said.executable,
        "node": said.node,
        "level": said.level,
        "parent": said.parent,
        "job": said.job,
        "context": said.context,
        "grant": said.grant,
    }


def _printable(text: str, most: int) -> str:
    return re.sub(r"[^ -~]", "?", text[:most])


def encode(use: Use) -> str:
    """Return the line, without its end; raise Malformed if it could not be read."""
    line = _to_line(use)
    _read(line)
    return line


def to_members(use: Use) -> dict[str, object]:
    """Return the members of the line but `type`, as JSON has them."""
    values = {one.name: getattr(use, one.name) for one in fields(use)}
    lists = {"reasons": list(use.reasons), "scopes": list(use.scopes)}
    return {**values, **lists, "time": use.time.strftime(_TIME), "context": dict(use.context)}


def _to_line(use: Use) -> str:
    return to_json({"type": TYPE, **to_members(use)}).decode("ascii")


def read(line: str) -> Use:
    """Return what a line says; raise Malformed on any other text than `encode` gives."""
    use = _read(line)
    if _to_line(use) != line:
        raise Malformed(Reason.USE_MALFORMED, "a line has one form")
    return use


def read_batch(body: bytes) -> tuple[Use, ...]:
    """Return what the lines say that have travelled together; raise Malformed."""
    if len(body) > MOST_BATCH_BYTES:
        raise Malformed(Reason.USE_MALFORMED, f"expected at most {MOST_BATCH_BYTES} bytes")
    *lines, rest = body.decode("latin-1").split("\n")
    if rest or not 0 < len(lines) <= MOST_BATCH:
        raise Malformed(Reason.USE_MALFORMED, f"expected 1 to {MOST_BATCH} lines with their ends")
    return tuple(read(line) for line in lines)


def _read(line: str) -> Use:
    if len(line) > MOST_BYTES:
        raise Malformed(Reason.USE_MALFORMED, f"expected a line of at most {MOST_BYTES} bytes")
    members = Members.parse(line, Reason.USE_MALFORMED)
    if members.values.get("type") != TYPE:
        raise Malformed(Reason.USE_VERSION, f"expected type {TYPE!r}")
    members.exactly(("type", *(one.name for one in fields(Use))))
    use = Use(
        id=members.text("id", _ID),
        time=_read_time(members.text("time", r"[0-9]{4}-[0-9T:-]{14}Z")),
        verdict=cast("Verdict", members.text("verdict", "accepted|refused")),
        reasons=members.texts("reasons", _REASON, most=MOST_REASONS),
        level=members.text("level", "|".join(("", *LEVELS))),
        scopes=members.texts("scopes", SCOPE, most=MOST_SCOPES),
        context=members.child("context").map(LABEL, CONTEXT_VALUE, most=MOST_CONTEXT),
        **{name: members.text(name, _PRINTABLE) for name in _PLAIN},
    )
    if use.is_accepted == bool(use.reasons) or (use.is_accepted and not use.subject):
        expected = "expected reasons of what is refused, and a subject of what is accepted"
        raise Malformed(Reason.USE_MALFORMED, expected)
    return use


_PLAIN = (
    "audience", "method", "target", "issuer", "subject", "jti", "executable", "node", "parent",
    "job", "grant",
)  # fmt: skip


def _read_time(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise Malformed(Reason.USE_MALFORMED, "expected a time of UTC") from error
