"""Who signs a process's requests: as its workload says, and as its TPM has certified."""

from dataclasses import replace
from typing import Any

import pytest

from evidence import process_key
from evidence.process import PROOF_KEYS
from tests.simulated_node import SimulatedNode
from tests.simulated_process import SimulatedProcess
from tests.simulated_verifier import SimulatedVerifier, only, reasons
from verifier import Accepted, Reason, Refused
from verifier.workload import read_workload

POINT = process_key.COORDINATE_BYTES * 2 + 1


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


def judge(node: SimulatedNode, process: SimulatedProcess, wanted: str) -> Accepted | Refused:
    """Judge the process where its workload says `wanted`."""
    verifier = SimulatedVerifier(node)
    workloads = tuple(replace(one, proof_key=wanted) for one in verifier.policy.workloads)
    verifier.policy = replace(verifier.policy, workloads=workloads)
    evidence = node.evidence(verifier.challenge(), new=[process])
    return only(verifier.judge(evidence).processes)


@pytest.mark.parametrize("kind", PROOF_KEYS)
def test_what_its_workload_says(node: SimulatedNode, kind: str) -> None:
    process = node.new_process(core={"proof_key": kind})
    accepted = judge(node, process, kind)
    assert isinstance(accepted, Accepted)
    own = process_key.point_of(process.public)
    assert (accepted.core.use_key == own) == (kind == "tpm")
    assert accepted.core_digest == process.core.digest()


@pytest.mark.parametrize("kind", [*PROOF_KEYS, "", "TPM"])
@pytest.mark.parametrize("wanted", PROOF_KEYS)
def test_what_its_workload_does_not_say(node: SimulatedNode, kind: str, wanted: str) -> None:
    if kind != wanted:
        refused = judge(node, node.new_process(core={"proof_key": kind}), wanted)
        assert Reason.PROCESS_PROOF_KEY in reasons(refused)


def relabelled(process: SimulatedProcess, **core: Any) -> SimulatedProcess:  # noqa: ANN401
    """The process with another record, under the certification that it has."""
    record = replace(process.core, **core)
    return replace(process, core=record, new=replace(process.new, core=record.encode()))


@pytest.mark.attack(number=84, attacker="root on the node", asset="the use key")
@pytest.mark.parametrize("kind", ["attestor", "process"])
def test_084_a_key_in_memory_is_called_the_tpms(node: SimulatedNode, kind: str) -> None:
    process = node.new_process(core={"proof_key": kind})
    refused = judge(node, relabelled(process, proof_key="tpm"), "tpm")
    assert {Reason.PROCESS_KEY_ATTRIBUTES, Reason.PROCESS_KEY_RECORD} <= reasons(refused)


@pytest.mark.attack(number=84, attacker="root on the node", asset="the use key")
@pytest.mark.parametrize("point", [b"", bytes(POINT), b"\x04" + bytes(POINT - 1)])
def test_084_a_use_key_that_is_not_the_process_key(node: SimulatedNode, point: bytes) -> None:
    """Also that of another process key, which this TPM has certified too."""
    process = node.new_process(core={"proof_key": "tpm"})
    other = node.new_process(core={"proof_key": "tpm"})
    for wrong in (point, other.core.use_key):
        refused = judge(node, relabelled(process, use_key=wrong), "tpm")
        assert Reason.PROCESS_KEY_RECORD in reasons(refused)


def test_a_process_key_that_may_sign_where_nothing_should(node: SimulatedNode) -> None:
    policy = {"policy": process_key.policy_digest(may_sign=True)}
    refused = judge(node, node.new_process(public=policy), "attestor")
    assert reasons(refused) == {Reason.PROCESS_KEY_ATTRIBUTES}


def test_a_process_key_that_may_not_sign_where_it_should(node: SimulatedNode) -> None:
    policy = {"policy": process_key.policy_digest(may_sign=False)}
    refused = judge(node, node.new_process(core={"proof_key": "tpm"}, public=policy), "tpm")
    assert reasons(refused) == {Reason.PROCESS_KEY_ATTRIBUTES}


def test_the_record_that_is_asked_about_has_no_use_key_yet(node: SimulatedNode) -> None:
    """The key is made for its digest: with the key in it the digest is the same."""
    process = node.new_process(core={"proof_key": "tpm"})
    assert replace(process.core, use_key=b"").digest() == process.core.digest()
    other = node.new_process(core={"proof_key": "attestor"})
    assert replace(other.core, use_key=b"").digest() != other.core.digest()


@pytest.mark.parametrize("kind", PROOF_KEYS)
def test_workloads(node: SimulatedNode, kind: str) -> None:
    said = node.workload_toml()
    assert read_workload(said).proof_key == "attestor"
    assert read_workload(f'proof_key = "{kind}"\n{said}').proof_key == kind
