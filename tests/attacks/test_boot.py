"""Attacks on the boot, link 3: what was booted is known, or the node is refused.

The event log is nobody's word: it counts as far as it leads to the quoted registers, and of it
only digests count. How a boot policy judges a log is in tests/verifier/test_boot_policy.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from evidence.event_log import (
    EFI_BOOT_SERVICES_APPLICATION,
    IPL,
    MOST_LOG_BYTES,
    NO_ACTION,
    SEPARATOR,
    Event,
)
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_boot import (
    COMMAND_LINE,
    KEYS,
    boot_grub,
    boot_uki,
    firmware,
    image,
    instead,
    load_options,
    log_of,
    make_event,
    secure_boot,
    variable,
    without,
)
from tests.simulated_keys import sha256
from tests.simulated_node import LIBC, SYSTEM_FILES, SimulatedNode, make_record
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from tests.verifier.test_case import exported
from verifier import Accepted, NodeVerdict, Reason, Rejected
from verifier.__main__ import main
from verifier.boot_policy import read_boot_policy
from verifier.case import BOOT_POLICY
from verifier.commands import NO, YES
from verifier.policy import BootPolicy

ROOT = "root on the node"
UNPROVEN = "a machine whose boot is not proven"
BOOT = "the boot"

attack = pytest.mark.attack(number=134, attacker=UNPROVEN, asset=BOOT, level="L1")
"""At `lab` nothing is said of the boot."""


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode(minimum="L1")


REACHED = "L2"
"""The processes of these nodes are alone in their unit."""


@pytest.fixture
def boot_policy(node: SimulatedNode) -> BootPolicy:
    """It accepts the node's boot, which tests change afterwards."""
    return read_boot_policy(node.boot_policy_toml())


@pytest.fixture
def verifier(node: SimulatedNode, boot_policy: BootPolicy) -> SimulatedVerifier:
    return SimulatedVerifier(node, boot_policies=[boot_policy])


def judge(node: SimulatedNode, verifier: SimulatedVerifier) -> NodeVerdict:
    """Judge a process on a node whose kernel was seen measuring for it."""
    process = node.new_process()
    verifier.has_seen(process.place)
    return verifier.judge(node.evidence(verifier.challenge(), new=[process]))


def why(node: SimulatedNode, verifier: SimulatedVerifier) -> set[Reason]:
    """Return why the node is refused."""
    return verifier.refusal(node.evidence(verifier.challenge()))


def show(node: SimulatedNode, *events: Event) -> None:
    """Let the node send another log than its firmware wrote."""
    node.boot_log = log_of(events).encode()


