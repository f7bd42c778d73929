"""The kernel command lines of a boot policy, in each form that somebody measures them in."""

import hashlib
from collections.abc import Collection

from verifier.policy import BootPolicy
from verifier.reasons import label
from verifier.sound_log import SoundLog


def command_line_digests(policy: BootPolicy, register: int) -> frozenset[bytes]:
    """Return the digests that the policy's command lines may extend the register with."""
    lines = policy.command_lines
    return frozenset(digest for line in lines for digest in _digests(line, register))


def measured_command_lines(
    sound: SoundLog, policy: BootPolicy, registers: Collection[int]
) -> tuple[str, ...]:
    """Return the policy's command lines of which one of the registers has a digest.

    Whoever opens the TPM later can add one that the policy accepts, so they count together only.
    """
    held = {register: frozenset(sound.digests(register)) for register in registers}
    return tuple(
        line
        for line in policy.command_lines
        if any(digest in held[one] for one in held for digest in _digests(line, one))
    )


def compare_words(allowed: tuple[str, ...], line: str | None, digest: str) -> tuple[str, str]:
    """Return what is expected and found of a command line: the words that differ, if any do."""
    if line is None:
        return label(" | ".join(allowed)), digest
    words = dict.fromkeys(line.split())  # a set in the order of the line
    nearest = min(allowed, key=lambda one: len({*one.split()} ^ words.keys()))
    held = {*nearest.split()}
    missing = [word for word in nearest.split() if word not in words]
    added = [word for word in words if word not in held]
    if not missing and not added:
        return label(nearest), label(line)
    return label(" ".join(missing) or "no more words"), label(" ".join(added) or "no such words")


def _digests(line: str, register: int) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(form).digest() for form in _forms(line, register))


def _forms(line: str, register: int) -> tuple[bytes, ...]:
    """Return the bytes that may be measured into a register for a command line.

    8: GRUB, the text. 9: the Linux EFI stub, what the boot loader passed on: with a NUL from
    systemd-stub, without one and with a word more from GRUB. 11: the section `.cmdline`, as it
    was built. 12: systemd's, for a line that was not built in.
    """
    text, wide = line.encode(), line.encode("utf-16-le")
    told = f"BOOT_IMAGE={line}".encode("utf-16-le")
    forms = {
        8: (text,),
        9: (wide, wide + bytes(2), told, told + bytes(2)),
        11: (text, text + b"\n", text + b"\0"),
        12: (wide + bytes(2),),
    }
    return forms.get(register, ())
