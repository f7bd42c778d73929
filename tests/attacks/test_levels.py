"""Levels on real kernels: a machine booted through firmware, its kernel closed on its command line.

Linux 6.1 has no pidfds of peers, so that an attached process stays at L1 there.
"""

import pytest

from credential import local
from tests.attacks.machine import (
    ATTACHED_MODE,
    AUDIENCE,
    ID,
    LAUNCHED_MODE,
    PATH,
    SOCKET,
    UNIT,
    WORKLOAD,
    Machine,
    MachineLaunched,
    in_both_modes,
    sha256,
    until_refused,
)
from tests.attestor.puppets import packet, reasons

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(600)]

SIBLING = "a process of the same user"
ROOT = "root on the node"
IDENTITY = "the identity"
CREDENTIAL = "the credential"

PROVE = packet(local.Prove(audience=AUDIENCE, method="POST", url=f"{AUDIENCE}/post"))


def stricter(machine: Machine, name: str, *changes: tuple[str, str]) -> str:
    """Put another workload for the puppet, that demands more; return its id."""
    id_ = f"{ID}-{name}"
    text = WORKLOAD.replace(f'"{ID}"', f'"{id_}"')
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    machine.put_documents("workload", text)
    return id_


def attached_level(machine: Machine) -> str:
    """Return what an attached process reaches on this kernel."""
    return "L1" if machine.series == (6, 1) else "L2"


def minimum(level: str) -> tuple[str, str]:
    return 'minimum = "lab"', f'minimum = "{level}"'


def test_an_attached_process(closed_machine: Machine) -> None:
    with closed_machine.puppet() as puppet:
        assert puppet.obtain_granted().level == attached_level(closed_machine)


@pytest.mark.attack(number=134, attacker="a node with an old kernel", asset=IDENTITY)
def test_134_a_level_that_an_attached_process_does_not_reach(closed_machine: Machine) -> None:
    too_high = "L3" if attached_level(closed_machine) == "L2" else "L2"
    id_ = stricter(closed_machine, "high", minimum(too_high))
    with closed_machine.puppet() as puppet:
        answer = puppet.obtain(SOCKET, id_)
        assert reasons(answer) == ["process.level-below-minimum"]
        assert isinstance(answer, local.Refusal)
        wants = "launched" if too_high == "L3" else "peer_proof pidfd"
        assert wants in answer.findings[0].found


# Launched


CONFIGURATION = "/etc/puppet.conf"
CONTENT = b"limit = 1\n"
WORDS = ("--env LANG=C.UTF-8", f"--file {CONFIGURATION}")


@pytest.fixture(scope="module")
def warm(closed_machine: Machine) -> Machine:
    """The machine, whose lookers have hashed what `attestor run` maps: it takes long, and once."""
    closed_machine.run("attestor status >/dev/null 2>&1; true")
    return closed_machine


@pytest.fixture(scope="module")
def put_launched(warm: Machine) -> str:
    """A workload of level L3."""
    file = f'{{ path = "{CONFIGURATION}", digest = "sha256:{sha256(CONTENT).hex()}" }}'
    launch = f'launch = {{ argv = ["{PATH}"], env = {{ LANG = "C.UTF-8" }}, files = [{file}] }}'
    return stricter(warm, "launched", minimum("L3"), (f'unit = "{UNIT}"', launch))


@pytest.fixture
def launched_id(closed_machine: Machine, put_launched: str) -> str:
    """The workload, and its file in the machine."""
    closed_machine.world.machine.put(CONFIGURATION, CONTENT, owner="root", mode=0o644)
    return put_launched


def test_a_process_that_is_launched_as_its_workload_says(
    closed_machine: Machine, launched_id: str
) -> None:
    with MachineLaunched(closed_machine.world, *WORDS) as puppet:
        assert puppet.obtain_granted(launched_id).level == "L3"
        assert puppet.is_proven()


@pytest.mark.attack(number=125, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (WORDS[1:], "process.environment-not-the-workloads"),
        ((*WORDS, "--env X=1"), "process.environment-not-the-workloads"),
        (WORDS[:1], "process.configuration-not-the-workloads"),
        ((*WORDS, "--file /etc/passwd"), "process.configuration-not-the-workloads"),
    ],
)
def test_125_the_golden_program_launched_otherwise(
    closed_machine: Machine, launched_id: str, words: tuple[str, ...], reason: str
) -> None:
    with MachineLaunched(closed_machine.world, *words) as puppet:
        assert puppet.why(launched_id) == [reason]


@pytest.mark.attack(number=125, attacker=ROOT, asset=CREDENTIAL)
def test_125_a_file_of_its_configuration_that_is_replaced(
    closed_machine: Machine, launched_id: str
) -> None:
    with MachineLaunched(closed_machine.world, *WORDS) as puppet:
        puppet.obtain_granted(launched_id)
        put = closed_machine.world.machine.put
        put(CONFIGURATION, b"limit = 2\n", owner="root", mode=0o644)
        until_refused(lambda: puppet.prove(AUDIENCE), "process.configuration-not-the-workloads")


# What is done to it


@in_both_modes
@pytest.mark.attack(number=128, attacker=SIBLING, asset=CREDENTIAL)
@pytest.mark.parametrize("how", ["force", "poke-other", "write-text", "write-data"])
def test_128_nobody_gets_into_a_process(closed_machine: Machine, binding: str, how: str) -> None:
    """Whatever unit the sibling is in: the kernel lets no process into another."""
    with (
        closed_machine.puppet(binding=binding) as puppet,
        closed_machine.puppet(unit="other.service") as sibling,
    ):
        is_launched = binding == LAUNCHED_MODE
        expected = "L2" if is_launched else attached_level(closed_machine)
        assert puppet.obtain_granted().level == expected
        more = f" {PROVE}" if how == "force" else ""
        assert sibling.say(f"{how} {puppet.pid}{more}") in {
            "failed Operation not permitted",
            "failed Permission denied",
            "failed Bad file descriptor",
        }
        assert puppet.is_proven()


def test_not_even_root_reads_the_attestors_memory(closed_machine: Machine) -> None:
    """Where the instance key is, which signs all that it says."""
    told = closed_machine.run(
        "for one in $(grep -l '^Uid:.990.' /proc/[0-9]*/status | cut -d/ -f3);"
        " do dd if=/proc/$one/mem of=/dev/null bs=1 count=1 2>&1; done; true"
    )
    assert "Permission denied" in told
    assert "records in" not in told


@pytest.mark.attack(number=86, attacker=ROOT, asset=IDENTITY, bindings=[ATTACHED_MODE])
def test_086_how_the_kernel_is_set(closed_machine: Machine) -> None:
    words = ("secure-boot", "lockdown", "signed-modules", "no-ptrace", "untainted")
    demanded = ", ".join(f'"{word}"' for word in words)
    line = 'minimum = "lab"'
    good = stricter(closed_machine, "closed", (line, f"{line}\nposture = [{demanded}]"))
    more = stricter(closed_machine, "sealed", (line, f'{line}\nposture = ["no-more-modules"]'))
    kexec = stricter(closed_machine, "final", (line, f'{line}\nposture = ["no-kexec"]'))
    for id_, expected in ((good, ""), (more, "no-more-modules"), (kexec, "no-kexec")):
        with closed_machine.puppet() as puppet:
            answer = puppet.obtain(SOCKET, id_)
            if not expected:
                assert isinstance(answer, local.Credential), answer
                continue
            assert reasons(answer) == ["process.posture-not-as-demanded"]
            assert isinstance(answer, local.Refusal)
            assert answer.findings[0].what == expected
