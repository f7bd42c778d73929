"""Line by line, what the kernel policy sends to register 10, 12, 13 and nowhere.

Each scene runs in a real kernel with a file that no other scene touches; the measurement list
then says into which registers that file went.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from evidence.ima import Record, read_measurement, read_records
from swtpm import SoftwareTpm, VirtualMachine, kernel_policy
from swtpm.kernels import Kernel
from tests.switches import switched_on

pytestmark = pytest.mark.vm

KERNELS = ("6.12", "6.1")
LIST = "/sys/kernel/security/ima/binary_runtime_measurements"
POLICY = "/sys/kernel/security/ima/policy"

PRIVILEGED = frozenset({10})
USERS = frozenset({12})
READ = frozenset({13})
NOWHERE: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A new file, who does what with it, and where it must show."""

    file: str
    """Where the file is; the list names it so."""
    command: str
    """What is done, `$f` being the file."""
    registers: frozenset[int]
    kind: str = "/usr/bin/true"
    """What the file is a copy of; a line of its own behind it makes its digest its own."""
    owner: str = "root"
    user: str = "root"


LIBRARY = "$(readlink -f /usr/lib/x86_64-linux-gnu/libz.so.1)"

SCENES = {
    # measure func=BPRM_CHECK
    "root runs a system program": Scene(
        file="/usr/local/bin/one", command="$f", registers=PRIVILEGED
    ),
    "root runs a file that alice owns": Scene(
        file="/home/alice/two", command="$f", owner="alice", registers=PRIVILEGED
    ),
    "root runs a file in /tmp": Scene(file="/tmp/three", command="$f", registers=PRIVILEGED),
    "the attestor's uid runs a file that alice owns": Scene(
        file="/home/alice/four", command="$f", owner="alice", user="attestor", registers=PRIVILEGED
    ),
    "alice runs a file that root owns": Scene(
        file="/usr/local/bin/five", command="$f", user="alice", registers=PRIVILEGED
    ),
    "alice runs a program that is root's by setuid": Scene(
        file="/usr/local/bin/six", command="chmod 4755 $f; /usr/bin/setpriv --reuid=alice $f",
        registers=PRIVILEGED,
    ),
    "root runs a script": Scene(
        file="/usr/local/bin/seven", command="$f", kind="/run/script", registers=PRIVILEGED
    ),
    "root gives a script to an interpreter": Scene(
        file="/usr/local/bin/eight", command="sh $f", kind="/run/script", registers=NOWHERE
    ),
    # measure func=BPRM_CHECK euid>999 fowner>999 pcr=$users_pcr
    "alice runs her own file": Scene(
        file="/home/alice/nine", command="$f", owner="alice", user="alice", registers=USERS
    ),
    "alice runs another user's file": Scene(
        file="/home/payments/ten", command="$f", owner="payments", user="alice", registers=USERS
    ),
    "alice, root in a namespace of her own, runs her own file": Scene(
        file="/home/alice/root", command="unshare --map-root-user $f", owner="alice",
        user="alice", registers=USERS,
    ),
    # dont_measure func=MMAP_CHECK euid>999 fowner>999
    "alice maps her own library": Scene(
        file="/home/alice/eleven.so", command="LD_PRELOAD=$f /usr/bin/true", kind=LIBRARY,
        owner="alice", user="alice", registers=NOWHERE,
    ),
    # measure func=MMAP_CHECK mask=MAY_EXEC
    "alice maps a library that root owns": Scene(
        file="/usr/local/lib/twelve.so", command="LD_PRELOAD=$f /usr/bin/true", kind=LIBRARY,
        user="alice", registers=PRIVILEGED,
    ),
    "root maps a library that alice owns": Scene(
        file="/home/alice/thirteen.so", command="LD_PRELOAD=$f /usr/bin/true", kind=LIBRARY,
        owner="alice", registers=PRIVILEGED,
    ),
    # measure func=FILE_CHECK mask=^MAY_READ uid=$attestor_uid fowner=0 pcr=$read_pcr
    "the attestor's uid reads a file that root owns": Scene(
        file="/usr/local/lib/fourteen", command="cat $f", user="attestor", registers=READ
    ),
    "the attestor's uid reads its own file": Scene(
        file="/var/lib/procseal/fifteen", command="cat $f", owner="attestor", user="attestor",
        registers=NOWHERE,
    ),
    "root reads data": Scene(
        file="/usr/local/lib/sixteen", command="cat $f", registers=NOWHERE
    ),
    "alice reads a file that root owns": Scene(
        file="/usr/local/lib/seventeen", command="cat $f", user="alice", registers=NOWHERE
    ),
    "the hashing helper reads a file that root owns": Scene(
        file="/usr/local/lib/eighteen", command="cat $f", user="procseal-hash", registers=NOWHERE
    ),
    # dont_measure func=FILE_CHECK fsmagic=0x01021994 (tmpfs): reads only
    "the attestor's uid reads a file in memory": Scene(
        file="/dev/shm/nineteen", command="cat $f", user="attestor", registers=NOWHERE
    ),
    "root runs a file in memory": Scene(
        file="/dev/shm/twenty", command="$f", registers=PRIVILEGED
    ),
    "alice runs her own file in memory": Scene(
        file="/dev/shm/twentyone", command="$f", owner="alice", user="alice", registers=USERS
    ),
    "root runs a file without a name": Scene(
        file="memfd:twentytwo", command="python3 -I /run/nameless $f", registers=PRIVILEGED
    ),
    "alice runs a file without a name": Scene(
        file="memfd:twentythree", command="python3 -I /run/nameless $f", user="alice",
        registers=USERS,
    ),
}  # fmt: skip

