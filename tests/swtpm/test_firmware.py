"""A boot through firmware: everything of it is measured, and only what the owner signed boots."""

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pefile
import pytest
from virt.peutils.pesign import pe_authenticode_hash

from evidence.event_log import EventLog
from swtpm import Failed, Firmware, VirtualMachine, uki
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
FIRMWARE_REGISTERS = range(10)
STUB_REGISTER = 11


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


def test_nothing_of_the_boot_is_in_the_registers_of_the_list(log: EventLog) -> None:
    """The kernel policy has 10, 12 and 13 for itself; the stub would use 12 and 13 for files
    that lie beside the image, and for a command line that is not in it."""
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
    image = uki.make(kernel, COMMAND_LINE, Firmware.at()) / uki.DEFAULT_FILE
    assert sha256(log, 4, APPLICATION) == [pe_authenticode_hash(pefile.PE(image)).hex()]
    told = (COMMAND_LINE + "\0").encode("utf-16-le")
    assert sha256(log, 9, TAG) == [digest(told), digest(parts[".initrd"])]


def test_another_command_line_is_another_boot(
    vm_measured: VirtualMachine,
    log: EventLog,
    boot_vm_measured: Callable[..., VirtualMachine],
) -> None:
    append = "module.sig_enforce=1"
    with boot_vm_measured(append=append) as machine:
        other, held = read_log(machine), registers(machine)
        assert machine.get("/proc/cmdline").decode() == f"{COMMAND_LINE} {append}\n"
    before = registers(vm_measured)
    changed = {one for one in (*FIRMWARE_REGISTERS, STUB_REGISTER) if held[one] != before[one]}
    assert changed == {4, 9, STUB_REGISTER}
    for register, kind, number in (
        (4, APPLICATION, 1),
        (9, TAG, 1),
        (STUB_REGISTER, IPL, 1),
    ):
        pairs = zip(sha256(log, register, kind), sha256(other, register, kind), strict=True)
        assert sum(one != two for one, two in pairs) == number
    assert digest(f"{COMMAND_LINE} {append}".encode()) in sha256(other, STUB_REGISTER, IPL)


def test_a_file_beside_the_image_is_in_register_12(
    boot_vm_measured: Callable[..., VirtualMachine], tmp_path: Path
) -> None:
    """Nobody signs such a file; whoever can write to the partition puts it there. The list of
    the kernel policy's register 12 then does not replay, and the node is refused."""
    image = uki.make(Kernel.at("6.1"), COMMAND_LINE, Firmware.at())
    shutil.copytree(image, tmp_path, dirs_exist_ok=True)
    (tmp_path / "loader/credentials").mkdir(parents=True)
    (tmp_path / "loader/credentials/planted.cred").write_bytes(b"anything")
    with boot_vm_measured("6.1", partition=tmp_path) as machine:
        judged, held = judge_event_log(read_log(machine)), registers(machine)
    assert judged.refusals == ()
    assert judged.secure_boot is True
    which = (*FIRMWARE_REGISTERS, STUB_REGISTER, 12, 13, 14)
    assert replayed(judged, which) == {one: held[one] for one in which}
    assert held[12] != bytes(32).hex()


def plant_unsigned(target: Path) -> None:
    uki.assemble(Kernel.at("6.12"), COMMAND_LINE, target)


def plant_changed(target: Path) -> None:
    signed = uki.make(Kernel.at("6.12"), COMMAND_LINE, Firmware.at()) / uki.DEFAULT_FILE
    words = COMMAND_LINE.encode()
    assert signed.read_bytes().count(words) == 1
    target.write_bytes(signed.read_bytes().replace(words, words.replace(b"tcb", b"TCB")))


def plant_of_another_owner(target: Path) -> None:
    stranger = Firmware.at(target.parent / "keys")
    target.write_bytes(
        (uki.make(Kernel.at("6.12"), COMMAND_LINE, stranger) / uki.DEFAULT_FILE).read_bytes()
    )


@pytest.mark.parametrize(
    "plant",
    [
        pytest.param(plant_unsigned, id="without a signature"),
        pytest.param(plant_changed, id="changed after it was signed"),
        pytest.param(plant_of_another_owner, id="signed by somebody else"),
    ],
)
def test_only_what_the_owner_signed_boots(
    boot_vm_measured: Callable[..., VirtualMachine],
    tmp_path: Path,
    plant: Callable[[Path], None],
) -> None:
    image = tmp_path / uki.DEFAULT_FILE
    image.parent.mkdir(parents=True)
    plant(image)
    with pytest.raises(Failed, match=r"failed to load .* Access Denied"):
        boot_vm_measured(partition=tmp_path)
