"""One start of qemu, in software emulation, with a software TPM."""

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swtpm.firmware import FIRMWARE_SAYS, REFUSALS, Firmware
from swtpm.kernels import Kernel
from swtpm.payload import Payload
from swtpm.programs import BUILD, Failed, need
from swtpm.shell import Shell
from swtpm.tpm import SoftwareTpm

BOOT_SECONDS = 180
END_SECONDS = 30

COMMAND_LINE = 'console=ttyS0 panic=-1 ima_policy="tcb|critical_data" ima_hash=sha256'

CONSOLES = BUILD / "vm" / "console"
KEPT_CONSOLES = 40

HARDWARE = (
    "qemu-system-x86_64", "-smp", "1", "-m", "2048",
    # Debian 12's emulator corrupts cmpxchg16b: without these two, kernels panic now and then.
    "-cpu", "max,-cx16", "-accel", "tcg,thread=single",
    "-no-user-config", "-nodefaults", "-display", "none", "-monitor", "none", "-no-reboot",
)  # fmt: skip

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one start of a machine depends on."""

    kernel: Kernel
    disk: Path
    services: Mapping[tuple[str, int], int] = field(default_factory=dict)
    payload: Payload | Path | None = None
    append: str = ""
    firmware: Firmware | None = None
    """Without one, qemu puts kernel, initramfs and command line into memory, and nothing of
    them is in a register of the TPM."""
    partition: Path | None = None
    """With firmware: the root of the EFI system partition that it boots from."""

    @property
    def command_line(self) -> str:
        """What the kernel is told."""
        return f"{COMMAND_LINE} {self.append}".strip()


class Emulator:
    """A qemu process, the line to the machine in it, and what both leave behind."""

    def __init__(self, tpm: SoftwareTpm, settings: Settings) -> None:
        self.tpm = tpm
        self._settings = settings
        self._directory = Path(tempfile.mkdtemp(prefix="procseal-"))  # short: sockets live in it
        self.console = _new_console(settings.kernel.name)
        self._process: subprocess.Popen[bytes] | None = None
        self._shell: Shell | None = None

    @property
    def shell(self) -> Shell:
        """The line to the machine, once it is on."""
        if self._shell is None:
            raise Failed("the machine is off")
        return self._shell

    @property
    def terminal(self) -> Path:
        """The UNIX socket of the machine's /dev/ttyS1, for a person's terminal."""
        return self._directory / "terminal"

    @property
    def is_on(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def switch_on(self) -> None:
        """Start the TPM and qemu; return when the machine takes commands."""
        control = self._directory / "tpm"
        self.tpm.start_for_machine(control)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._directory / "shell"))
            listener.listen(1)
            listener.settimeout(END_SECONDS)
            self._launch(self._command(control))
            self._shell = Shell(self._accept(listener), is_alive=self._may_answer)
        self._shell.wait_until_ready(BOOT_SECONDS)

    def switch_off(self, *, in_order: bool = True) -> None:
        """End the machine and its TPM, in order (the kernel shuts the TPM down) or at once."""
        process, self._process = self._process, None
        if process is not None:
            if in_order and self._shell is not None and process.poll() is None:
                with contextlib.suppress(OSError):
                    self._shell.send("sync; poweroff -f")
            _end(process, END_SECONDS if in_order else 0)
        if self._shell is not None:
            self._shell.close()
        self.tpm.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def complaint(self) -> str:
        """Return what firmware or the machine's own scripts complained about on the console."""
        lines = self._said()
        found = [line for line in lines if "FAILED:" in line] or _refusals(lines)[:1]
        return found[-1].strip() if found else ""

    def _said(self) -> list[str]:
        if not self.console.exists():
            return []
        return self.console.read_text(errors="replace").splitlines()

    def _launch(self, command: list[str]) -> None:
        need(command[0])
        with (self._directory / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _accept(self, listener: socket.socket) -> socket.socket:
        try:
            connection, _ = listener.accept()
        except TimeoutError as error:
            said = (self._directory / "qemu.log").read_text(errors="replace").strip()
            raise Failed(f"qemu does not start: {said}") from error
        return connection

    def _command(self, control: Path) -> list[str]:
        wanted = self._settings
        command = [
            *HARDWARE, *self._start(),
            "-chardev", f"socket,id=tpm,path={control}",
            "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0",
            "-serial", f"file:{self.console}",
            "-chardev", f"socket,id=terminal,path={self.terminal},server=on,wait=off",
            "-serial", "chardev:terminal",
            "-chardev", f"socket,id=shell,path={self._directory / 'shell'}",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=shell",
            *_network(wanted.services),
            *_disk("root", wanted.disk, "snapshot=on"),
        ]  # fmt: skip
        if wanted.payload is not None:
            packed = _pack(wanted.payload, self._directory / "payload")
            command += _disk("payload", packed, "readonly=on")
        return command

    def _start(self) -> list[str]:
        """Return the machine's board and what it starts with."""
        wanted = self._settings
        if wanted.firmware is None:
            return [
                "-machine", "q35", "-kernel", str(wanted.kernel.image),
                "-initrd", str(wanted.kernel.initramfs), "-append", wanted.command_line,
            ]  # fmt: skip
        return [
            *wanted.firmware.options(self._directory / "variables"),
            # A disk made up of a directory's files. Not on virtio: the kernel does not see it.
            "-drive", f"file=fat:{wanted.partition},if=none,id=esp,format=raw,snapshot=on",
            "-device", "ide-hd,drive=esp,bootindex=0",
        ]  # fmt: skip

    def _may_answer(self) -> bool:
        return self.is_on and not (self._settings.firmware and _refusals(self._said()))


def _refusals(lines: list[str]) -> list[str]:
    """Return what firmware said when it did not boot something."""
    found = (line[line.find(FIRMWARE_SAYS) :] for line in lines if FIRMWARE_SAYS in line)
    return [line for line in found if line.startswith(REFUSALS)]


def _new_console(kernel: str) -> Path:
    """Return where the next machine's console goes; the oldest are removed."""
    CONSOLES.mkdir(parents=True, exist_ok=True)
    for old in sorted(CONSOLES.iterdir(), key=lambda path: path.stat().st_mtime)[:-KEPT_CONSOLES]:
        old.unlink(missing_ok=True)
    return CONSOLES / f"{kernel}-{os.getpid()}-{next(_numbers)}.log"


def _disk(name: str, path: Path, option: str) -> list[str]:
    return [
        "-drive", f"file={path},if=none,id={name},format=raw,{option}",
        "-device", f"virtio-blk-pci,drive={name}",
    ]  # fmt: skip


def _network(services: Mapping[tuple[str, int], int]) -> list[str]:
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
    """Return a tar archive of a payload: it, or one made from a directory or a `Payload`."""
    if isinstance(payload, Path):
        if payload.is_file():
            return payload
        source, payload = payload, Payload()
        payload.add_tree(source)
    payload.write(target)
    return target


def _end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait for a process of ours, then end it."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
