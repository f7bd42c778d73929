"""Commands for exported cases: a decision made again, offline, and told as a chain of links."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import credential
from evidence import Malformed
from evidence.malformed import naming
from verifier.case import Case, Exported, Outcome, judge, outcome_of
from verifier.enrolment import ek_hash
from verifier.explanation import Link, State, explain
from verifier.file_tools import misuse_of, read_bounded
from verifier.hints import next_step
from verifier.ledger import findings_json, refusal_json
from verifier.reasons import Rejected, label, printable
from verifier.verdict import NodeVerdict

MOST_CASE_BYTES = 1 << 30
"""A case has a list, which may have hundreds of MiB, and a message."""
MOST_KEYS_BYTES = 1 << 20

MARKS = {State.HOLDS: "+", State.BROKEN: "x", State.OPEN: "?", State.UNREACHED: "."}
COLOURS = {State.HOLDS: "32", State.BROKEN: "31", State.OPEN: "33", State.UNREACHED: "2"}
"""Of a terminal: green, red, yellow, faint (ECMA-48, 8.3.117)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejudged:
    """A case that was judged again."""

    case: Case
    ledger: int
    decision: NodeVerdict | Rejected | Malformed
    outcome: Outcome
    recorded: Outcome
    signer: str
    """SHA-256 of the key that signed the case, hexadecimal."""
    is_signer_known: bool
    """Whether it was compared with a verifier's keys. Anybody can sign a case of his own."""

    @classmethod
    def read(cls, path: Path, *, keys: Path | None) -> "Rejudged":
        """Judge the case in a file; raise Malformed where it is none, or of another verifier."""
        data = read_bounded(path, MOST_CASE_BYTES)
        try:
            exported = Exported.decode(data)
        except Malformed as malformed:
            hint = "is this what `verifier ledger evidence` wrote?"
            raise Malformed(f"{path}: {malformed}; {hint}") from malformed
        if keys is not None:
            _demand_signer(exported.signer, keys)
        try:
            with naming(f"{path}"):
                case, recorded = exported.open()
        except Rejected as rejected:
            raise misuse_of(path, rejected) from rejected
        decision = _decide(case)
        outcome = outcome_of(decision)
        return cls(
            case=case,
            ledger=exported.ledger,
            decision=decision,
            outcome=outcome,
            recorded=recorded,
            signer=sha256(exported.signer).hexdigest(),
            is_signer_known=keys is not None,
        )

    @property
    def is_as_recorded(self) -> bool:
        """Whether it says what the ledger says."""
        return self.outcome == self.recorded

    def answer(self) -> dict[str, Any]:
        """Return the answer for machines."""
        is_accepted = isinstance(self.decision, NodeVerdict)
        return {
            "verdict": self.outcome.verdict,
            "node": self.case.node.name,
            "judged": self.case.now.isoformat(),
            "ledger": self.ledger,
            "policy_version": self.case.policy.version,
            "reported": list(self.outcome.reasons) if is_accepted else [],
            "findings": []
            if isinstance(self.decision, NodeVerdict)
            else refusal_json(self.decision),
            "processes": [
                {"key": one.key_name.hex(), "workload": one.workload, "reasons": list(one.reasons)}
                for one in self.outcome.processes
            ],
            "as_recorded": self.is_as_recorded,
            **self.vouched(),
        }

    def vouched(self) -> dict[str, Any]:
        """Return whose word the case is, and whether that was asked."""
        return {"signer": self.signer, "signer_known": self.is_signer_known}

    def links(self) -> tuple[Link, ...]:
        """Return the chain."""
        node = self.case.node
        hash_ = ek_hash(node.ek_public)
        return explain(self.decision, node=node, ek_hash=hash_, policy=self.case.policy)


def _decide(case: Case) -> NodeVerdict | Rejected | Malformed:
    try:
        return judge(case)
    except (Rejected, Malformed) as error:
        return error


def _demand_signer(signer: bytes, path: Path) -> None:
    """Raise Malformed unless one of the grant keys in the file has signed the case."""
    try:
        told = json.loads(read_bounded(path, MOST_KEYS_BYTES))
        keys = credential.Keys.read(
            json.dumps(told.get("grant_keys", told)), trust_domain="any.example"
        )
    except (ValueError, AttributeError, RecursionError, credential.Malformed) as error:
        raise Malformed(f"{path}: expected a JWK set, or what /v1/trust-domain answers") from error
    if signer not in keys.points.values():
        raise Malformed(f"signed by a key that is not in {path}")


def print_links(rejudged: Rejudged, *, is_json: bool) -> None:
    """Print the chain: JSON where that was asked for, else a line or more for each link."""
    links = rejudged.links()
    if is_json:
        answer = {
            **{name: rejudged.answer()[name] for name in ("verdict", "node", "judged", "ledger")},
            "links": list(_json(links)),
            "as_recorded": rejudged.is_as_recorded,
            **rejudged.vouched(),
        }
        print(json.dumps(answer, indent=2))
        return
    case = rejudged.case
    node = label(case.node.name)
    print(f"{rejudged.outcome.verdict}  {node}, judged {case.now:%Y-%m-%d %H:%M:%S} UTC")
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if not rejudged.is_signer_known:
        for line in _lines(_unvouched(rejudged.signer), is_coloured=is_coloured):
            print(line)
    process = ""
    for link in links:
        if link.process != process:
            process = link.process
            print(f"process of key {process}")
        for line in _lines(link, is_coloured=is_coloured):
            print(line)


def _unvouched(signer: str) -> Link:
    """Return what comes before the chain of a case that nobody vouches for."""
    title = "the case is the verifier's own"
    detail = f"signed by key {signer}; --keys says whether that is one of its keys"
    return Link(number=0, title=title, state=State.OPEN, detail=detail)


def _json(links: Iterable[Link]) -> Iterator[dict[str, Any]]:
    for link in links:
        yield {
            "link": link.number,
            "title": link.title,
            "state": str(link.state),
            "detail": link.detail,
            "process": link.process,
            "findings": findings_json(link.findings),
        }


def _lines(link: Link, *, is_coloured: bool) -> Iterator[str]:
    number = str(link.number or "-")
    head = f"{MARKS[link.state]} {number}  {link.title}: {link.state}"
    yield f"\x1b[{COLOURS[link.state]}m{head}\x1b[0m" if is_coloured else head
    if link.detail:
        yield f"       {label(link.detail)}"
    for one in findings_json(link.findings):
        yield f"       {one['reason']}"
        told = {**one, "next": next_step(one["reason"]) if link.state is State.BROKEN else ""}
        for name in ("what", "expected", "found", "next"):
            if told[name]:
                yield f"         {name:<9} {printable(told[name])}"
