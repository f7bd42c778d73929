"""A virtual machine in software emulation: a real kernel, its measurement list, and a TPM."""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from swtpm import image, kernels, sealed, uki
from swtpm.emulator import Emulator, Settings
from swtpm.firmware import Firmware
from swtpm.payload import Payload
from swtpm.programs import Failed, say
from swtpm.sealed import Sealed
from swtpm.shell import Result
from swtpm.tpm import SoftwareTpm

ATTEMPTS = 3
"""An emulated kernel may panic now and then; twice more, said aloud, is enough."""

PUT_SECONDS = 120


class VirtualMachine:
    """A machine that has booted. As a context manager it is switched off at the end."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    @classmethod
    def boot(  # noqa: PLR0913  (the parts of a machine)
        cls,
        *,
        tpm: SoftwareTpm,
        kernel: str = kernels.DEFAULT,
        services: Mapping[tuple[str, int], int] | None = None,
        payload: Payload | Path | None = None,
        append: str = "",
        firmware: Firmware | None = None,
        partition: Path | None = None,
        sealed: Mapping[str, bytes] | None = None,
    ) -> Self:
        """Boot; return when the machine takes commands. The TPM must not be running.

        `services` are what the machine reaches: (address in 10.0.2.0/24, port) -> port on the
        host's loopback. `payload` is unpacked over the disk at this boot; `append` goes to the
        end of the kernel's command line. A kernel beyond those of the set-up is fetched first.
        What the machine writes is gone afterwards.

        With `firmware` the machine boots as a real one does: UEFI firmware with Secure Boot, and
        a signed image that holds kernel, initramfs and command line; all of them are measured.
        It takes about 15 seconds more. `partition` is the EFI system partition's root, instead
        of one with that image.

        With `sealed` the machine is one of `swtpm.sealed`, with these files more on its disk, and
        the payload is for the file systems that it has in memory.
        """
        parts = _parts(kernel, sealed)
        settings = Settings(
            disk=parts.disk,
            kernel=parts.kernel,
            services=services or {},
            payload=payload,
            append=f"{parts.words} {append}".strip(),
            firmware=firmware,
            partition=partition,
        )
        if firmware is not None and partition is None:
            made = uki.make(settings.kernel, settings.command_line, firmware)
            settings = dataclasses.replace(settings, partition=made)
        for attempt in range(1, ATTEMPTS + 1):
            emulator = Emulator(tpm, settings)
            try:
                emulator.switch_on()
            except Failed as failure:
                emulator.switch_off(in_order=False)
                told = f"{emulator.complaint() or failure}; see {emulator.console}"
                if emulator.complaint() or attempt == ATTEMPTS:
                    raise Failed(f"kernel {kernel} did not boot: {told}") from failure
                say(f"kernel {kernel} did not boot ({told}); trying again")
            except BaseException:
                emulator.switch_off(in_order=False)
                raise
            else:
                return cls(emulator)
        raise AssertionError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def tpm(self) -> SoftwareTpm:
        """The machine's TPM, which outlives it."""
        return self._emulator.tpm

    @property
    def console(self) -> Path:
        """The file with what the kernel and the first programs wrote."""
        return self._emulator.console

    @property
    def is_running(self) -> bool:
        """Whether the machine is on."""
        return self._emulator.is_on

    @property
    def terminal(self) -> Path:
        """The UNIX socket of its /dev/ttyS1, for a person's terminal."""
        return self._emulator.terminal

    def run(
        self,
        command: str,
        *,
        user: str | None = None,
        capabilities: tuple[str, ...] = (),
        timeout: float = 60,
    ) -> Result:
        """Run a command with /bin/sh, as root or as another user, and wait for its end.

        `capabilities` are what that user has beyond a user's: ("sys_ptrace", ...).
        """
        if user is not None:
            command = f"exec {_become(user, capabilities)} sh -c {shlex.quote(command)}"
        return self._emulator.shell.run(command, timeout)

    def start(
        self,
        command: str,
        *,
        output: str,
        user: str | None = None,
        capabilities: tuple[str, ...] = (),
    ) -> int:
        """Start one program in the background, its output in a file; return its pid."""
        become = f"{_become(user, capabilities)} " if user is not None else ""
        started = self.run(
            f"setsid {become}{command} >{shlex.quote(output)} 2>&1 </dev/null & echo $!"
        )
        return int(started.check().output)

    def put(self, path: str, data: bytes, *, owner: str = "root", mode: int = 0o644) -> None:
        """Write a file in the machine."""
        target, new = shlex.quote(path), shlex.quote(f"{path}.new")
        self._emulator.shell.run(
            f"install -o {owner} -g {owner} -m {mode:o} /proc/self/fd/0 {new} && mv {new} {target}",
            PUT_SECONDS,
            data,
        ).check()

    def get(self, path: str) -> bytes:
        """Read a file of the machine."""
        return self.run(f"cat {shlex.quote(path)}").check().raw

    def stop(self) -> None:
        """Switch the machine off, in order."""
        self._emulator.switch_off()


def _parts(kernel: str, files: Mapping[str, bytes] | None) -> Sealed:
    if files is not None:
        return sealed.make(kernel, files)
    return Sealed(disk=image.make(), kernel=image.kernel(kernel), words="")


def _become(user: str, capabilities: tuple[str, ...]) -> str:
    """Return the command that gives up root for another user, and keeps a few capabilities."""
    kept = ",".join(f"+{name}" for name in capabilities)
    keep = f" --inh-caps={kept} --ambient-caps={kept}" if capabilities else ""
    return f"/usr/bin/setpriv --reuid={user} --regid={user} --init-groups --reset-env{keep}"
