"""What a process says that it is for, against what its workload allows: where, when, approved."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence.process import ANY_PURPOSE, MOST_CONTEXT_BYTES, Purpose
from tests.simulated_node import NOW, SimulatedNode
from tests.simulated_process import IDENTITY
from tests.simulated_verifier import SimulatedVerifier, only, reasons
from verifier import Accepted, Reason, Refused, Rejected
from verifier.node import Approval, Errand
from verifier.policy import Use, Workload
from verifier.purpose import NotApproved, decide
from verifier.window import Window

AUDIENCE = "https://ledger.example.org"
OTHER = "https://archive.example.org"
PROCESS = "the process itself"
ACCESS = "the access"
IDENTITY_ASSET = "the identity"
CREDENTIAL = "the credential"

OPEN = Window.parse("Tue 11:00-13:00 UTC")
"""NOW is a Tuesday, 12:00."""
SHUT = Window.parse("Tue 13:00-14:00 UTC")


def outcome(
    node: SimulatedNode | None = None,
    *,
    workload: Mapping[str, Any] | None = None,
    known: Mapping[str, Any] | None = None,
    address: str = "10.1.2.3",
    **core: object,
) -> Accepted | Refused:
    """Return what becomes of a process; the mappings change its workload and what is known."""
    node = node or SimulatedNode()
    changed = replace(node.policy().workloads[0], **(workload or {}))
    verifier = SimulatedVerifier(node, workloads=(changed,))
    verifier.node = replace(verifier.node, **(known or {}))
    verifier.address = address
    process = node.new_process(core=core)
    return only(verifier.judge(node.evidence(verifier.challenge(), new=[process])).processes)


def purpose(
    audience: str = "", scopes: tuple[str, ...] = (), context: tuple[str, ...] = ()
) -> Purpose:
    return Purpose(audience=audience, scopes=scopes, context=context)


def test_what_its_workload_allows() -> None:
    assert isinstance(outcome(purpose=purpose(AUDIENCE, ("post",))), Accepted)


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        pytest.param(purpose(OTHER), Reason.USE_AUDIENCE, id="audience"),
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
def test_118_what_its_workload_does_not_allow(wanted: Purpose, reason: Reason) -> None:
    assert reason in reasons(outcome(purpose=wanted))


# Context


@pytest.mark.attack(number=116, attacker=PROCESS, asset=ACCESS)
@pytest.mark.parametrize(
    ("said", "is_accepted"),
    [
        (("session=1", "ticket=x"), True),
        (("session=1",), False),
        ((), False),
        (("session=1", "ticket=x", "user=me"), False),
        (("session=1", "tickets=x"), False),
    ],
)
def test_116_the_context_that_its_workload_asks_for(
    said: tuple[str, ...], *, is_accepted: bool
) -> None:
    workload = {"context": ("ticket", "session")}
    found = outcome(workload=workload, purpose=purpose(context=said))
    if is_accepted:
        assert isinstance(found, Accepted)
    else:
        assert reasons(found) == {Reason.USE_CONTEXT}


# Where


@pytest.mark.attack(number=118, attacker="another node", asset=IDENTITY_ASSET)
@pytest.mark.parametrize(
    ("labels", "is_accepted"),
    [
        ((("rack", "7"), ("zone", "eu-1")), True),
        ((("rack", "7"),), False),
        ((("zone", "eu-2"),), False),
        ((("zone", "eu-10"),), False),
        ((), False),
    ],
)
def test_118_a_node_that_is_not_called_what_it_has_to_be(
    labels: tuple[tuple[str, str], ...], *, is_accepted: bool
) -> None:
    found = outcome(workload={"nodes": {"zone": "eu-1"}}, known={"labels": labels})
    if is_accepted:
        assert isinstance(found, Accepted)
        assert found.labels == labels
    else:
        assert reasons(found) == {Reason.PROCESS_LABELS}


@pytest.mark.attack(number=118, attacker="another node", asset=IDENTITY_ASSET)
@pytest.mark.parametrize(
    ("address", "is_accepted"),
    [
        ("10.1.2.3", True),
        ("::ffff:10.1.2.3", True),
        ("fd00:1::5", True),
        ("fd00:1::5%eth0", True),
        ("10.2.2.3", False),
        ("::ffff:10.2.2.3", False),
        ("fd00:2::5", False),
        ("::10.1.2.3", False),
        ("127.0.0.1", False),
        ("", False),
        ("10.1.2", False),
        ("10.1.2.3, 10.1.2.4", False),
        ("verifier.example.org", False),
    ],
)
def test_118_a_node_that_speaks_from_elsewhere(address: str, *, is_accepted: bool) -> None:
    network = (ip_network("10.1.0.0/16"), ip_network("fd00:1::/64"))
    found = outcome(workload={"network": network}, address=address)
    if is_accepted:
        assert isinstance(found, Accepted)
    else:
        assert reasons(found) == {Reason.PROCESS_NETWORK}
    assert isinstance(outcome(address=address), Accepted), "nobody asks where it is"


@pytest.mark.attack(number=118, attacker="another node", asset=CREDENTIAL)
def test_118_a_node_that_has_moved() -> None:
    """What was accepted here is judged anew from there."""
    node = SimulatedNode()
    networked = replace(node.policy().workloads[0], network=(ip_network("10.1.0.0/16"),))
    verifier = SimulatedVerifier(node, workloads=(networked,))
    process = node.new_process()
    first = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert isinstance(only(first.processes), Accepted)
    verifier.address = "192.0.2.1"
    later = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert reasons(only(later.processes)) == {Reason.PROCESS_NETWORK}


# When, and with whose approval


def use(
    audience: str = AUDIENCE,
    scopes: tuple[str, ...] = ("post",),
    window: Window | None = None,
    *,
    asks: bool = False,
) -> Use:
    return Use(audience=audience, scopes=scopes, window=window, needs_approval=asks)


def workload_of(*uses: Use, **changes: Any) -> Workload:  # noqa: ANN401 - fields of any type
    return replace(SimulatedNode().policy().workloads[0], uses=uses, **changes)


def granted(
    uses: tuple[Use, ...], wanted: Purpose = ANY_PURPOSE, *approvals: Approval
) -> tuple[tuple[str, ...], tuple[str, ...], datetime | None, str]:
    found = decide(workload_of(*uses), wanted, job="", approvals=approvals, now=NOW, what="")
    return found.audiences, found.scopes, found.until, found.approval


def refusal(uses: tuple[Use, ...], wanted: Purpose = ANY_PURPOSE, *approvals: Approval) -> Reason:
    with pytest.raises(Rejected) as rejected:
        decide(workload_of(*uses), wanted, job="", approvals=approvals, now=NOW, what="")
    [finding] = rejected.value.findings
    return finding.reason


def approval(  # noqa: PLR0913 - each of its fields
    until: int = 600,
    *,
    workload: str = IDENTITY,
    audience: str = AUDIENCE,
    scopes: tuple[str, ...] = ("post",),
    context: tuple[str, ...] = (),
    job: str = "",
) -> Approval:
    errand = Errand(workload=workload, audience=audience, scopes=scopes, context=context, job=job)
    return Approval(id="0f" * 8, errand=errand, until=int(NOW.timestamp()) + until)


def test_a_request_that_names_nothing_is_for_all_that_is_open_and_free() -> None:
    both = (AUDIENCE, OTHER)
    assert granted((use(), use(OTHER)))[:2] == (both, ("post",))
    assert granted((use(), use(OTHER, window=SHUT)))[:2] == ((AUDIENCE,), ("post",))
    assert granted((use(), use(OTHER, asks=True)))[:2] == ((AUDIENCE,), ("post",))
    reordered = granted((use(scopes=("a", "b")), use(OTHER, ("b", "a"))))
    assert reordered[:2] == (both, ("a", "b"))


def test_uses_that_differ_have_to_be_named() -> None:
    uses = (use(), use(OTHER, ("get", "post")))
    assert refusal(uses) == Reason.USE_AMBIGUOUS
    assert granted(uses, purpose(AUDIENCE))[:2] == ((AUDIENCE,), ("post",))
    assert granted(uses, purpose(OTHER))[:2] == ((OTHER,), ("get", "post"))
    assert granted(uses, purpose(scopes=("post",)))[:2] == ((AUDIENCE, OTHER), ("post",))
    assert granted(uses, purpose(scopes=("get",)))[:2] == ((OTHER,), ("get",))
    assert refusal(uses, purpose(AUDIENCE, ("get",))) == Reason.USE_SCOPE


def test_one_audience_with_two_uses() -> None:
    uses = (use(scopes=("read",)), use(scopes=("write",), window=OPEN))
    assert refusal(uses, purpose(AUDIENCE)) == Reason.USE_AMBIGUOUS
    assert granted(uses, purpose(AUDIENCE, ("write",)))[1] == ("write",)
    assert refusal(uses, purpose(AUDIENCE, ("read", "write"))) == Reason.USE_SCOPE


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
@pytest.mark.parametrize("wanted", [ANY_PURPOSE, purpose(AUDIENCE), purpose(scopes=("post",))])
def test_118_outside_its_window(wanted: Purpose) -> None:
    assert refusal((use(window=SHUT),), wanted) == Reason.USE_WINDOW
    assert granted((use(window=OPEN),), wanted)[2] == NOW + timedelta(hours=1)


def test_a_refusal_says_when_it_opens() -> None:
    found = outcome(workload={"uses": (use(window=SHUT),)})
    assert isinstance(found, Refused)
    [finding] = found.findings
    assert finding.expected == "Tue 13:00-14:00 UTC, opens 2026-11-24T13:00:00+00:00"
    assert finding.found == "2026-11-24T12:00:00+00:00"


def test_a_token_ends_with_the_first_of_its_windows() -> None:
    sooner = Window.parse("12:00-12:30 UTC")
    uses = (use(window=OPEN), use(OTHER, window=sooner), use("https://x.example.org"))
    assert granted(uses)[2] == NOW + timedelta(minutes=30)


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"workload": f"{IDENTITY}-other"}, id="another workload"),
        pytest.param({"audience": OTHER}, id="another audience"),
        pytest.param({"scopes": ("post", "read")}, id="more scopes"),
        pytest.param({"scopes": ("read",)}, id="another scope"),
        pytest.param({"scopes": ()}, id="no scope"),
        pytest.param({"context": ("session=2",)}, id="another session"),
        pytest.param({"context": ()}, id="no session"),
        pytest.param({"job": "build-18"}, id="another job"),
        pytest.param({"job": ""}, id="no job"),
        pytest.param({"until": 0}, id="over"),
        pytest.param({"until": -1}, id="long over"),
    ],
)
def test_118_an_approval_of_something_else(other: dict[str, Any]) -> None:
    needing = workload_of(use(scopes=("post", "read"), asks=True), context=("session",))
    wanted = purpose(AUDIENCE, ("post",), ("session=1",))
    right: dict[str, Any] = {"context": ("session=1",), "job": "build-17"}
    arguments: dict[str, Any] = {"now": NOW, "what": "", "job": "build-17"}
    found = decide(needing, wanted, approvals=(approval(**right),), **arguments)
    assert (found.audiences, found.scopes) == ((AUDIENCE,), ("post",))
    assert (found.until, found.approval) == (NOW + timedelta(minutes=10), "0f" * 8)
    with pytest.raises(NotApproved) as missing:
        decide(needing, wanted, approvals=(approval(**(right | other)),), **arguments)
    assert missing.value.errand == approval(**right).errand


def test_an_approval_counts_within_the_window_only() -> None:
    uses = (use(window=Window.parse("12:00-12:05 UTC"), asks=True),)
    assert granted(uses, ANY_PURPOSE, approval())[2] == NOW + timedelta(minutes=5)
    assert refusal((use(window=SHUT, asks=True),), ANY_PURPOSE, approval()) == Reason.USE_WINDOW


def test_an_operator_is_asked_only_for_what_is_named_or_all_there_is() -> None:
    both = (use(window=SHUT), use(OTHER, asks=True))
    assert refusal(both) == Reason.USE_WINDOW
    assert refusal(both, purpose(OTHER)) == Reason.USE_GRANT
    assert refusal((use(asks=True),)) == Reason.USE_GRANT
    assert refusal((use(asks=True), use(OTHER, asks=True))) == Reason.USE_AMBIGUOUS
    assert refusal((use(asks=True), use(scopes=("get",), asks=True))) == Reason.USE_AMBIGUOUS


def test_what_is_free_by_day_and_approved_by_night() -> None:
    by_day, by_night = (use(window=OPEN), use(asks=True)), (use(window=SHUT), use(asks=True))
    assert granted(by_day, purpose(AUDIENCE), approval())[3] == ""
    assert granted(by_night, purpose(AUDIENCE), approval())[3] == "0f" * 8
    assert refusal(by_night, purpose(AUDIENCE)) == Reason.USE_GRANT


def test_the_order_of_scopes_is_nothing_that_an_operator_approves() -> None:
    uses = (use(scopes=("read", "post"), asks=True),)
    found = granted(uses, purpose(AUDIENCE, ("read", "post")), approval(scopes=("post", "read")))
    assert found[1] == ("read", "post")


def test_nobody_is_asked_about_a_process_that_would_be_refused_anyway() -> None:
    asking: dict[str, Any] = {"workload": {"uses": (use(asks=True),), "nodes": {"zone": "eu-1"}}}
    elsewhere = outcome(**asking)
    assert isinstance(elsewhere, Refused)
    assert elsewhere.asking is None
    here = outcome(**asking, known={"labels": (("zone", "eu-1"),)})
    assert isinstance(here, Refused)
    assert here.asking is not None
    assert here.asking[1] == approval().errand


AUDIENCES, SCOPES = (AUDIENCE, OTHER), ("get", "post", "read")
some_scopes = st.lists(st.sampled_from(SCOPES), unique=True, max_size=3).map(tuple)
some_uses = st.builds(
    Use,
    audience=st.sampled_from(AUDIENCES),
    scopes=some_scopes,
    window=st.sampled_from((None, OPEN, SHUT)),
    needs_approval=st.booleans(),
)
some_approvals = st.builds(
    approval,
    st.sampled_from((-1, 0, 1, 600)),
    audience=st.sampled_from(AUDIENCES),
    scopes=some_scopes.map(lambda scopes: tuple(sorted(scopes))),
)


@given(
    st.lists(some_uses, min_size=1, max_size=4),
    st.builds(
        Purpose,
        audience=st.sampled_from(("", *AUDIENCES)),
        scopes=some_scopes,
        context=st.just(()),
    ),
    st.lists(some_approvals, max_size=3),
)
def test_no_scope_is_granted_at_an_audience_whose_use_does_not_allow_it_now(
    uses: list[Use], wanted: Purpose, approvals: list[Approval]
) -> None:
    arguments: dict[str, Any] = {"now": NOW, "what": "", "job": ""}
    try:
        found = decide(workload_of(*uses), wanted, approvals=tuple(approvals), **arguments)
    except Rejected:
        return
    assert found.audiences
    assert found.until is None or found.until > NOW
    assert wanted.audience in ("", *found.audiences)
    assert wanted.scopes in ((), found.scopes)
    for audience in found.audiences:
        assert any(
            one.audience == audience
            and set(found.scopes) <= set(one.scopes)
            and one.window != SHUT
            and one.needs_approval <= bool(found.approval)
            for one in uses
        )
    if found.approval:
        assert found.until is not None
        assert found.until <= max(datetime.fromtimestamp(one.until, UTC) for one in approvals)


# What a changed workload still allows


@pytest.mark.parametrize(
    ("now", "is_more"),
    [
        pytest.param((use(),), True, id="the same"),
        pytest.param((use(), use(OTHER)), True, id="one more"),
        pytest.param((use(scopes=("post", "get")),), True, id="more scopes"),
        pytest.param((use(OTHER),), False, id="another audience"),
        pytest.param((use(scopes=("get",)),), False, id="another scope"),
        pytest.param((use(window=OPEN),), False, id="a window"),
        pytest.param((use(asks=True),), False, id="an approval"),
    ],
)
def test_what_a_changed_workload_allows_still(now: tuple[Use, ...], *, is_more: bool) -> None:
    assert workload_of(*now).allows_all_of(workload_of(use())) == is_more


def test_what_is_lifted_is_more() -> None:
    for before in (use(window=OPEN), use(asks=True)):
        assert workload_of(use()).allows_all_of(workload_of(before))
    assert not workload_of(use(window=SHUT)).allows_all_of(workload_of(use(window=OPEN)))
    for change in ({"context": ("a",)}, {"nodes": {"a": "1"}}, {"network": (ip_network("::/0"),)}):
        assert not workload_of(use(), **change).allows_all_of(workload_of(use()))