NAMELESS = b"""\
import os, sys
name = sys.argv[1].removeprefix("memfd:")
fd = os.memfd_create(name)
os.write(fd, open("/usr/bin/true", "rb").read() + name.encode())
os.execve(fd, [name], {})
"""


def play(machine: VirtualMachine) -> None:
    """Play all scenes in one go; each prints its number, so that none is silently left out."""
    machine.put("/run/script", b"#!/bin/sh\nexit 0\n", mode=0o755)
    machine.put("/run/nameless", NAMELESS)
    lines = ["set -e", "mkdir -p /usr/local/bin /usr/local/lib"]
    for scene in SCENES.values():
        lines.append(f"f={scene.file}")
        if scene.file.startswith("/"):
            lines.append(f"cp {scene.kind} $f; echo '# {scene.file}' >>$f")
            lines.append(f"chown {scene.owner} $f; chmod 755 $f")
        become = f"/usr/bin/setpriv --reuid={scene.user} --clear-groups --reset-env "
        lines.append(
            f"f=$f {become if scene.user != 'root' else ''} sh -c "
            f"'f={scene.file}; {scene.command}' >/dev/null"
        )
    machine.run("\n".join(lines), timeout=120).check()


def records(machine: VirtualMachine) -> list[Record]:
    return list(read_records(machine.get(LIST)))


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def machine(
    request: pytest.FixtureRequest, make_tpm: Callable[[], SoftwareTpm], kernel: str
) -> Iterator[VirtualMachine]:
    booted = VirtualMachine.boot(tpm=make_tpm(), kernel=kernel)
    with switched_on(request.config, booted) as machine:
        yield machine


@pytest.fixture(scope="module")
def registers(machine: VirtualMachine) -> dict[bytes, set[int]]:
    """The registers into which each path went, after all scenes were played."""
    play(machine)
    found: dict[bytes, set[int]] = {}
    for record in records(machine):
        found.setdefault(read_measurement(record).path, set()).add(record.register)
    return found


@pytest.mark.parametrize("name", SCENES)
def test_scene(registers: dict[bytes, set[int]], name: str) -> None:
    scene = SCENES[name]
    assert registers.get(scene.file.encode(), set()) == scene.registers


def test_reading_kernel_files_is_not_measured(
    machine: VirtualMachine, registers: dict[bytes, set[int]]
) -> None:
    """dont_measure func=FILE_CHECK for proc, sysfs and securityfs, which are root's files."""
    paths = ("/proc/uptime", "/sys/kernel/uevent_seqnum", LIST)
    machine.run(f"cat {' '.join(paths)} >/dev/null", user="attestor")
    after = {read_measurement(record).path for record in records(machine)}
    assert not after & {path.encode() for path in paths}
    assert {13} in registers.values()


def test_a_module_is_measured_when_it_is_loaded(
    machine: VirtualMachine, kernel: str, registers: dict[bytes, set[int]]
) -> None:
    """measure func=MODULE_CHECK."""
    path = b"/usr/local/lib/dummy.ko"
    assert path not in registers
    [(_, module)] = Kernel.at(kernel).modules("dummy")
    machine.put(path.decode(), module)
    machine.run(f"insmod {path.decode()} && rmmod dummy").check()
    assert [r.register for r in records(machine) if read_measurement(r).path == path] == [10]


def test_the_policy_is_measured_before_anything_of_the_disk(machine: VirtualMachine) -> None:
    """measure func=POLICY_CHECK, by the rules built into the kernel: entry 3."""
    first = [read_measurement(record) for record in records(machine)[:4]]
    assert [one.path for one in first] == [
        b"boot_aggregate", b"kernel_version", b"/sysroot/etc/ima/ima-policy", b"/busybox",
    ]  # fmt: skip
    assert first[2].digest == hashlib.sha256(kernel_policy.render()).digest()


def test_no_second_policy_can_be_loaded(machine: VirtualMachine) -> None:
    assert machine.run(f"test -e {POLICY}").code == 1
    assert machine.run(f"echo /etc/ima/ima-policy >{POLICY}").code != 0


@pytest.mark.parametrize("register", [10, 12, 13])
def test_the_list_replays_to_the_register(
    machine: VirtualMachine, registers: dict[bytes, set[int]], register: int
) -> None:
    """Nothing is missing, and nothing else was extended: one value says it all."""
    assert registers
    value = bytes(32)
    for record in records(machine):
        if record.register == register:
            value = hashlib.sha256(value + record.extension("sha256")).digest()
    held = machine.get(f"/sys/class/tpm/tpm0/pcr-sha256/{register}").decode().strip()
    assert value.hex() == held.lower()
