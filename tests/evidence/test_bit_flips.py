"""One bit of genuine evidence is another: never accepted, unless no decision reads the bit.

Those that no decision reads are named here, field by field, with the reason.
"""

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

from evidence import Body, Evidence, Malformed
from evidence.messages import SignedMessage
from evidence.posture import Posture
from evidence.shapes import Shape
from tests.evidence.shapes import flips
from tests.simulated_node import NOW, SYSTEM_FILES, SimulatedNode, make_challenge
from tests.simulated_process import SimulatedProcess
from verifier import Accepted, NodeVerdict, Rejected, appraise, verify_signed

EVIDENCE_UNREAD = {
    "withdrawn",  # the name of nobody's key: naming one lowers trust in that one alone
    "boot_log",  # event logs are judged by a later version
}
"""Of Evidence, where the signature of the instance key is left aside."""

BODY_UNREAD = {
    "kernel",  # for people
    *(  # what levels and demands rest on, of which this workload has none
        f"posture.{one.name}" for one in fields(Posture)
    ),
    "presences.uid",
    "presences.cgroups",
    *(
        f"new.look.{one}"
        for file in ("executable", "files")
        for one in (f"{file}.path", f"{file}.size")  # a label; the digest is over the whole file
    ),
    "new.look.files.mode",  # but whether others than its owner may write
    "new.look.executable.mode",
    "new.look.files.links",  # any number but 0
    "new.look.executable.links",
    "new.look.mappings.start",  # by whole pages: a program that can be moved may lie anywhere
    "new.look.files.segments.address",  # the same
    "new.look.files.segments.length",  # within its last page
    *(
        f"new.look.executable.{one}"  # it is judged as one of the files that are mapped
        for one in ("segments.offset", "segments.address", "segments.length", "is_movable")
    ),
    "new.look.gids",  # no workload asks for one
    "new.look.capabilities",  # those that make a process look like another are read
    "new.look.no_new_privs",
    "new.look.seccomp",
    "new.look.namespaces",  # but the first three, which the core record has too
    "new.look.parent",
    "new.look.files.inode",  # but that the executable's is mapped
    "new.look.files.device",
}
"""Of Body, where the TPM has quoted the changed body: fields of which some bits do not matter."""


def differences(one: object, other: object, name: str = "") -> Iterator[str]:
    """Yield the fields in which the two values are not the same."""
    if isinstance(one, Shape) and isinstance(other, Shape):
        for field in fields(one):
            inner = f"{name}.{field.name}" if name else field.name
            yield from differences(getattr(one, field.name), getattr(other, field.name), inner)
    elif isinstance(one, tuple) and isinstance(other, tuple) and len(one) == len(other):
        for first, second in zip(one, other, strict=True):
            yield from differences(first, second, name)
    elif one != other:
        yield name


class World:
    """A small node with one process, and a verifier that has never seen it."""

    def __init__(self) -> None:
        self.node = SimulatedNode("n")
        records = self.node.records
        skipped = [name.encode() for name in SYSTEM_FILES if "libc" not in name]
        self.node.relist(one for one in records if not any(name in one.data for name in skipped))
        self.challenge = make_challenge("n")
        self.policy = self.node.policy()
        self.enrolled = self.node.enrolled()
        self.process = self.node.new_process()

    def judge(self, evidence: Evidence) -> NodeVerdict | None:
        """Return the verdict, None where there is none."""
        try:
            return appraise(
                evidence,
                signer=self.node.instance,
                challenge=self.challenge,
                node=self.enrolled,
                checkpoint=None,
                measured=(),
                boot_log=b"",
                policy=self.policy,
                address="",
                now=NOW,
            )
        except (Malformed, Rejected):
            return None

    def evidence(self, *processes: SimulatedProcess) -> Evidence:
        return self.node.unsigned_evidence(
            self.challenge,
            body=self.node.body(processes),
            withdrawn=(b"nobody",),
            boot_log=b"log",
        )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def is_accepted(verdict: NodeVerdict | None) -> bool:
    return verdict is not None and all(isinstance(one, Accepted) for one in verdict.processes)


def test_the_evidence_is_accepted_as_it_is(world: World) -> None:
    verdict = world.judge(world.evidence(world.process))
    assert verdict is not None
    assert is_accepted(verdict)
    assert len(verdict.processes) == 1


def test_no_bit_of_the_signed_message_is_unread(world: World) -> None:
    message = world.node.challenge_request()
    signer = verify_signed(message).signer
    for flipped in flips(message.encode()):
        with pytest.raises((Malformed, Rejected)):
            verify_signed(SignedMessage.decode(flipped))
    assert signer == world.node.instance


def test_every_bit_of_the_evidence(world: World) -> None:
    """As if the attestor had signed it so: what TPM, list and challenge say holds by itself."""
    genuine = world.evidence()
    unread: set[str] = set()
    for flipped in flips(genuine.encode()):
        try:
            evidence = Evidence.decode(flipped)
        except Malformed:
            continue
        if world.judge(evidence) is not None:
            unread.update(differences(genuine, evidence))
    assert unread == EVIDENCE_UNREAD


def test_every_bit_of_the_body(world: World) -> None:
    """As if the attestor had quoted it so: core record and key hold by themselves."""
    genuine = world.node.body([world.process])
    unread: set[str] = set()
    for flipped in flips(genuine.encode()):
        try:
            body = Body.decode(flipped)
        except Malformed:
            continue
        evidence = world.node.unsigned_evidence(world.challenge, body=body)
        if is_accepted(world.judge(evidence)):
            unread.update(differences(genuine, body))
    assert unread == BODY_UNREAD


def test_every_bit_of_a_later_list(world: World) -> None:
    """The same where the list continues: no bit of a new record is unread either."""
    first = world.judge(world.evidence())
    assert first is not None
    world.node.measure("home/user/x", b"x", register=12)
    world.node.measure("usr/bin/python3.11", SYSTEM_FILES["usr/bin/python3.11"])
    challenge = make_challenge("n", first_record=first.checkpoint.records, nonce=bytes(32))
    node = world.node.accepted(clock=first.clock)
    genuine = world.node.unsigned_evidence(challenge)

    def judge(evidence: Evidence) -> NodeVerdict:
        return appraise(
            evidence,
            signer=world.node.instance,
            challenge=challenge,
            node=node,
            checkpoint=first.checkpoint,
            measured=first.measured,
            boot_log=first.boot_log,
            policy=world.policy,
            address="",
            now=NOW,
        )

    assert judge(genuine).checkpoint.records == first.checkpoint.records + 2
    for flipped in flips(genuine.records):
        with pytest.raises((Malformed, Rejected)):
            judge(replace(genuine, records=flipped))
