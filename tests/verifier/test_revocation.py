"""Each cause for which a credential ends, as introspection and the status list tell it at once.

The verifier is asked over its door. Its clock is in the test's hand: what happens by itself
happens in the second in which it is due.
"""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from credential import wit
from evidence import Malformed
from tests import simulated_agent
from tests.relying_party import FORM, REVOKED, SUSPENDED, VALID, Party, register, token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_keys import sha256
from tests.simulated_node import SimulatedNode
from tests.simulated_process import IDENTITY, SimulatedProcess
from verifier import Rejected
from verifier.boot_policy import read_boot_policy
from verifier.case import BOOT_POLICY, KERNEL_POLICY, REFERENCE, WORKLOAD
from verifier.ledger import Cause, Kind
from verifier.operations.answers import Unfit
from verifier.operations.documents import kernel_policy_name
from verifier.reference import encode_reference
from verifier.service import Service
from verifier.store import LIST_ENTRIES

SOME = "00" * 32


@pytest.fixture
def node(verifier: RunningVerifier) -> SimulatedNode:
    node = SimulatedNode(needs_canary=True)
    verifier.trust(node)
    return node


@pytest.fixture
def neighbour(player: Player, process: SimulatedProcess) -> SimulatedProcess:
    """A second process of the same workload, which nothing happens to."""
    assert process
    other = player.node.new_process()
    player.attest([other])
    return other


def causes(verifier: RunningVerifier) -> list[str]:
    """Return the cause of each end in the ledger."""
    rows = [row for row in verifier.ledger() if row.kind == Kind.CREDENTIAL_REVOKED]
    return [str(row.body["cause"]) for row in rows]


# The causes


@pytest.mark.parametrize("cause", [Cause.EXITED, Cause.EXECUTED, Cause.CHANGED])
def test_what_the_node_tells_of_one_process(  # noqa: PLR0913, PLR0917
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    neighbour: SimulatedProcess,
    party: Party,
    cause: Cause,
) -> None:
    assert party.state(token_of(player, process)) == VALID
    player.door.gone(player.node.gone(process, str(cause)))
    assert party.state(token_of(player, process)) == REVOKED
    assert party.state(token_of(player, neighbour)) == VALID
    assert causes(verifier) == [cause]


def test_a_process_that_drifts(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    neighbour: SimulatedProcess,
    party: Party,
) -> None:
    token = token_of(player, process)
    player.processes = [process.looking(anonymous_executable=4096), neighbour]
    player.attest()
    assert (party.state(token), party.state(token_of(player, neighbour))) == (REVOKED, VALID)
    assert causes(verifier) == [Cause.REFUSED]


def test_a_process_whose_level_falls(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    party: Party,
) -> None:
    """The token that says more than is proven ends; one that says what is proven comes at once."""
    verifier.operators.put(BOOT_POLICY, player.node.boot_policy_toml())
    player.attest()
    higher = token_of(player, process)
    assert player.claims(process).procseal.level == "L2"
    player.attest()
    assert token_of(player, process) == higher, "nothing has changed"

    player.node.presences[process.core.uid].add("/user.slice")
    player.attest()
    lower = token_of(player, process)
    assert player.claims(process).procseal.level == "L1"
    assert (party.state(higher), party.state(lower)) == (REVOKED, VALID)
    assert causes(verifier) == [Cause.LEVEL_FELL]

    player.node.presences[process.core.uid].discard("/user.slice")
    player.attest()
    assert player.claims(process).procseal.level == "L2"
    assert party.state(lower) == VALID
    assert causes(verifier) == [Cause.LEVEL_FELL]


