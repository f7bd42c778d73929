"""Attacks on what an interpreter runs: its script, its modules, and who may change either."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from evidence.modules import Module, ModuleTree, digest_of
from evidence.process import ATTACHED
from tests.simulated_agent import (
    FUSE,
    LIBRARY,
    SCRIPT,
    directory,
    golden,
    launch,
    module,
    sets_of,
    tree_of,
    workload_toml,
)
from tests.simulated_keys import sha256
from tests.simulated_node import SimulatedNode
from tests.simulated_process import SimulatedProcess
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Accepted, Reason, Refused, Rejected
from verifier.reasons import MOST_FINDINGS
from verifier.selection import select_workload
from verifier.workload import read_workload

USER = "an ordinary user of the node"
ROOT = "root on the node"
PROCESS = "the process itself"
IDENTITY = "the identity"


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(
        node, sets=sets_of(node), workloads=(read_workload(workload_toml(node)),)
    )


def judged(
    node: SimulatedNode, verifier: SimulatedVerifier, process: SimulatedProcess
) -> Accepted | Refused:
    evidence = node.evidence(verifier.challenge(), new=[process])
    return only(verifier.judge(evidence).processes)


def why(node: SimulatedNode, verifier: SimulatedVerifier, process: SimulatedProcess) -> set[Reason]:
    return reasons(judged(node, verifier, process))


def test_a_program_with_its_script_and_modules(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = launch(node)
    assert isinstance(judged(node, verifier, process), Accepted)
    evidence = node.evidence(verifier.challenge(), known=[process])
    assert accepted(verifier.judge(evidence))


@pytest.mark.attack(number=63, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    "core",
    [
        pytest.param({"binding": ATTACHED, "peer_proof": "pidfs"}, id="attached, with a claim"),
        pytest.param({"script": "", "modules": b""}, id="launched with -c, or from stdin"),
        pytest.param({"script": ""}, id="no script"),
    ],
)
def test_063_an_interpreter_whose_script_nobody_knows(
    node: SimulatedNode, verifier: SimulatedVerifier, core: dict[str, Any]
) -> None:
    tree = b"" if core.get("modules") == b"" else None
    found = judged(node, verifier, launch(node, tree, **core))
    assert reasons(found) == {Reason.PROCESS_SCRIPT_UNPROVEN}
    with pytest.raises(Rejected) as refused:
        select_workload(launch(node, tree, **core).core, node=node.name, policy=verifier.policy)
    assert {one.reason for one in refused.value.findings} == {Reason.PROCESS_SCRIPT_UNPROVEN}


@pytest.mark.attack(number=63, attacker=USER, asset=IDENTITY)
def test_063_another_script_of_the_same_set(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = launch(node, script="/opt/agent/bin/plan.py")
    assert why(node, verifier, process) == {Reason.PROCESS_SCRIPT}


@pytest.mark.attack(number=63, attacker=USER, asset=IDENTITY)
def test_063_a_script_with_other_bytes(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = launch(node, tree_of(golden() | {SCRIPT: module(SCRIPT, b"import evil")}))
    assert why(node, verifier, process) == {Reason.PROCESS_SCRIPT, Reason.PROCESS_MODULE}


@pytest.mark.attack(number=63, attacker=USER, asset=IDENTITY)
def test_063_a_script_that_is_not_listed(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    modules = golden()
    del modules[SCRIPT]
    assert why(node, verifier, launch(node, tree_of(modules))) == {Reason.PROCESS_SCRIPT}


@pytest.mark.attack(number=63, attacker=USER, asset=IDENTITY)
def test_063_a_script_where_a_program_is_wanted(node: SimulatedNode) -> None:
    """Its executable is in no set under an interpreter's name, and the attestor had one run it."""
    verifier = SimulatedVerifier(node)
    tree = tree_of(golden())
    process = node.new_process(core={"script": SCRIPT.decode(), "modules": digest_of(tree)})
    process = replace(process, new=replace(process.new, modules=tree))
    assert why(node, verifier, process) == {Reason.PROCESS_INTERPRETER}


