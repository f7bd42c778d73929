"""Attacks with records that no honest attestor writes, or that are of elsewhere."""

import pytest

from tests.attacks.asking import IDENTITY, ROOT, why
from tests.simulated_node import SimulatedNode
from tests.simulated_verifier import SimulatedVerifier
from verifier import Reason


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_record_of_other_namespaces(
    node: SimulatedNode, verifier: SimulatedVerifier, count: int
) -> None:
    process = node.new_process(core={"namespaces": (1, 2, 3, 4)[:count]})
    assert Reason.MALFORMED_PROCESS in why(verifier, process)


@pytest.mark.attack(number=124, attacker="a grandchild on the child's channel", asset=IDENTITY)
@pytest.mark.parametrize(
    ("binding", "peer_proof", "inode"),
    [
        pytest.param("launched", "pidfs", 1, id="launched, and not by its parent"),
        pytest.param("launched", "pid", 1, id="launched, and only a number"),
        pytest.param("attached", "child", 1, id="attached, and yet a child"),
        pytest.param("attached", "guess", 1, id="no proof that we know"),
        pytest.param("attached", "pidfs", 0, id="pidfs without an inode"),
        pytest.param("attached", "", 1, id="no proof"),
    ],
)
def test_124_a_proof_that_does_not_go_with_the_binding(
    node: SimulatedNode, verifier: SimulatedVerifier, binding: str, peer_proof: str, inode: int
) -> None:
    core = {"binding": binding, "peer_proof": peer_proof, "pidfs_inode": inode}
    process = node.new_process(core=core, look={"pidfs_inode": inode})
    assert why(verifier, process) == {Reason.PROCESS_PEER_PROOF}


@pytest.mark.attack(number=124, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize("binding", ["delivered", "", "LAUNCHED", "launched\n"])
def test_124_a_binding_that_nobody_knows(
    node: SimulatedNode, verifier: SimulatedVerifier, binding: str
) -> None:
    assert why(verifier, node.new_process(core={"binding": binding})) == {Reason.PROCESS_BINDING}


@pytest.mark.attack(number=84, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize("use_key", [b"", b"\x04" + bytes(64), b"\x02" + bytes(32), bytes(65)])
def test_084_a_use_key_that_is_none(
    node: SimulatedNode, verifier: SimulatedVerifier, use_key: bytes
) -> None:
    process = node.new_process(core={"use_key": use_key})
    assert why(verifier, process) == {Reason.MALFORMED_PROCESS}


@pytest.mark.attack(number=14, attacker=ROOT, asset="the credential")
def test_014_a_record_of_another_boot_and_instance(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    node.reboot()
    refused = why(verifier, process)
    assert refused == {Reason.PROCESS_KEY_RESET}
    newer = node.new_process(core={"instance": process.core.instance})
    assert why(verifier, newer) == {Reason.PROCESS_INSTANCE}
    newer = node.new_process(core={"boot": process.core.boot}, look={"boot": process.core.boot})
    assert why(verifier, newer) == {Reason.PROCESS_BOOT}
    newer = node.new_process(look={"boot": process.core.boot})
    assert why(verifier, newer) == {Reason.PROCESS_BOOT}


@pytest.mark.attack(number=12, attacker="root on another node", asset=IDENTITY)
def test_012_a_record_of_another_node(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = node.new_process(core={"node": "build-8"})
    assert why(verifier, process) == {Reason.PROCESS_NODE}