def test_a_boot_policy_that_is_removed(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    verifier.operators.put(BOOT_POLICY, player.node.boot_policy_toml())
    player.attest()
    token = token_of(player, process)
    assert party.state(token) == VALID
    assert verifier.operators.remove(BOOT_POLICY, "as-booted")["revoked"] == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.BOOT_POLICY_CHANGED]
    player.attest()
    assert player.claims(process).procseal.level == "lab"
    assert party.state(token_of(player, process)) == VALID


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"command_lines": ("another",)}, id="another command line"),
        pytest.param({"secure_boot": False}, id="another demand"),
        pytest.param({"nodes": ("build-9",)}, id="other nodes"),
        pytest.param({"phases": ("sysinit",)}, id="phases"),
    ],
)
def test_a_boot_policy_that_is_changed(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    party: Party,
    change: dict[str, Any],
) -> None:
    verifier.operators.put(BOOT_POLICY, player.node.boot_policy_toml())
    player.attest()
    token = token_of(player, process)
    text = player.node.boot_policy_toml(**change)
    assert verifier.operators.put(BOOT_POLICY, text)["revoked"] == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.BOOT_POLICY_CHANGED]


def test_a_boot_policy_that_allows_more(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    before = read_boot_policy(player.node.boot_policy_toml())
    more = {
        register: {**held, "another": (bytes(32),)} for register, held in before.registers.items()
    }
    wider = player.node.boot_policy_toml(
        command_lines=(*before.command_lines, "another"), registers=more
    )
    verifier.operators.put(BOOT_POLICY, player.node.boot_policy_toml())
    player.attest()
    token = token_of(player, process)
    assert verifier.operators.put(BOOT_POLICY, wider)["revoked"] == 0
    assert party.state(token) == VALID
    assert verifier.operators.put(BOOT_POLICY, player.node.boot_policy_toml())["revoked"] == 1


def test_a_boot_policy_of_other_nodes(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    verifier.operators.put(BOOT_POLICY, player.node.boot_policy_toml(nodes=("build-9",)))
    player.attest()
    token = token_of(player, process)
    assert verifier.operators.remove(BOOT_POLICY, "as-booted")["revoked"] == 0
    assert party.state(token) == VALID


def test_a_kernel_policy_that_is_withdrawn(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    verifier.operators.put(KERNEL_POLICY, "measure func=BPRM_CHECK\n")
    other = kernel_policy_name("measure func=BPRM_CHECK\n")
    assert verifier.operators.remove(KERNEL_POLICY, other)["revoked"] == 0
    assert party.state(token) == VALID
    [held] = verifier.operators.documents(KERNEL_POLICY)
    assert verifier.operators.remove(KERNEL_POLICY, held["name"])["revoked"] == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.KERNEL_POLICY_WITHDRAWN]


def test_a_process_that_is_no_longer_reported(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    player.processes = []
    player.attest()
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.NOT_REPORTED]


def test_a_node_that_drifts(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    neighbour: SimulatedProcess,
    party: Party,
) -> None:
    tokens = [token_of(player, one) for one in (process, neighbour)]
    player.node.measure("usr/bin/odd", b"odd")
    with pytest.raises(Rejected):
        player.attest()
    assert [party.state(one) for one in tokens] == [REVOKED, REVOKED]
    assert causes(verifier) == [Cause.NODE_REFUSED] * 2


def test_a_node_that_has_rebooted(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    player.node.reboot()
    player.processes = []
    player.attest()
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.NODE_REBOOTED]


def test_a_silent_node_is_suspended_and_then_revoked(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    verifier.watch(3 * 30)
    assert party.state(token) == VALID
    verifier.watch(1)
    assert party.state(token) == SUSPENDED
    verifier.watch(7 * 30 - 1)
    assert party.state(token) == SUSPENDED
    verifier.watch(1)
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.TOO_OLD]
    assert verifier.kinds().count(Kind.CREDENTIAL_SUSPENDED) == 1


def test_a_node_that_speaks_again_gets_its_credentials_back(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    verifier.watch(100)
    assert party.state(token) == SUSPENDED
    player.attest()
    assert party.state(token) == VALID
    assert verifier.kinds()[-1] == Kind.CREDENTIAL_REINSTATED
    verifier.watch(90)
    assert party.state(token) == VALID
    verifier.watch(1)
    assert party.state(token) == SUSPENDED


def test_what_is_revoked_is_not_given_back(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    neighbour: SimulatedProcess,
    party: Party,
) -> None:
    token = token_of(player, process)
    verifier.watch(100)
    player.door.gone(player.node.gone(process))
    assert party.state(token) == REVOKED
    player.processes = [neighbour]
    player.attest()
    assert party.state(token) == REVOKED
    assert party.state(token_of(player, neighbour)) == VALID


@pytest.mark.parametrize("away", ["restarted", "asleep"])
def test_silence_counts_only_while_the_verifier_is_there(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, away: str
) -> None:
    """The tokens' own end comes all the same."""
    jti = wit.read_unverified(token_of(player, process)).jti
    verifier.watch(60)
    verifier.wait(400)
    if away == "restarted":
        verifier.restart()
    verifier.watch(89)
    assert verifier.statuses() == {jti: "valid"}
    verifier.watch(2)
    assert verifier.statuses() == {jti: Cause.LATE}
    verifier.watch(208)
    assert verifier.statuses() == {jti: Cause.LATE}
    verifier.watch(2)
    assert verifier.statuses() == {jti: Cause.TOO_OLD}


def test_a_busy_verifier_is_no_way_to_be_silent_for_ever(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess
) -> None:
    """What it was away for is added to the node's time, and no more: 90 s and 300 s are counted."""
    token_of(player, process)

    def is_there_for(*spans: int) -> set[str]:
        for seconds in spans:
            verifier.wait(31)
            verifier.sweeper.sweep()
            verifier.watch(seconds)
        return set(verifier.statuses().values())

    assert is_there_for(30, 30, 30) == {"valid"}
    assert is_there_for(1) == {Cause.LATE}
    assert is_there_for(*[20] * 10, 9) == {Cause.LATE}
    assert is_there_for(1) == {Cause.TOO_OLD}


def test_sweeps_that_fail_are_one_absence(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The database is away for 60 s, and every second of them a sweep comes to no end."""
    token_of(player, process)
    verifier.watch(50)
    with monkeypatch.context() as patched:
        patched.setattr(Service, "reading", lambda _: 1 / 0)
        for _ in range(60):
            with pytest.raises(ZeroDivisionError):
                verifier.watch(1)
    verifier.watch(1)
    verifier.watch(40)
    assert set(verifier.statuses().values()) == {"valid"}
    verifier.watch(1)
    assert set(verifier.statuses().values()) == {Cause.LATE}


def test_intervals_of_two_seconds(tmp_path: Path) -> None:
    verifier = RunningVerifier(tmp_path, interval=timedelta(seconds=2), suspend_after=2)
    node = SimulatedNode()
    verifier.trust(node)
    player = Player(node, verifier.service)
    player.enrol()
    player.attest()
    player.attest([node.new_process()])
    verifier.watch(4)
    assert set(verifier.statuses().values()) == {"valid"}
    verifier.watch(1)
    assert set(verifier.statuses().values()) == {Cause.LATE}
    verifier.watch(16)
    assert set(verifier.statuses().values()) == {Cause.TOO_OLD}
    verifier.close()


def test_an_operator_ends_one(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    verifier.operators.credential_revoke(player.claims(process).jti)
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.OPERATOR]


def test_an_operator_removes_the_node(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    verifier.operators.node_remove("build-7")
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.NODE_REMOVED]


def test_the_executables_digest_is_withdrawn(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    """At once: no evidence is needed to know that the process is wanted no longer."""
    token = token_of(player, process)
    _, payments = player.node.reference_toml()
    digest = sha256(b"another payments").hex()
    line = next(line for line in payments.splitlines() if line.startswith('"bin/payments"'))
    other = payments.replace(line, f'"bin/payments" = "sha256:{digest}"')
    assert verifier.operators.put(REFERENCE, other)["revoked"] == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.REFERENCE_WITHDRAWN]


def test_another_files_digest_is_withdrawn(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    """With the next evidence, which is judged from its first record on."""
    token = token_of(player, process)
    debian, _ = player.node.reference_toml()
    lines = [line for line in debian.splitlines() if "python3" not in line]
    assert verifier.operators.put(REFERENCE, "\n".join(lines))["revoked"] == 0
    assert party.state(token) == VALID
    with pytest.raises(Rejected):
        player.attest()
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.NODE_REFUSED]


@pytest.mark.parametrize(
    ("name", "change", "ends"),
    [
        pytest.param("python", lambda one: one.replace("code.py", "other.py"), True, id="a name"),
        pytest.param("python", lambda one: re.sub('"sha256:..', '"sha256:11', one), True, id="it"),
        pytest.param("python", lambda one: f'nodes = ["build-7", "b"]\n{one}', True, id="nodes"),
        pytest.param("agent-1.2", lambda one: f'{one}"more" = "sha256:{SOME}"', False, id="more"),
        pytest.param("others", lambda one: one.replace("other.py", "more"), False, id="others"),
    ],
)
def test_a_modules_digest_is_withdrawn(  # noqa: PLR0913, PLR0917
    verifier: RunningVerifier,
    player: Player,
    party: Party,
    name: str,
    change: Callable[[str], str],
    ends: bool,  # noqa: FBT001
) -> None:
    """At once: what a program could import is judged when it is new."""
    documents = {one.name: encode_reference(one) for one in simulated_agent.sets_of(player.node)}
    for text in documents.values():
        verifier.operators.put(REFERENCE, text)
    verifier.operators.put(WORKLOAD, simulated_agent.workload_toml(player.node))
    agent = simulated_agent.launch(player.node)
    player.attest([agent])
    token = token_of(player, agent)
    assert party.state(token) == VALID
    assert verifier.operators.put(REFERENCE, change(documents[name]))["revoked"] == int(ends)
    assert party.state(token) == (REVOKED if ends else VALID)
    assert causes(verifier) == [Cause.REFERENCE_WITHDRAWN] * ends
    if ends:
        return
    player.attest()
    assert party.state(token) == VALID


def test_a_set_of_modules_is_removed(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    for one in simulated_agent.sets_of(player.node):
        verifier.operators.put(REFERENCE, encode_reference(one))
    agent_toml = simulated_agent.workload_toml(player.node)
    verifier.operators.put(WORKLOAD, agent_toml)
    agent = simulated_agent.launch(player.node)
    player.attest([agent])
    fewer = agent_toml.replace('"debian-12", "python"', '"debian-12"')
    assert verifier.operators.put(WORKLOAD, fewer)["revoked"] == 1
    assert party.state(token_of(player, agent)) == REVOKED


def test_the_workload_is_removed(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    assert verifier.operators.remove(WORKLOAD, IDENTITY)["revoked"] == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.WORKLOAD_REMOVED]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('["post"]', '["read"]', id="other scopes"),
        pytest.param("[[use]]", 'lease = "1m"\n[[use]]', id="a shorter lease"),
        pytest.param(
            'mapped = ["debian-12", "payments-1.4"]', 'mapped = ["payments-1.4"]', id="fewer sets"
        ),
    ],
)
def test_the_workload_allows_less(  # noqa: PLR0913, PLR0917
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    party: Party,
    old: str,
    new: str,
) -> None:
    """What was allowed is over at once; what is allowed now, the next evidence brings."""
    token = token_of(player, process)
    text = player.node.workload_toml()
    assert old in text
    assert verifier.operators.put(WORKLOAD, text.replace(old, new))["revoked"] == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.WORKLOAD_CHANGED]
    player.attest()
    if "mapped" in old:
        assert not player.tokens
        assert causes(verifier) == [Cause.WORKLOAD_CHANGED, Cause.REFUSED]
    else:
        assert party.state(token_of(player, process)) == VALID
    assert party.state(token) == REVOKED


def test_the_workload_wants_another_process(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    text = player.node.workload_toml().replace('user = "payments"', 'user = "ledger"')
    assert verifier.operators.put(WORKLOAD, text)["revoked"] == 1
    assert party.state(token) == REVOKED
    player.attest()
    assert not player.tokens
    assert causes(verifier) == [Cause.WORKLOAD_CHANGED]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('["post"]', '["post", "read"]', id="more scopes"),
        pytest.param(
            "[[use]]",
            '[[use]]\naudience = "https://two.example.org"\nscopes = ["post"]\n[[use]]',
            id="another audience",
        ),
        pytest.param("version = 1", "version = 1 # one", id="the same"),
    ],
)
def test_the_workload_allows_more(  # noqa: PLR0913, PLR0917
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    party: Party,
    old: str,
    new: str,
) -> None:
    """Nothing that was allowed is interrupted."""
    token = token_of(player, process)
    text = player.node.workload_toml().replace(old, new)
    assert verifier.operators.put(WORKLOAD, text)["revoked"] == 0
    assert party.state(token) == VALID
    player.attest()
    assert party.state(token) == VALID
    assert token_of(player, process) != token


def test_a_change_elsewhere_ends_nothing(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    other = (
        player.node.workload_toml()
        .replace(IDENTITY, f"{IDENTITY}-2")
        .replace('user = "payments"', 'user = "ledger"')
    )
    verifier.operators.put(WORKLOAD, other)
    verifier.operators.put(WORKLOAD, other.replace('["post"]', '["read"]'))
    verifier.operators.remove(WORKLOAD, f"{IDENTITY}-2")
    assert party.state(token) == VALID
    assert causes(verifier) == []


# Misuse


MISUSES = ("proof.missing", "proof.of-another-token", "proof.signature-invalid")


@pytest.mark.parametrize("misuse", MISUSES)
def test_a_report_of_misuse_ends_what_wants_to_be_ended(  # noqa: PLR0913, PLR0917
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    neighbour: SimulatedProcess,
    party: Party,
    misuse: str,
) -> None:
    token = token_of(player, process)
    form = {"token": token, "misuse": misuse}
    assert party.post("/v1/misuse", form) == (200, {"revoked": False})
    assert verifier.kinds()[-1] == Kind.TOKEN_MISUSED
    assert party.state(token) == VALID
    text = player.node.workload_toml().replace("[[use]]", 'on_misuse = "revoke"\n[[use]]')
    verifier.operators.put(WORKLOAD, text)
    player.attest()
    token = token_of(player, process)
    assert party.post("/v1/misuse", {**form, "token": token}) == (200, {"revoked": True})
    assert party.state(token) == REVOKED
    assert party.state(token_of(player, neighbour)) == VALID
    assert causes(verifier)[-1] == Cause.MISUSED
    assert verifier.ledger()[-1].body["by"] == "ledger"
    assert party.post("/v1/misuse", {**form, "token": token}) == (200, {"revoked": False})


@pytest.mark.parametrize("misuse", ["", "token.expired", "anything"])
def test_a_report_names_a_misuse(
    player: Player, process: SimulatedProcess, party: Party, misuse: str
) -> None:
    form = {"token": token_of(player, process), "misuse": misuse}
    assert party.post("/v1/misuse", form)[0] == 400


def test_a_report_about_a_token_for_others_ends_nothing(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    text = player.node.workload_toml().replace("[[use]]", 'on_misuse = "revoke"\n[[use]]')
    verifier.operators.put(WORKLOAD, text)
    player.attest()
    other = register(verifier, party.door, "other", "https://other.example.org")
    form = {"token": token_of(player, process), "misuse": MISUSES[0]}
    assert other.post("/v1/misuse", form) == (200, {"revoked": False})
    assert Kind.TOKEN_MISUSED not in verifier.kinds()


def test_the_workload_says_revoke_or_nothing(
    verifier: RunningVerifier, node: SimulatedNode
) -> None:
    for word in ("ignore", "", "Revoke"):
        text = node.workload_toml().replace("[[use]]", f'on_misuse = "{word}"\n[[use]]')
        with pytest.raises(Rejected):
            verifier.operators.put(WORKLOAD, text)


# Introspection (RFC 7662)


def test_introspection_for_somebody_who_wants_a_higher_level(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    verifier.operators.put(BOOT_POLICY, player.node.boot_policy_toml())
    player.attest()
    token = token_of(player, process)
    assert {one["level"] for one in verifier.operators.credential_list()} == {"lab", "L2"}
    audience = player.node.audience
    for minimum, is_active in (("lab", True), ("L1", True), ("L2", True), ("L3", False)):
        other = register(verifier, party.door, "other", audience, minimum=minimum)
        assert other.introspect(token)["active"] is is_active
    with pytest.raises(Malformed):
        verifier.operators.relying_party_add("other", audience, minimum="L5")


def test_introspection_tells_what_the_token_says(
    player: Player, process: SimulatedProcess, party: Party
) -> None:
    token, claims = token_of(player, process), player.claims(process)
    told = party.introspect(token)
    assert told.pop("active") is True
    assert told.pop("scope") == "post"
    assert told == json.loads(json.dumps(wit.as_json(claims)))
    assert told["cnf"]["jwk"]["kty"] == "EC"
    assert told["procseal"]["executable"] == claims.procseal.executable


def test_introspection_tells_nothing_of_other_tokens(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    """Not why: of somebody else's, of an expired one, of one that was never issued."""
    token = token_of(player, process)
    other = register(verifier, party.door, "other", "https://other.example.org")
    header, payload, signature = token.split(".")
    other_start = "B" if signature.startswith("A") else "A"
    forged = f"{header}.{payload}.{other_start}{signature[1:]}"
    inactive = {"active": False}
    assert other.introspect(token) == inactive
    assert [party.introspect(one) for one in ("", "junk", forged, "é" * 9)] == [inactive] * 4
    verifier.watch(1)
    verifier.time = player.claims(process).expires
    assert party.introspect(token) == inactive


def test_tokens_before_a_renewal_stay_what_they_are(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    first = token_of(player, process)
    verifier.wait(301)
    player.attest()
    second = token_of(player, process)
    assert first != second
    assert (party.state(first), party.state(second)) == (VALID, VALID)
    player.door.gone(player.node.gone(process))
    assert (party.state(first), party.state(second)) == (REVOKED, REVOKED)


# Revocation (RFC 7009)


def test_a_relying_party_that_may_ends_a_credential(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    neighbour: SimulatedProcess,
    party: Party,
) -> None:
    token = token_of(player, process)
    able = register(verifier, party.door, "able", player.node.audience, may_revoke=True)
    form = {"token": token, "token_type_hint": "access_token"}
    assert able.post("/v1/revoke", form) == (200, {})
    assert party.state(token) == REVOKED
    assert party.state(token_of(player, neighbour)) == VALID
    assert causes(verifier) == [Cause.RELYING_PARTY]
    assert verifier.ledger()[-1].body["by"] == "able"
    assert able.post("/v1/revoke", form) == (200, {})
    assert able.post("/v1/revoke", {"token": "unknown"}) == (200, {})
    assert causes(verifier) == [Cause.RELYING_PARTY]


def test_others_end_none(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    token = token_of(player, process)
    assert refused(party.post("/v1/revoke", {"token": token})) == (
        403, "relying-party.may-not-revoke",
    )  # fmt: skip
    other = register(verifier, party.door, "other", "https://other.example.org", may_revoke=True)
    assert refused(other.post("/v1/revoke", {"token": token})) == (
        403, "relying-party.of-another-audience",
    )  # fmt: skip
    assert party.state(token) == VALID


def refused(answer: tuple[int, Any]) -> tuple[int, str]:
    code, verdict = answer
    (finding,) = verdict["findings"]
    return code, finding["reason"]


# Who may ask


@pytest.mark.parametrize("path", ["/v1/introspect", "/v1/revoke", "/v1/misuse"])
def test_nobody_asks_without_a_name_and_its_secret(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party, path: str
) -> None:
    form = {"token": token_of(player, process), "misuse": MISUSES[0]}
    unknown = 401, "relying-party.unknown"
    register(verifier, party.door, "other", player.node.audience, may_revoke=True)
    for name, secret in (
        ("ledger", "x"), ("ledger", ""), ("", ""), ("nobody", party.secret),
        ("other", party.secret), ("ledger", party.secret + "A"),
    ):  # fmt: skip
        assert refused(Party(party.door, name, secret).post(path, form)) == unknown
    for header in (
        "",
        "Basic",
        "Basic !",
        "Basic bGVkZ2Vy",
        "Bearer x",
        "Basic \xff",
        "Basic w6k6",
    ):
        assert refused(party.post(path, form, Authorization=header)) == unknown
    headers = {"Content_Type": FORM}
    code, _ = party.door.request("POST", path, urlencode(form).encode(), **headers)
    assert code == 401
    assert party.state(form["token"]) == VALID


def test_a_removed_party_and_one_with_a_new_secret(
    verifier: RunningVerifier, party: Party, process: SimulatedProcess, player: Player
) -> None:
    form = {"token": token_of(player, process)}
    again = register(verifier, party.door, "ledger", player.node.audience)
    assert refused(party.post("/v1/introspect", form))[0] == 401
    assert again.introspect(form["token"])["active"]
    assert verifier.operators.relying_party_remove("ledger")["name"] == "ledger"
    assert refused(again.post("/v1/introspect", form))[0] == 401
    with pytest.raises(Unfit):
        verifier.operators.relying_party_remove("ledger")
    assert [kind for kind in verifier.kinds() if kind.startswith("relying-party")] == [
        Kind.RELYING_PARTY_ADDED, Kind.RELYING_PARTY_ADDED, Kind.RELYING_PARTY_REMOVED,
    ]  # fmt: skip


def test_the_secret_is_kept_nowhere(verifier: RunningVerifier, party: Party) -> None:
    (told,) = verifier.operators.relying_party_list()
    assert set(told) == {"name", "audience", "minimum", "may_revoke", "added"}
    files = [one for one in verifier.config.state.iterdir() if one.is_file()]
    assert files
    assert not any(party.secret.encode() in one.read_bytes() for one in files)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"token",
        b"tokens=a",
        b"token=a&token=b",
        b"token=%ff",
        b"token=\xff",
        b"&".join([b"token=a", *(b"f%d=1" % number for number in range(20))]),
    ],
)
def test_a_form_has_one_token(party: Party, body: bytes) -> None:
    assert party.post("/v1/introspect", body)[0] == 400


def test_a_form_is_a_form(party: Party) -> None:
    json_ = {"Content_Type": "application/json"}
    assert party.post("/v1/introspect", b'{"token": "a"}', **json_)[0] == 400
    assert party.post("/v1/introspect", b"token=" + b"a" * (32 << 10))[0] == 413


# The lists


def test_every_token_has_a_place_of_its_own_that_nobody_can_guess(
    player: Player, verifier: RunningVerifier
) -> None:
    new = [player.node.new_process() for _ in range(30)]
    player.attest(new)
    places = [player.claims(one).status for one in new]
    assert len(set(places)) == 30
    assert {one.uri for one in places} == {f"{verifier.config.issuer}/v1/status/1"}
    indexes = [one.index for one in places]
    assert indexes != sorted(indexes)
    assert max(indexes) - min(indexes) > 30
    assert max(indexes) < LIST_ENTRIES


def test_a_half_full_list_is_followed_by_another(
    verifier: RunningVerifier,
    player: Player,
    process: SimulatedProcess,
    party: Party,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = token_of(player, process)
    monkeypatch.setattr("verifier.store.LIST_ENTRIES", 4)
    others = [player.node.new_process() for _ in range(4)]
    player.attest(others)
    numbers = [int(player.claims(one).status.uri.rsplit("/", 1)[1]) for one in others]
    assert numbers == [1, 2, 2, 3]
    player.door.gone(player.node.gone(others[0]))
    assert party.state(token_of(player, others[1])) == VALID
    assert party.state(token_of(player, others[0])) == REVOKED
    assert party.state(first) == VALID
    verifier.restart()
    with verifier.service.transaction() as transaction:
        assert transaction.newest_status_list() == 3


@pytest.mark.parametrize("number", ["0", "2", "00", "-1", "x", "1" * 19, "9" * 18])
def test_there_is_no_other_list(party: Party, process: SimulatedProcess, number: str) -> None:
    assert process
    assert party.door.request("GET", f"/v1/status/{number}")[0] == 404


def test_a_list_is_of_now_and_tells_nothing_of_valid_tokens(
    verifier: RunningVerifier, player: Player, process: SimulatedProcess, party: Party
) -> None:
    verifier.wait(7)
    found = party.list_of(token_of(player, process))
    assert found.issued == verifier.time
    assert found.ttl == timedelta(seconds=30)
    assert found.expires - found.issued == timedelta(hours=1)
    assert found.statuses == bytes(LIST_ENTRIES // 4)
