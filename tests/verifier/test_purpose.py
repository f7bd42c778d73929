"""What a process says that it is for, against what its workload allows."""

import pytest

from evidence.process import MOST_CONTEXT_BYTES, NO_ORIGIN, Origin, Purpose
from tests.simulated_node import SimulatedNode
from tests.simulated_verifier import SimulatedVerifier, only, reasons
from verifier import Accepted, Reason, Refused

AUDIENCE = "https://ledger.example.org"


def outcome(**core: object) -> Accepted | Refused:
    node = SimulatedNode()
    verifier = SimulatedVerifier(node)
    process = node.new_process(core=core)
    return only(verifier.judge(node.evidence(verifier.challenge(), new=[process])).processes)


def purpose(
    audience: str = "", scopes: tuple[str, ...] = (), context: tuple[str, ...] = ()
) -> Purpose:
    return Purpose(audience=audience, scopes=scopes, context=context)


def test_what_its_workload_allows() -> None:
    assert isinstance(outcome(purpose=purpose(AUDIENCE, ("post",))), Accepted)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        pytest.param(purpose("https://other.example.org"), Reason.USE_AUDIENCE, id="audience"),
        pytest.param(purpose(scopes=("post", "get")), Reason.USE_SCOPE, id="scope"),
        pytest.param(purpose(scopes=("post",) * 2), Reason.MALFORMED_PROCESS, id="scope twice"),
        pytest.param(purpose(context=("a=1",)), Reason.USE_CONTEXT, id="context"),
        pytest.param(purpose(context=("a",)), Reason.MALFORMED_PROCESS, id="no value"),
        pytest.param(purpose(context=("b=1", "a=1")), Reason.MALFORMED_PROCESS, id="order"),
        pytest.param(purpose(context=("a=1", "a=2")), Reason.MALFORMED_PROCESS, id="name twice"),
        pytest.param(purpose(context=("a=1\n",)), Reason.MALFORMED_PROCESS, id="line end"),
        pytest.param(
            purpose(context=tuple(f"{name}={'x' * 250}" for name in "abcde")),
            Reason.MALFORMED_PROCESS,
            id=f"more than {MOST_CONTEXT_BYTES} bytes",
        ),
    ],
)
def test_what_it_does_not(wanted: Purpose, reason: Reason) -> None:
    assert reason in reasons(outcome(purpose=wanted))


def test_a_parent_that_its_workload_does_not_name() -> None:
    origin = Origin(parent="spiffe://example.org/controller", parent_key=b"\0" * 34, job="7")
    assert Reason.PROCESS_PARENT in reasons(outcome(origin=origin))
    assert isinstance(outcome(origin=NO_ORIGIN), Accepted)
