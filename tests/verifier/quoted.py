"""Quotes in files: of our own making, and others that several tests read."""
# ruff: noqa: ANN401 - `changes` are fields of any type, keys are of several

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization

from evidence import tpm
from evidence.event_log import EFI_ACTION, POST_CODE, SEPARATOR, EventLog, SpecId
from evidence.ima import Record
from tests.shared_vectors import VECTORS
from tests.simulated_keys import AK_KINDS, make_ak, make_signature, sha256
from tests.simulated_node import make_record
from tests.verifier.test_event_log import make_event
from verifier.check_quote import CheckedQuote, check_quote
from verifier.event_log import judge_event_log
from verifier.quote_files import QuoteFiles
from verifier.quoted_registers import Register, digest_of, reset_value
from verifier.reasons import Reason
from verifier.tolerance import tolerate

NONCE = bytes(range(16))
UNCHECKED = frozenset({Reason.QUOTE_AK_UNCHECKED})
SHA1 = frozenset({Reason.QUOTE_SHA1})


def refusals(files: QuoteFiles) -> set[Reason]:
    """Return why the quote is rejected: nothing where it is accepted."""
    checked = check_quote(files)
    assert checked.is_accepted == (not checked.refused)
    assert checked.refused <= {one.reason for one in checked.findings}
    return set(checked.refused)


def notes(checked: CheckedQuote) -> set[Reason]:
    return {one.reason for one in checked.findings} - checked.refused


class Quoted:
    """A TPM's registers and key, quoted however a test wants it."""

    def __init__(self, kind: str = "P-256, ECDSA, SHA-256") -> None:
        self.kind = AK_KINDS[kind]
        self.key, self.public = make_ak("quoted", self.kind)
        self.values: dict[Register, bytes] = {}
        self.changes: dict[str, Any] = {}

    def bank(self, *banks: str, numbers: tuple[int, ...] = (0, 7, 10)) -> "Quoted":
        """Quote these registers of these banks, with values of some boot."""
        for bank in banks:
            for number in numbers:
                self.values[bank, number] = hashlib.new(bank, b"%d" % number).digest()
        return self

    def selections(self) -> tuple[tpm.PcrSelection, ...]:
        ids = {name: id_ for id_, name in tpm.HASHES.items()}
        banks = dict.fromkeys(bank for bank, _ in self.values)
        return tuple(
            tpm.PcrSelection(
                bank=ids[bank], registers=tuple(n for one, n in self.values if one == bank)
            )
            for bank in banks
        )

    def message(self) -> bytes:
        digest = digest_of(self.values.values(), tpm.HASHES[self.kind.hash])
        fields: dict[str, Any] = {
            "qualified_signer": self.public.qualified_name(tpm.hierarchy_name(tpm.RH_ENDORSEMENT)),
            "extra_data": NONCE,
            "clock_info": tpm.ClockInfo(clock=1, reset_count=2, restart_count=3, safe=True),
            "firmware_version": 4,
            "attested": tpm.Quote(selections=self.selections(), digest=digest),
        }
        return tpm.Attest(**(fields | self.changes)).encode()

    def files(self, **changes: Any) -> QuoteFiles:
        message = self.message()
        fields: dict[str, Any] = {
            "message": message,
            "signature": make_signature(self.key, self.kind, message),
            "ak": self.public.encode(),
            "nonce": NONCE,
            "values": self.values,
        }
        return QuoteFiles(**(fields | changes))