def test_a_boot_that_a_policy_knows_has_a_level(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    verdict = judge(node, verifier)
    assert verdict.boot_policy == "as-booted"
    assert [one.level for one in accepted(verdict)] == [REACHED]
    again = judge(node, verifier)
    assert not again.starts_over
    assert [one.level for one in accepted(again)] == [REACHED]


@pytest.mark.attack(number=134, attacker=UNPROVEN, asset="a level above lab")
def test_134_no_level_without_a_boot_policy_that_counts(
    node: SimulatedNode, boot_policy: BootPolicy
) -> None:
    """None at all, or one for other nodes: the log is good, and nobody has asked."""
    for policies in ((), (replace(boot_policy, nodes=("build-8",)),)):
        verifier = SimulatedVerifier(node, boot_policies=policies)
        process = only(judge(node, verifier).processes)
        assert reasons(process) == {Reason.PROCESS_LEVEL}
        node.minimum = "lab"
        verifier = SimulatedVerifier(node, boot_policies=policies)
        process = only(judge(node, verifier).processes)
        assert isinstance(process, Accepted)
        assert process.level == "lab"
        node.minimum = "L1"


def test_one_of_several_policies_is_enough(node: SimulatedNode, boot_policy: BootPolicy) -> None:
    grub = replace(boot_policy, name="another", registers={})
    verifier = SimulatedVerifier(node, boot_policies=[grub, boot_policy])
    assert judge(node, verifier).boot_policy == boot_policy.name
    node.reboot(boot_uki("init=/bin/sh"))
    # The refusal is the one of the policy that comes nearest.
    assert why(node, verifier) == {Reason.BOOT_COMMAND_LINE, Reason.BOOT_IMAGE}


def test_a_boot_by_grub() -> None:
    node = SimulatedNode(minimum="L1")
    node.reboot(boot_grub())
    policy = read_boot_policy(node.boot_policy_toml())
    verifier = SimulatedVerifier(node, boot_policies=[policy])
    assert [one.level for one in accepted(judge(node, verifier))] == [REACHED]
    node.reboot(boot_grub("/vmlinuz root=/dev/vda ro"))
    assert Reason.BOOT_COMMAND_LINE in why(node, verifier)


# Another boot: the log is what the firmware wrote


def keys(**changes: bytes) -> list[Event]:
    return [*firmware(keys={**KEYS, **changes}), *boot_uki()[len(firmware()) :]]


BOOTS = [
    pytest.param(
        boot_uki(f"{COMMAND_LINE} init=/bin/sh"),
        {Reason.BOOT_COMMAND_LINE, Reason.BOOT_IMAGE},
        id="changed command line",
    ),
    pytest.param(
        instead(boot_uki(), load_options(COMMAND_LINE), load_options("ima=off")),
        {Reason.BOOT_COMMAND_LINE},
        id="command line from elsewhere",
    ),
    pytest.param([*boot_uki(), image(b"MZ odd")], {Reason.BOOT_IMAGE}, id="unknown image"),
    pytest.param(
        instead(boot_uki(), secure_boot(), secure_boot(b"\0")),
        {Reason.BOOT_SECURE_BOOT},
        id="Secure Boot off",
    ),
    pytest.param(keys(db=b"db and one more"), {Reason.BOOT_VARIABLE}, id="db changed"),
    pytest.param(keys(dbx=b"dbx of 2020"), {Reason.BOOT_VARIABLE}, id="dbx older"),
    pytest.param(
        [*boot_uki(), variable("db", b"another", is_authority=True)],
        {Reason.BOOT_AUTHORITY},
        id="unknown authority",
    ),
    pytest.param(
        [make_event(0, IPL, b"an implant"), *boot_uki()],
        {Reason.BOOT_FIRMWARE},
        id="other firmware",
    ),
    pytest.param(
        [*boot_uki(), make_event(14, IPL, b"MokList\0", of=b"a key of its own")],
        {Reason.BOOT_EVENT},
        id="a key of the machine's owner",
    ),
    pytest.param(
        without(boot_uki(), boot_uki()[-1]), {Reason.BOOT_EXIT}, id="boot services not left"
    ),
    pytest.param(
        without(boot_uki(), make_event(3, SEPARATOR, bytes(4))),
        {Reason.BOOT_SEPARATOR},
        id="firmware did not come to its end",
    ),
    pytest.param(
        [make_event(0, NO_ACTION, b"StartupLocality\0\3"), *boot_uki()],
        {Reason.BOOT_LOG_REPLAY},
        id="a start that the TPM does not show",
    ),
]


@attack
@pytest.mark.parametrize(("boot", "expected"), BOOTS)
def test_134_a_boot_that_no_policy_knows(
    node: SimulatedNode, verifier: SimulatedVerifier, boot: list[Event], expected: set[Reason]
) -> None:
    judge(node, verifier)
    node.reboot(boot)
    assert why(node, verifier) == expected


@attack
def test_134_a_command_line_that_a_boot_loader_added(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """systemd-stub measures it into register 12, which the measurement list does not explain."""
    override = make_event(12, IPL, "init=/bin/sh\0".encode("utf-16-le"))
    node.reboot([*boot_uki(), override])
    assert why(node, verifier) == {Reason.LIST_REPLAY}


# Another log than that of the boot


def relabelled(register: int) -> list[Event]:
    return [replace(one, register=register) if one.register == 9 else one for one in boot_uki()]


LOGS = [
    pytest.param(boot_uki()[1:], id="event removed at the front"),
    pytest.param(without(boot_uki(), image(b"MZ a kernel", "")), id="event removed"),
    pytest.param([*boot_uki(), load_options(COMMAND_LINE)], id="known event added"),
    pytest.param([*reversed(boot_uki())], id="other order"),
    pytest.param(relabelled(8), id="events of another register"),
    pytest.param(
        [replace(one, type=NO_ACTION) if one == secure_boot() else one for one in boot_uki()],
        id="event as one that extends nothing",
    ),
    pytest.param(boot_grub(), id="log of another machine"),
]


@attack
@pytest.mark.parametrize("events", LOGS)
def test_134_a_log_that_is_not_of_this_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, events: list[Event]
) -> None:
    show(node, *events)
    assert why(node, verifier) == {Reason.BOOT_LOG_REPLAY}


@attack
def test_134_the_log_of_the_last_good_boot(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    judge(node, verifier)
    good = node.boot_log
    node.reboot(boot_uki("init=/bin/sh"))
    node.boot_log = good
    assert why(node, verifier) == {Reason.BOOT_LOG_REPLAY}


@attack
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda one: replace(one, type=IPL), id="another type"),
        pytest.param(lambda one: replace(one, type=EFI_BOOT_SERVICES_APPLICATION), id="an image"),
        pytest.param(lambda one: replace(one, data=image(b"MZ").data), id="the data of a good one"),
        pytest.param(lambda one: replace(one, type=IPL, data=b"kernel_cmdline: ro\0"), id="words"),
    ],
)
def test_134_an_unknown_event_that_says_it_is_another(
    node: SimulatedNode, verifier: SimulatedVerifier, change: Callable[[Event], Event]
) -> None:
    odd = image(b"MZ odd")
    node.reboot([*boot_uki(), odd])
    show(node, *boot_uki(), change(odd))
    assert why(node, verifier) <= {
        Reason.BOOT_IMAGE, Reason.BOOT_EVENT, Reason.BOOT_COMMAND_LINE, Reason.EVENT_LOG_DIGEST,
    }  # fmt: skip


