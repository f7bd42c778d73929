"""Captures of this project's lab: files in a directory, and what our own code says of them.

`python -m swtpm capture` makes them (`swtpm/capture.py` says what is in them).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evidence.ima import Measurement, Record, read_measurement, read_records
from swtpm import kernel_policy
from swtpm.capture import LIST
from verifier.check_log import CheckedLog, check_log, log_hash_of
from verifier.check_quote import CheckedQuote, check_quote
from verifier.quote_files import QuoteFiles
from verifier.reasons import Reason

POLICY = b"/sysroot/etc/ima/ima-policy"
"""The lab's kernel policy, as the kernel names it."""


@dataclass(frozen=True, kw_only=True)  # no slots: some values are worked out once and kept
class Capture:
    """One directory."""

    folder: Path

    def read(self, name: str) -> bytes:
        """Return a file."""
        return (self.folder / name).read_bytes()

    @cached_property
    def told(self) -> dict[str, Any]:
        """How it was made."""
        found: dict[str, Any] = json.loads(self.read("capture.json"))
        return found

    @cached_property
    def registers(self) -> dict[str, dict[str, str]]:
        """What the TPM held after the last list was read: bank -> register -> value."""
        found: dict[str, dict[str, str]] = json.loads(self.read("pcrs.json"))
        return found

    @cached_property
    def records(self) -> list[Record]:
        """The list as evidence has it."""
        return list(read_records(self.read(LIST)))

    @cached_property
    def lists(self) -> dict[str, CheckedLog]:
        """Each list by its file's name, in text or not, as `check-log` reads it."""
        return {
            path.name: check_log(
                path.read_bytes(),
                log_hash=log_hash_of(path.name),
                is_ascii=path.name.startswith("ascii"),
            )
            for path in sorted(self.folder.glob("*_runtime_measurements*"))
        }

    def check_quote(self, ima_log: str = LIST) -> CheckedQuote:
        """Return what `check-quote` says, no register's value being given."""
        return check_quote(
            QuoteFiles(
                message=self.read("quote.msg"),
                signature=self.read("quote.sig"),
                ak=self.read("ak.pub"),
                nonce=bytes.fromhex(self.told["nonce"]),
                ima_log=self.read(ima_log),
                log_hash=log_hash_of(ima_log) or "sha1",
                event_log=self.read("eventlog.bin"),
            )
        )

    def early(self) -> list[Measurement]:
        """Return what was measured before the kernel policy, critical data aside."""
        digest = hashlib.sha256(kernel_policy.render()).digest()
        measured = [read_measurement(one) for one in self.records[1:] if not one.is_violation]
        files = [one for one in measured if not one.buffer]
        [index] = [at for at, one in enumerate(files) if one.path == POLICY]
        assert files[index].digest == digest
        return files[:index]


def check_capture(capture: Capture, *, refused: frozenset[Reason] = frozenset()) -> tuple[str, ...]:
    """Assert what holds of every capture, whatever its template; return the padded banks."""
    check_lists(capture)
    check_matched(capture, refused)
    return tuple(check_registers(capture))


def check_lists(capture: Capture) -> None:
    """Every list is consistent, and says the same."""
    read = dict(capture.lists)
    before, last = read.pop(f"before_quote.{LIST}"), read.pop(LIST)
    assert before.entries < last.entries
    for name, checked in {LIST: last, **read}.items():
        assert checked.is_consistent, name
        assert Reason.LIST_TEMPLATE not in {one.reason for one in checked.findings}, name
        said = (checked.entries, checked.violations, checked.templates)
        assert said == (last.entries, last.violations, last.templates), name


def check_matched(capture: Capture, refused: frozenset[Reason]) -> None:
    """The quote is genuine, proves event log and list, and was taken between the two lists."""
    checked = capture.check_quote()
    assert checked.refused == refused
    assert refused or checked.quote["boot_aggregate"] == "sha256:0-9"
    assert checked.ima is not None
    assert checked.ima.matched is not None
    before = list(read_records(capture.read(f"before_quote.{LIST}")))
    assert capture.records[: len(before)] == before
    assert len(before) <= checked.ima.matched <= len(capture.records)


def check_registers(capture: Capture) -> Iterator[str]:
    """The list leads to what the TPM held in each bank; yield those with SHA-1 and zeros."""
    computed = capture.lists[LIST].pcrs
    for bank, held in capture.registers.items():
        if computed[bank].items() <= held.items():
            continue
        assert bank in ("sha384", "sha512")
        assert padded(capture.records, bank).items() <= held.items()
        yield bank


def padded(records: list[Record], bank: str) -> dict[str, str]:
    """Return where a list leads whose kernel cannot compute the algorithm of a bank."""
    values: dict[int, bytes] = {}
    for record in records:
        before = values.get(record.register, bytes(hashlib.new(bank).digest_size))
        extended = hashlib.new(bank, before + record.padded_extension(bank)).digest()
        values[record.register] = extended
    return {str(register): value.hex() for register, value in values.items()}
