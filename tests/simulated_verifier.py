"""What a verifier remembers of one simulated node, without doors, disk or signing keys.

verifier = SimulatedVerifier(node)
verifier.judge(node.evidence(verifier.challenge()))     -> NodeVerdict, and it is remembered
verifier.refusal(node.evidence(verifier.challenge()))   -> the reasons of a rejection
"""
# ruff: noqa: ANN401 - `changes` are fields of any type

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from evidence import Challenge, Evidence
from evidence.canary import Place
from evidence.messages import SignedMessage
from tests.simulated_keys import sha256
from tests.simulated_node import NOW, SimulatedNode, make_challenge
from verifier import Accepted, NodeVerdict, Reason, Refused, Rejected, appraise, verify_signed
from verifier.appraisal import highest
from verifier.canary import remember_asked, remember_outcome
from verifier.node import SHOWN, Canary, Checkpoint, Known, Measured
from verifier.replay import first_record_wanted

ADDRESS = "10.1.2.3"
"""Where evidence comes from, unless a test says otherwise."""


class SimulatedVerifier:
    """It asks, judges, and keeps what a verdict or a rejection tells it to keep."""

    def __init__(self, node: SimulatedNode, **policy: Any) -> None:
        self.peer = node
        self.node = node.enrolled()
        self.policy = node.policy(**policy)
        self.checkpoint: Checkpoint | None = None
        self.measured: tuple[Measured, ...] = ()
        self.boot_log = b""
        self.address = ADDRESS
        self.asked: Challenge | None = None
        self.asked_times = 0

    def challenge(self, **changes: Any) -> Challenge:
        """Ask the node, for as much of the list as is not known."""
        self.asked_times += 1
        first = first_record_wanted(
            self.node, self.checkpoint, signer=self.peer.instance, policy=self.policy
        )
        fields: dict[str, Any] = {
            "nonce": sha256(b"nonce %d" % self.asked_times),
            "first_record": first,
        } | changes
        is_over = fields["first_record"] == 0
        self.node = replace(
            self.node,
            canaries=remember_asked(
                self.node.canaries,
                nonce=fields["nonce"],
                places=fields.get("canaries", ()),
                now=int(NOW.timestamp()),
            ),
        )
        self.asked = make_challenge(self.node.name, **({"wants_boot_log": is_over} | fields))
        return self.asked

    def has_seen(self, *places: Place) -> None:
        """Accept the node, and remember canaries of these places that it has shown."""
        if self.checkpoint is None:
            self.judge(self.peer.evidence(self.challenge()))
        shown = tuple(
            Canary(nonce=bytes(32), place=one, asked=int(NOW.timestamp()), state=SHOWN)
            for one in places
        )
        self.node = replace(self.node, canaries=(*self.node.canaries, *shown))

    def judge(
        self,
        message: SignedMessage | Evidence,
        *,
        challenge: Challenge | None = None,
        now: datetime = NOW,
    ) -> NodeVerdict:
        """Judge an answer to the last challenge; unsigned evidence is signed by the instance."""
        if isinstance(message, Evidence):
            message = self.peer.signed(message.encode())
        signed = verify_signed(message)
        challenge = challenge or self.asked
        assert challenge is not None
        try:
            verdict = appraise(
                Evidence.decode(signed.payload),
                signer=signed.signer,
                challenge=challenge,
                node=self.node,
                checkpoint=self.checkpoint,
                measured=self.measured,
                boot_log=self.boot_log,
                policy=self.policy,
                address=self.address,
                now=now,
            )
        except Rejected as rejected:
            if rejected.clock_seen is not None:
                clock = highest(rejected.clock_seen, self.node.clock)
                self.node = replace(self.node, clock=clock)
            raise
        self._remember(verdict)
        return verdict

    def _remember(self, verdict: NodeVerdict) -> None:
        kept = () if verdict.forgets_known else self.node.known
        new = tuple(
            Known(key_name=one.key_name, core=one.core.encode(), workload=one.workload.id)
            for one in verdict.processes
            if isinstance(one, Accepted) and one.is_new
        )
        self.node = replace(
            self.node,
            instance=verdict.checkpoint.instance,
            instance_reset_count=verdict.checkpoint.reset_count,
            known=(*kept, *new),
            clock=verdict.clock,
            canaries=remember_outcome(
                () if verdict.forgets_known else self.node.canaries,
                nonce=self.asked.nonce if self.asked else b"",
                shown=verdict.canaries,
            ),
        )
        stored = () if verdict.starts_over else self.measured
        self.measured = (*stored, *verdict.measured)
        self.boot_log = verdict.boot_log
        self.checkpoint = verdict.checkpoint

    def refusal(
        self,
        message: SignedMessage | Evidence,
        *,
        challenge: Challenge | None = None,
        now: datetime = NOW,
    ) -> set[Reason]:
        """Return why the node is rejected; fail the test where it is not."""
        with pytest.raises(Rejected) as rejection:
            self.judge(message, challenge=challenge, now=now)
        return {finding.reason for finding in rejection.value.findings}


def accepted(verdict: NodeVerdict) -> list[Accepted]:
    """Return the processes that were accepted."""
    return [one for one in verdict.processes if isinstance(one, Accepted)]


def reasons(outcome: Accepted | Refused) -> set[Reason]:
    """Return why a process was refused; fail the test where it was accepted."""
    assert isinstance(outcome, Refused), "accepted"
    return {finding.reason for finding in outcome.findings}


def only(outcomes: Iterable[Accepted | Refused]) -> Accepted | Refused:
    """Return the one outcome."""
    (outcome,) = outcomes
    return outcome