@attack
def test_134_data_that_say_secure_boot_was_on(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    off = secure_boot(b"\0")
    boot = instead(boot_uki(), secure_boot(), off)
    node.reboot(boot)
    show(node, *instead(boot, off, replace(off, data=secure_boot().data)))
    assert why(node, verifier) == {Reason.EVENT_LOG_DIGEST}
    show(node, *instead(boot, off, replace(off, data=secure_boot().data, type=IPL)))
    assert why(node, verifier) == {Reason.BOOT_SECURE_BOOT}


@attack
def test_134_a_known_event_under_another_label_is_still_known(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    kernel = image(b"MZ a kernel", "")
    show(node, *instead(boot_uki(), kernel, replace(kernel, type=IPL, data=b"anything")))
    assert [one.level for one in accepted(judge(node, verifier))] == [REACHED]


def _nothing_measured() -> bytes:
    """Return what go-attestation's `short_no_action` is like."""
    return log_of([make_event(0, NO_ACTION, b"StartupLocality\0\0")]).encode()


@attack
@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(b"", Reason.BOOT_LOG_MISSING, id="none"),
        pytest.param(b"\0", Reason.BOOT_LOG_FORMAT, id="no log"),
        pytest.param(log_of(boot_uki()).encode()[:-1], Reason.BOOT_LOG_FORMAT, id="cut short"),
        pytest.param(_nothing_measured(), Reason.EVENT_LOG_EMPTY, id="nothing measured"),
        pytest.param(
            log_of(boot_uki(), register=1).encode(), Reason.BOOT_LOG_KIND, id="not of a TPM"
        ),
        pytest.param(bytes(MOST_LOG_BYTES + 1), Reason.BOOT_LOG_SIZE, id="too large"),
    ],
)
def test_134_no_log_at_all(
    node: SimulatedNode, verifier: SimulatedVerifier, log: bytes, expected: Reason
) -> None:
    node.boot_log = log
    assert why(node, verifier) == {expected}


