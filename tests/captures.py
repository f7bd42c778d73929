"""Captures of this project's lab: files in a directory, and what our own code says of them.

`python -m swtpm capture` makes them (`swtpm/capture.py` says what is in them). The quote of a
capture answers nobody's challenge, so what an appraisal needs besides is put in its place here.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evidence import tpm
from evidence.ima import Record, read_records
from evidence.messages import Body
from swtpm import kernel_policy
from swtpm.capture import LIST
from tests.simulated_node import make_challenge
from verifier.attestation_key import AttestationKey, verify_ak
from verifier.boot import verify_boot
from verifier.check_log import CheckedLog, check_log, log_hash_of
from verifier.instance import AcceptedInstance
from verifier.kernel_policy import RuledList, verify_kernel_policy
from verifier.policy import Policy, build_policy
from verifier.quote import VerifiedQuote
from verifier.reasons import Reason
from verifier.replay import replay_list

VECTORS = Path(__file__).resolve().parent / "vectors"
"""Captures that are kept; its README says how each was made."""


def lab_policy() -> Policy:
    """Return a policy that knows the lab's kernel policy, and nothing else."""
    return build_policy(
        version=1,
        trust_domain="example.org",
        sets=(),
        workloads=(),
        kernel_policies=(hashlib.sha256(kernel_policy.render()).digest(),),
    )


@dataclass(frozen=True, kw_only=True)  # no slots: some values are worked out once and kept
class Capture:
    """One directory."""

    folder: Path

    def read(self, name: str) -> bytes:
        """Return a file."""
        return (self.folder / name).read_bytes()

    def lists(self) -> Iterator[tuple[str, CheckedLog]]:
        """Yield name and content of each list, in text or not, as `check-log` reads it."""
        for path in sorted(self.folder.glob("*_runtime_measurements*")):
            is_ascii = path.name.startswith("ascii")
            algorithm = log_hash_of(path.name)
            yield path.name, check_log(path.read_bytes(), log_hash=algorithm, is_ascii=is_ascii)

    @cached_property
    def registers(self) -> dict[str, dict[str, str]]:
        """What the TPM held after the last list was read: bank -> register -> value."""
        found: dict[str, dict[str, str]] = json.loads(self.read("pcrs.json"))
        return found

    @cached_property
    def told(self) -> dict[str, Any]:
        """How it was made."""
        found: dict[str, Any] = json.loads(self.read("capture.json"))
        return found

    @cached_property
    def ak(self) -> AttestationKey:
        """The key that signed the quote."""
        data = self.read("ak.pub")
        assert int.from_bytes(data[:2], "big") == len(data) - 2
        return verify_ak(data[2:], Reason.QUOTE_AK)

    @cached_property
    def attest(self) -> tpm.Attest:
        """What was signed."""
        message = self.read("quote.msg")
        assert self.ak.has_signed(message, tpm.Signature.decode(self.read("quote.sig")))
        return tpm.Attest.decode(message)

    def records(self) -> list[Record]:
        """Return the list as evidence has it."""
        return list(read_records(self.read(LIST)))

    def matches(self) -> list[tuple[int, dict[str, str]]]:
        """Return the prefixes of the list that lead to the quote, and the registers then."""
        return list(matches(self.records(), self.attest, self.registers["sha256"]))

    def judge(self) -> RuledList:
        """Return the list as an appraisal judges it; raise Rejected as one does."""
        [(_, values)] = self.matches()
        registers = tuple(bytes.fromhex(values[str(number)]) for number in range(16))
        quote = VerifiedQuote(
            ak=self.ak,
            challenge=make_challenge("node"),
            body=Body(boot="", kernel="", instances=(), new=(), known=()),
            registers=registers,
            clock_info=self.attest.clock_info,
            firmware_version=self.attest.firmware_version,
        )
        replayed = replay_list(
            AcceptedInstance(quote=quote, instance=b"", is_same=False),
            records=self.read(LIST),
            checkpoint=None,
            measured=(),
            policy=lab_policy(),
        )
        booted = verify_boot(replayed, policy=lab_policy())
        return verify_kernel_policy(booted, policy=lab_policy())


def matches(
    records: list[Record], attest: tpm.Attest, registers: dict[str, str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield, for each prefix of a list that leads to a quote of sha256, its length and registers.

    `registers` are those that the list does not extend.
    """
    assert isinstance(attest.attested, tpm.Quote)
    [selection] = attest.attested.selections
    assert selection.bank == tpm.ALG_SHA256
    values = {number: bytes.fromhex(value) for number, value in registers.items()}
    values |= {str(record.register): bytes(32) for record in records}
    for count, record in enumerate(records, 1):
        before = values[str(record.register)]
        values[str(record.register)] = hashlib.sha256(before + record.extension("sha256")).digest()
        quoted = b"".join(values[str(number)] for number in selection.registers)
        if hashlib.sha256(quoted).digest() == attest.attested.digest:
            yield count, {number: value.hex() for number, value in values.items()}


def check_capture(capture: Capture) -> tuple[str, ...]:
    """Assert what holds of every capture, whatever its template; return the padded banks."""
    check_lists(capture)
    check_quote(capture)
    return tuple(check_registers(capture))


def check_lists(capture: Capture) -> None:
    """Every list is consistent, and says the same."""
    read = dict(capture.lists())
    last = read.pop(LIST)
    before = read.pop(f"before_quote.{LIST}")
    assert before.entries < last.entries
    for name, checked in {LIST: last, **read}.items():
        assert checked.is_consistent, name
        assert Reason.LIST_TEMPLATE not in {one.reason for one in checked.findings}, name
        said = (checked.entries, checked.violations, checked.templates)
        assert said == (last.entries, last.violations, last.templates), name


def check_registers(capture: Capture) -> Iterator[str]:
    """The list leads to what the TPM held in each bank; yield those with SHA-1 and zeros."""
    computed = check_log(capture.read(LIST)).pcrs
    for bank, held in capture.registers.items():
        if computed[bank].items() <= held.items():
            continue
        assert bank in ("sha384", "sha512")
        assert padded(capture.records(), bank).items() <= held.items()
        yield bank


def padded(records: list[Record], bank: str) -> dict[str, str]:
    """Return where a list leads whose kernel cannot compute the algorithm of a bank."""
    values: dict[int, bytes] = {}
    for record in records:
        before = values.get(record.register, bytes(hashlib.new(bank).digest_size))
        extended = hashlib.new(bank, before + record.padded_extension(bank)).digest()
        values[record.register] = extended
    return {str(register): value.hex() for register, value in values.items()}


def check_quote(capture: Capture) -> None:
    """The quote is the AK's, bound to the nonce, and taken between the two lists."""
    attest = capture.attest
    assert isinstance(attest.attested, tpm.Quote)
    assert attest.extra_data == bytes.fromhex(capture.told["nonce"])
    assert attest.qualified_signer == capture.ak.qualified_name
    [selection] = attest.attested.selections
    assert (selection.bank, selection.registers) == (tpm.ALG_SHA256, tuple(range(16)))
    [(matched, _)] = capture.matches()
    before = list(read_records(capture.read(f"before_quote.{LIST}")))
    assert len(before) <= matched <= len(capture.records())
    assert capture.records()[: len(before)] == before
