r"""A process and its attestor: the text messages of the local socket, both directions.

One packet is one message, `procseal/1 VERB` and then `name: value` lines, each ended by `\n`
(docs/protocol.md, section 2). A message has one text: its members come in the order of its
class's fields, a member that may be absent is absent where empty, and what was read encodes to
the bytes that came in.

    process    Obtain, Prove, Token, Job               attestor   Nonce, Credential, Proof, Opened,
                                                                  Refusal
    people     Launch, Status                                     Launched, Ended, State, Refusal
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from credential import dpop, wit, wpt
from credential.reasons import Finding, Malformed, Reason

PREFIX = "procseal/1 "
MOST_BYTES = 65536
"""Of a message."""
MOST_FINDINGS = 16
MOST_DETAIL = 1024
"""Characters of a finding's `what`, `expected` and `found`; longer ones are cut."""
DEFAULT_PATH = "/run/procseal/attestor.sock"
CHANNEL_VARIABLE = "PROCSEAL_FD"
"""Where a launched process finds the number of the descriptor to talk through."""
JOB_VARIABLE = "PROCSEAL_JOB_FD"
"""Where `attestor run --job` finds the number of the descriptor that is the job."""

_TEXT = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
"""No control characters (a terminal may show any of this), no line ends, no surrogates."""
_PATH = rf"(?=.{{1,4096}}\Z)(?:/(?!\.{{1,2}}(?:/|\Z))(?:(?!/){_TEXT})+)+"
_TOKEN = rf"[A-Za-z0-9_.-]{{1,{wit.MOST_BYTES}}}"
_PROOF = rf"[A-Za-z0-9_.-]{{1,{wpt.MOST_BYTES}}}"
_NUMBER = r"0|[1-9][0-9]{0,14}"
_SIGNED = r"-?[1-9][0-9]{0,9}|0"
_URL = r"[!-~]{1,2048}"
_REASON = r"[a-z0-9-]{1,64}(?:\.[a-z0-9-]{1,64}){1,3}"
_DETAIL = rf"{_TEXT}{{0,{MOST_DETAIL}}}"
_FINDING = {"reason": _REASON, "what": _DETAIL, "expected": _DETAIL, "found": _DETAIL}


def _one(pattern: str) -> Any:  # noqa: ANN401  (as dataclasses.field)
    """Return a member that is there exactly once; as a number where its field is an int."""
    return field(metadata={"pattern": pattern, "least": 1, "most": 1})


def _perhaps(pattern: str) -> Any:  # noqa: ANN401
    """Return a member that may be absent, and then reads as the empty text."""
    return field(default="", metadata={"pattern": pattern, "least": 0, "most": 1})


def _perhaps_many(pattern: str, *, most: int) -> Any:  # noqa: ANN401
    """Return a member that may be absent or repeated, and reads as a tuple."""
    return field(default=(), metadata={"pattern": pattern, "least": 0, "most": most})


def _many(pattern: str, *, least: int, most: int) -> Any:  # noqa: ANN401
    """Return a member that may be repeated, and reads as a tuple."""
    return field(metadata={"pattern": pattern, "least": least, "most": most})


