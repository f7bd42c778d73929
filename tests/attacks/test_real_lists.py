"""Every attack on the measurement list, made from real kernels' lists by `mutations`."""

from dataclasses import replace

import pytest

from evidence import Malformed
from evidence.ima import Record, read_measurement
from tests.attacks.mutations import (
    BROKEN,
    LISTS,
    MUTATIONS,
    Mutation,
    When,
    adopt,
    read_list,
)
from tests.shared_vectors import needs_vectors
from tests.simulated_node import SimulatedNode, encoded, make_record
from tests.simulated_tpm import ZERO
from tests.simulated_verifier import SimulatedVerifier
from verifier import Reason
from verifier.check_log import check_log

pytestmark = needs_vectors

ROOT = "root on the node"
NODE = "the node's verdict"


@pytest.fixture(params=LISTS)
def real(request: pytest.FixtureRequest) -> list[Record]:
    return read_list(request.param)


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode, real: list[Record]) -> SimulatedVerifier:
    known = adopt(node, real)
    return SimulatedVerifier(node, sets=(*node.policy().sets, known))


def test_a_real_list_is_accepted(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """Without this, the refusals below would say nothing."""
    assert verifier.judge(node.evidence(verifier.challenge())).checkpoint.records > 70
    checked = check_log(encoded(node.records))
    assert checked.is_consistent
    assert not checked.findings


@pytest.mark.parametrize(
    "mutation",
    [
        pytest.param(
            one,
            marks=pytest.mark.attack(number=one.number, attacker=ROOT, asset=NODE),
            id=f"{one.number} {one.name}",
        )
        for one in MUTATIONS
    ],
)
def test_a_real_list_that_was_changed(
    node: SimulatedNode, verifier: SimulatedVerifier, mutation: Mutation
) -> None:
    """Mutations 28, 39 and 47 are of kernels that are not to be had: see `test_ima_list`."""
    changed = mutation.mutate(list(node.records))
    assert changed != node.records or mutation.when is When.PADDED
    if mutation.when is When.BEFORE:
        node.relist(changed)
    if mutation.when is When.PADDED:
        node.tpm.registers[10] = ZERO
        for record in changed:
            node.tpm.extend(10, record.padded_extension("sha256"))
    evidence = node.unsigned_evidence(verifier.challenge(), records=encoded(changed))
    assert verifier.refusal(evidence) == mutation.expected

    checked = check_log(encoded(changed))
    assert {finding.reason for finding in checked.findings} == mutation.told
    assert checked.is_consistent == (Reason.LIST_TEMPLATE_HASH not in mutation.told)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        pytest.param(
            *key, marks=pytest.mark.attack(number=key[0], attacker=ROOT, asset=NODE), id=key[1]
        )
        for key in BROKEN
    ],
)
def test_a_real_list_that_is_none_any_more(
    node: SimulatedNode, verifier: SimulatedVerifier, number: int, name: str
) -> None:
    broken = BROKEN[number, name](list(node.records))
    evidence = node.unsigned_evidence(verifier.challenge(), records=broken)
    with pytest.raises(Malformed):
        verifier.judge(evidence)
    with pytest.raises(Malformed):
        check_log(broken)


@pytest.mark.attack(number=29, attacker="a node with a late TPM", asset=NODE)
def test_a_real_list_whose_boot_aggregate_came_late(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Survived. No kernel to be had writes the name yet."""
    late = make_record("boot_aggregate_late", node.boot_aggregate())
    node.relist([late, *node.records[1:]])
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=40, attacker=ROOT, asset=NODE)
def test_a_real_list_from_another_record_on_than_asked(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    whole = list(node.records)
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure("usr/bin/evil", b"evil")
    for first in (0, 3, len(whole) - 1):
        evidence = node.unsigned_evidence(verifier.challenge())
        shifted = replace(evidence, records=encoded(node.records[first:]))
        assert verifier.refusal(shifted) == {Reason.LIST_REPLAY}


# What real kernels have written by themselves


def odd_records(name: str) -> dict[str, Record]:
    """Return records of a list in which everything odd was provoked, by what is odd in them."""
    found: dict[str, Record] = {}
    for record in read_list(name):
        if record.is_violation:
            found["violation"] = record
        elif record.template in ("ima", "ima-modsig", "evm-sig"):
            found[record.template] = record
        else:
            measurement = read_measurement(record)
            if measurement.algorithm == "md5":
                found["md5"] = record
            elif not any(measurement.digest):
                found["zero"] = record
            elif record.register == 11:
                found["register 11"] = record
    return found


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        pytest.param(odd, expected, id=odd, marks=pytest.mark.attack(
            number=number, attacker=ROOT, asset=NODE))
        for number, odd, expected in [
            (20, "violation", Reason.LIST_VIOLATION),
            (24, "md5", Reason.LIST_DIGEST),
            (25, "zero", Reason.LIST_DIGEST),
            (34, "ima-modsig", Reason.LIST_TEMPLATE),
            (34, "evm-sig", Reason.LIST_TEMPLATE),
            (35, "ima", Reason.LIST_LEGACY),
            (23, "register 11", Reason.LIST_REGISTER),
        ]
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", LISTS[:2])
def test_an_odd_record_of_a_real_kernel(name: str, odd: str, expected: Reason) -> None:
    """The whole list apart from it is known; the registers are what the kernel made them."""
    node = SimulatedNode()
    known = adopt(node, read_list(name))
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, known))
    node.append(odd_records(name)[odd])
    records = list(node.records)
    if odd == "register 11":
        # No quoted value depends on it: where it stands after the others it is not even read.
        records = [*records[:-2], records[-1], records[-2]]
    evidence = node.unsigned_evidence(verifier.challenge(), records=encoded(records))
    assert verifier.refusal(evidence) == {expected}


@pytest.mark.attack(number=18, attacker=ROOT, asset=NODE)
def test_the_record_that_root_extended_by_itself() -> None:
    """Genuine as far as any register tells; unknown, and so are the tools that did it."""
    node = SimulatedNode()
    known = adopt(node, read_list("kernels/k6.12-forged-entry/real.bin"))
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, known))
    (forged,) = read_list("kernels/k6.12-forged-entry/forged_entry.bin")
    node.append(forged)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=30, attacker="an ordinary user of the node", asset=NODE)
@pytest.mark.attack(number=31, attacker="an ordinary user of the node", asset=NODE)
@pytest.mark.parametrize("name", LISTS[:2])
def test_odd_names_that_real_kernels_have_written(name: str) -> None:
    """They are in the lists that are accepted above: a line break, no slash, not UTF-8."""
    node = SimulatedNode()
    adopt(node, read_list(name))
    paths = [read_measurement(record).path for record in node.records]
    assert any(b"\n" in path for path in paths)
    assert any(path.startswith(b"memfd:") for path in paths)
    assert any(b"_" in path and b" " not in path for path in paths)
    assert any(not path.isascii() for path in paths)
