"""Steps of jobs: a workload that demands its parent, and what becomes of those that have another.

The simulated node's program is the controller; the same program is the step, under an identity of
its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from evidence.process import LAUNCHED, Origin
from tests.simulated_node import SimulatedNode
from tests.simulated_process import IDENTITY, SimulatedProcess
from tests.simulated_verifier import SimulatedVerifier, accepted, reasons
from verifier import Accepted, Reason, Refused, Rejected
from verifier.origin import order_by_parents
from verifier.workload import read_workload

STEP = "spiffe://example.org/signer"
JOB = "build-17"


def step_toml(node: SimulatedNode, *, parent: str = IDENTITY, id_: str = STEP) -> str:
    """Return the workload that `new_step` is."""
    text = node.workload_toml().replace(IDENTITY, id_)
    return text.replace('unit = "payments.service"', f'parent = "{parent}"')


def new_step(
    node: SimulatedNode,
    parent: SimulatedProcess,
    /,
    *,
    core: dict[str, Any] | None = None,
    **origin: Any,  # noqa: ANN401
) -> SimulatedProcess:
    """Have the parent's attestor launch the program; `origin` is what its record says instead."""
    of = {"parent": parent.core.identity, "parent_key": parent.key_name, "job": JOB} | origin
    fields = {"binding": LAUNCHED, "peer_proof": "child", "identity": STEP, "origin": Origin(**of)}
    return node.new_process(core=fields | (core or {}))


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    """A verifier that knows the controller, the step, and a step of the step."""
    texts = (
        node.workload_toml(),
        step_toml(node),
        step_toml(node, parent=STEP, id_=f"{STEP}/helper"),
    )
    return SimulatedVerifier(node, workloads=tuple(map(read_workload, texts)))


@pytest.fixture
def controller(node: SimulatedNode, verifier: SimulatedVerifier) -> SimulatedProcess:
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    return process


@pytest.fixture
def judge(node: SimulatedNode, verifier: SimulatedVerifier) -> Callable[..., list[Any]]:
    """Return what becomes of new processes and known ones, in the verdict's order."""

    def of(
        new: Sequence[SimulatedProcess],
        known: Sequence[SimulatedProcess],
        **more: Any,  # noqa: ANN401
    ) -> list[Accepted | Refused]:
        evidence = node.evidence(verifier.challenge(), new=new, known=known, **more)
        return [*verifier.judge(evidence).processes]

    return of


def outcome_of(process: SimulatedProcess, outcomes: Sequence[Any]) -> Accepted | Refused:
    """Return what became of a process."""
    (outcome,) = (one for one in outcomes if one.key_name == process.key_name)
    assert isinstance(outcome, Accepted | Refused)
    return outcome


def test_a_step(
    node: SimulatedNode, controller: SimulatedProcess, judge: Callable[..., list[Any]]
) -> None:
    step = new_step(node, controller)
    parent, child = judge([step], [controller])
    assert (parent.key_name, child.key_name) == (controller.key_name, step.key_name)
    assert (child.workload.id, child.core.origin.job) == (STEP, JOB)
    assert len([one for one in judge([], [step, controller]) if isinstance(one, Accepted)]) == 2


