"""What `attestor status` tells people."""

import json
import os
import time
from dataclasses import dataclass

from attestor.client import Verifier
from attestor.config import Config
from attestor.peer import Kernel
from attestor.rounds import Rounds
from attestor.state import State
from attestor.subject import Subject
from attestor.tpm import Tpm
from attestor.worker import Worker

MOST_DESCRIBED = 200
"""Processes in one answer: a message has 65536 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The parts of the daemon that have something to tell."""

    config: Config
    kernel: Kernel
    verifier: Verifier
    tpm: Worker[Tpm]
    rounds: Rounds

    async def describe(self, uid: int) -> str:
        """Return in JSON what the attestor is doing; of processes, each user sees its own."""
        rounds = self.rounds
        machine, known = rounds.machine, rounds.roster.known
        answered = self.verifier.last_answer
        operations = await self.tpm.run(lambda one: dict(one.esys.operations))
        status = {
            "node": self.config.node,
            "pid": os.getpid(),
            "boot": machine.boot,
            "peer_proof": self.kernel.peer_proof,
            "instances": len(machine.instance.history),
            "canaries": State.load(self.config.state).of_boot(machine.boot).canaries,
            "rounds": rounds.count,
            "accepted": rounds.is_accepted,
            "findings": [str(one.reason) for one in rounds.findings],
            "verifier": self.verifier.url,
            "last_answer": answered.isoformat(timespec="seconds") if answered else "",
            "next_round_seconds": max(0, round(rounds.due - time.monotonic())),
            "tpm_operations": operations,
            "processes": len(known),
            "yours": [_describe(one) for one in known.values() if uid in (0, one.core.uid)][
                :MOST_DESCRIBED
            ],
        }
        return json.dumps(status)


def _describe(subject: Subject) -> dict[str, object]:
    claims = subject.claims
    return {
        "pid": subject.core.pid,
        "uid": subject.core.uid,
        "binding": subject.core.binding,
        "id": claims.id if claims else "",
        "level": claims.procseal.level if claims else "",
        "expires": claims.expires.isoformat() if claims else "",
        "lease_seconds": round(subject.lease_seconds),
    }
