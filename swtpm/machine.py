"""A virtual machine in software emulation: a real kernel, its measurement list, and a TPM."""

import contextlib
import itertools
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from swtpm import image, kernels
from swtpm.kernels import Kernel
from swtpm.payload import Payload
from swtpm.programs import BUILD, Failed, need, say
from swtpm.shell import Result, Shell
from swtpm.tpm import SoftwareTpm

ATTEMPTS = 3
"""An emulated kernel panics now and then; twice more, said aloud, is enough."""

BOOT_SECONDS = 180
END_SECONDS = 30
PUT_SECONDS = 120

COMMAND_LINE = 'console=ttyS0 panic=-1 ima_policy="tcb|critical_data" ima_hash=sha256'

Services = Mapping[tuple[str, int], int]
"""(address, port) in the machine's network 10.0.2.0/24 -> port on the host's loopback."""

_numbers = itertools.count(1)


class VirtualMachine:
    """A machine that has booted. As a context manager it is switched off at the end."""

    def __init__(
        self, process: subprocess.Popen[bytes], shell: Shell, tpm: SoftwareTpm, directory: Path,
        console: Path,
    ) -> None:  # fmt: skip
        self.tpm = tpm
        self.console = console
        """What the kernel and the first programs wrote."""
        self._process = process
        self._shell = shell
        self._directory = directory

    @classmethod
    def boot(
        cls,
        *,
        tpm: SoftwareTpm,
        kernel: str = kernels.DEFAULT,
        services: Services | None = None,
        payload: Payload | Path | None = None,
        append: str = "",
        build: Path = BUILD,
    ) -> "VirtualMachine":
        """Boot; return when the machine takes commands. The TPM must not be running.

        `payload` is unpacked over the disk at this boot; `append` goes to the end of the kernel's
        command line. Whatever the machine writes is gone afterwards.
        """
        disk = image.make(build)
        chosen = Kernel.at(kernel, build)
        for attempt in range(1, ATTEMPTS + 1):
            starting = _Starting(tpm, build / "vm" / "console", kernel)
            try:
                return starting.start(cls, chosen, disk, services or {}, payload, append)
            except Failed as failure:
                starting.clean_up()
                told = _complaint(starting.console)
                if told or attempt == ATTEMPTS:
                    raise Failed(
                        f"kernel {kernel} did not boot: {told or failure}; see {starting.console}"
                    ) from failure
                say(f"kernel {kernel} did not boot ({failure}, {starting.console}); trying again")
            except BaseException:
                starting.clean_up()
                raise
        raise AssertionError

    def __enter__(self) -> "VirtualMachine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def run(self, command: str, *, user: str | None = None, timeout: float = 60) -> Result:
        """Run a command with /bin/sh, as root or as another user, and wait for its end."""
        if user is not None:
            command = f"exec {_become(user)} sh -c {shlex.quote(command)}"
        return self._shell.run(command, timeout)

    def start(self, command: str, *, output: str, user: str | None = None) -> int:
        """Start a program in the background, its output in a file; return its pid."""
        become = _become(user) + " " if user is not None else ""
        started = self.run(
            f"setsid {become}sh -c {shlex.quote('exec ' + command)} >{shlex.quote(output)} 2>&1"
            " </dev/null & echo $!"
        )
        return int(started.check().output)

    def put(self, path: str, data: bytes, *, owner: str = "root", mode: int = 0o644) -> None:
        """Write a file in the machine."""
        target, new = shlex.quote(path), shlex.quote(f"{path}.new")
        self._shell.run(
            f"cat >{new} && chown {owner}:{owner} {new} && chmod {mode:o} {new}"
            f" && mv {new} {target}",
            PUT_SECONDS, data,
        ).check()  # fmt: skip

    def get(self, path: str) -> bytes:
        """Read a file of the machine."""
        return self.run(f"cat {shlex.quote(path)}").check().raw

    @property
    def is_running(self) -> bool:
        """Whether the machine is on."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Switch the machine off, in order: the kernel shuts the TPM down."""
        if self.is_running:
            with contextlib.suppress(OSError):
                self._shell.send("sync; poweroff -f")
        _end(self._process, END_SECONDS)
        self.tpm.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