NO_ORIGIN = {"parent": "", "parent_key": b"", "job": ""}


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        pytest.param({}, None, id="the parent"),
        pytest.param(NO_ORIGIN, Reason.PROCESS_PARENT_MISSING, id="none"),
        pytest.param({"parent": f"{IDENTITY}/other"}, Reason.PROCESS_PARENT, id="another"),
        pytest.param({"parent_key": b"x" * 34}, Reason.PROCESS_PARENT_GONE, id="no such key"),
        pytest.param({"parent_key": b"\0" * 33}, Reason.MALFORMED_PROCESS, id="a Name cut short"),
        pytest.param({"parent_key": b""}, Reason.MALFORMED_PROCESS, id="no key"),
        pytest.param({"parent": ""}, Reason.MALFORMED_PROCESS, id="a key and no parent"),
        pytest.param({"job": ""}, Reason.MALFORMED_PROCESS, id="no job"),
        pytest.param({"job": "build 17"}, Reason.MALFORMED_PROCESS, id="a job with a space"),
        pytest.param({"job": "a" * 256}, Reason.MALFORMED_PROCESS, id="a long job"),
        pytest.param({"job": "a\n"}, Reason.MALFORMED_PROCESS, id="a line end"),
    ],
)  # fmt: skip
def test_what_its_record_says_of_its_parent(
    node: SimulatedNode,
    controller: SimulatedProcess,
    judge: Callable[..., list[Any]],
    origin: dict[str, Any],
    reason: Reason | None,
) -> None:
    step = new_step(node, controller, **origin)
    outcome = outcome_of(step, judge([step], [controller]))
    if reason is None:
        assert isinstance(outcome, Accepted)
    else:
        assert reasons(outcome) == {reason}


def test_a_step_that_was_not_launched(
    node: SimulatedNode, controller: SimulatedProcess, judge: Callable[..., list[Any]]
) -> None:
    core = {"binding": "attached", "peer_proof": "pidfs"}
    step = new_step(node, controller, core=core)
    outcome = outcome_of(step, judge([step], [controller]))
    assert reasons(outcome) == {Reason.MALFORMED_PROCESS}
    own = node.new_process(core={"identity": STEP})
    assert reasons(judge([own], [controller])[0]) == {
        Reason.PROCESS_PARENT_MISSING, Reason.PROCESS_STARTER,
    }  # fmt: skip


def test_a_parent_of_another_identity(
    node: SimulatedNode, controller: SimulatedProcess, judge: Callable[..., list[Any]]
) -> None:
    """The key is a living process's, and not the one's that the record names."""
    step = new_step(node, controller)
    judge([step], [controller])
    other = new_step(node, step, parent=IDENTITY)
    outcome = outcome_of(other, judge([other], [controller, step]))
    assert reasons(outcome) == {Reason.PROCESS_PARENT_GONE}


def test_a_parent_that_is_new_itself(
    node: SimulatedNode, verifier: SimulatedVerifier, judge: Callable[..., list[Any]]
) -> None:
    """It has no credential yet, so its attestor cannot have opened a job for it."""
    assert verifier
    parent = node.new_process()
    first, step = judge([parent, new_step(node, parent)], [])
    assert isinstance(first, Accepted)
    assert reasons(step) == {Reason.PROCESS_PARENT_GONE}


@pytest.mark.parametrize("how", ["withdrawn", "drifted", "not reported", "of another instance"])
def test_a_parent_that_is_accepted_no_longer(
    node: SimulatedNode,
    controller: SimulatedProcess,
    judge: Callable[..., list[Any]],
    how: str,
) -> None:
    """Whoever it had launched goes with it, and whoever that had; and nobody else."""
    step, neighbour = new_step(node, controller), node.new_process()
    judge([step, neighbour], [controller])
    below = new_step(node, step, core={"identity": f"{STEP}/helper"})
    judge([below], [controller, step, neighbour])
    known, new, more = [below, step, neighbour], [], {}
    match how:
        case "withdrawn":
            known, more = [*known, controller], {"withdrawn": [controller]}
        case "drifted":
            known = [*known, controller.looking(anonymous_executable=4096)]
        case "of another instance":
            node.hand_over()
            new = [node.new_process()]
    outcomes = {one.key_name: one for one in judge(new, known, **more)}
    gone = Reason.PROCESS_UNKNOWN_KEY if new else Reason.PROCESS_PARENT_GONE
    assert reasons(outcomes[step.key_name]) == reasons(outcomes[below.key_name]) == {gone}
    assert isinstance(outcomes[neighbour.key_name], Refused if new else Accepted)


def test_a_parent_of_another_node(
    node: SimulatedNode, controller: SimulatedProcess, judge: Callable[..., list[Any]]
) -> None:
    other = SimulatedNode("build-8")
    step = new_step(node, other.new_process())
    outcome = outcome_of(step, judge([step], [controller]))
    assert reasons(outcome) == {Reason.PROCESS_PARENT_GONE}


