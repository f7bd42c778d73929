"""A verifier's service on a real database, and a node that plays its part.

verifier = RunningVerifier(tmp_path)          -> keys, allow-list, SQLite file
verifier.trust(node)                          -> inventory, reference sets, workload, kernel policy
player = Player(node, verifier.service)       -> enrol(), attest(...), both as an attestor does
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from credential import Keys, grant, wit
from evidence.messages import Challenge, Enrolled, Outcome, Result
from tests.open_doors import Door, Indoors
from tests.simulated_node import ISSUER, KERNEL_POLICY, NOW, TRUST_DOMAIN, SimulatedNode
from tests.simulated_process import SimulatedProcess
from tests.simulated_tpm import MANUFACTURER
from verifier import Reason, Rejected
from verifier.case import KERNEL_POLICY as KERNEL_POLICY_KIND
from verifier.case import REFERENCE, WORKLOAD
from verifier.config import Config
from verifier.enrolment import ek_hash
from verifier.keys import GRANT_KEY, WIT_KEY, make_private
from verifier.ledger import Row
from verifier.operations.verbs import VERBS
from verifier.service import Service
from verifier.sweeper import Sweeper


class Operators:
    """What the operators' door lets through, as calls of the service: what it raises comes out."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(VERBS[name], self._service)


class RunningVerifier:
    """A service, its clock in the test's hand and its chance the same in every run."""

    def __init__(self, directory: Path, **options: Any) -> None:  # noqa: ANN401
        state = directory / "state"
        roots = directory / "ek-roots"
        if not state.exists():
            state.mkdir(mode=0o700)
            make_private(state / WIT_KEY)
            make_private(state / GRANT_KEY)
            roots.mkdir()
            (roots / "manufacturer.der").write_bytes(MANUFACTURER.root())
            (directory / "allow-list").touch()
        defaults: dict[str, Any] = {
            "issuer": ISSUER,
            "trust_domain": TRUST_DOMAIN,
            "state": state,
            "ek_roots": roots,
            "allow_list": directory / "allow-list",
            "socket": state / "verifier.sock",
        }
        self.config = Config(**(defaults | options))
        self.time = NOW
        self._random = random.Random(str(directory))
        self.restart()

    def close(self) -> None:
        self.service.store.close()

    def restart(self) -> None:
        """Open the service anew on the same state."""
        if hasattr(self, "service"):
            self.close()
        self.service = Service.open(
            self.config, now=lambda: self.time, random=self._random.randbytes
        )
        self.door = Indoors(self.service)
        self.operators = Operators(self.service)
        self.sweeper = Sweeper(self.service)

    def now(self) -> datetime:
        return self.time

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.time += timedelta(seconds=seconds)

    def watch(self, seconds: int) -> int:
        """Let time pass while the verifier is there and sweeps; return what it swept."""
        swept = 0
        for _ in range(seconds):
            self.wait(1)
            swept += self.sweeper.sweep()
        return swept

    def allow(self, node: SimulatedNode) -> None:
        """Put the node's EK into the inventory."""
        with self.config.allow_list.open("a") as file:
            file.write(f"{ek_hash(node.tpm.ek.encode())} {node.name}\n")

    def trust(self, node: SimulatedNode) -> None:
        """Configure everything that the node needs to be accepted."""
        self.allow(node)
        for text in node.reference_toml():
            self.operators.put(REFERENCE, text)
        self.operators.put(KERNEL_POLICY_KIND, KERNEL_POLICY.decode())
        self.operators.put(WORKLOAD, node.workload_toml())

    def ledger(self) -> Sequence[Row]:
        with self.service.transaction() as transaction:
            return transaction.ledger()

    def kinds(self) -> list[str]:
        """Return the kind of each row of the ledger."""
        return [row.kind for row in self.ledger()]

    def statuses(self) -> dict[str, str]:
        """Return the status, or the cause of its end, of each token by its jti."""
        with self.service.transaction() as transaction:
            return {one.jti: one.cause or one.status for one in transaction.tokens()}


class Player:
    """An attestor's side of the conversation, through a door or as calls of the service."""

    def __init__(self, node: SimulatedNode, service: Service, door: Door | None = None) -> None:
        self.node = node
        self.service = service
        self.door: Door | Indoors = door or Indoors(service)
        """Where it speaks: to the service itself unless told otherwise."""
        self.processes: list[SimulatedProcess] = []
        self.tokens: dict[bytes, tuple[bytes, int, str]] = {}
        """Chain key, step and token by key Name."""

    def turn_to(self, verifier: RunningVerifier) -> None:
        """Speak to the verifier as it runs now."""
        self.service, self.door = verifier.service, verifier.door

    def enrol(self, **changes: Any) -> Enrolled:  # noqa: ANN401
        activation = self.door.enrol(self.node.enrol_message(**changes))
        return self.door.answer_activation(self.node.answer(activation))

    def challenge(self, new: Sequence[SimulatedProcess] = ()) -> Challenge:
        return self.door.challenge(self.node.challenge_request((*new, *self.processes)))

    def attest(self, new: Sequence[SimulatedProcess] = ()) -> Result:
        """Bring evidence of all processes so far and of new ones, and open what comes back."""
        challenge = self.challenge(new)
        result = self.door.evidence(self.node.evidence(challenge, new, self.processes))
        outcomes = {one.key_name: one for one in result.outcomes}
        for process in (*new, *self.processes):
            self.take(challenge, process, outcomes[process.key_name])
        self.processes = [one for one in (*self.processes, *new) if one.key_name in self.tokens]
        return result

    def take(self, challenge: Challenge, process: SimulatedProcess, outcome: Outcome) -> None:
        """Do with an outcome what an attestor does."""
        name = process.key_name
        if not outcome.grant:
            self.tokens.pop(name, None)
            return
        key, step, _ = self.tokens.get(name, (b"", -1, ""))
        read = grant.read(
            outcome.grant,
            self.grant_keys(),
            node=self.node.name,
            key_name=name,
            core=process.core.digest(),
            challenge=challenge.digest(),
            next_step=step + 1,
        )
        if read.id_object:
            key = self.node.open_secret(process, read.id_object, read.encrypted_secret)
        elif read.ciphertext:
            key = grant.chain_key(key, held_step=step, step=read.step)
        if read.ciphertext:
            self.tokens[name] = key, read.step, grant.open_token(read, key=key)

    def grant_keys(self) -> Keys:
        key = self.service.keys.grant
        return Keys.of(TRUST_DOMAIN, [(key.kid, key.point)])

    def claims(self, process: SimulatedProcess) -> wit.Claims:
        """Return what the token that the process holds says."""
        key = self.service.keys.wit
        keys = Keys.of(TRUST_DOMAIN, [(key.kid, key.point)])
        return wit.read(self.tokens[process.key_name][2], keys)


def known_again(process: SimulatedProcess, **look: Any) -> SimulatedProcess:  # noqa: ANN401
    """Return the process as a later look sees it."""
    return replace(process, look=replace(process.look, **look))


def refusal(call: Callable[[], object]) -> set[Reason]:
    """Make a call that has to be refused; return why it is."""
    with pytest.raises(Rejected) as caught:
        call()
    return {one.reason for one in caught.value.findings}
