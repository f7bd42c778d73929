"""A boot through firmware: everything of it is measured, and only what the owner signed boots."""

import hashlib
from collections.abc import Iterable

import pytest

from evidence.event_log import EventLog
from swtpm import VirtualMachine, uki
from swtpm.capture import FILES, registers
from swtpm.emulator import COMMAND_LINE
from swtpm.kernels import Kernel
from verifier.event_log import JudgedLog, judge_event_log

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

APPLICATION = 0x8000_0003
"""EV_EFI_BOOT_SERVICES_APPLICATION."""
IPL = 0xD
"""EV_IPL, with which systemd's stub tells of sections."""
TAG = 0x6
"""EV_EVENT_TAG, with which the kernel's stub tells of what it was given."""
AUTHORITY = 0x8000_00E0
"""EV_EFI_VARIABLE_AUTHORITY: the key that let an image boot."""
FIRMWARE_REGISTERS = range(10)
STUB_REGISTER = 11
UNUSED = bytes(32).hex()


@pytest.fixture(scope="module")
def log(vm_measured: VirtualMachine) -> EventLog:
    return read_log(vm_measured)


def read_log(machine: VirtualMachine) -> EventLog:
    return EventLog.decode(machine.get(FILES["eventlog.bin"]))


def sha256(log: EventLog, register: int, kind: int) -> list[str]:
    """Return the digests of one type of events in one register."""
    return [
        dict(one.digests)[0xB].hex()
        for one in log.events
        if (one.register, one.type) == (register, kind)
    ]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def replayed(judged: JudgedLog, which: Iterable[int]) -> dict[int, str]:
    values = judged.registers["sha256"]
    return {one: values.get(one, bytes(32)).hex() for one in which}


def test_the_log_leads_to_the_registers(vm_measured: VirtualMachine, log: EventLog) -> None:
    judged = judge_event_log(log)
    assert judged.refusals == ()
    which = (*FIRMWARE_REGISTERS, STUB_REGISTER, 14)
    held = registers(vm_measured)
    assert replayed(judged, which) == {one: held[one] for one in which}
    assert all(held[one] != UNUSED for one in (*range(8), 9, STUB_REGISTER))
    assert {one.register for one in log.events if one.is_measured} == {*range(8), 9, STUB_REGISTER}


def test_secure_boot_is_on(vm_measured: VirtualMachine, log: EventLog) -> None:
    assert judge_event_log(log).secure_boot is True
    assert "secureboot: Secure boot enabled" in vm_measured.run("dmesg").output


def test_kernel_initramfs_and_command_line_are_in_the_log(log: EventLog) -> None:
    kernel = Kernel.at("6.12")
    parts = {
        ".linux": kernel.image.read_bytes(),
        ".osrel": uki.RELEASE.encode(),
        ".cmdline": COMMAND_LINE.encode(),
        ".initrd": kernel.initramfs.read_bytes(),
    }
    expected = []
    for name, content in parts.items():
        expected += [digest(name.encode() + b"\0"), digest(content)]
    assert sha256(log, STUB_REGISTER, IPL) == expected
    told = (COMMAND_LINE + "\0").encode("utf-16-le")
    assert sha256(log, 9, TAG) == [digest(told), digest(parts[".initrd"])]
