"""A node, a verifier that knows it, and evidence as it comes in at the door."""

from collections.abc import Iterable, Mapping
from typing import Any

from evidence import Evidence
from evidence.ima import Record
from evidence.messages import SignedMessage
from tests.simulated_node import NOW, SimulatedNode, make_challenge
from verifier import NodeVerdict, appraise, verify_signed
from verifier.bounds import demand_envelope, demand_payload
from verifier.policy import ReferenceSet, Signer


class TooLong(ValueError):
    """Bad input is longer than the good one that it is compared with."""


class World:
    """One node, whose list and quote can be made anything."""

    def __init__(
        self, sets: tuple[ReferenceSet, ...] = (), signers: tuple[Signer, ...] = ()
    ) -> None:
        self.node = SimulatedNode()
        self.head = tuple(self.node.records)
        self.policy = self.node.policy()
        self.policy = self.node.policy(sets=(*self.policy.sets, *sets), signers=signers)
        self.enrolled = self.node.enrolled()
        self.challenge = make_challenge(self.node.name)

    def evidence(self, records: Iterable[Record] = (), **changes: Any) -> bytes:  # noqa: ANN401
        """Return signed evidence of a node whose list goes on with these records."""
        self.node.relist([*self.head, *records])
        return self.signed(self.node.unsigned_evidence(self.challenge, **changes))

    def resigned(self, list_: bytes) -> bytes:
        """Return evidence with another list than the one that was quoted."""
        return self.signed(self.node.unsigned_evidence(self.challenge, records=list_))

    def signed(self, evidence: Evidence) -> bytes:
        """Return the message."""
        return self.node.signed(evidence.encode()).encode()

    def with_body(self, body: Any) -> bytes:  # noqa: ANN401 - a body, or what is none
        """Return evidence whose quote binds what `body` encodes to."""
        self.node.relist(self.head)
        return self.signed(self.node.unsigned_evidence(self.challenge, body=body))

    def judge(self, message: bytes) -> NodeVerdict:
        """Do what the door and the service do with a message, up to the verdict."""
        demand_envelope(message)
        signed = verify_signed(SignedMessage.decode(message))
        demand_payload(signed.payload)
        return appraise(
            Evidence.decode(signed.payload),
            signer=signed.signer,
            challenge=self.challenge,
            node=self.enrolled,
            checkpoint=None,
            measured=(),
            boot_log=b"",
            policy=self.policy,
            address="",
            now=NOW,
        )

    @staticmethod
    def demand_no_longer(bad: Mapping[str, bytes], good: bytes) -> None:
        """Raise TooLong where bad input is longer than good, but for a few bytes of lengths."""
        longer = [name for name, message in bad.items() if len(message) > len(good) + 16]
        if longer:
            raise TooLong(", ".join(longer))
