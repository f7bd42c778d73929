"""Assurance levels, one condition at a time, and what a workload may demand of a node's kernel."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from evidence.posture import MOST_CGROUPS, Posture
from evidence.process import arguments_digest, environment_digest
from tests import simulated_agent
from tests.simulated_boot import COMMAND_LINE, boot_uki, load_options
from tests.simulated_node import POSTURE, SimulatedNode
from tests.simulated_process import (
    ARGUMENTS,
    CONFIGURATION,
    ENVIRONMENT,
    LAUNCH,
    PROGRAM,
    SimulatedProcess,
)
from tests.simulated_verifier import SimulatedVerifier, only, reasons
from verifier import Accepted, Reason, Refused, Rejected
from verifier.boot_log import JudgedBoot
from verifier.boot_policy import read_boot_policy
from verifier.levels import Grounds, Reached, reach
from verifier.policy import Interpreted, Workload
from verifier.posture import DEMANDS, HARMLESS_TAINTS, Standing
from verifier.reasons import sha256_text
from verifier.workload import read_workload

SIBLING = "a process of the same user"
IDENTITY = "the identity"
CREDENTIAL = "the credential"

STRICT = "sysctl.kernel.yama.ptrace_scope=3 lockdown=integrity module.sig_enforce=1"
STRICT_POSTURE = Posture(
    taint=0,
    lockdown="integrity",
    is_module_signature_enforced=True,
    is_module_loading_disabled=False,
    is_kexec_disabled=True,
    ptrace_scope=3,
)
UNIT = "/system.slice/payments.service"


def judged_node(line: str = COMMAND_LINE, posture: Posture = POSTURE) -> SimulatedNode:
    """Return a node that boots through firmware, with this command line."""
    node = SimulatedNode(needs_canary=True)
    node.reboot(boot_uki(line))
    node.posture = posture
    return node


def policy_of(
    node: SimulatedNode,
    *lines: str,
    **workload: Any,  # noqa: ANN401 - fields of any type
) -> SimulatedVerifier:
    """Return a verifier that accepts the node's boot, and the workload changed."""
    accepted = read_boot_policy(node.boot_policy_toml(*lines))
    changed = replace(node.policy().workloads[0], **workload)
    return SimulatedVerifier(node, boot_policies=(accepted,), workloads=(changed,))


def outcome(verifier: SimulatedVerifier, process: SimulatedProcess) -> Accepted | Refused:
    """Judge a new process, on a node whose kernel was seen measuring for it."""
    node = verifier.peer
    verifier.has_seen(process.place)
    return only(verifier.judge(node.evidence(verifier.challenge(), new=[process])).processes)


def level(verifier: SimulatedVerifier, process: SimulatedProcess) -> str:
    one = outcome(verifier, process)
    assert isinstance(one, Accepted), one
    assert one.lacks
    return one.level


def test_a_boot_that_nobody_judged() -> None:
    node = SimulatedNode()
    assert level(SimulatedVerifier(node), node.new_process()) == "lab"


def test_an_interpreter_reaches_l2_at_most() -> None:
    line = f"quiet {STRICT}"
    node = judged_node(line, STRICT_POSTURE)
    verifier = SimulatedVerifier(
        node,
        boot_policies=(read_boot_policy(node.boot_policy_toml(line)),),
        workloads=(read_workload(simulated_agent.workload_toml(node)),),
        sets=simulated_agent.sets_of(node),
    )
    one = outcome(verifier, simulated_agent.launch(node))
    assert isinstance(one, Accepted), one
    assert one.level == "L2"
    assert any("interpreter" in lack for lack in one.lacks)


# L2, by the command line


def test_nobody_without_privilege_may_trace() -> None:
    for scope in (2, 3):
        line = f"quiet sysctl.kernel.yama.ptrace_scope={scope}"
        node = judged_node(line, replace(POSTURE, ptrace_scope=scope))
        verifier = policy_of(node, line, unit="", any_starter=True)
        process = node.new_process()
        node.presences[process.core.uid].add("/user.slice")
        assert level(verifier, process) == "L2"


