"""Kernel policies that are accepted: the file that is loaded, and the rules that come of it.

Linux 7.3 measures the rules after every load, in the words of
/sys/kernel/security/ima/policy: one line for each, options in the kernel's order, numbers in the
kernel's form, no comments (Linux 7.3, security/integrity/ima/ima_policy.c, ima_policy_show). So
the text that a known file leads to is known too.
"""

import hashlib
from dataclasses import dataclass
from typing import Self

ACTIONS = ("measure", "dont_measure")
OPTIONS = (
    "func", "mask", "fsmagic", "fsname", "keyrings", "label", "pcr", "fsuuid",
    "uid", "euid", "gid", "egid", "fowner", "fgroup",
)  # fmt: skip
"""Those whose form is known here, in the kernel's order."""
OPERATORS = "=<>"
HEXADECIMAL = ("fsmagic",)
BUILT_IN = (
    "",
    (
        "measure func=KEXEC_KERNEL_CHECK \n"
        "measure func=CRITICAL_DATA label=ima_policy \n"
        "measure func=MODULE_CHECK \n"
    ),
)
"""What kernels have of their own before a file's rules, and keep: none, and under Secure Boot
(ima_efi.c, sb_arch_rules). Others are not known: a rule that measures less would count first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelPolicy:
    """A kernel policy that is accepted."""

    digest: bytes
    """SHA-256 of its file."""
    rules: frozenset[bytes]
    """SHA-256 of what a kernel may show once it is loaded; none where that is not known."""

    @classmethod
    def of(cls, text: bytes) -> Self:
        """Return the policy in a file with this text."""
        shown = show_rules(text)
        texts = () if shown is None else (own.encode() + shown for own in BUILT_IN)
        return cls(
            digest=hashlib.sha256(text).digest(),
            rules=frozenset(hashlib.sha256(one).digest() for one in texts),
        )


def show_rules(text: bytes) -> bytes | None:
    """Return what a kernel shows of this file once loaded; None where that is not known."""
    try:
        lines = [line.split() for line in text.decode("ascii").splitlines()]
        rules = [_show(words) for words in lines if words and not words[0].startswith("#")]
    except ValueError:
        return None
    return "".join(rules).encode()


def _show(words: list[str]) -> str:
    """Return the rule as it is shown; raise ValueError where its form is not known."""
    action, *options = words
    if action not in ACTIONS:
        raise ValueError(action)
    shown = sorted(map(_read_option, options))
    names = [place for place, _ in shown]
    if len(names) != len(set(names)):
        raise ValueError(options)
    return " ".join((action, *(option for _, option in shown), "\n"))


def _read_option(option: str) -> tuple[int, str]:
    """Return the option's place among all, and its form."""
    end = next((at for at, one in enumerate(option) if one in OPERATORS), 0)
    name, operator, value = option[:end], option[end : end + 1], option[end + 1 :]
    if name in HEXADECIMAL:
        value = hex(int(value, 16))
    elif value.isdecimal():
        value = str(int(value))
    return OPTIONS.index(name), f"{name}{operator}{value}"