@pytest.mark.attack(number=64, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize(
    ("path", "content"),
    [
        pytest.param(LIBRARY + b"/__pycache__/os.cpython-311.pyc", b"poison", id="compiled"),
        pytest.param(LIBRARY + b"/__pycache__/code.cpython-311.pyc", b"poison", id="a new one"),
        pytest.param(b"/opt/agent/bin/os.pyc", b"compiled os", id="known, in another place"),
        pytest.param(LIBRARY + b"/os.py", b"code", id="known, of another name"),
        pytest.param(b"/usr/lib/other.py", b"other", id="known, of another set"),
        pytest.param(b"/opt/agent/bin/\xff.py", b"os", id="a name that is no text"),
    ],
)
def test_064_a_module_that_is_not_known(
    node: SimulatedNode, verifier: SimulatedVerifier, path: bytes, content: bytes
) -> None:
    process = launch(node, tree_of(golden() | {path: module(path, content)}))
    assert why(node, verifier, process) == {Reason.PROCESS_MODULE}


@pytest.mark.attack(number=64, attacker=ROOT, asset="the credential")
def test_064_a_module_that_changed_since(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = launch(node)
    assert isinstance(judged(node, verifier, process), Accepted)
    changed = process.looking(modules=sha256(b"another tree"))
    evidence = node.evidence(verifier.challenge(), known=[changed])
    assert reasons(only(verifier.judge(evidence).processes)) == {Reason.PROCESS_CHANGED}
    assert why(node, verifier, launch(node).looking(modules=b"")) == {Reason.PROCESS_CHANGED}


@pytest.mark.attack(number=65, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    ("other", "reason"),
    [
        pytest.param(directory(b"/opt/agent/bin", owner=1001), Reason.PROCESS_OWNER, id="his"),
        pytest.param(directory(b"/opt", mode=0o041777), Reason.PROCESS_OWNER, id="like /tmp"),
        pytest.param(directory(b"/opt/agent", mode=0o040775), Reason.PROCESS_OWNER, id="group"),
        pytest.param(
            module(SCRIPT, b"import plan", mode=0o100666), Reason.PROCESS_OWNER, id="file"
        ),
        pytest.param(
            directory(b"/opt/agent/bin", filesystem=FUSE), Reason.PROCESS_FILESYSTEM, id="served"
        ),
    ],
)
def test_065_a_place_where_others_may_put_modules(
    node: SimulatedNode, verifier: SimulatedVerifier, other: Module, reason: Reason
) -> None:
    process = launch(node, tree_of(golden() | {other.path: other}))
    assert why(node, verifier, process) == {reason}


def twice(modules: tuple[Module, ...]) -> bytes:
    return ModuleTree(modules=(modules[0], *modules)).encode()


def backwards(modules: tuple[Module, ...]) -> bytes:
    return ModuleTree(modules=modules[::-1]).encode()


def cut_short(modules: tuple[Module, ...]) -> bytes:
    return ModuleTree(modules=modules).encode()[:-1]


def too_many_items(modules: tuple[Module, ...]) -> bytes:
    del modules
    return ModuleTree(modules=(module(b"", b"", digest=b""),) * 4000).encode()


@pytest.mark.parametrize("bad", [twice, backwards, cut_short, too_many_items])
def test_a_listing_that_is_none(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    bad: Callable[[tuple[Module, ...]], bytes],
) -> None:
    modules = golden()
    tree = bad(tuple(modules[path] for path in sorted(modules)))
    assert why(node, verifier, launch(node, tree)) == {Reason.MALFORMED_PROCESS}


@pytest.mark.attack(number=64, attacker="whoever can open the TPM", asset=IDENTITY)
def test_064_the_listing_of_another_record(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = launch(node, tree_of(golden() | {SCRIPT: module(SCRIPT, b"import evil")}))
    other = replace(process, new=replace(process.new, modules=tree_of(golden())))
    assert why(node, verifier, other) == {Reason.MALFORMED_PROCESS}


def test_a_listing_of_nothing(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    tree = ModuleTree(modules=()).encode()
    assert why(node, verifier, launch(node, tree)) == {Reason.PROCESS_SCRIPT}


def test_many_unknown_modules_are_a_few_findings(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    paths = [LIBRARY + f"/m{number}.py".encode() for number in range(3000)]
    tree = tree_of(golden() | {path: module(path, b"?") for path in paths})
    found = judged(node, verifier, launch(node, tree))
    assert isinstance(found, Refused)
    assert len(found.findings) == MOST_FINDINGS + 1
