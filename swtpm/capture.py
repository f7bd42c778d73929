"""What a machine's kernel and TPM say, as files: material for test vectors and for looking at.

Lists have the kernel's names, what the TPM signed has the forms of tpm2-tools. The quote is taken
between two readings of the list, of which the later is as evidence has it.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

from swtpm.initramfs import GUEST
from swtpm.machine import VirtualMachine

SECURITYFS = "/sys/kernel/security"
REGISTERS = "/sys/class/tpm/tpm0"
LIST = "binary_runtime_measurements"

FILES = {
    "eventlog.bin": f"{SECURITYFS}/tpm0/binary_bios_measurements",
    "cmdline.txt": "/proc/cmdline",
}
"""Name of the file made, and where it is in the machine, besides the lists."""

NONCE = "00112233445566778899aabbccddeeff"
"""What the quote is bound to: fixed, so that whoever reads a capture knows it."""

QUOTED = "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
"""What the attestor's code quotes, as tpm2-tools write it."""


def capture(machine: VirtualMachine, directory: Path, *, made_by: str) -> tuple[Path, ...]:
    """Write what a machine says, and how it was made to say so; return the files."""
    directory.mkdir(parents=True, exist_ok=True)
    banks(machine)  # so that doing it again, last, adds no program to the list
    before = machine.get(f"{SECURITYFS}/ima/{LIST}")
    files = {f"before_quote.{LIST}": before, **_quote(machine), **_lists(machine)}
    files["pcrs.json"] = _json(banks(machine))
    files |= {name: machine.get(source) for name, source in FILES.items()}
    files["capture.json"] = _json(
        {
            "made_by": made_by,
            "made_at": datetime.now(UTC).date().isoformat(),
            "kernel": machine.run("uname -r; uname -v").check().output.splitlines(),
            "nonce": NONCE,
            "quoted": QUOTED,
        }
    )
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return tuple(directory / name for name in files)


def registers(machine: VirtualMachine, bank: str = "sha256") -> dict[int, str]:
    """Return a bank: register -> value in lower-case hexadecimal."""
    return banks(machine)[bank]


def banks(machine: VirtualMachine) -> dict[str, dict[int, str]]:
    """Return every bank that the TPM has, by name."""
    lines = machine.run(f"cd {REGISTERS} && grep -H . pcr-*/*").check().output.splitlines()
    found: dict[str, dict[int, str]] = {}
    for line in lines:
        place, _, value = line.partition(":")
        bank, _, number = place.removeprefix("pcr-").partition("/")
        found.setdefault(bank, {})[int(number)] = value.strip().lower()
    return {bank: dict(sorted(values.items())) for bank, values in sorted(found.items())}


def _quote(machine: VirtualMachine) -> dict[str, bytes]:
    """Let the attestor's own code quote in the machine."""
    machine.put("/run/procseal-quote", (GUEST / "quote").read_bytes())
    said = machine.run(f"/usr/bin/python3 -I /run/procseal-quote {NONCE}").check().output
    answer = {name: bytes.fromhex(value) for name, value in json.loads(said).items()}
    public = len(answer["ak"]).to_bytes(2, "big") + answer["ak"]  # TPM2B_PUBLIC
    return {"ak.pub": public, "quote.msg": answer["message"], "quote.sig": answer["signature"]}


def _lists(machine: VirtualMachine) -> dict[str, bytes]:
    """Return the kernel's lists; newer kernels have one of each bank besides."""
    paths = machine.run(f"ls {SECURITYFS}/ima/*_runtime_measurements*").check().output
    return {Path(path).name: machine.get(path) for path in paths.splitlines()}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
