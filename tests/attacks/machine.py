"""A virtual machine with an attestor, and attackers in it: tests/attacks/programs/.

Its verifier knows the puppet, and that puppets are workloads, so that nothing but what a test is
about is in an attacker's way. What other users than root own is measured nowhere that counts;
whatever a test has root execute or map is known, or the node is refused until it reboots.
"""

import hashlib
import os
import re
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from credential import local
from demo.stage import Setting, set_up
from demo.world import World
from evidence.critical_data import SELINUX_POLICY, SELINUX_STATE, TABLE_LOADED
from evidence.ima import read_measurement, read_records
from swtpm import Failed, image, initramfs
from swtpm.kernels import NAMES, Kernel
from swtpm.programs import BUILD, run
from tests.attestor.puppets import CHANNEL, BornConnected, Puppet, build, reasons, received
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference

PATH = "/usr/bin/puppet"
DYNAMIC = "/usr/bin/puppet-dynamic"
SERVED = "/usr/bin/served"
INJECTED = "/home/payments/injected.so"
SOCKET = Path("/run/procseal/attestor.sock")
UNIT = "puppet.service"
ID = "spiffe://example.org/puppet"
DYNAMIC_ID = "spiffe://example.org/puppet-dynamic"
LAUNCHED = "-of-the-attestors"
"""What is added to the id of a workload whose programs the attestor has launched."""
ATTACHED_MODE, LAUNCHED_MODE = BINDING_MODES = ("attached", "launched")
in_both_modes = pytest.mark.parametrize("binding", BINDING_MODES, indirect=True)
AUDIENCE = "https://ledger.example.org"
USER = "payments"
UID = 1001
PATIENCE_SECONDS = 150
INTERVAL_SECONDS = 10
"""Whoever asks for something new is in a round at once."""

CLOSED = "sysctl.kernel.yama.ptrace_scope=3 lockdown=integrity module.sig_enforce=1"
"""Command line of a kernel that lets nobody into it or into another process."""

LISTS = "/sys/kernel/security/ima"
LIBRARIES = ("libc.so.6", "ld-linux-x86-64.so.2")
"""What the dynamic puppet may map, besides itself."""
LIBRARY_PATH = "usr/lib/x86_64-linux-gnu"


def workload(
    id_: str, path: str, starter: str = f'unit = "{UNIT}"', *, needs_canary: bool = True
) -> str:
    return f"""
version = 1
id = "{id_}"
executable = {{ set = "puppet", file = "{path.lstrip("/")}" }}
mapped = ["puppet"]
user = "{USER}"
{starter}
canary = {str(needs_canary).lower()}
minimum = "lab"
[[use]]
audience = "{AUDIENCE}"
scopes = ["post"]
"""


WORKLOAD = workload(ID, PATH)
# What the attestor has launched is in the attestor's own cgroup.
LAUNCHED_WORKLOAD = workload(f"{ID}{LAUNCHED}", PATH, "any_starter = true")


def granted(message: local.Message | None) -> local.Credential:
    """Return the credential that a message has to be."""
    assert isinstance(message, local.Credential), message
    return message


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def until_refused(ask: Callable[[], local.Message | None], reason: str) -> None:
    """Ask until the answer is a refusal for this reason."""
    deadline = time.monotonic() + 60
    while not isinstance(answer := ask(), local.Refusal) or reason not in reasons(answer):
        assert time.monotonic() < deadline, answer
        time.sleep(0.5)


@dataclass(frozen=True)
class Programs:
    """The attackers' programs, compiled."""

    puppet: bytes
    dynamic: bytes
    served: bytes
    injected: bytes

    @property
    def earlier(self) -> bytes:
        """An earlier release of the puppet: known, and not the workload's."""
        return self.puppet + b"\0"

    @property
    def on_disk(self) -> dict[str, bytes]:
        """Root's, by path in the machine."""
        return {PATH: self.puppet, DYNAMIC: self.dynamic, SERVED: self.served}

    @classmethod
    def build(cls, directory: Path) -> "Programs":
        made = {
            "puppet": build(directory / "puppet"),
            "dynamic": build(directory / "dynamic", "-DDYNAMIC"),
            "served": build(directory / "served", source="served.c"),
            "injected": build(directory / "injected", "-shared", "-fPIC", source="injected.c"),
        }
        return cls(**{name: path.read_bytes() for name, path in made.items()})