def pem(key: Any) -> bytes:
    return bytes(
        key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def selection(bank: int, *registers: int, size: int = 3) -> tpm.PcrSelection:
    return tpm.PcrSelection(bank=bank, registers=registers, size_bytes=size)


FIRMWARE = {number: sha256(b"firmware %d" % number) for number in range(10)}


def extended(bank: str, records: list[Record], register: int, *, padded: bool = False) -> bytes:
    value = reset_value((bank, register))
    for record in records:
        if record.register == register:
            extension = record.padded_extension(bank) if padded else record.extension(bank)
            value = hashlib.new(bank, value + extension).digest()
    return value


def aggregate_of(numbers: range, name: str = "boot_aggregate") -> Record:
    return make_record(name, sha256(b"".join(FIRMWARE[number] for number in numbers)))


AGGREGATE = aggregate_of(range(10))
LIST = [
    AGGREGATE,
    make_record("/usr/bin/a", sha256(b"a")),
    make_record("/usr/bin/b", sha256(b"b"), register=11),
    make_record("/usr/bin/c", sha256(b"c")),
]


def encoded(records: list[Record]) -> bytes:
    return b"".join(record.encode() for record in records)


def quoted_list(
    records: list[Record], *, more: tuple[Record, ...] = (), padded: bool = False
) -> tuple[Quoted, QuoteFiles]:
    """Return a quote after `records` of a list that goes on; the boot registers are given."""
    quoted = Quoted()
    firmware = {("sha256", number): value for number, value in FIRMWARE.items()}
    quoted.values = dict(firmware)
    moved = {10, *(record.register for record in (*records, *more))}
    for register in sorted(moved):
        value = extended("sha256", records, register, padded=padded)
        quoted.values["sha256", register] = value
    return quoted, quoted.files(values=firmware, ima_log=encoded([*records, *more]))


ACTION = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")


def boot_log() -> EventLog:
    """Return the log of a boot that extends registers 0 to 7, and 11, in two banks."""
    events = [make_event(number, POST_CODE, b"code %d" % number) for number in range(8)]
    events += [make_event(number, SEPARATOR, bytes(4)) for number in range(8)]
    events += [make_event(5, EFI_ACTION, action) for action in ACTION]
    events.append(make_event(11, POST_CODE, b"stub"))
    spec = SpecId(
        register=0,
        digest=bytes(20),
        platform_class=0,
        minor=0,
        major=2,
        errata=0,
        pointer_size=2,
        algorithms=((0x4, 20), (0xB, 32)),
        vendor=b"",
    )
    return EventLog(spec=spec, events=tuple(events))


def quoted_boot(numbers: range | tuple[int, ...], *banks: str) -> tuple[Quoted, bytes]:
    log = boot_log()
    registers = judge_event_log(log).registers
    quoted = Quoted()
    for bank in banks or ("sha256",):
        for number in numbers:
            one = (bank, number)
            quoted.values[one] = registers[bank].get(number, reset_value(one))
    return quoted, log.encode()


def read(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def read_json(name: str) -> Any:
    return json.loads(read(name))


def banks_of(pcrs: Mapping[str, Mapping[str, str]]) -> dict[Register, bytes]:
    return {
        (bank, int(number)): bytes.fromhex(value)
        for bank, values in pcrs.items()
        for number, value in values.items()
    }


def generated(name: str) -> QuoteFiles:
    vectors = read_json("generated-swtpm/index.json")["vectors"]
    entry = vectors[name]
    ak = entry.get("ak", name.rpartition(".")[0] or name)
    message = "attest" if name == "certify-creation" else "quote"
    values = banks_of(entry.get("pcrs") or entry.get("claimed") or {})
    if name == "owner-ak":  # of the same TPM at the same time as the others
        values = banks_of({"sha256": {"10": vectors["rsapss-sha256.one"]["pcrs"]["sha256"]["10"]}})
    return QuoteFiles(
        message=read(f"generated-swtpm/{name}.{message}"),
        signature=read(f"generated-swtpm/{entry.get('sig', f'{name}.sig')}"),
        ak=read(f"generated-swtpm/{ak}.ak.tpm2b_public"),
        nonce=bytes.fromhex(entry.get("nonce", "00" * 32)),
        values=values,
    )


KERNEL_NONCE = bytes.fromhex("00112233445566778899aabbccddeeff")


def kernel(name: str, **changes: Any) -> QuoteFiles:
    folder = f"kernels/{name}"
    logs = {"ima_log": "binary_runtime_measurements", "event_log": "binary_bios_measurements"}
    fields: dict[str, Any] = {
        "message": read(f"{folder}/quote.msg"),
        "signature": read(f"{folder}/quote.sig"),
        "ak": read(f"{folder}/ak.pub"),
        "nonce": KERNEL_NONCE,
        "tolerated": tolerate(asked=UNCHECKED),
    }
    fields |= {name: read(f"{folder}/{log}") for name, log in logs.items() if name not in changes}
    return QuoteFiles(**(fields | changes))
