"""Commands for people who have files: each reads one, judges it, and prints what it found."""

import json
from itertools import groupby
from pathlib import Path
from typing import Any

from evidence import Malformed
from evidence.event_log import MOST_LOG_BYTES, EventLog
from verifier.check_log import CheckedLog, check_log, detail, log_hash_of
from verifier.event_log import JudgedLog, judge_event_log
from verifier.hints import next_step
from verifier.ledger import findings_json
from verifier.reasons import Reason, label

MOST_LIST_BYTES = 512 << 20
"""Some four million records."""

_SECURE_BOOT = {True: "on", False: "off", None: "unknown"}


def check_event_log(path: Path, *, is_json: bool, is_quiet: bool) -> bool:
    """Print what a boot event log leads to; return whether it can be what firmware wrote."""
    judged = judge_event_log(EventLog.decode(read_bounded(path, MOST_LOG_BYTES)))
    answer = event_log_json(judged)
    if is_json:
        print(json.dumps(answer, indent=2))
        return not judged.refusals
    if not is_quiet:
        print(f"events       {judged.events}")
        print(f"secure boot  {_SECURE_BOOT[judged.secure_boot]}")
        for bank, registers in answer["pcrs"].items():
            for register, value in registers.items():
                print(f"{bank:<9} {register:>2}  {value}")
    print_findings("refused", findings_json(judged.refusals))
    print_findings("note", [] if is_quiet else findings_json(judged.notes))
    return not judged.refusals


def check_measurement_list(
    path: Path, *, log_hash: str | None, is_ascii: bool, is_json: bool, is_quiet: bool
) -> bool:
    """Print what a measurement list says; return whether its template hashes are its data's."""
    checked = check_log(
        read_bounded(path, MOST_LIST_BYTES),
        log_hash=log_hash or log_hash_of(path.name),
        is_ascii=is_ascii,
    )
    if is_json:
        print(json.dumps(checked.answer(), indent=2))
        return checked.is_consistent
    if not is_quiet:
        _print_list(checked)
    for reason, findings in groupby(checked.findings, lambda one: one.reason):
        if not is_quiet or reason is Reason.LIST_TEMPLATE_HASH:
            for one in findings:
                print(f"finding  {reason}  {detail(one)}")
            print(f"  {'next':<9} {next_step(reason)}")
    return checked.is_consistent


def _print_list(checked: CheckedLog) -> None:
    print(f"{checked.entries} entries, {checked.violations} violations")
    for template, count in checked.templates.items():
        print(f"template  {label(template)}  {count}")
    for bank, registers in checked.pcrs.items():
        for register, value in registers.items():
            print(f"pcr  {bank}:{register}  {value}")


def event_log_json(judged: JudgedLog) -> dict[str, Any]:
    """Return the answer of `check-eventlog --json`."""
    pcrs = {
        bank: {str(register): value.hex() for register, value in registers.items()}
        for bank, registers in judged.registers.items()
    }
    return {
        "events": judged.events,
        "pcrs": pcrs,
        "secure_boot": judged.secure_boot,
        "findings": findings_json([*judged.refusals, *judged.notes]),
    }


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a file; raise Malformed where there are more than `most_bytes`."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise Malformed(f"{path}: expected at most {most_bytes} bytes")
    return data


def print_findings(word: str, findings: list[dict[str, str]]) -> None:
    """Print findings as a refusal is printed: the reason, then what, expected, found."""
    for one in findings:
        print(f"{word:<8} {one['reason']}")
        for name in ("what", "expected", "found"):
            if one[name]:
                print(f"  {name:<9} {one[name]}")