@pytest.mark.attack(number=128, attacker=SIBLING, asset=CREDENTIAL)
@pytest.mark.parametrize(
    ("line", "scope"),
    [
        pytest.param("quiet", 3, id="only the attestor says so"),
        pytest.param("quiet sysctl.kernel.yama.ptrace_scope=2", 0, id="only the command line does"),
        pytest.param("quiet sysctl.kernel.yama.ptrace_scope=2", 1, id="root has changed it"),
        pytest.param("quiet sysctl.kernel.yama.ptrace_scope=2", 4, id="a state that there is not"),
        pytest.param(
            "quiet sysctl.kernel.yama.ptrace_scope=1", 3, id="the line allows descendants"
        ),
    ],
)
def test_128_ptrace_is_not_known_to_be_forbidden(line: str, scope: int) -> None:
    node = judged_node(line, replace(POSTURE, ptrace_scope=scope))
    process = node.new_process()
    node.presences[process.core.uid].add("/user.slice")
    assert level(policy_of(node, line), process) == "L1"
    stricter = policy_of(node, line, minimum="L2")
    assert reasons(outcome(stricter, node.new_process())) == {Reason.PROCESS_LEVEL}


def test_two_command_lines_that_disagree() -> None:
    """Whoever opens the TPM can add what the policy accepts: that lowers the level at most."""
    strict, lax = "quiet sysctl.kernel.yama.ptrace_scope=2", "quiet"
    for line, other in ((strict, lax), (lax, strict)):
        node = judged_node(line, replace(POSTURE, ptrace_scope=2))
        node.reboot([*node.boot, load_options(other)])
        node.posture = replace(POSTURE, ptrace_scope=2)
        verifier = policy_of(node, strict, lax, unit="", any_starter=True)
        assert level(verifier, node.new_process()) == "L1"


def test_a_line_of_the_policy_that_was_not_measured_says_nothing() -> None:
    strict, lax = "quiet sysctl.kernel.yama.ptrace_scope=2", "quiet"
    posture = replace(POSTURE, ptrace_scope=2)
    for line, reached in ((strict, "L2"), (lax, "L1")):
        node = judged_node(line, posture)
        verifier = policy_of(node, strict, lax, unit="", any_starter=True)
        assert level(verifier, node.new_process()) == reached


@pytest.mark.parametrize(("proof", "inode", "reached"), [("pidfd", 0, "L2"), ("pid", 0, "L1")])
def test_how_the_attestor_knows_who_speaks(proof: str, inode: int, reached: str) -> None:
    node = judged_node()
    changes = {"peer_proof": proof, "pidfs_inode": inode}
    process = node.new_process(core=changes, look={"pidfs_inode": inode})
    assert level(policy_of(node), process) == reached


# L2, by the unit


def test_every_process_of_the_uid_is_in_the_unit() -> None:
    node = judged_node()
    process = node.new_process()
    node.presences[process.core.uid] |= {f"{UNIT}/worker", UNIT}
    assert level(policy_of(node), process) == "L2"


@pytest.mark.attack(number=128, attacker=SIBLING, asset=CREDENTIAL)
@pytest.mark.parametrize(
    "elsewhere",
    [
        "/user.slice/user-1001.slice",
        "/",
        f"{UNIT}-2",
        "/system.slice",
        "/system.slice/cron.service",
    ],
)
def test_128_a_process_of_the_uid_elsewhere(elsewhere: str) -> None:
    node = judged_node()
    process = node.new_process()
    node.presences[process.core.uid].add(elsewhere)
    assert level(policy_of(node), process) == "L1"
    stricter = policy_of(node, minimum="L2")
    assert reasons(outcome(stricter, node.new_process())) == {Reason.PROCESS_LEVEL}


def _none_said(node: SimulatedNode, _: SimulatedProcess) -> None:
    node.presences.clear()