@attack
def test_134_a_log_of_sha1_only(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    events = tuple(replace(one, digests=one.digests[:1]) for one in boot_uki())
    node.boot_log = replace(log_of(events), spec=None).encode()
    assert why(node, verifier) == {Reason.BOOT_LOG_BANK}


@attack
def test_134_a_log_that_nobody_has_asked_for(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    challenge = verifier.challenge(wants_boot_log=False)
    unasked = node.unsigned_evidence(challenge, boot_log=node.boot_log)
    assert verifier.refusal(unasked) == {Reason.BOOT_LOG_MISSING}


# Registers that no log explains


@pytest.mark.attack(number=134, attacker=ROOT, asset=BOOT, level="L1")
@pytest.mark.parametrize("register", [8, 11, 14])
def test_134_a_register_that_has_no_events(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    """Something has extended it, and the log does not say what; later, or in the boot."""
    judge(node, verifier)
    node.tpm.extend(register, sha256(b"odd"))
    expected = Reason.BOOT_AGGREGATE if register < 10 else Reason.BOOT_LOG_REPLAY
    assert why(node, verifier) == {expected}
    boot = node.boot
    node.reboot([*boot_uki(), make_event(register, IPL, b"odd")])
    show(node, *boot)
    assert why(node, verifier) == {Reason.BOOT_LOG_REPLAY}


PHASES = ("enter-initrd", "leave-initrd", "sysinit")


@attack
def test_134_phases_in_another_order(node: SimulatedNode, boot_policy: BootPolicy) -> None:
    """systemd-pcrphase's words are in no log: the policy says which may come, in which order."""
    told = replace(boot_policy, phases=PHASES)
    verifier = SimulatedVerifier(node, boot_policies=[told])
    for phase in PHASES:
        assert judge(node, verifier).boot_policy
        node.tpm.extend(11, sha256(phase.encode()))
    assert judge(node, verifier).boot_policy
    node.tpm.extend(11, sha256(b"ready"))
    assert why(node, verifier) == {Reason.BOOT_LOG_REPLAY}
    node.reboot()
    for phase in reversed(PHASES):
        node.tpm.extend(11, sha256(phase.encode()))
    assert why(node, verifier) == {Reason.BOOT_LOG_REPLAY}


# What is stored


@pytest.mark.attack(number=134, attacker="whoever writes to the database", asset=BOOT, level="L1")
def test_134_the_stored_log_is_not_the_one_that_was_judged(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    judge(node, verifier)
    verifier.boot_log = b""
    assert why(node, verifier) == {Reason.BOOT_LOG_STORED}


@attack
def test_134_a_newer_policy_judges_the_stored_log(
    node: SimulatedNode, boot_policy: BootPolicy
) -> None:
    """A policy put, changed or withdrawn counts with the next evidence, without a reboot."""
    verifier = SimulatedVerifier(node)
    verifier.judge(node.evidence(verifier.challenge()))
    verifier.policy = node.policy(version=2, boot_policies=[boot_policy])
    verdict = judge(node, verifier)
    assert not verdict.starts_over
    assert [one.level for one in accepted(verdict)] == [REACHED]
    narrower = replace(boot_policy, command_lines=("ro",))
    verifier.policy = node.policy(version=3, boot_policies=[narrower])
    assert why(node, verifier) == {Reason.BOOT_COMMAND_LINE}
    verifier.policy = node.policy(version=4)
    assert reasons(only(judge(node, verifier).processes)) == {Reason.PROCESS_LEVEL}


# The whole verifier


@pytest.fixture
def running(tmp_path: Path, node: SimulatedNode) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path)
    running.trust(node)
    running.operators.put(BOOT_POLICY, node.boot_policy_toml())
    yield running
    running.close()


@pytest.fixture
def player(running: RunningVerifier, node: SimulatedNode) -> Player:
    player = Player(node, running.service)
    player.enrol()
    player.attest()
    return player


def test_the_credential_says_the_level(
    running: RunningVerifier, node: SimulatedNode, player: Player
) -> None:
    process = node.new_process()
    player.attest([process])
    assert player.claims(process).procseal.level == REACHED
    # The log was sent once. Another process of the same boot, another start of the verifier.
    running.restart()
    player.turn_to(running)
    other = node.new_process()
    player.attest([other])
    assert player.claims(other).procseal.level == REACHED
    row = [one for one in running.ledger() if one.kind == "evidence.accepted"][-1]
    assert row.body["boot_policy"] == "as-booted"


def run_early(node: SimulatedNode, contents: bytes, *, register: int = 10) -> None:
    """Let the initramfs run a program before it loads the kernel policy."""
    early = make_record("/init", sha256(contents), register=register)
    node.relist([*node.records[:2], early, *node.records[2:]])


def test_045_a_known_boot_may_run_known_programs_before_the_kernel_policy(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """As kernels from 6.15 on show it."""
    run_early(node, SYSTEM_FILES[LIBC])
    assert judge(node, verifier).boot_policy == "as-booted"


@pytest.mark.attack(number=45, attacker=ROOT, asset=BOOT, level="L1")
def test_045_a_known_boot_that_ran_something_unknown_before_the_kernel_policy(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    run_early(node, b"unknown")
    assert why(node, verifier) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=45, attacker=ROOT, asset=BOOT, level="L1")
@pytest.mark.parametrize("register", [12, 13])
def test_045_a_known_boot_whose_list_was_begun_under_another_kernel_policy(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    run_early(node, SYSTEM_FILES[LIBC], register=register)
    assert why(node, verifier) == {Reason.KERNEL_POLICY_LATE}


@attack
def test_134_credentials_end_with_the_boot_policy(
    running: RunningVerifier, node: SimulatedNode, player: Player
) -> None:
    process = node.new_process()
    player.attest([process])
    assert [*running.statuses().values()] == ["valid"]
    narrower = node.boot_policy_toml(command_lines=("ro",))
    running.operators.put(BOOT_POLICY, narrower)
    with pytest.raises(Rejected) as rejection:
        player.attest()
    assert {one.reason for one in rejection.value.findings} == {Reason.BOOT_COMMAND_LINE}
    assert [*running.statuses().values()] == ["boot-policy.changed"]
    # It is refused until it is as the policy says: then the log is sent, and judged, anew.
    running.operators.put(BOOT_POLICY, node.boot_policy_toml())
    player.processes = []
    process = node.new_process()
    player.attest([process])
    assert player.claims(process).procseal.level == REACHED


@attack
def test_134_decisions_on_a_stored_log_are_made_again_offline(
    running: RunningVerifier,
    node: SimulatedNode,
    player: Player,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    player.attest([node.new_process()])
    player.attest()
    running.operators.put(BOOT_POLICY, node.boot_policy_toml(command_lines=("ro",)))
    with pytest.raises(Rejected):
        player.attest()
    rows = [one.seq for one in running.ledger() if one.kind.startswith("evidence.")]
    statuses = []
    for seq in rows:
        path = tmp_path / f"{seq}.case"
        path.write_bytes(exported(running, seq))
        statuses.append(main(["appraise", str(path), "--quiet"]))
        assert main(["explain", str(path)]) == statuses[-1]
    assert statuses == [YES, YES, YES, NO]
    told = capsys.readouterr().out
    assert "as the boot policy as-booted says" in told
    assert Reason.BOOT_COMMAND_LINE in told