@dataclass(frozen=True, slots=True)
class Message:
    """One message; a class per verb."""

    VERB: ClassVar[str]

    def encode(self) -> bytes:
        """Return the packet; raise Malformed unless it would be read as this message.

        A line end in a value could make another message of it.
        """
        lines = [f"{name}: {value}" for name, value in self._lines()]
        packet = "".join(f"{line}\n" for line in [PREFIX + self.VERB, *lines])
        try:
            data = packet.encode()
        except UnicodeEncodeError as error:
            raise _malformed("a member is no text") from error
        if self.read(_split(data, self.VERB)) != self:
            raise _malformed("a member holds a line end")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the message of this class in the packet `data`; raise Malformed on any other."""
        return cls.read(_split(data, cls.VERB))

    @classmethod
    def read(cls, lines: "_Lines") -> Self:
        """Return the message whose members are `lines`."""
        values = {one.name: _read_member(lines, one.name, one) for one in fields(cls)}
        lines.end()
        return cls(**values)

    def _lines(self) -> Iterator[tuple[str, str]]:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, tuple):
                yield from ((one.name, text) for text in value)
            elif value != "" or one.metadata["least"]:
                yield one.name, str(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nonce(Message):
    """The attestor has looked at the process and wants to hear from it."""

    VERB: ClassVar[str] = "nonce"

    nonce: str = _one(r"[0-9a-f]{64}")
    """32 random bytes, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtain(Message):
    """The process answers, in one message with one descriptor of its own (SCM_RIGHTS)."""

    VERB: ClassVar[str] = "obtain"

    nonce: str = _one(r"[0-9a-f]{64}")
    """The attestor's."""
    id: str = _perhaps(wit.SPIFFE_ID)
    """The SPIFFE ID wanted; empty where exactly one workload has to match."""
    audience: str = _perhaps(wit.AUDIENCE)
    """Where the token is to be used; empty for wherever its workload may use it."""
    scope: tuple[str, ...] = _perhaps_many(wit.SCOPE, most=wit.MOST_SCOPES)
    """What for; none for all that its workload allows there."""
    context: tuple[str, ...] = _perhaps_many(wit.CONTEXT, most=wit.MOST_CONTEXT)
    """`NAME=VALUE` each, ascending, each name once: what the token is to say besides."""
    proof_key: str = _perhaps("tpm|process")
    """Who is to sign its requests, as its workload demands; empty for the attestor."""
    use_key: str = _perhaps(r"[A-Za-z0-9_-]{87}")
    """Of `process`: the public half of its key, base64url of an uncompressed point of P-256."""
    signature: str = _perhaps(r"[A-Za-z0-9_-]{86}")
    """Of `process`: base64url of the key's signature over `use_key_statement` of the nonce."""