def _nothing_found(node: SimulatedNode, process: SimulatedProcess) -> None:
    node.presences[process.core.uid] = set()


def _another_uid(node: SimulatedNode, process: SimulatedProcess) -> None:
    node.presences[process.core.uid + 1] = node.presences.pop(process.core.uid)


def _not_all_told(node: SimulatedNode, process: SimulatedProcess) -> None:
    inside = {f"{UNIT}/{number}" for number in range(MOST_CGROUPS)}
    node.presences[process.core.uid] = inside


@pytest.mark.parametrize("change", [_none_said, _nothing_found, _another_uid, _not_all_told])
def test_where_the_uid_is_is_not_known(
    change: Callable[[SimulatedNode, SimulatedProcess], None],
) -> None:
    node = judged_node()
    process = node.new_process()
    change(node, process)
    assert level(policy_of(node), process) == "L1"


def test_a_workload_that_anybody_starts_has_no_unit() -> None:
    node = judged_node()
    assert level(policy_of(node, unit="", any_starter=True), node.new_process()) == "L1"


def test_a_level_that_falls_is_refused_where_it_is_too_low() -> None:
    node = judged_node()
    verifier = policy_of(node, minimum="L2")
    process = node.new_process()
    assert level(verifier, process) == "L2"
    node.presences[process.core.uid].add("/user.slice")
    again = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert reasons(only(again.processes)) == {Reason.PROCESS_LEVEL}


# L3


FILE = f'{{ path = "{CONFIGURATION.path}", digest = "{sha256_text(CONFIGURATION.digest)}" }}'
VARIABLES = '{ LANG = "C.UTF-8", TZ = "UTC" }'
LAUNCH_TOML = (
    f'launch = {{ argv = ["/{PROGRAM}", "--serve"], env = {VARIABLES}, files = [{FILE}] }}'
)


def launching(node: SimulatedNode, **changes: Any) -> Workload:  # noqa: ANN401 - of any type
    """Return the workload that is launched as the simulated node does it."""
    text = node.workload_toml().replace('unit = "payments.service"', LAUNCH_TOML)
    return replace(read_workload(text), **changes)


def launched(node: SimulatedNode, **core: Any) -> SimulatedProcess:  # noqa: ANN401 - of any type
    told = {
        "binding": "launched",
        "peer_proof": "child",
        "cgroup": "/system.slice/attestor.service",
    }
    return node.new_process(core=told | core)


def closed(
    line: str = STRICT,
    posture: Posture = STRICT_POSTURE,
    **workload: Any,  # noqa: ANN401 - any type
) -> SimulatedVerifier:
    node = judged_node(line, posture)
    accepted = read_boot_policy(node.boot_policy_toml(line))
    return SimulatedVerifier(
        node, boot_policies=(accepted,), workloads=(launching(node, **workload),)
    )


def test_launched_as_the_workload_says_on_a_closed_kernel() -> None:
    verifier = closed(minimum="L3")
    assert level(verifier, launched(verifier.peer)) == "L3"


def test_nothing_reaches_l4() -> None:
    verifier = closed(minimum="L4")
    assert reasons(outcome(verifier, launched(verifier.peer))) == {Reason.PROCESS_LEVEL}


