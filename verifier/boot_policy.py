r"""Boot policies as TOML, read and written here.

    version = 1
    name = "uki-6.12"
    source = "first boot of build-7, 2026-11-24"      # optional, for people
    nodes = ["build-7"]                               # optional; without it, every node
    secure_boot = "on"                                # or "any"
    command_lines = ["root=/dev/vda2 ro ima_hash=sha256"]
    phases = ["enter-initrd", "leave-initrd"]         # optional: systemd-pcrphase's words

    [register.0]
    "firmware volume at 0x820000, 917504 bytes" = "sha256:…64 hexadecimal digits…"

    [register.7]
    "db" = ["sha256:…", "sha256:…"]

A digest is what the register is extended with: of a variable's event, of an image (Authenticode),
of a file, of a text. Its name is a label only. A register with a table is a closed world: nothing
else may extend it. Of registers without one, 1, 3, 5 and 6 are not judged (configuration of the
machine, its disk's partitions, its maker's own), and nothing may extend the others. What every
boot has needs no line: separators, the variable SecureBoot, the command lines above.
"""

import re

from verifier.policy import BootPolicy
from verifier.reasons import sha256_text
from verifier.reference import quoted, read_digests, read_head
from verifier.tables import Table

JUDGEABLE_REGISTERS = (*range(10), *range(11, 15))
"""Those that firmware and boot loaders extend. 10 is the kernel's, 15 the attestor's."""

_LABEL = re.compile(r"[^\x00-\x1f\x7f]{1,300}")
_COMMAND_LINE = re.compile(r"[^\x00]{1,4096}", re.DOTALL)
"""Linux takes at most 2048 bytes on x86 (COMMAND_LINE_SIZE), GRUB's has a path before it."""
_PHASE = re.compile(r"[\x21-\x7e]{1,64}")
_SECURE_BOOT = re.compile(r"on|any")


def read_boot_policy(text: str) -> BootPolicy:
    """Return the policy in the TOML document; raise Rejected if it is anything else."""
    table = Table.parse(text, "boot policy")
    name, source, nodes = read_head(table, "boot policy")
    command_lines = table.texts("command_lines", _COMMAND_LINE)
    if not command_lines:
        raise table.refuse("command_lines", expected="at least one")
    policy = BootPolicy(
        name=name,
        secure_boot=table.text("secure_boot", _SECURE_BOOT) == "on",
        command_lines=command_lines,
        registers=_read_registers(table.table("register")),
        phases=table.texts("phases", _PHASE),
        nodes=nodes,
        source=source,
    )
    table.end()
    return policy


def _read_registers(table: Table) -> dict[int, dict[str, tuple[bytes, ...]]]:
    numbers = {str(register): register for register in JUDGEABLE_REGISTERS}
    registers = {
        number: table.table(name) for name, number in numbers.items() if name in table.values
    }
    table.end()
    if not registers:
        raise table.refuse("0", expected="a table for a register, at least one")
    return {number: _read_register(one) for number, one in registers.items()}


def _read_register(table: Table) -> dict[str, tuple[bytes, ...]]:
    for label in table.values:
        if _LABEL.fullmatch(label) is None:
            raise table.refuse(label, expected=f"a label of the form {_LABEL.pattern}")
    if not table.values:
        raise table.refuse("digests", expected="at least one, or no such table")
    return {label: read_digests(table, label) for label in table.values}


def encode_boot_policy(policy: BootPolicy) -> str:
    """Return the TOML document that `read_boot_policy` reads: the same for the same policy."""
    lines = ["version = 1", f"name = {quoted(policy.name)}"]
    if policy.source:
        lines.append(f"source = {quoted(policy.source)}")
    if policy.nodes:
        lines.append(f"nodes = {_array(policy.nodes)}")
    lines.append(f"secure_boot = {quoted('on' if policy.secure_boot else 'any')}")
    lines.append(f"command_lines = {_array(policy.command_lines)}")
    if policy.phases:
        lines.append(f"phases = {_array(policy.phases)}")
    for register, digests in sorted(policy.registers.items()):
        lines += ["", f"[register.{register}]"]
        lines += [f"{quoted(label)} = {_digests(held)}" for label, held in digests.items()]
    return "\n".join([*lines, ""])


def _array(texts: tuple[str, ...]) -> str:
    if len(texts) == 1:
        return f"[{quoted(texts[0])}]"
    return "\n".join(["[", *(f"    {quoted(text)}," for text in texts), "]"])


def _digests(digests: tuple[bytes, ...]) -> str:
    texts = tuple(map(sha256_text, digests))
    return quoted(texts[0]) if len(texts) == 1 else _array(texts)
