"""Commands for people who have files: each reads one, judges it, and prints what it found."""

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from evidence import Malformed
from evidence.event_log import MOST_LOG_BYTES
from evidence.malformed import naming
from verifier.check_log import CheckedLog, check_log, detail, log_hash_of
from verifier.check_quote import CheckedQuote, check_quote
from verifier.hints import next_step, next_step_for_files
from verifier.quote_files import MOST_NONCE_BYTES, MOST_SMALL_BYTES, QuoteFiles, read_registers
from verifier.reasons import Reason, Rejected, label
from verifier.tolerance import read_policy, tolerate

MOST_LIST_BYTES = 512 << 20
"""Some four million records."""


def check_measurement_list(
    path: Path, *, log_hash: str | None, is_ascii: bool, is_json: bool, is_quiet: bool
) -> bool:
    """Print what a measurement list says; return whether its template hashes are its data's."""
    data = read_bounded(path, MOST_LIST_BYTES)
    with naming(f"{path}"):
        checked = check_log(data, log_hash=log_hash or log_hash_of(path.name), is_ascii=is_ascii)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenQuote:
    """What `check-quote` was called with."""

    message: Path
    signature: Path
    ak: Path
    nonce: str
    """Hexadecimal."""
    registers: tuple[str, ...]
    """Each `BANK:N=HEX`."""
    ima_log: Path | None
    log_hash: str | None
    """None for what the list's name says, SHA-1 where it says nothing."""
    event_log: Path | None
    policy: Path | None
    tolerates_unchecked_ak: bool
    tolerates_sha1: bool
    tolerates_padded_sha1: bool

    def read(self) -> QuoteFiles:
        """Return what the files hold; raise Malformed where something is given wrongly."""
        small = (read_bounded(one, MOST_SMALL_BYTES) for one in (self.message, self.signature))
        message, signature = small
        name = "" if self.ima_log is None else self.ima_log.name
        return QuoteFiles(
            message=message,
            signature=signature,
            ak=read_bounded(self.ak, MOST_SMALL_BYTES),
            nonce=_nonce(self.nonce),
            values=read_registers(self.registers),
            ima_log=None if self.ima_log is None else read_bounded(self.ima_log, MOST_LIST_BYTES),
            log_hash=self.log_hash or log_hash_of(name) or "sha1",
            event_log=(
                None if self.event_log is None else read_bounded(self.event_log, MOST_LOG_BYTES)
            ),
            tolerated=tolerate(asked=self._asked(), rejected=self._rejected()),
        )

    def _asked(self) -> frozenset[Reason]:
        asked = {
            Reason.QUOTE_AK_UNCHECKED: self.tolerates_unchecked_ak,
            Reason.QUOTE_SHA1: self.tolerates_sha1,
            Reason.LIST_PADDED_BANK: self.tolerates_padded_sha1,
        }
        return frozenset(reason for reason, is_asked in asked.items() if is_asked)

    def _rejected(self) -> frozenset[Reason]:
        if self.policy is None:
            return frozenset()
        try:
            text = read_bounded(self.policy, MOST_SMALL_BYTES).decode("utf-8")
            return read_policy(text)
        except UnicodeDecodeError as error:
            raise Malformed(f"{self.policy}: expected UTF-8") from error
        except Rejected as rejected:
            raise misuse_of(self.policy, rejected) from rejected


def _nonce(text: str) -> bytes:
    try:
        nonce = bytes.fromhex(text)
    except ValueError as error:
        raise Malformed(f"expected a nonce in hexadecimal, got {text[:80]!r}") from error
    if not 0 < len(nonce) <= MOST_NONCE_BYTES:
        raise Malformed(f"expected a nonce of 1 to {MOST_NONCE_BYTES} bytes, got {len(nonce)}")
    return nonce


def check_quote_files(given: GivenQuote, *, is_json: bool, is_quiet: bool) -> bool:
    """Print whether a quote is genuine; return it."""
    checked = check_quote(given.read())
    if is_json:
        print(json.dumps(checked.answer(), indent=2))
    else:
        _print_quote(checked, is_quiet=is_quiet)
    return checked.is_accepted


def _print_quote(checked: CheckedQuote, *, is_quiet: bool) -> None:
    """Print the answer for people: a quiet one is why it is no."""
    if not is_quiet:
        print("accepted" if checked.is_accepted else "rejected")
        for name, value in checked.quote.items():
            print(f"  {name.replace('_', ' '):<16}  {_text(value)}")
        if checked.ima is not None:
            reached = "none" if checked.ima.matched is None else checked.ima.matched
            print(f"  {'list entries':<16}  {checked.ima.entries}, of which quoted {reached}")
            print(f"  {'violations':<16}  {checked.ima.violations}")
    for reason, findings in groupby(checked.findings, lambda one: one.reason):
        is_refused = reason in checked.refused
        if is_quiet and not is_refused:
            continue
        for one in findings:
            print(f"{'refused' if is_refused else 'note':<8} {reason}  {detail(one)}")
        if is_refused:
            print(f"  {'next':<9} {next_step_for_files(reason)}")


def _text(value: object) -> str:
    """Return the quoted registers as tpm2-tools write them, and anything else as it is."""
    if not isinstance(value, dict):
        return f"{value}" or "-"
    return "+".join(f"{bank}:{','.join(map(str, numbers))}" for bank, numbers in value.items())


def misuse_of(path: Path, rejected: Rejected) -> Malformed:
    """Return that a file somebody compares with is not one: nothing has been judged by it."""
    return Malformed(f"{path}: {detail(rejected.findings[0])}")


def read_text(path: Path, most_bytes: int) -> str:
    """Return the text of a file in UTF-8; raise Malformed where it is none, or too long."""
    try:
        return read_bounded(path, most_bytes).decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"{path}: expected UTF-8") from error


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a file; raise Malformed where there are more than `most_bytes`."""
    with path.open("rb") as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise Malformed(f"{path}: expected at most {most_bytes} bytes")
    return data