@pytest.mark.attack(number=86, attacker="root on the node", asset=IDENTITY)
@pytest.mark.parametrize(
    ("line", "posture"),
    [
        pytest.param(STRICT.replace("=3", "=2"), {"ptrace_scope": 2}, id="privileged ptrace"),
        pytest.param(STRICT, {"ptrace_scope": 2}, id="ptrace_scope is not in force"),
        pytest.param(STRICT.replace("lockdown=integrity", ""), {}, id="no lockdown on the line"),
        pytest.param(STRICT.replace("integrity", "none"), {}, id="lockdown=none on the line"),
        pytest.param(STRICT, {"lockdown": "none"}, id="lockdown is not in force"),
        pytest.param(f"{STRICT} lsm=yama,apparmor", {}, id="lockdown without its security module"),
        pytest.param(STRICT.replace("sig_enforce=1", "sig_enforce=0"), {}, id="unsigned modules"),
        pytest.param(STRICT.replace("module.sig_enforce=1", ""), {}, id="nothing said of modules"),
        pytest.param(
            STRICT, {"is_module_signature_enforced": False}, id="signed modules are not in force"
        ),
        pytest.param(STRICT, {"taint": 1 << 12}, id="a tainted kernel"),
        pytest.param(f"{STRICT} {STRICT.replace('=3', '=0')}", {}, id="a contradiction"),
    ],
)
def test_086_a_kernel_that_is_not_closed(line: str, posture: dict[str, Any]) -> None:
    verifier = closed(line, replace(STRICT_POSTURE, **posture))
    assert level(verifier, launched(verifier.peer)) in {"L1", "L2"}
    verifier = closed(line, replace(STRICT_POSTURE, **posture), minimum="L3")
    assert reasons(outcome(verifier, launched(verifier.peer))) == {Reason.PROCESS_LEVEL}


def test_confidentiality_is_more_than_integrity() -> None:
    line = STRICT.replace("integrity", "confidentiality")
    verifier = closed(line, replace(STRICT_POSTURE, lockdown="confidentiality"))
    assert level(verifier, launched(verifier.peer)) == "L3"


def test_attached_on_a_closed_kernel() -> None:
    node = judged_node(STRICT, STRICT_POSTURE)
    assert level(policy_of(node, STRICT), node.new_process()) == "L2"


def test_an_interpreter_that_is_launched_as_its_workload_says() -> None:
    """What it runs is shown, and it is not judged like a program's code: at most L2."""
    verifier = closed()
    node = verifier.peer
    interpreted = launching(node, interpreter=Interpreted(script="bin/a.py", modules="debian-12"))
    process = launched(node)
    grounds = Grounds(
        standing=Standing(boot=closed_boot(verifier), posture=STRICT_POSTURE),
        core=process.core,
        look=process.look,
        workload=interpreted,
        presence=None,
    )
    assert reach(grounds) == Reached(level="L2", lacks=("a program that is no interpreter",))
    plain = replace(grounds, workload=launching(node))
    assert reach(plain).level == "L3"


def closed_boot(verifier: SimulatedVerifier) -> JudgedBoot:
    """Return what is known of a closed node's boot."""
    verdict = verifier.judge(verifier.peer.evidence(verifier.challenge()))
    assert verdict.boot_policy
    return JudgedBoot(
        replayed=cast("Any", None),  # no level asks for it
        policy=verdict.boot_policy,
        log=verdict.boot_log,
        command_lines=(STRICT,),
        is_secure=True,
    )


def test_launched_as_anybody_likes() -> None:
    node = judged_node(STRICT, STRICT_POSTURE)
    verifier = policy_of(node, STRICT, unit="", any_starter=True)
    assert level(verifier, launched(node)) == "L2"