def use_key_statement(nonce: str) -> bytes:
    """Return what a process signs with a key of its own, to show that it holds it now.

    It has spaces in it, and can be no JWS.
    """
    return f"procseal use key 1 {nonce}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential(Message):
    """The current token."""

    VERB: ClassVar[str] = "credential"

    token: str = _one(_TOKEN)
    expires: int = _one(_NUMBER)
    """Unix seconds."""
    id: str = _one(wit.SPIFFE_ID)
    level: str = _one("|".join(wit.LEVELS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove(Message):
    """The process is about to make a request."""

    VERB: ClassVar[str] = "prove"

    audience: str = _one(wit.AUDIENCE)
    method: str = _one(wit.METHOD)
    url: str = _one(_URL)
    kind: str = _perhaps("dpop")
    """Empty for a WPT."""
    nonce: str = _perhaps(dpop.NONCE)
    """The relying party's, for a DPoP proof."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof(Message):
    """The two headers of that request."""

    VERB: ClassVar[str] = "proof"

    token: str = _one(_TOKEN)
    proof: str = _one(_PROOF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Message):
    """The process wants to see the current token; answered by a Credential."""

    VERB: ClassVar[str] = "token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(Message):
    """The process wants programs to be launched for a job of its own."""

    VERB: ClassVar[str] = "job"

    name: str = _one(wit.JOB)
    """What it calls the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Message):
    """The job is open, and is the one descriptor that comes along (SCM_RIGHTS).

    Whoever holds it may have steps launched. When nobody does, or somebody shuts it down or writes
    to it, the job is over.
    """

    VERB: ClassVar[str] = "opened"

    name: str = _one(wit.JOB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch(Message):
    """Start this program, tied to its attestor; carries its descriptors 0, 1 and 2.

    With a job it is a step of that, whose descriptor comes fourth.
    """

    VERB: ClassVar[str] = "launch"

    argument: tuple[str, ...] = _many(rf"{_TEXT}{{0,16384}}", least=1, most=1024)
    """argv; the first is the program's absolute path."""
    environment: tuple[str, ...] = _many(
        rf"[A-Za-z_][A-Za-z0-9_]{{0,255}}={_TEXT}*", least=0, most=1024
    )
    """`NAME=VALUE` each."""
    user: str = _perhaps(r"[a-z_][a-z0-9_-]{0,31}\$?")
    """Empty for the caller's own."""
    interpreter: str = _perhaps(rf"/{_TEXT}{{1,4095}}")
    """Absolute path of a Python interpreter, whose script the first argument is then."""
    file: tuple[str, ...] = _perhaps_many(_PATH, most=16)
    """Files that the program is to read, by absolute path without `.` and `..`."""
    job: str = _perhaps(wit.JOB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched(Message):
    """The program runs."""

    VERB: ClassVar[str] = "launched"

    pid: int = _one(_NUMBER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Message):
    """The program has ended."""

    VERB: ClassVar[str] = "ended"

    status: int = _one(_SIGNED)
    """Its exit status, or minus the signal that ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Message):
    """Somebody wants to know what the attestor is doing."""

    VERB: ClassVar[str] = "status"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart(Message):
    """Root wants the attestor to hand over to one that is started anew."""

    VERB: ClassVar[str] = "restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Message):
    """What the attestor is doing, for people and scripts."""

    VERB: ClassVar[str] = "state"

    json: str = _one(rf"\{{{_TEXT}{{0,65000}}\}}")
    """One JSON object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Message):
    """No, and why. It ends the connection, except of a Prove."""

    VERB: ClassVar[str] = "refused"

    findings: tuple[Finding, ...]
    """One to sixteen."""

    @classmethod
    def of(cls, findings: tuple[Finding, ...]) -> Self:
        """Return the refusal for `findings`, whose details may hold anything: cleaned, cut."""
        return cls(findings=tuple(_cleaned(one) for one in findings[:MOST_FINDINGS]))

    @classmethod
    def read(cls, lines: "_Lines") -> Self:
        """Return the refusal whose members are `lines`."""
        findings = []
        while not lines.is_at_end():
            findings.append(
                Finding(**{name: lines.take(name, _FINDING[name]) for name in _FINDING})
            )
        if not 1 <= len(findings) <= MOST_FINDINGS:
            raise _malformed(f"expected 1 to {MOST_FINDINGS} findings")
        return cls(findings=tuple(findings))

    def _lines(self) -> Iterator[tuple[str, str]]:
        for one in self.findings:
            yield from ((name, str(getattr(one, name))) for name in _FINDING)


MESSAGES: dict[str, type[Message]] = {
    message.VERB: message
    for message in (
        Nonce, Obtain, Credential, Prove, Proof, Token, Job, Opened, Launch, Launched, Ended,
        Status, Restart, State, Refusal,
    )
}  # fmt: skip


def decode(data: bytes) -> Message:
    """Return the message in the packet `data`, whatever its verb; raise Malformed if none is."""
    head = data[: len(PREFIX) + 16].partition(b"\n")[0].decode(errors="replace")
    verb = head.removeprefix(PREFIX)
    if verb not in MESSAGES:
        raise _malformed("expected procseal/1 and a known verb")
    return MESSAGES[verb].decode(data)


@dataclass(slots=True)
class _Lines:
    """The member lines of a message, taken from first to last."""

    left: list[str]
    """Last line first."""

    def is_at_end(self) -> bool:
        return not self.left

    def is_next(self, name: str) -> bool:
        return bool(self.left) and self.left[-1].startswith(f"{name}: ")

    def take(self, name: str, pattern: str) -> str:
        if not self.is_next(name):
            raise _malformed(f"expected a line of {name}")
        value = self.left.pop().removeprefix(f"{name}: ")
        if not re.fullmatch(pattern, value):
            raise _malformed(f"expected {name} to be of its form")
        return value

    def end(self) -> None:
        if self.left:
            raise _malformed("a line too many, or not in its place")


def _split(data: bytes, verb: str) -> _Lines:
    if len(data) > MOST_BYTES:
        raise _malformed(f"longer than {MOST_BYTES} bytes")
    try:
        first, *lines, last = data.decode().split("\n")
    except ValueError as error:
        raise _malformed("expected lines of UTF-8 text") from error
    if first != PREFIX + verb or last != "":
        raise _malformed(f"expected {PREFIX}{verb}, every line ended")
    return _Lines(lines[::-1])


def _read_member(lines: _Lines, name: str, member: Any) -> object:  # noqa: ANN401  (Field)
    pattern, least, most = (member.metadata[key] for key in ("pattern", "least", "most"))
    values: list[str] = []
    while len(values) < most and (lines.is_next(name) or len(values) < least):
        values.append(lines.take(name, pattern))
    if member.type is int:
        return int(values[0])
    if member.type is str:
        return values[0] if values else ""
    return tuple(values)


def _cleaned(finding: Finding) -> Finding:
    details = {name: _clean(getattr(finding, name)) for name in ("what", "expected", "found")}
    return Finding(reason=finding.reason, **details)


def _clean(text: str) -> str:
    """Return `text` in printable ASCII: no bytes of a path may speak to a terminal."""
    shown = "".join(one if " " <= one <= "~" else ascii(one)[1:-1] for one in text[:MOST_DETAIL])
    return shown[:MOST_DETAIL]


def _malformed(what: str) -> Malformed:
    return Malformed(Reason.LOCAL_MALFORMED, what)
