"""Attacks by root on the node of a live process: most end its trust until it reboots.

They are the last in their machine, and the very last ones boot it otherwise than it should be.
"""

import shlex

import pytest

from swtpm.kernels import NAMES, Kernel
from tests.attacks.machine import (
    AUDIENCE,
    BINDING_MODES,
    ID,
    PATH,
    SECOND_UUID,
    SOCKET,
    UID,
    WORKLOAD,
    Machine,
    sha256,
    until_refused,
    workload,
)
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(400)]

ROOT = "root on the node"
IDENTITY = "the identity"
CREDENTIAL = "the credential"

KNOWN_LIBRARY = "/usr/lib/x86_64-linux-gnu/libz.so.1"
"""Known, and not allowed for the workload."""
KNOWN_MODULE, UNKNOWN_MODULE = "nlmon", "ts_bm"
FINIT_MODULE = 313
"""Its number on x86-64."""
SIGNATURE_END = b"~Module signature appended~\n"
SIGNATURE_INFO_BYTES = 12
"""Before that: struct module_signature, the signature's length its last 4 bytes, big endian
(Linux include/linux/module_signature.h)."""


def unsigned(machine: Machine, name: str) -> bytes:
    """Return a module of this kernel's without its signature."""
    [(_, module)] = Kernel.at(machine.kernel).modules(name)
    bare, found, _ = module.partition(SIGNATURE_END)
    assert found
    length = int.from_bytes(bare[-4:], "big")
    return bare[: -SIGNATURE_INFO_BYTES - length]


def is_loaded(machine: Machine, module: str) -> bool:
    """Load an unsigned module as root; say whether the kernel has it: not under Secure Boot.

    Where that is refused, insmod hands over the bytes instead of the file (init_module), which
    newer kernels (6.12.118, 6.18.15) measure as critical data that no set knows; so not here.
    """
    load = (
        "import ctypes, os, sys\n"
        f"sys.exit(ctypes.CDLL(None).syscall({FINIT_MODULE}, os.open({module!r}, 0), b'', 0) != 0)"
    )
    done = machine.world.machine.run(f"python3 -c {shlex.quote(load)}")
    assert (done.code == 0) is not machine.is_measured, done.output
    return not machine.is_measured


@pytest.mark.attack(number=86, attacker=ROOT, asset=IDENTITY, bindings=BINDING_MODES)
def test_086_a_module_that_nobody_signed(machine: Machine) -> None:
    """Known, or the node would be refused. The kernel says ever after that it is tainted."""
    module = unsigned(machine, KNOWN_MODULE)
    known = ReferenceSet(name="unsigned", files={f"{KNOWN_MODULE}.ko": (sha256(module),)})
    machine.put_documents("reference", encode_reference(known))
    id_ = f"{ID}-untainted"
    line = 'minimum = "lab"'
    text = WORKLOAD.replace(f'"{ID}"', f'"{id_}"')
    machine.put_documents("workload", text.replace(line, f'{line}\nposture = ["untainted"]'))
    with machine.puppet() as puppet:
        puppet.obtain_granted(id_)
        machine.put(f"/tmp/{KNOWN_MODULE}.ko", module)
        if is_loaded(machine, f"/tmp/{KNOWN_MODULE}.ko"):
            until_refused(lambda: puppet.prove(AUDIENCE), "process.posture-not-as-demanded")
        else:
            assert puppet.is_proven()
    with machine.puppet() as puppet:
        puppet.obtain_granted()


# These three end the node's trust until it reboots.


@pytest.mark.attack(number=60, attacker=ROOT, asset=CREDENTIAL, bindings=BINDING_MODES)
def test_060_a_library_that_is_overwritten_where_it_is(machine: Machine) -> None:
    """The text is the file's, and the file is another: the look hashes it, and IMA notices too."""
    library = "/usr/lib/overwritten.so"
    content = machine.world.machine.get(KNOWN_LIBRARY)
    machine.put(library, content)
    attached, launched = (machine.puppet(binding=binding) for binding in BINDING_MODES)
    with machine.puppet() as other, attached, launched:
        other.do(f"load {library}")
        assert other.why() == ["process.mapped-file-not-allowed"]
        attached.obtain_granted()
        launched.obtain_granted()
        machine.run(f"printf X | dd of={library} bs=1 seek=64 conv=notrunc 2>/dev/null")
        until_refused(lambda: attached.prove(AUDIENCE), "ima-list.violation")
        until_refused(lambda: launched.prove(AUDIENCE), "ima-list.violation")


