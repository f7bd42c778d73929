"""The README's table: what comes of each attack on a process, by how the process is bound."""

import re
from collections.abc import Iterable

from tests.attacks.machine import ATTACHED_MODE, BINDING_MODES, LAUNCHED_MODE
from tests.attacks.marked import Marked

TITLES = {
    43: "a golden digest that is only in the list because root read the file",
    46: "a kernel policy that measures too little, or was replaced after the boot",
    49: "`/proc/PID/exe` names a file that never ran",
    50: "text changed by ptrace",
    51: "text changed and put back",
    52: "text written through `/proc/PID/mem`",
    53: "data changed from outside",
    54: "a file made executable after it was mapped",
    55: "code that is written and run",
    56: "a program in a memfd",
    57: "a program in shared memory",
    58: "a deleted program",
    59: "a name that ends in ` (deleted)`",
    60: "a library overwritten where it is",
    61: "`LD_PRELOAD`, `LD_AUDIT`",
    62: "a library that is golden for others",
    63: "an interpreter without its script",
    64: "a poisoned `.pyc`",
    65: "`PYTHONPATH`, `usercustomize`, `.pth`",
    66: "exec after the credential",
    67: "a child speaks for its parent",
    68: "a pid that is used again",
    69: "the connection in other hands",
    70: "memory shared with another user",
    71: "a golden path in a mount namespace of one's own",
    72: "an overlay modified behind",
    73: "the disk written beneath the file system",
    74: "a file made shorter",
    75: "a program that a file server holds",
    76: "another name of the same file",
    77: "another program for a while",
    78: "a forged name",
    79: "a file server that never answers",
    80: "a process that never looks the same twice",
    81: "a pid namespace of one's own, another boot",
    86: "a tainted or unlocked kernel",
    102: "exit, exec, drift, revocation before the token's end",
    113: "two programs in one container",
    128: "proofs forced by ptrace between two looks",
    129: "an attestor that is silenced",
}

NOT_THERE = {
    (64, ATTACHED_MODE): "an interpreter that is attached is refused (63)",
    (65, ATTACHED_MODE): "an interpreter that is attached is refused (63)",
    (56, LAUNCHED_MODE): "what is launched is opened by its path",
    (68, LAUNCHED_MODE): "no number names it: the attestor is its parent",
    (70, LAUNCHED_MODE): "what is launched may not change its ids",
    (71, LAUNCHED_MODE): "it is launched in the attestor's own namespaces",
    (72, LAUNCHED_MODE): "it is launched in the attestor's own namespaces",
    (81, LAUNCHED_MODE): "it is launched in the attestor's own namespaces",
    (113, LAUNCHED_MODE): "it is launched in the attestor's own namespaces",
}
"""Attacks that have no place in a mode, and why."""

BEGIN, END = "<!-- attacks by binding -->\n", "<!-- end -->\n"


def fill_table(text: str, marked: Iterable[Marked]) -> str:
    """Return a page with the table of now in it."""
    pattern = re.compile(f"(?s){re.escape(BEGIN)}.*?{re.escape(END)}")
    if len(pattern.findall(text)) != 1:
        raise SystemExit(f"the README has not one place for the table: {BEGIN.strip()}")
    table = _table(tuple(marked))
    return pattern.sub(lambda _: f"{BEGIN}{table}{END}", text)


def _table(marked: tuple[Marked, ...]) -> str:
    lines = [f"| | attack | {' | '.join(BINDING_MODES)} |", "|---|---|---|---|"]
    for number, title in TITLES.items():
        cells = [_cell(number, mode, marked) for mode in BINDING_MODES]
        lines.append(f"| {number} | {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(number: int, mode: str, marked: tuple[Marked, ...]) -> str:
    """Return what comes of an attack in a mode; no cell without a test or a reason."""
    found = [one for one in marked if one.number == number and mode in one.bindings]
    if not found:
        if (number, mode) not in NOT_THERE:
            raise SystemExit(f"no test plays attack {number} on a process that is {mode}")
        return f"none: {NOT_THERE[number, mode]}"
    told = {_told(one) for one in found}
    return "; ".join(sorted(told))


def _told(one: Marked) -> str:
    return one.outcome if one.level == "every" else f"{one.outcome} below {one.level}"