def test_a_chain_of_any_length(
    node: SimulatedNode, verifier: SimulatedVerifier, controller: SimulatedProcess
) -> None:
    """Nothing here calls itself for each step: whoever has a thousand harms nobody."""
    verdict = verifier.judge(node.evidence(verifier.challenge(), known=[controller]))
    (first,) = accepted(verdict)
    chain = [first]
    for number in range(3000):
        origin = Origin(parent=IDENTITY, parent_key=chain[-1].key_name, job=JOB)
        core = replace(first.core, origin=origin)
        chain.append(replace(first, key_name=b"%034d" % number, core=core))
    assert order_by_parents(chain[::-1]) == tuple(chain)
    orphans = order_by_parents(chain[:0:-1])
    assert all(isinstance(one, Refused) for one in orphans)
    assert len(orphans) == 3000


def test_processes_that_would_be_each_others_parents(
    node: SimulatedNode, verifier: SimulatedVerifier, controller: SimulatedProcess
) -> None:
    (first,) = accepted(verifier.judge(node.evidence(verifier.challenge(), known=[controller])))
    origins = (Origin(parent=IDENTITY, parent_key=its, job=JOB) for its in (b"a", b"b"))
    pair = [
        replace(first, key_name=mine, core=replace(first.core, origin=origin))
        for mine, origin in zip((b"b", b"a"), origins, strict=True)
    ]
    assert [reasons(one) for one in order_by_parents(pair)] == [{Reason.PROCESS_PARENT_GONE}] * 2


def test_without_steps_the_order_is_the_bodys(
    node: SimulatedNode, controller: SimulatedProcess, judge: Callable[..., list[Any]]
) -> None:
    new = [node.new_process(), node.new_process(look={"tracer": 1}), node.new_process()]
    names = [one.key_name for one in judge(new, [controller])]
    assert names == [one.key_name for one in (*new, controller)]


# The workload


def parent_of(text: str) -> str:
    return read_workload(text).parent


def test_a_workload_with_a_parent(node: SimulatedNode) -> None:
    assert parent_of(node.workload_toml()) == ""
    assert parent_of(step_toml(node)) == IDENTITY
    launch = f'parent = "{IDENTITY}"\nlaunch = {{ argv = ["/bin/a"], env = {{}}, files = [] }}'
    assert parent_of(step_toml(node).replace(f'parent = "{IDENTITY}"', launch)) == IDENTITY


@pytest.mark.parametrize(
    "line",
    [
        'parent = ""',
        'parent = "controller"',
        "parent = true",
        f'parent = "{IDENTITY}/"',
        f'parent = ["{IDENTITY}"]',
        f'parent = "{IDENTITY}"\nunit = "payments.service"',
        f'parent = "{IDENTITY}"\nany_starter = true',
        f'parent = "{IDENTITY}"\ncontainer = {{ set = "payments-1.4", cgroup = "/a/*" }}',
    ],
)
def test_a_workload_that_is_refused(node: SimulatedNode, line: str) -> None:
    text = step_toml(node).replace(f'parent = "{IDENTITY}"', line)
    with pytest.raises(Rejected) as refusal:
        read_workload(text)
    assert {one.reason for one in refusal.value.findings} == {Reason.POLICY_INVALID}


@pytest.mark.parametrize("parent", [STEP, "spiffe://other.example/controller"])
def test_a_parent_that_cannot_be(node: SimulatedNode, parent: str) -> None:
    with pytest.raises(Rejected):
        node.policy(workloads=(read_workload(step_toml(node, parent=parent)),))


def test_a_change_of_parents_is_another_workload(node: SimulatedNode) -> None:
    old = read_workload(step_toml(node))
    assert old.allows_all_of(old)
    assert not read_workload(step_toml(node, parent=f"{IDENTITY}/other")).allows_all_of(old)