@pytest.mark.attack(number=77, attacker=ROOT, asset=CREDENTIAL, bindings=BINDING_MODES)
def test_077_an_unknown_program_for_a_while(machine: Machine) -> None:
    """B is in the list for good, whatever is at its path now."""
    path = "/usr/bin/flip"
    machine.put(path, machine.programs.puppet + b"unknown")
    with machine.puppet(path):
        pass
    machine.put(path, machine.programs.puppet)
    with machine.puppet(path) as puppet:
        until_refused(lambda: puppet.obtain(SOCKET, ID), "ima-list.entry-unknown")


@pytest.mark.attack(number=86, attacker=ROOT, asset="the node", bindings=BINDING_MODES)
def test_086_a_module_that_nobody_knows(machine: Machine) -> None:
    name = f"/tmp/{UNKNOWN_MODULE}.ko"
    machine.put(name, unsigned(machine, UNKNOWN_MODULE))
    is_loaded(machine, name)  # it is measured before it is refused

    def is_told() -> bool:
        rows = machine.world.operator("ledger", "tail", "-n", "20")
        told = [one for row in rows for one in row["body"].get("findings", ())]
        return any(
            one["reason"] == "ima-list.entry-unknown" and one["what"].startswith(name)
            for one in told
        )

    machine.world.wait_for(is_told, "the module to be refused")


# It reboots, and boots otherwise than it should: these are the last.

UNWATCHED_ID = "spiffe://example.org/unwatched"


def disarmed(rule: str) -> str:
    """Return what whoever boots the node tells the kernel, so that a rule comes before all others.

    The accepted kernel policy is read, so it is in the list, and another is in force.
    """
    return (
        'rdinit=/busybox -- sh -c "'
        "/busybox sed 's|^/busybox echo .*|/busybox cat $policy >/read;"
        f" {{ echo {rule}; /busybox cat $policy; }} >/sys/kernel/security/ima/policy|'"
        ' /init >/disarmed; exec /busybox sh /disarmed"'
    )


def demand_refusal_of_what_is_watched(machine: Machine, path: str) -> None:
    """Everything else holds: without the canary the process has its credential."""
    machine.put_documents("workload", workload(UNWATCHED_ID, PATH, needs_canary=False))
    machine.run(f"{PATH} </dev/null >/dev/null || true")  # by root: so it is in the list
    with machine.puppet(path) as puppet:
        puppet.obtain_granted(UNWATCHED_ID)
        with machine.puppet(path) as watched:
            assert watched.why() == ["kernel-policy.canary-missing"]
        assert puppet.why_no_proof() == ["kernel-policy.canary-missing"]
    assert not machine.is_accepted()


@pytest.fixture
def misled(machine: Machine) -> Machine:
    if machine.kernel not in NAMES:
        pytest.skip("its boot is judged, and this command line is refused before all else")
    return machine


@pytest.mark.attack(number=46, attacker=ROOT, asset=IDENTITY, bindings=BINDING_MODES)
def test_046_a_kernel_policy_that_was_replaced(misled: Machine) -> None:
    """It measures nothing of what the workload's uid does."""
    misled.reboot(disarmed(f"dont_measure uid={UID}"))
    demand_refusal_of_what_is_watched(misled, PATH)


@pytest.mark.attack(number=46, attacker=ROOT, asset=IDENTITY, bindings=BINDING_MODES)
def test_046_a_kernel_policy_that_leaves_a_file_system_out(misled: Machine) -> None:
    """What the same uid does on the first file system is measured, and shown."""
    misled.reboot(disarmed(f"dont_measure fsuuid={SECOND_UUID}"))
    with misled.puppet() as first:
        first.obtain_granted()
    with misled.second_disk() as path:
        demand_refusal_of_what_is_watched(misled, path)