class _Starting:
    """One attempt to boot, and what it has to clean up if it fails."""

    def __init__(self, tpm: SoftwareTpm, consoles: Path, name: str) -> None:
        self.tpm = tpm
        self.directory = Path(tempfile.mkdtemp(prefix="procseal-"))  # short: sockets live in it
        consoles.mkdir(parents=True, exist_ok=True)
        self.console = consoles / f"{name}-{os.getpid()}-{next(_numbers)}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(
        self, cls: type[VirtualMachine], kernel: Kernel, disk: Path, services: Services,
        payload: Payload | Path | None, append: str,
    ) -> VirtualMachine:  # fmt: skip
        control = self.directory / "tpm"
        self.tpm.start_for_machine(control)
        argv = [
            *_hardware(), *_boots(kernel, append), *_tpm(control), *_network(services),
            *_disk("root", disk, "snapshot=on"),
            "-serial", f"file:{self.console}",
            "-chardev", f"socket,id=shell,path={self.directory / 'shell'}",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=shell",
        ]  # fmt: skip
        if payload is not None:
            argv += _disk("payload", _pack(payload, self.directory / "payload"), "readonly=on")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.directory / "shell"))
            listener.listen(1)
            listener.settimeout(END_SECONDS)
            process = self._launch(argv)
            connection = self._accept(listener)
        shell = Shell(connection, is_alive=lambda: process.poll() is None)
        shell.wait_until_ready(BOOT_SECONDS)
        return cls(process, shell, self.tpm, self.directory, self.console)

    def _launch(self, argv: list[str]) -> subprocess.Popen[bytes]:
        need("qemu-system-x86_64")
        with (self.directory / "qemu.log").open("wb") as log:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self.process

    def _accept(self, listener: socket.socket) -> socket.socket:
        try:
            connection, _ = listener.accept()
        except TimeoutError as error:
            said = (self.directory / "qemu.log").read_text(errors="replace").strip()
            raise Failed(f"qemu does not start: {said}") from error
        return connection

    def clean_up(self) -> None:
        if self.process is not None:
            _end(self.process, 0)
        self.tpm.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


def _hardware() -> list[str]:
    """Return the machine that works: see DESIGN of the virtual machine in swtpm/README.md."""
    # Debian 12's emulator corrupts cmpxchg16b, hence -cx16 and one thread.
    return [
        "qemu-system-x86_64", "-machine", "q35", "-cpu", "max,-cx16",
        "-accel", "tcg,thread=single", "-smp", "1", "-m", "2048",
        "-no-user-config", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot",
    ]  # fmt: skip


def _boots(kernel: Kernel, append: str) -> list[str]:
    line = f"{COMMAND_LINE} {append}".strip()
    return ["-kernel", str(kernel.image), "-initrd", str(kernel.initramfs), "-append", line]


def _tpm(control: Path) -> list[str]:
    return [
        "-chardev", f"socket,id=tpm,path={control}",
        "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0",
    ]  # fmt: skip


def _disk(name: str, path: Path, option: str) -> list[str]:
    return [
        "-drive", f"file={path},if=none,id={name},format=raw,{option}",
        "-device", f"virtio-blk-pci,drive={name}",
    ]  # fmt: skip


def _network(services: Services) -> list[str]:
    """Return a network in which nothing but the services can be reached."""
    forwards = "".join(
        f",guestfwd=tcp:{address}:{port}-cmd:socat - TCP:127.0.0.1:{host_port}"
        for (address, port), host_port in services.items()
    )
    return [
        "-netdev", f"user,id=net,restrict=on,ipv6=off{forwards}",
        "-device", "virtio-net-pci,netdev=net,romfile=",
    ]  # fmt: skip


def _pack(payload: Payload | Path, target: Path) -> Path:
    if isinstance(payload, Path):
        if payload.is_file():
            return payload
        source, payload = payload, Payload()
        payload.add_tree(source)
    payload.write(target)
    return target


def _become(user: str) -> str:
    return f"/usr/bin/setpriv --reuid={user} --regid={user} --init-groups --reset-env"


def _complaint(console: Path) -> str:
    """Return what the machine's own scripts complained about, if they did."""
    text = console.read_text(errors="replace") if console.exists() else ""
    found = [line for line in text.splitlines() if "FAILED:" in line]
    return found[-1].strip() if found else ""


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process of ours, then end it."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
