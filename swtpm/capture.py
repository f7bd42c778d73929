"""What a machine's kernel and TPM say, as files: material for test vectors and for looking at."""

import json
from pathlib import Path

from swtpm.machine import VirtualMachine

SECURITYFS = "/sys/kernel/security"
REGISTERS = "/sys/class/tpm/tpm0/pcr-sha256"

FILES = {
    "ima.bin": f"{SECURITYFS}/ima/binary_runtime_measurements",
    "ima-sha256.bin": f"{SECURITYFS}/ima/binary_runtime_measurements_sha256",
    "ima.txt": f"{SECURITYFS}/ima/ascii_runtime_measurements",
    "eventlog.bin": f"{SECURITYFS}/tpm0/binary_bios_measurements",
    "cmdline.txt": "/proc/cmdline",
}
"""Name of the file made, and where it is in the machine; older kernels lack some."""


def capture(machine: VirtualMachine, directory: Path) -> tuple[Path, ...]:
    """Write the lists, the command line and the registers of a machine; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for name, source in FILES.items():
        if machine.run(f"test -e {source}").code == 0:
            made.append(directory / name)
            made[-1].write_bytes(machine.get(source))
    made.append(directory / "pcrs.json")
    made[-1].write_text(json.dumps(registers(machine), indent=2) + "\n")
    return tuple(made)


def registers(machine: VirtualMachine) -> dict[int, str]:
    """Return the SHA-256 bank: register -> value in lower-case hexadecimal."""
    lines = machine.run(f"cd {REGISTERS} && grep -H . *").check().output.splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {int(number): values[number].strip().lower() for number in sorted(values, key=int)}
