"""Commands for people who have boot event logs: judge one, make a boot policy from some."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from evidence import Malformed
from evidence.event_log import ALGORITHMS, MOST_LOG_BYTES, EventLog
from verifier.boot_events import Kind, command_line_of, event_label, kind_of
from verifier.boot_judgement import judge_boot
from verifier.boot_policy import encode_boot_policy, read_boot_policy
from verifier.boot_policy_maker import make_boot_policy
from verifier.check_log import details
from verifier.event_log import JudgedLog, judge_event_log
from verifier.file_tools import misuse_of, read_bounded, read_text
from verifier.ledger import findings_json
from verifier.reasons import Finding, Rejected, label, printable
from verifier.sound_log import demand_sound

MOST_POLICY_BYTES = 1 << 20

_FACTS = {
    Kind.VARIABLE: "variables",
    Kind.AUTHORITY: "authorities",
    Kind.IMAGE: "images",
    Kind.COMMAND_LINE: "command_lines",
}
_SECURE_BOOT = {True: "on", False: "off", None: "unknown"}


def check_event_log(path: Path, *, policy_path: Path | None, is_json: bool, is_quiet: bool) -> bool:
    """Print what a boot event log leads to.

    Return whether it can be what firmware wrote, and fits the boot policy where one is given.
    """
    log = _read_log(path)
    judged = judge_event_log(log)
    refusals = [*judged.refusals]
    if policy_path is not None and not refusals:
        refusals += _judge_by(policy_path, log)
    answer = event_log_json(log, judged, refusals)
    if is_json:
        print(json.dumps(answer, indent=2))
        return not refusals
    if not is_quiet:
        print(f"events       {judged.events}")
        print(f"secure boot  {_SECURE_BOOT[judged.secure_boot]}")
        for bank, registers in answer["pcrs"].items():
            for register, value in registers.items():
                print(f"{bank:<9} {register:>2}  {value}")
    print_findings("refused", findings_json(refusals))
    print_findings("note", [] if is_quiet else findings_json(judged.notes))
    return not refusals


def _read_log(path: Path) -> EventLog:
    data = read_bounded(path, MOST_LOG_BYTES)
    try:
        return EventLog.decode(data)
    except Malformed as malformed:
        raise Malformed(f"{path}: {malformed}; is this a boot event log?") from malformed


def _judge_by(policy_path: Path, log: EventLog) -> tuple[Finding, ...]:
    """Return why the boot is not as the policy in the file allows."""
    text = read_text(policy_path, MOST_POLICY_BYTES)
    try:
        policy = read_boot_policy(text)
    except Rejected as rejected:
        raise misuse_of(policy_path, rejected) from rejected
    try:
        return judge_boot(demand_sound(log), policy)
    except Rejected as rejected:
        return rejected.findings


def event_log_json(log: EventLog, judged: JudgedLog, refusals: Iterable[Finding]) -> dict[str, Any]:
    """Return the answer of `check-eventlog --json`."""
    pcrs = {
        bank: {str(register): value.hex() for register, value in registers.items()}
        for bank, registers in judged.registers.items()
    }
    return {
        "events": judged.events,
        "pcrs": pcrs,
        "secure_boot": judged.secure_boot,
        "findings": details([*refusals, *judged.notes]),
        "facts": _facts(log),
    }


def _facts(log: EventLog) -> dict[str, list[dict[str, Any]]]:
    """Return, by kind, what the log says of the boot: names are the log's, digests count."""
    facts: dict[str, list[dict[str, Any]]] = {name: [] for name in _FACTS.values()}
    for index, event in enumerate(log.events):
        name = _FACTS.get(kind_of(event))
        if name is None or not event.is_measured:
            continue
        digests = {
            ALGORITHMS[algorithm][0]: digest.hex()
            for algorithm, digest in event.digests
            if algorithm in ALGORITHMS
        }
        place = {"event": index, "register": event.register, "name": event_label(event)}
        text = {"text": command_line_of(event)} if name == "command_lines" else {}
        facts[name].append({**place, **text, "digests": digests})
    return facts


def make_boot_policy_text(
    paths: Sequence[Path],
    *,
    name: str,
    command_lines: Sequence[str],
    phases: Sequence[str],
    nodes: Sequence[str],
) -> str:
    """Return the boot policy, as TOML, that accepts the boots that these event logs are of.

    Raise Malformed where the arguments hold bytes that are no text (a shell passes any).
    """
    for line in command_lines:
        if any("\ud800" <= character <= "\udfff" for character in line):
            raise Malformed(f"expected a command line in UTF-8, got {label(line)}")
    logs = [_read_log(path) for path in paths]
    made = make_boot_policy(
        name,
        logs,
        command_lines=command_lines,
        phases=phases,
        nodes=nodes,
        source=f"event logs {' '.join(label(path.name) for path in paths)}",
    )
    return encode_boot_policy(made)


def print_findings(word: str, findings: list[dict[str, str]]) -> None:
    """Print findings as a refusal is printed: the reason, then what, expected, found."""
    for one in findings:
        print(f"{word:<8} {one['reason']}")
        for name in ("what", "expected", "found"):
            if one[name]:
                print(f"  {name:<9} {printable(one[name])}")
