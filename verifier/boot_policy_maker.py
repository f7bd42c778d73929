"""Boot policies from the event logs of boots that are known to be good: that is the caller's word.

The policy accepts these boots and what can be put together from them, in the registers that are
judged by default: an operator reads it before it counts.
"""

from collections.abc import Iterable
from dataclasses import replace

from evidence.event_log import EventLog
from verifier.boot_events import command_line_of, event_label
from verifier.boot_judgement import OPEN_REGISTERS, implied_digests, judge_boot
from verifier.boot_policy import JUDGEABLE_REGISTERS, encode_boot_policy, read_boot_policy
from verifier.policy import BootPolicy
from verifier.reasons import Rejected
from verifier.sound_log import SoundLog, demand_sound, digest_of, is_secure

Registers = dict[int, dict[str, tuple[bytes, ...]]]


def make_boot_policy(  # noqa: PLR0913 - a policy is made of this
    name: str,
    logs: Iterable[EventLog],
    *,
    command_lines: Iterable[str] = (),
    phases: Iterable[str] = (),
    nodes: Iterable[str] = (),
    source: str = "",
) -> BootPolicy:
    """Return the policy; raise Rejected where none can accept one of the logs.

    A command line is taken from a log that holds it; `command_lines` are those of which a log
    has the digest only, and others that shall be accepted.
    """
    sound = [demand_sound(log) for log in logs]
    lines = dict.fromkeys([*command_lines, *(line for log in sound for line in _lines(log))])
    bare = BootPolicy(
        name=name,
        secure_boot=all(map(is_secure, sound)),
        command_lines=tuple(lines),
        registers={},
        phases=tuple(phases),
        nodes=tuple(nodes),
        source=source,
    )
    policy = _with_digests(bare, sound)
    findings = [finding for log in sound for finding in judge_boot(log, policy)]
    if findings:
        raise Rejected(findings)
    return read_boot_policy(encode_boot_policy(policy))  # what cannot be stored is none


def _lines(sound: SoundLog) -> Iterable[str]:
    return (line for line in map(command_line_of, sound.log.events) if line is not None)


def _with_digests(bare: BootPolicy, sound: Iterable[SoundLog]) -> BootPolicy:
    """Return the policy with whatever extends a judged register, and is not implied."""
    judged = [one for one in JUDGEABLE_REGISTERS if one not in OPEN_REGISTERS]
    implied = {register: implied_digests(bare, register) for register in judged}
    registers: Registers = {}
    for log in sound:
        for event in log.log.events:
            if not event.is_measured or event.register not in implied:
                continue
            digest = digest_of(event)
            if digest not in implied[event.register]:
                table = registers.setdefault(event.register, {})
                name = event_label(event)
                table[name] = tuple(dict.fromkeys([*table.get(name, ()), digest]))
    return replace(bare, registers=dict(sorted(registers.items())))
