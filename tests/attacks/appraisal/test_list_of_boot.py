"""Attacks on the measurement list: it is of this boot, and begins with it."""

import hashlib
from dataclasses import replace

import pytest

from evidence.ima import Record
from tests.simulated_keys import sha256
from tests.simulated_node import (
    SimulatedNode,
    make_record,
)
from tests.simulated_tpm import ZERO
from tests.simulated_verifier import SimulatedVerifier
from verifier import Reason

ROOT = "root on the node"
USER = "an ordinary user of the node"
NODE = "the node's verdict"


def _aggregate(digest: bytes, *, algorithm: str = "sha256", path: str = "boot_aggregate") -> Record:
    return make_record(path, digest, algorithm=algorithm)


@pytest.mark.attack(number=26, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param([_aggregate(ZERO)], Reason.BOOT_AGGREGATE, id="zero"),
        pytest.param([_aggregate(bytes(20), algorithm="sha1")], Reason.BOOT_AGGREGATE, id="SHA-1"),
        pytest.param([], Reason.BOOT_AGGREGATE_MISSING, id="missing"),
        pytest.param(
            [_aggregate(ZERO, path="/boot_aggregate")],
            Reason.BOOT_AGGREGATE_MISSING,
            id="a file of that name",
        ),
    ],
)
def test_026_a_list_that_does_not_begin_with_this_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, first: list[Record], expected: Reason
) -> None:
    node.relist([*first, *node.records[1:]])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {expected}


@pytest.mark.attack(number=26, attacker=ROOT, asset=NODE)
def test_026_a_list_in_which_this_boot_is_not_first(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    first, second, *rest = node.records
    node.relist([second, first, *rest])
    expected = {Reason.BOOT_AGGREGATE_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=26, attacker=ROOT, asset=NODE)
def test_026_a_boot_aggregate_of_a_violation(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    violation = replace(node.records[0], template_hash=bytes(20))
    node.relist([violation, *node.records[1:]])
    expected = {Reason.BOOT_AGGREGATE_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=42, attacker="a node with an old kernel", asset=NODE)
@pytest.mark.attack(number=90, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("sha1", Reason.BOOT_AGGREGATE_OLD),
        ("sha384", Reason.BOOT_AGGREGATE_HASH),
        ("sha512", Reason.BOOT_AGGREGATE_HASH),
    ],
)
def test_042_a_boot_aggregate_of_another_bank(
    node: SimulatedNode, verifier: SimulatedVerifier, algorithm: str, expected: Reason
) -> None:
    """SHA-1 is what kernels before 5.8 write, and later ones with ima_hash=sha1."""
    aggregate = hashlib.new(algorithm, b"registers").digest()
    node.relist([_aggregate(aggregate, algorithm=algorithm), *node.records[1:]])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {expected}


@pytest.mark.attack(number=42, attacker="a node with an old kernel", asset=NODE)
def test_042_a_boot_aggregate_over_fewer_registers(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Registers 8 and 9, what boot loaders measure, would be in no comparison."""
    aggregate = sha256(b"".join(node.tpm.registers[:8]))
    node.relist([_aggregate(aggregate), *node.records[1:]])
    expected = {Reason.BOOT_AGGREGATE_OLD}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=42, attacker="a node with an old kernel", asset=NODE)
@pytest.mark.parametrize("has_violation", [False, True])
@pytest.mark.parametrize("is_ahead", [False, True])
def test_042_a_bank_of_padded_sha1(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    *,
    has_violation: bool,
    is_ahead: bool,
) -> None:
    """Kernels before 5.8 extend it; what SHA-1 vouches for is refused, and the reason says why."""
    if has_violation:
        node.violate("/usr/bin/x", register=12)
    for register in (10, 12, 13):
        node.tpm.registers[register] = ZERO
    for record in node.records:
        node.tpm.extend(record.register, record.padded_extension("sha256"))
    evidence = node.unsigned_evidence(verifier.challenge())
    late = make_record("/usr/bin/later", sha256(b"x")).encode() if is_ahead else b""
    ahead = replace(evidence, records=evidence.records + late)
    assert verifier.refusal(ahead) == {Reason.LIST_PADDED}


@pytest.mark.attack(number=27, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", range(10))
def test_027_a_list_of_another_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    node.tpm.extend(register, sha256(b"another kernel"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.BOOT_AGGREGATE}


@pytest.mark.attack(number=27, attacker=ROOT, asset=NODE)
def test_027_boot_registers_that_move_later(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The stored first record is compared again with every quote."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.tpm.extend(4, sha256(b"another kernel"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.BOOT_AGGREGATE}


@pytest.mark.attack(number=28, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("name", ["boot_aggregate", "boot_aggregate_late"])
@pytest.mark.parametrize("is_late", [False, True])
def test_028_a_second_boot_aggregate(
    node: SimulatedNode, verifier: SimulatedVerifier, name: str, *, is_late: bool
) -> None:
    """What a kexec leaves. No kernel to be had shows it: Debian builds CONFIG_IMA_KEXEC off."""
    if is_late:
        verifier.judge(node.evidence(verifier.challenge()))
    node.measure_record(name, node.boot_aggregate(), template="ima-ng")
    expected = {Reason.BOOT_AGGREGATE_AGAIN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=29, attacker="a node with a late TPM", asset=NODE)
def test_029_a_boot_aggregate_that_came_late(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Another name for the same, from Linux 7.3 on: no kernel to be had writes it yet."""
    late = _aggregate(node.boot_aggregate(), path="boot_aggregate_late")
    node.relist([late, *node.records[1:]])
    verifier.judge(node.evidence(verifier.challenge()))
    node.relist([_aggregate(ZERO, path="boot_aggregate_late"), *node.records[1:]])
    verifier.checkpoint = None
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.BOOT_AGGREGATE}


@pytest.mark.attack(number=28, attacker=USER, asset=NODE)
def test_028_a_users_file_of_that_name(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """A path too long for the kernel shows as its last component: not a second boot."""
    node.measure_record("boot_aggregate", sha256(b"x"), register=12)
    verifier.judge(node.evidence(verifier.challenge()))