OTHER_FILE = replace(CONFIGURATION, digest=bytes(32))
LOOSE_FILE = replace(CONFIGURATION, is_roots=False)
MORE_FILES = (CONFIGURATION, replace(CONFIGURATION, path="/etc/more"))


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize(
    ("core", "reason"),
    [
        pytest.param(
            {"arguments": arguments_digest([f"/{PROGRAM}", "--serve", "--debug"])},
            Reason.PROCESS_ARGUMENTS,
            id="an argument more",
        ),
        pytest.param(
            {"arguments": arguments_digest([f"/{PROGRAM} --serve"])},
            Reason.PROCESS_ARGUMENTS,
            id="the same words as one",
        ),
        pytest.param(
            {"environment": environment_digest({**ENVIRONMENT, "LD_PRELOAD": "/tmp/x"})},
            Reason.PROCESS_ENVIRONMENT,
            id="a variable more",
        ),
        pytest.param(
            {"environment": environment_digest({})}, Reason.PROCESS_ENVIRONMENT, id="none at all"
        ),
        pytest.param(
            {"configuration": (OTHER_FILE,)}, Reason.PROCESS_CONFIGURATION, id="another file"
        ),
        pytest.param(
            {"configuration": (LOOSE_FILE,)}, Reason.PROCESS_CONFIGURATION, id="somebody's file"
        ),
        pytest.param({"configuration": ()}, Reason.PROCESS_CONFIGURATION, id="a file not named"),
        pytest.param({"configuration": MORE_FILES}, Reason.PROCESS_CONFIGURATION, id="a file more"),
    ],
)
def test_125_the_golden_program_launched_otherwise(core: dict[str, Any], reason: Reason) -> None:
    """Refused whatever the level; the workload's id named or not."""
    verifier = closed()
    assert reasons(outcome(verifier, launched(verifier.peer, **core))) == {reason}
    found = reasons(outcome(verifier, launched(verifier.peer, identity="", **core)))
    assert found == {Reason.PROCESS_NOT_WANTED, reason}


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
def test_125_the_golden_program_not_launched_at_all() -> None:
    verifier = closed()
    assert reasons(outcome(verifier, verifier.peer.new_process())) == {Reason.PROCESS_STARTER}


@pytest.mark.attack(number=125, attacker="root on the node", asset=IDENTITY)
@pytest.mark.parametrize("now", [(OTHER_FILE,), (LOOSE_FILE,), (), MORE_FILES])
def test_125_a_file_of_its_configuration_that_changes_later(now: tuple[Any, ...]) -> None:
    verifier = closed()
    node = verifier.peer
    process = launched(node)
    assert level(verifier, process) == "L3"
    changed = process.looking(configuration=now)
    verdict = verifier.judge(node.evidence(verifier.challenge(), known=[changed]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_CONFIGURATION}


@pytest.mark.parametrize(
    "core",
    [
        pytest.param({"arguments": b""}, id="launched without arguments"),
        pytest.param({"environment": bytes(31)}, id="a digest of another length"),
        pytest.param({"configuration": (CONFIGURATION, OTHER_FILE)}, id="a path twice"),
        pytest.param(
            {"binding": "attached", "peer_proof": "pidfs", **LAUNCH}, id="attached, and launched"
        ),
        pytest.param(
            {"binding": "attached", "peer_proof": "pidfs", "configuration": (CONFIGURATION,)},
            id="attached, and files",
        ),
    ],
)
def test_a_record_that_no_attestor_writes(core: dict[str, Any]) -> None:
    verifier = closed()
    assert Reason.MALFORMED_PROCESS in reasons(outcome(verifier, launched(verifier.peer, **core)))


def test_what_a_launch_is_read_from() -> None:
    node = SimulatedNode()
    launch = launching(node).launch
    assert launch is not None
    assert launch.arguments == ARGUMENTS
    assert launch.environment == ENVIRONMENT
    assert launch.files == {CONFIGURATION.path: CONFIGURATION.digest}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(f'"/{PROGRAM}", "--serve"', "", id="no arguments"),
        pytest.param(f'"/{PROGRAM}", ', "", id="no absolute path first"),
        pytest.param('"--serve"', "1", id="an argument that is no text"),
        pytest.param('"--serve"', '"a\\nb"', id="an argument with a line end"),
        pytest.param("LANG =", '"LANG=x" =', id="a name with an equals sign"),
        pytest.param("LANG =", "PROCSEAL_FD =", id="the attestor's own variable"),
        pytest.param('"C.UTF-8"', "1", id="a variable that is no text"),
        pytest.param("/etc/payments/", "/etc/../", id="a path that goes up"),
        pytest.param("/etc/payments/", "etc/", id="a path that is not absolute"),
        pytest.param("sha256:", "sha512:", id="another digest"),
        pytest.param("argv", "args", id="an unknown key"),
        pytest.param("path =", "more = 1, path =", id="an unknown key of a file"),
        pytest.param("launch =", 'unit = "payments.service"\nlaunch =', id="a unit too"),
        pytest.param("launch =", "any_starter = true\nlaunch =", id="any starter too"),
    ],
)
def test_a_launch_that_is_refused_when_it_is_read(old: str, new: str) -> None:
    text = SimulatedNode().workload_toml().replace('unit = "payments.service"', LAUNCH_TOML)
    assert old in text
    with pytest.raises(Rejected) as refused:
        read_workload(text.replace(old, new))
    assert [one.reason for one in refused.value.findings] == [Reason.POLICY_INVALID]


