"""Level L4 on a real kernel: the disk is read through dm-verity, and SELinux keeps everybody from
the TPM but the attestor (swtpm/sealed.py). Booted through firmware, like the levels below it.
"""

import shlex

import pytest

from evidence.critical_data import SELINUX_EVENTS, SELINUX_POLICY, SELINUX_STATE
from tests.attacks.machine import (
    CLOSED,
    ID,
    PATH,
    UNIT,
    WORKLOAD,
    Machine,
    MachineLaunched,
    critical_data,
    sha256,
)

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(900)]

ROOT = "root on the node"
IDENTITY = "the identity"

SEALED_ID = f"{ID}-sealed"
CONFIGURATION = "/home/puppet.conf"
CONTENT = b"limit = 1\n"
VARIABLE = 'LANG = "C.UTF-8"'
WORDS = ("--env LANG=C.UTF-8", f"--file {CONFIGURATION}")


@pytest.fixture
def sealed_id(sealed_machine: Machine) -> str:
    """A workload of level L4, and its file in the machine."""
    configure(sealed_machine)
    file = f'{{ path = "{CONFIGURATION}", digest = "sha256:{sha256(CONTENT).hex()}" }}'
    launch = f'launch = {{ argv = ["{PATH}"], env = {{ {VARIABLE} }}, files = [{file}] }}'
    changes = {
        f'"{ID}"': f'"{SEALED_ID}"',
        f'unit = "{UNIT}"': launch,
        "canary = true": "canary = false",
        'minimum = "lab"': 'minimum = "L4"',
    }
    text = WORKLOAD
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    sealed_machine.put_documents("workload", text)
    return SEALED_ID


def configure(machine: Machine) -> None:
    machine.world.machine.put(CONFIGURATION, CONTENT, owner="root", mode=0o644)


def launched(machine: Machine) -> MachineLaunched:
    return MachineLaunched(machine.world, *WORDS)


def is_sealed(machine: Machine) -> bool:
    """Say whether a process that starts now reaches the highest level, and is proven."""
    with launched(machine) as puppet:
        return puppet.obtain_granted(SEALED_ID).level == "L4" and puppet.is_proven()


def test_a_process_that_nothing_can_be_slipped_to(sealed_machine: Machine, sealed_id: str) -> None:
    with launched(sealed_machine) as puppet:
        assert puppet.obtain_granted(sealed_id).level == "L4"
        assert puppet.is_proven()


OPEN_TPM = "import os, sys; os.open(sys.argv[1], os.O_RDWR)"


@pytest.mark.usefixtures("sealed_id")
@pytest.mark.attack(number=18, attacker=ROOT, asset="the measurement list")
def test_018_root_extends_no_register(sealed_machine: Machine) -> None:
    """With a known interpreter, by any way to the device that root has elsewhere."""
    run = sealed_machine.world.machine.run
    as_attestor = "setpriv --reuid=attestor --regid=attestor --clear-groups"
    for device in ("/dev/tpm0", "/dev/tpmrm0"):
        for prefix in ("", as_attestor):
            told = run(f"{prefix} python3 -c {shlex.quote(OPEN_TPM)} {device}").output
            assert "PermissionError: [Errno 13]" in told, told
    for command, told in {
        "mknod /tmp/tpm c 10 224": "Operation not permitted",
        "mknod /dev/tpm9 c 10 224": "Operation not permitted",
        "setfattr -n security.selinux -v system_u:object_r:attestor_exec_t /usr/bin/python3.11"
        " || chcon system_u:object_r:attestor_exec_t /usr/bin/python3.11": "",
        "echo system_u:process_r:attestor_t >/proc/self/attr/exec": "",
        "echo system_u:process_r:attestor_t >/proc/self/attr/current": "",
    }.items():
        answer = run(command)
        assert answer.code != 0, command
        assert told in answer.output
    assert is_sealed(sealed_machine)


@pytest.mark.usefixtures("sealed_id")
@pytest.mark.attack(number=46, attacker=ROOT, asset="the measurement list")
def test_046_nobody_relaxes_the_policy(sealed_machine: Machine) -> None:
    """Nor does an attempt leave a record."""
    run = sealed_machine.world.machine.run
    run("mountpoint -q /sys/fs/selinux || mount -t selinuxfs selinux /sys/fs/selinux").check()
    run("dd if=/sys/fs/selinux/policy of=/tmp/policy bs=1M").check()
    for command in (
        "echo 0 >/sys/fs/selinux/enforce",
        "dd if=/tmp/policy of=/sys/fs/selinux/load bs=1M",
        "mount -t ext4 /dev/vda /root",
        "mknod /dev/mapper-control c 10 236",
    ):
        assert run(command).code != 0, command
    assert run("cat /sys/fs/selinux/enforce").output.strip() == "1"
    for event in (SELINUX_STATE, SELINUX_POLICY):
        assert event.startswith(SELINUX_EVENTS)
        assert len(critical_data(sealed_machine.world, event)) == 1
    assert is_sealed(sealed_machine)


FIND_BLOCK = """
import fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_RDONLY)
(block,) = struct.unpack("i", fcntl.ioctl(file, 1, struct.pack("i", 0)))
disk = os.open("/dev/vda", os.O_WRONLY)
os.pwrite(disk, bytes([255]), block * 4096 + 4095)
os.fsync(disk)
"""
"""FIBMAP (linux/fs.h): where on the disk a file begins."""


@pytest.mark.usefixtures("sealed_id")
@pytest.mark.attack(number=73, attacker=ROOT, asset=IDENTITY)
def test_073_bytes_written_beneath_the_file_system_are_not_read(
    sealed_machine: Machine,
) -> None:
    """What was written stays on the disk until the next boot."""
    machine = sealed_machine
    assert is_sealed(machine)
    machine.run(f"python3 -c {shlex.quote(FIND_BLOCK)} {PATH}")
    machine.run("echo 3 >/proc/sys/vm/drop_caches")
    answer = machine.world.machine.run(f"cat {PATH} >/dev/null")
    assert answer.code != 0
    assert "Input/output error" in answer.output
    with pytest.raises(AssertionError):
        launched(machine)


@pytest.mark.usefixtures("sealed_id")
def test_what_was_read_from_one_boot_holds_for_the_next(sealed_machine: Machine) -> None:
    """The kernel says the same of its device and its policy again, to the byte."""
    sealed_machine.reboot(CLOSED)
    configure(sealed_machine)
    assert is_sealed(sealed_machine)