def sealed_values(world: World) -> tuple[str, str]:
    """Return what an operator names of a sealed machine, read from the list of its first boot."""
    head = 'version = 1\nkind = "{kind}"\nname = "{kind}-of-the-lab"\n{rest}'
    [table] = critical_data(world, TABLE_LOADED)
    [state] = critical_data(world, SELINUX_STATE)
    [policy] = critical_data(world, SELINUX_POLICY)
    tables = f'tables = ["{table.decode()}"]\n'
    policies = f'policies = ["sha256:{policy.hex()}"]\nstates = ["{state.decode()}"]\n'
    return (
        head.format(kind="verity", rest=tables),
        head.format(kind="confinement", rest=policies),
    )


def critical_data(world: World, event: bytes) -> list[bytes]:
    """Return the buffers of an event's records."""
    records = read_records(world.machine.get(f"{LISTS}/binary_runtime_measurements"))
    measured = [read_measurement(one) for one in records if not one.is_violation]
    return [one.buffer for one in measured if one.path == event and one.buffer is not None]


@dataclass
class Machine:
    """The demo's world with the attackers' programs in it."""

    world: World
    programs: Programs
    kernel: str
    is_sealed: bool = False
    """Its programs are on its disk from the start, and nothing else gets there."""
    is_measured: bool = False
    """It boots through firmware, and a boot policy holds."""

    @classmethod
    @contextmanager
    def boot(
        cls,
        kernel: str,
        programs: Programs,
        *,
        firmware: bool = False,
        append: str = "",
        is_sealed: bool = False,
    ) -> Iterator["Machine"]:
        """Boot it. With `firmware` an operator declares the boot good; kernels need that which
        measure their initramfs, as those do that set-up does not fetch. A sealed machine is one of
        `swtpm.sealed`, of which he vouches for disk and SELinux policy too.
        """
        unpacked = image.kernel(kernel)

        def trust(world: World) -> None:
            if is_sealed:
                for text in sealed_values(world):
                    value = world.directory / "value.toml"
                    value.write_text(text)
                    world.operator("reference", "put", str(value))
            run = initramfs.sealed_programs(unpacked) if is_sealed else initramfs.programs(unpacked)
            known = {path: (sha256(data),) for path, data in run.items()}
            reference = world.directory / "initramfs.toml"
            reference.write_text(encode_reference(ReferenceSet(name="initramfs", files=known)))
            world.operator("reference", "put", str(reference))
            world.trust_boot()

        is_measured = firmware or kernel not in NAMES
        setting = Setting(
            kernel=kernel,
            firmware=is_measured,
            append=append,
            prepare=trust if is_measured else lambda _: None,
            interval_seconds=INTERVAL_SECONDS,
            sealed=programs.on_disk if is_sealed else None,
        )
        with set_up(setting) as world:
            machine = cls(world, programs, kernel, is_sealed, is_measured)
            machine._configure()
            yield machine

    def _configure(self) -> None:
        programs = self.programs
        tree = BUILD / "vm" / "tree" / LIBRARY_PATH
        files = {
            "usr/bin/puppet": (sha256(programs.puppet),),
            "usr/bin/puppet-dynamic": (sha256(programs.dynamic),),
            "usr/bin/puppet-earlier": (sha256(programs.earlier),),
            **{f"{LIBRARY_PATH}/{one}": (sha256((tree / one).read_bytes()),) for one in LIBRARIES},
        }
        tools = {"usr/bin/served": (sha256(programs.served),)}
        for name, module in self.modules:
            tools[f"{name}.ko"] = (sha256(module),)
        self.put_documents(
            "reference",
            encode_reference(ReferenceSet(name="puppet", files=files)),
            encode_reference(ReferenceSet(name="tools", files=tools)),
        )
        self.put_documents(
            "workload",
            WORKLOAD,
            workload(DYNAMIC_ID, DYNAMIC),
            LAUNCHED_WORKLOAD,
            workload(f"{DYNAMIC_ID}{LAUNCHED}", DYNAMIC, "any_starter = true"),
        )
        self._put_programs()

    def reboot(self, append: str = "") -> None:
        """Switch off and on, `append` at the end of the command line, and start the attestor."""
        self.world.reboot(append)
        self.world.serve_attestor()
        # The verifier still has the node accepted, in the boot before.
        ask = f"[ -S {SOCKET} ] && attestor status"
        self.world.wait_for(lambda: self.world.machine.run(ask).code == 0, "its node's acceptance")
        self._put_programs()

    def _put_programs(self) -> None:
        programs = self.programs
        for path, content in {} if self.is_sealed else programs.on_disk.items():
            self.put(path, content)
        self.put(INJECTED, programs.injected, owner=USER)

    @property
    def series(self) -> tuple[int, ...]:
        """The first two numbers of its kernel's version."""
        return tuple(int(number) for number in re.findall(r"\d+", self.kernel)[:2])

    @property
    def lowest_level(self) -> str:
        """The level of a process of which nothing is known but its own evidence."""
        return "L1" if self.is_measured else "lab"

    @property
    def modules(self) -> tuple[tuple[str, bytes], ...]:
        """What this kernel needs for FUSE, and for a disk that is a file."""
        return Kernel.at(self.kernel).modules("fuse", "loop")

    def load_modules(self) -> None:
        """Load them, where they are not there yet."""
        for name, module in self.modules:
            self.put(f"/tmp/{name}.ko", module)
            self.run(f"[ -e /sys/module/{name} ] || insmod /tmp/{name}.ko")

    @contextmanager
    def second_disk(self) -> Iterator[str]:
        """Mount another file system with the golden program in it; give that one's path.

        Its UUID is SECOND_UUID, and it is mounted at SECOND.
        """
        self.load_modules()
        self.world.machine.put("/run/second", _second_disk(self.world.directory, self.programs))
        self.run(f"mkdir -p {SECOND} && mount -t ext4 -o loop /run/second {SECOND}")
        try:
            yield f"{SECOND}/program"
        finally:
            self.world.machine.run(f"umount -l {SECOND}; rm /run/second")

    def put(self, path: str, data: bytes, *, owner: str = "root") -> None:
        """Put a program into the machine."""
        self.world.machine.put(path, data, owner=owner, mode=0o755)

    def run(self, command: str) -> str:
        """Run a command as root that has to succeed; return its output."""
        return str(self.world.machine.run(command).check().output)

    def puppet(
        self,
        path: str = PATH,
        *,
        user: str = USER,
        prefix: str = "",
        unit: str = UNIT,
        binding: str = ATTACHED_MODE,
    ) -> "MachinePuppet":
        """Start a puppet in its unit, or have the attestor launch it for what is in the unit."""
        return PUPPETS[binding](self.world, path=path, user=user, prefix=prefix, unit=unit)

    def put_documents(self, kind: str, *texts: str) -> None:
        """Put policy documents of one kind."""
        paths = [self.world.directory / f"{kind}-{number}.toml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        self.world.operator(kind, "put", *map(str, paths))

    def is_accepted(self) -> bool:
        return any(node["accepted"] for node in self.world.nodes())


SECOND = "/srv/second"
SECOND_UUID = "0d6f4a1e-7b1c-4e58-8f0a-70726f637365"
SECOND_BYTES = 4 << 20


def _second_disk(directory: Path, programs: Programs) -> bytes:
    """Return an ext4 file system that holds the golden program, root's."""
    tree, disk = directory / "second", directory / "second.ext4"
    tree.mkdir(exist_ok=True)
    (tree / "program").write_bytes(programs.puppet)
    (tree / "program").chmod(0o755)
    disk.write_bytes(bytes(SECOND_BYTES))
    owner = () if os.geteuid() == 0 else ("unshare", "--map-root-user")
    run(
        *owner, "/usr/sbin/mkfs.ext4", "-q", "-F", "-U", SECOND_UUID, "-O", "^has_journal",
        "-E", "root_owner=0:0", "-d", tree, disk,
    )  # fmt: skip
    return disk.read_bytes()


Start = Callable[..., "MachinePuppet"]
"""`Machine.puppet`, in the mode of the test."""


class MachinePuppet(Puppet):
    """A puppet in the machine, whose input and output are pipes with names there.

    Commands cost: what it is told and what it answers are one.
    """

    names = iter(range(1_000_000))

    def __init__(
        self,
        world: World,
        *,
        path: str = PATH,
        user: str = USER,
        prefix: str = "",
        unit: str = UNIT,
    ) -> None:
        self.world = world
        self.name = f"puppet-{next(self.names)}"
        cgroup = f"/sys/fs/cgroup/{unit}"
        told = self._run(
            f"[ -d {cgroup} ] || mkdir {cgroup}; mkfifo -m 666 {self._in} {self._out};"
            f" exec 9<>{self._out};"
            f" setsid sh -c 'echo $$ >{cgroup}/cgroup.procs; exec setpriv --reuid={user}"
            f" --regid={user} --init-groups --reset-env {prefix} {path}'"
            f" 0<>{self._in} 1<>{self._out} 2>&1 9<&- & echo $!; {self._listen()}"
        )
        pid, said = told
        self.pid = int(pid)
        assert said == "ready", said

    @property
    def _in(self) -> str:
        return f"/tmp/{self.name}.in"

    @property
    def _out(self) -> str:
        return f"/tmp/{self.name}.out"

    def end(self) -> None:
        self.world.machine.run(f"kill -KILL {self.pid}")

    def tell(self, line: str) -> None:
        self._run(self._speak(line))

    def hear(self) -> str:
        (said,) = self._run(self._listen())
        return said

    def say(self, line: str) -> str:
        (said,) = self.say_all(line)
        return said

    def say_all(self, *lines: str) -> list[str]:
        """Tell it several things, each when it has answered the one before."""
        return self._run("; ".join(f"{self._speak(one)}; {self._listen()}" for one in lines))

    def exchange(self, line: str) -> local.Message | None:
        done, answer = self.say_all(line, "receive")
        assert done == "done", done
        return received(answer)

    def _speak(self, line: str) -> str:
        return f"printf '%s\\n' {shlex.quote(line)} >{self._in}"

    def _listen(self) -> str:
        """Return the command that waits for a line, and prints it."""
        return f"IFS= read -r said <>{self._out} && printf '%s\\n' \"$said\""

    def _run(self, command: str) -> list[str]:
        """Run a command that has to succeed; return the lines that it prints."""
        try:
            done = self.world.machine.run(command, timeout=PATIENCE_SECONDS).check()
        except Failed as failure:
            log = self.world.machine.run("tail -n 20 /run/attestor.log").output
            raise Failed(f"{failure}; the attestor said:\n{log}") from failure
        return done.output.splitlines()

    def obtain_granted(self, id_: str = ID) -> local.Credential:
        """Obtain a credential, which has to be granted."""
        return granted(self.obtain(SOCKET, id_))

    def why(self, id_: str = ID) -> list[str]:
        """Return why it gets no credential."""
        return reasons(self.obtain(SOCKET, id_))

    def why_no_proof(self) -> list[str]:
        """Return why it gets no proof."""
        return reasons(self.prove(AUDIENCE))

    def is_proven(self) -> bool:
        return isinstance(self.prove(AUDIENCE), local.Proof)


class MachineLaunched(BornConnected, MachinePuppet):
    """A puppet that root had the attestor launch for its user."""

    def __init__(self, world: World, *words: str) -> None:
        prefix = f"/usr/bin/attestor run --user {USER} {' '.join(words)} --"
        super().__init__(world, user="root", prefix=prefix, unit="shell.service")
        self.do(f"use {CHANNEL}")

    def end(self) -> None:
        """`attestor run` hands it the signal."""
        self.world.machine.run(f"kill -TERM {self.pid}")


class LaunchedPuppet(BornConnected, MachinePuppet):
    """A puppet that the attestor has launched for its user; what is in the unit asked for it."""

    def __init__(
        self,
        world: World,
        *,
        path: str = PATH,
        user: str = USER,
        prefix: str = "",
        unit: str = UNIT,
    ) -> None:
        super().__init__(
            world, path=path, user=user, unit=unit,
            prefix=f"{prefix} /usr/bin/attestor run --".lstrip(),
        )  # fmt: skip
        done, pid = self.say_all(f"use {CHANNEL}", "pid")
        assert done == "done", done
        self.runner, self.pid = self.pid, int(pid)

    def end(self) -> None:
        self.world.machine.run(f"kill -KILL {self.runner}; kill -KILL {self.pid}")

    def answer(
        self,
        nonce: str,
        id_: str = "",
        how: str = "give",
        **members: Any,  # noqa: ANN401
    ) -> local.Message | None:
        return super().answer(nonce, f"{id_}{LAUNCHED}", how, **members)


PUPPETS = {ATTACHED_MODE: MachinePuppet, LAUNCHED_MODE: LaunchedPuppet}