# What a workload demands of the kernel


FAILING: dict[str, dict[str, Any]] = {
    "lockdown": {"lockdown": "none"},
    "signed-modules": {"is_module_signature_enforced": False},
    "no-more-modules": {"is_module_loading_disabled": False},
    "no-kexec": {"is_kexec_disabled": False},
    "no-ptrace": {"ptrace_scope": 1},
    "untainted": {"taint": 1 << 13},
}
GOOD = replace(STRICT_POSTURE, is_module_loading_disabled=True)


@pytest.mark.attack(number=86, attacker="root on the node", asset=IDENTITY)
@pytest.mark.parametrize("word", DEMANDS)
def test_086_a_kernel_that_is_not_set_as_the_workload_demands(word: str) -> None:
    node = judged_node(posture=GOOD)
    assert level(policy_of(node, posture=(word,)), node.new_process())
    if word == "secure-boot":
        verifier = SimulatedVerifier(
            node, workloads=(replace(node.policy().workloads[0], posture=(word,)),)
        )
    else:
        node.posture = replace(GOOD, **FAILING[word])
        verifier = policy_of(node, posture=(word,))
    assert reasons(outcome(verifier, node.new_process())) == {Reason.PROCESS_POSTURE}


@pytest.mark.attack(number=86, attacker="root on the node", asset=IDENTITY)
@pytest.mark.parametrize("bit", [0, 1, 3, 5, 6, 7, 8, 10, 12, 13, 15, 16, 18, 40])
def test_086_a_taint_that_counts(bit: int) -> None:
    node = judged_node(posture=replace(GOOD, taint=1 << bit))
    verifier = policy_of(node, posture=("untainted",))
    assert reasons(outcome(verifier, node.new_process())) == {Reason.PROCESS_POSTURE}


def test_a_taint_that_does_not() -> None:
    node = judged_node(posture=replace(GOOD, taint=sum(1 << bit for bit in HARMLESS_TAINTS)))
    assert level(policy_of(node, posture=("untainted",)), node.new_process())


@pytest.mark.parametrize("lockdown", ["", "none", "other"])
def test_a_state_of_lockdown_that_is_none(lockdown: str) -> None:
    node = judged_node(posture=replace(GOOD, lockdown=lockdown))
    verifier = policy_of(node, posture=("lockdown",))
    assert reasons(outcome(verifier, node.new_process())) == {Reason.PROCESS_POSTURE}


def test_secure_boot_that_was_off() -> None:
    """The boot policy lets it be; the workload does not."""
    node = judged_node(posture=GOOD)
    boot = boot_uki()
    node.reboot([one for one in boot if b"SecureBoot" not in one.data.replace(b"\0", b"")])
    accepted = read_boot_policy(node.boot_policy_toml(secure_boot=False))
    workload = replace(node.policy().workloads[0], posture=("secure-boot",))
    verifier = SimulatedVerifier(node, boot_policies=(accepted,), workloads=(workload,))
    assert reasons(outcome(verifier, node.new_process())) == {Reason.PROCESS_POSTURE}


def test_posture_is_read_from_a_workload() -> None:
    text = SimulatedNode().workload_toml().replace("minimum", 'posture = ["no-kexec"]\nminimum')
    assert read_workload(text).posture == ("no-kexec",)
