"""Commands for exported cases: a decision made again, offline, and told as a chain of links."""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import credential
from evidence import Malformed
from verifier.case import Case, Exported, Outcome, judge, outcome_of
from verifier.enrolment import ek_hash
from verifier.explanation import Link, State, explain
from verifier.hints import next_step
from verifier.ledger import findings_json, refusal_json
from verifier.reasons import Rejected, label
from verifier.verdict import NodeVerdict

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

    @classmethod
    def read(cls, path: Path, *, keys: Path | None) -> "Rejudged":
        """Judge the case in a file; raise Malformed where it is none, or of another verifier."""
        exported = Exported.decode(path.read_bytes())
        if keys is not None:
            _demand_signer(exported.signer, keys)
        case, recorded = exported.open()
        decision = _decide(case)
        outcome = outcome_of(decision)
        return cls(
            case=case,
            ledger=exported.ledger,
            decision=decision,
            outcome=outcome,
            recorded=recorded,
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
        }

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
        told = json.loads(path.read_bytes())
        keys = credential.Keys.read(
            json.dumps(told.get("grant_keys", told)), trust_domain="any.example"
        )
    except (ValueError, AttributeError, credential.Malformed) as error:
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
        }
        print(json.dumps(answer, indent=2))
        return
    case = rejudged.case
    print(f"{rejudged.outcome.verdict}  {case.node.name}, judged {case.now:%Y-%m-%d %H:%M:%S} UTC")
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    process = ""
    for link in links:
        if link.process != process:
            process = link.process
            print(f"process of key {process}")
        for line in _lines(link, is_coloured=is_coloured):
            print(line)


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
                yield f"         {name:<9} {told[name]}"
