"""`verifier check-quote`: quotes that others have made, and every rule broken by itself."""
# ruff: noqa: ANN401 - `changes` are fields of any type, keys are of several

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed, tpm
from evidence.event_log import EFI_ACTION, POST_CODE, SEPARATOR, EventLog, SpecId
from evidence.ima import Record, encode_values, read_records
from tests.evidence.shapes import flips
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_node import (
    AK_KINDS,
    AkKind,
    ecc_public,
    make_ak,
    make_record,
    make_signature,
    private_key,
    record_of,
    sha256,
)
from tests.verifier.test_event_log import make_event
from verifier.__main__ import main
from verifier.check_quote import CheckedQuote, check_quote
from verifier.commands import MISUSED, NO, UNKNOWN, YES
from verifier.crypto import tpm_keys
from verifier.event_log import judge_event_log
from verifier.quote_files import QuoteFiles, read_register, read_registers
from verifier.quoted_registers import Register, digest_of, reset_value
from verifier.reasons import Reason, Rejected
from verifier.tolerance import NOTED, REQUESTS, read_policy, tolerate

Out = pytest.CaptureFixture[str]
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


# A quote of our own making


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


@pytest.mark.parametrize("kind", AK_KINDS)
def test_every_kind_of_key(kind: str) -> None:
    quoted = Quoted(kind).bank("sha256")
    checked = check_quote(quoted.files())
    assert checked.is_accepted
    assert not checked.findings
    sized = len(quoted.public.encode()).to_bytes(2, "big") + quoted.public.encode()
    assert not refusals(quoted.files(ak=sized))
    as_pem = quoted.files(ak=pem(quoted.key.public_key()), tolerated=tolerate(asked=UNCHECKED))
    assert notes(check_quote(as_pem)) == {Reason.QUOTE_AK_UNCHECKED}
    assert refusals(replace(as_pem, tolerated=NOTED)) == {Reason.QUOTE_AK_UNCHECKED}


def test_what_the_answer_says() -> None:
    answer = check_quote(Quoted().bank("sha256").files()).answer()
    assert answer["verdict"] == "accepted"
    assert answer["ima"] is None
    quote: Any = answer["quote"]
    assert quote["selection"] == {"sha256": [0, 7, 10]}
    assert (quote["clock"], quote["reset_count"], quote["restart_count"]) == (1, 2, 3)
    assert (quote["safe"], quote["hierarchy"]) == (True, "endorsement")
    assert (quote["scheme"], quote["key"]) == ("ecdsa with sha256", "ECC secp256r1")
    assert quote["firmware_version"] == "0x0000000000000004"


def test_nothing_is_said_of_bytes_that_nobody_signed() -> None:
    files = Quoted().bank("sha256").files()
    other = Quoted("P-256, ECDSA, SHA-256")
    other.key = private_key("another")
    checked = check_quote(replace(files, signature=other.bank("sha256").files().signature))
    assert checked.refused == {Reason.QUOTE_SIGNATURE}
    assert checked.answer()["quote"] == {}


@pytest.mark.parametrize("attributes", [0x40072, 0x10072, 0x70072, 0x50070, 0x50062, 0x50052])
def test_a_key_that_signs_what_it_is_given(attributes: int) -> None:
    quoted = Quoted().bank("sha256")
    weak = ecc_public(quoted.key, attributes=attributes)
    files = quoted.files(ak=weak.encode(), tolerated=tolerate(asked=REQUESTS))
    assert refusals(files) == {Reason.QUOTE_AK}


def test_the_message_does_not_choose_the_scheme() -> None:
    quoted = Quoted("RSA 2048, RSASSA, SHA-256").bank("sha256")
    files = quoted.files()
    pss = make_signature(quoted.key, AK_KINDS["RSA 2048, RSAPSS, SHA-256"], files.message)
    assert refusals(replace(files, signature=pss)) == {Reason.QUOTE_SCHEME}


def test_sha1_signatures_only_where_asked_for() -> None:
    quoted = Quoted("RSA 2048, RSASSA, SHA-256")
    quoted.kind = replace(quoted.kind, hash=tpm.ALG_SHA1)
    scheme = tpm.Scheme(algorithm=tpm.ALG_RSASSA, parameters=(tpm.ALG_SHA1,))
    quoted.public = replace(quoted.public, scheme=scheme)
    files = quoted.bank("sha256").files()
    assert refusals(files) == {Reason.QUOTE_SHA1}
    checked = check_quote(replace(files, tolerated=tolerate(asked=SHA1)))
    assert checked.is_accepted
    assert notes(checked) == {Reason.QUOTE_SHA1}


@pytest.mark.parametrize(
    "extra",
    [NONCE[:-1], NONCE + b"\0", b"\0" + NONCE, b"", NONCE.hex().encode(), NONCE[::-1]],
)
def test_the_nonce_is_exactly_the_expected(extra: bytes) -> None:
    quoted = Quoted().bank("sha256")
    quoted.changes = {"extra_data": extra}
    assert refusals(quoted.files()) == {Reason.QUOTE_NONCE}


def test_an_empty_nonce_is_no_nonce() -> None:
    quoted = Quoted().bank("sha256")
    quoted.changes = {"extra_data": b""}
    assert refusals(quoted.files(nonce=b"")) == {Reason.QUOTE_NONCE}


def test_findings_that_reject_only_by_a_policy() -> None:
    quoted = Quoted().bank("sha256")
    owner = quoted.public.qualified_name(tpm.hierarchy_name(tpm.RH_OWNER))
    clock = tpm.ClockInfo(clock=1, reset_count=2, restart_count=3, safe=False)
    quoted.changes = {"clock_info": clock, "qualified_signer": owner, "extra_data": b"1234"}
    files = quoted.bank("sha256", numbers=(16, 23)).files(nonce=b"1234")
    expected = {
        Reason.QUOTE_CLOCK_UNSAFE,
        Reason.QUOTE_OBFUSCATED,
        Reason.QUOTE_NONCE_SHORT,
        Reason.QUOTE_RESETTABLE,
    }
    assert notes(check_quote(files)) == expected
    for reason in expected:
        strict = tolerate(rejected=read_policy(f'version = 1\nreject = ["{reason}"]\n'))
        assert refusals(replace(files, tolerated=strict)) == {reason}


def test_a_policy_takes_back_what_was_asked_for() -> None:
    quoted = Quoted().bank("sha256")
    rejected = read_policy('version = 1\nreject = ["quote.ak-attributes-unchecked"]')
    tolerated = tolerate(asked=UNCHECKED, rejected=rejected)
    files = quoted.files(ak=pem(quoted.key.public_key()), tolerated=tolerated)
    assert refusals(files) == {Reason.QUOTE_AK_UNCHECKED}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 1",
        "version = 1\nreject = []",
        'version = 2\nreject = ["ima-list.violation"]',
        'version = 1\nreject = ["ima-list.violations"]',
        'version = 1\nreject = ["quote.signature-invalid"]',
        'version = 1\nreject = "ima-list.violation"',
        'version = 1\nreject = ["ima-list.violation"]\naccept = ["quote.sha1"]',
        "version = ",
    ],
)
def test_what_is_no_policy(text: str) -> None:
    with pytest.raises(Rejected):
        read_policy(text)


def test_nothing_essential_can_be_tolerated() -> None:
    asked = frozenset(Reason)
    assert tolerate(asked=asked) == NOTED | REQUESTS
    quoted = Quoted().bank("sha256")
    tolerated = tolerate(asked=asked)
    assert refusals(quoted.files(nonce=b"another nonce", tolerated=tolerated))
    assert refusals(quoted.files(values={}, tolerated=tolerated))


# Which registers


def test_a_signer_that_no_tpm_leaves_out() -> None:
    quoted = Quoted().bank("sha256")
    quoted.changes = {"qualified_signer": b""}
    assert refusals(quoted.files()) == {Reason.QUOTE_SIGNER}


def selection(bank: int, *registers: int, size: int = 3) -> tpm.PcrSelection:
    return tpm.PcrSelection(bank=bank, registers=registers, size_bytes=size)


@pytest.mark.parametrize(
    ("selections", "reason"),
    [
        pytest.param((), Reason.QUOTE_EMPTY, id="none"),
        pytest.param((selection(0xB),), Reason.QUOTE_EMPTY, id="an empty bank"),
        pytest.param((selection(0xB, 0), selection(0xB, 7, 10)), Reason.QUOTE_SELECTION,
                     id="a bank in two parts"),
        pytest.param((selection(0xB, 0, 7, 10), selection(0xB, 0, 7, 10)), Reason.QUOTE_SELECTION,
                     id="a bank twice"),
        pytest.param((selection(0xB, 0, 7, 10, 24, size=4),), Reason.QUOTE_SELECTION,
                     id="a register that there is not"),
        pytest.param((selection(0x12, 0, 7, 10),), Reason.QUOTE_BANK, id="an unknown bank"),
        pytest.param((selection(0xB, 0, 7),), Reason.QUOTE_SELECTION, id="without 10"),
        pytest.param((selection(0xC, 0, 7, 10),), Reason.QUOTE_SELECTION, id="another bank"),
        pytest.param((selection(0xB, 0, 7, 10, 11),), Reason.QUOTE_VALUE_MISSING,
                     id="one more"),
    ],
)  # fmt: skip
def test_the_signed_selection_is_what_counts(
    selections: tuple[tpm.PcrSelection, ...], reason: Reason
) -> None:
    """Values are given for sha256:0, 7 and 10, and their hash is the signed one."""
    quoted = Quoted().bank("sha256")
    digest = digest_of(quoted.values.values(), "sha256")
    quoted.changes = {"attested": tpm.Quote(selections=selections, digest=digest)}
    assert refusals(quoted.files()) == {reason}


def test_a_bitmap_of_another_length_is_the_same_selection() -> None:
    quoted = Quoted().bank("sha256")
    attested = tpm.Quote(
        selections=(selection(0xB, 0, 7, 10, size=2), selection(0x4)),
        digest=digest_of(quoted.values.values(), "sha256"),
    )
    quoted.changes = {"attested": attested}
    assert not refusals(quoted.files())


BANKS: dict[str, tuple[tuple[tuple[str, tuple[int, ...]], ...], set[Reason], set[Reason]]] = {
    "two strong banks": ((("sha256", (0, 10)), ("sha512", (0, 10))), set(), set()),
    "SHA-1 beside another": ((("sha1", (0, 10)), ("sha256", (0, 10))), set(), set()),
    "part of SHA-1 beside another": ((("sha1", (0,)), ("sha256", (0, 10))), set(), set()),
    "SHA-1 alone": ((("sha1", (0, 10)),), {Reason.QUOTE_SHA1}, set()),
    "mixed with SHA-1": (
        (("sha1", (0,)), ("sha256", (10,))), {Reason.QUOTE_BANKS_MIXED}, {Reason.QUOTE_BANKS_MIXED}
    ),
    "mixed": (
        (("sha256", (0,)), ("sha384", (10,))),
        {Reason.QUOTE_BANKS_MIXED},
        {Reason.QUOTE_BANKS_MIXED},
    ),
    "more of SHA-1 than of another": (
        (("sha1", (0, 10)), ("sha256", (10,))), {Reason.QUOTE_SHA1}, set()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BANKS)
def test_banks(name: str) -> None:
    banks, plain, with_sha1 = BANKS[name]
    quoted = Quoted()
    for bank, numbers in banks:
        quoted.bank(bank, numbers=numbers)
    assert refusals(quoted.files()) == plain
    assert refusals(quoted.files(tolerated=tolerate(asked=SHA1))) == with_sha1


def test_values_that_are_not_the_quoted() -> None:
    quoted = Quoted().bank("sha256", "sha512")
    for register in quoted.values:
        wrong = {**quoted.values, register: bytes(len(quoted.values[register]))}
        assert refusals(quoted.files(values=wrong)) == {Reason.QUOTE_DIGEST}
        fewer = {one: value for one, value in quoted.values.items() if one != register}
        assert refusals(quoted.files(values=fewer)) == {Reason.QUOTE_VALUE_MISSING}


@pytest.mark.parametrize(
    "text",
    ["", "sha256:0", "sha256:0=", "sha256:24=" + "00" * 32, "sha256:0=" + "00" * 31,
     "sm3:0=" + "00" * 32, "sha256:-1=" + "00" * 32, "sha256:0=" + "0" * 63,
     "sha256:0=" + "00" * 32 + "\n", " sha256:0=" + "00" * 32, "SHA256:0=" + "00" * 32,
     "sha256:0x0=" + "00" * 32, "sha256:٣=" + "00" * 32],
)  # fmt: skip
def test_a_register_written_otherwise(text: str) -> None:
    with pytest.raises(Malformed):
        read_register(text)


def test_a_register_given_twice() -> None:
    text = "sha1:3=" + "ab" * 20
    assert read_registers([text]) == {("sha1", 3): b"\xab" * 20}
    with pytest.raises(Malformed, match="two"):
        read_registers([text, text])


# With a measurement list


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


def test_a_list_is_followed_to_the_quote() -> None:
    more = make_record("/usr/bin/later", sha256(b"later"))
    _, files = quoted_list(LIST, more=(more, more))
    checked = check_quote(files)
    assert checked.is_accepted
    assert checked.answer()["ima"] == {"entries": 6, "matched": 4, "violations": 0}
    assert notes(checked) == {Reason.LIST_LONGER}
    assert checked.quote["boot_aggregate"] == "sha256:0-9"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_quote_may_be_anywhere_in_the_list(count: int) -> None:
    _, files = quoted_list(LIST[:count], more=tuple(LIST[count:]))
    checked = check_quote(files)
    assert checked.is_accepted
    assert checked.ima is not None
    assert checked.ima.matched == count


def test_a_list_shorter_than_the_quote() -> None:
    records = [record for record in LIST if record.register == 10]
    _, files = quoted_list(records)
    for count in range(1, len(records)):
        checked = check_quote(replace(files, ima_log=encoded(records[:count])))
        assert checked.refused == {Reason.LIST_REPLAY}
        assert checked.ima is not None
        assert checked.ima.matched is None


@pytest.mark.parametrize(
    "mutate",
    [
        pytest.param(lambda records: records[::-1], id="backwards"),
        pytest.param(lambda records: records[1:], id="without the first"),
        pytest.param(lambda records: [records[0], *records], id="the first twice"),
        pytest.param(lambda records: [*records[:3], replace(records[3], register=12)],
                     id="another register"),
        pytest.param(lambda records: [*records[:3], make_record("/usr/bin/d", sha256(b"c"))],
                     id="another path"),
    ],
)  # fmt: skip
def test_a_list_that_was_changed(mutate: Callable[[list[Record]], list[Record]]) -> None:
    _, files = quoted_list(LIST)
    assert refusals(replace(files, ima_log=encoded(mutate(LIST)))) == {Reason.LIST_REPLAY}


def test_a_template_hash_that_is_not_that_of_its_data() -> None:
    """The registers do not depend on it, and it shows that somebody edited the list."""
    forged = [*LIST[:3], replace(LIST[3], template_hash=b"\1" * 20)]
    _, files = quoted_list(LIST)
    files = replace(files, ima_log=encoded(forged))
    assert refusals(files) == {Reason.LIST_TEMPLATE_HASH}


def test_a_quote_of_the_time_before_the_list() -> None:
    """Register 10 is zero: the list leads there with no entry, which proves none."""
    quoted, files = quoted_list([])
    assert not refusals(quoted.files())
    assert refusals(replace(files, ima_log=encoded(LIST))) == {Reason.LIST_REPLAY}


def test_a_list_whose_registers_are_not_quoted() -> None:
    quoted = Quoted().bank("sha256", numbers=(0, 7))
    assert refusals(quoted.files(ima_log=encoded(LIST))) == {Reason.LIST_REPLAY}


def test_a_list_of_which_one_register_is_not_quoted() -> None:
    quoted, _ = quoted_list(LIST)
    del quoted.values["sha256", 11]
    known = {one: value for one, value in quoted.values.items() if one[1] < 10}
    checked = check_quote(quoted.files(values=known, ima_log=encoded(LIST)))
    assert checked.is_accepted
    assert notes(checked) == {Reason.LIST_UNQUOTED}


def test_given_values_of_the_lists_registers() -> None:
    """They have to be the quoted ones, and the list has to lead to them."""
    quoted, files = quoted_list(LIST)
    assert not refusals(replace(files, values=quoted.values))
    only_one = {one: value for one, value in quoted.values.items() if one != ("sha256", 11)}
    assert not refusals(replace(files, values=only_one))
    wrong = {**quoted.values, ("sha256", 10): bytes(32)}
    assert refusals(replace(files, values=wrong)) == {Reason.QUOTE_DIGEST}
    del wrong["sha256", 11]
    assert refusals(replace(files, values=wrong)) == {Reason.LIST_REPLAY}
    shorter = replace(files, values=quoted.values, ima_log=encoded(LIST[:2]))
    assert refusals(shorter) == {Reason.LIST_REPLAY}


def test_registers_that_nobody_gives_are_named() -> None:
    _, files = quoted_list(LIST)
    fewer = {one: value for one, value in files.values.items() if one[1] not in (3, 8)}
    checked = check_quote(replace(files, values=fewer))
    assert checked.refused == {Reason.QUOTE_VALUE_MISSING}
    (missing,) = checked.findings
    assert missing.what == "sha256:3, sha256:8"
    assert "--pcr" in missing.expected


def test_every_bank_of_the_quote_is_followed() -> None:
    quoted = Quoted("P-384, ECDSA, SHA-384")
    for bank in ("sha1", "sha256", "sha384", "sha512"):
        quoted.values[bank, 10] = extended(bank, LIST, 10)
    checked = check_quote(quoted.files(values={}, ima_log=encoded(LIST)))
    assert checked.is_accepted
    assert notes(checked) == {Reason.LIST_UNQUOTED, Reason.BOOT_AGGREGATE_OPEN}
    quoted.values["sha512", 10] = bytes(64)
    assert refusals(quoted.files(values={}, ima_log=encoded(LIST))) == {Reason.LIST_REPLAY}


def test_padded_sha1_only_where_asked_for() -> None:
    _, files = quoted_list(LIST, padded=True)
    checked = check_quote(files)
    assert checked.refused == {Reason.LIST_PADDED_BANK}
    asked = tolerate(asked=frozenset({Reason.LIST_PADDED_BANK}))
    checked = check_quote(replace(files, tolerated=asked))
    assert checked.is_accepted
    assert notes(checked) == {Reason.LIST_PADDED_BANK}


def test_violations_weak_digests_and_strange_templates_reject_only_by_a_policy() -> None:
    violation = replace(make_record("/x", bytes(32)), template_hash=bytes(20))
    records = [
        AGGREGATE,
        violation,
        make_record("/weak", b"m" * 16, algorithm="md5"),
        record_of(b"anything", template="nobody-knows"),
        record_of(encode_values("ima", [b"d" * 20, b"/old"]), template="ima"),
    ]
    records[4] = replace(
        records[4], template_hash=hashlib.sha1(records[4].hashed, usedforsecurity=False).digest()
    )
    _, files = quoted_list(records)
    checked = check_quote(files)
    expected = {
        Reason.LIST_VIOLATION,
        Reason.LIST_DIGEST,
        Reason.LIST_TEMPLATE,
        Reason.LIST_LEGACY,
    }
    assert checked.is_accepted
    assert notes(checked) == expected
    assert checked.ima is not None
    assert checked.ima.violations == 1
    for reason in expected:
        strict = tolerate(rejected=frozenset({reason}))
        assert refusals(replace(files, tolerated=strict)) == {reason}


# The boot aggregate


def sha1_aggregate() -> bytes:
    values = b"".join(hashlib.sha1(b"%d" % number).digest() for number in range(8))
    return hashlib.sha1(values, usedforsecurity=False).digest()


AGGREGATES: dict[str, tuple[list[Record], set[Reason], set[Reason], str]] = {
    "of registers 0 to 9": ([AGGREGATE], set(), set(), "sha256:0-9"),
    "late": ([aggregate_of(range(10), "boot_aggregate_late")], set(), set(), "sha256:0-9"),
    "of registers 0 to 7": (
        [aggregate_of(range(8))], set(), {Reason.BOOT_AGGREGATE_OLD}, "sha256:0-7"
    ),
    "of another boot": (
        [make_record("boot_aggregate", sha256(b"?"))], {Reason.BOOT_AGGREGATE}, set(), ""
    ),
    "zero": (
        [make_record("boot_aggregate", bytes(32))],
        {Reason.BOOT_AGGREGATE},
        {Reason.LIST_DIGEST},
        "",
    ),
    "none": (LIST[1:2], {Reason.BOOT_AGGREGATE_MISSING}, set(), ""),
    "a file of that name": (
        [make_record("/tmp/boot_aggregate", AGGREGATE.data[-32:])],
        {Reason.BOOT_AGGREGATE_MISSING},
        set(),
        "",
    ),
    "not the first": (LIST[1:2] + LIST[:1], {Reason.BOOT_AGGREGATE_MISSING}, set(), ""),
    "SHA-1 zeros": (
        [make_record("boot_aggregate", bytes(20), algorithm="sha1")],
        {Reason.BOOT_AGGREGATE},
        {Reason.LIST_DIGEST},
        "",
    ),
    "SHA-1 of a bank that is not quoted": (
        [make_record("boot_aggregate", sha1_aggregate(), algorithm="sha1")],
        set(),
        {Reason.LIST_DIGEST, Reason.BOOT_AGGREGATE_OPEN},
        "",
    ),
    "again, after a kexec": (
        [AGGREGATE, AGGREGATE], set(), {Reason.BOOT_AGGREGATE_AGAIN}, "sha256:0-9"
    ),
    "again, of another boot": (
        [AGGREGATE, make_record("boot_aggregate", sha256(b"?"))],
        {Reason.BOOT_AGGREGATE},
        {Reason.BOOT_AGGREGATE_AGAIN},
        "sha256:0-9",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AGGREGATES)
def test_boot_aggregate(name: str) -> None:
    records, refused, noted, form = AGGREGATES[name]
    _, files = quoted_list(records)
    checked = check_quote(files)
    assert checked.refused == refused
    assert notes(checked) == noted
    assert checked.quote["boot_aggregate"] == form


def test_a_sha1_boot_aggregate_is_over_registers_0_to_7_of_that_bank() -> None:
    record = make_record("boot_aggregate", sha1_aggregate(), algorithm="sha1")
    quoted = Quoted().bank("sha1", numbers=tuple(range(8)))
    quoted.values |= {("sha256", number): FIRMWARE[number] for number in range(8)}
    known = dict(quoted.values)
    quoted.values["sha256", 10] = extended("sha256", [record], 10)
    checked = check_quote(quoted.files(values=known, ima_log=encoded([record])))
    assert checked.is_accepted
    assert checked.quote["boot_aggregate"] == "sha1:0-7"


# With an event log


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


def test_values_of_an_event_log() -> None:
    """Registers without events have their reset value, whatever that is."""
    quoted, log = quoted_boot(range(24))
    checked = check_quote(quoted.files(values={}, event_log=log))
    assert checked.is_accepted
    assert notes(checked) == {Reason.QUOTE_RESETTABLE}


def test_an_event_log_of_another_boot() -> None:
    quoted, log = quoted_boot(range(12))
    quoted.values["sha256", 4] = sha256(b"another")
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.QUOTE_DIGEST}
    assert refusals(quoted.files(event_log=log)) == {Reason.EVENT_LOG_REPLAY}
    assert not refusals(quoted.files())


def test_a_register_that_something_else_extended() -> None:
    """Zero is assumed without events: where that is wrong, its value has to be given."""
    quoted, log = quoted_boot(range(12))
    quoted.values["sha256", 8] = sha256(b"grub")
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.QUOTE_DIGEST}
    given = {("sha256", 8): sha256(b"grub")}
    assert refusals(quoted.files(values=given, event_log=log)) == {Reason.EVENT_LOG_REPLAY}
    quoted, log = quoted_boot(range(13))
    quoted.values |= {("sha256", number): sha256(b"system") for number in (10, 11, 12)}
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.QUOTE_DIGEST}
    checked = check_quote(quoted.files(event_log=log))
    assert checked.is_accepted
    (further,) = checked.findings
    assert (further.reason, further.what) == (Reason.EVENT_LOG_UNQUOTED, "sha256:11")


def test_a_bank_that_the_event_log_does_not_have() -> None:
    quoted, log = quoted_boot(range(8))
    quoted.bank("sha384", numbers=tuple(range(8)))
    sha256_only = {one: value for one, value in quoted.values.items() if one[0] == "sha256"}
    checked = check_quote(quoted.files(values=sha256_only, event_log=log))
    assert checked.refused == {Reason.QUOTE_VALUE_MISSING}
    assert not refusals(quoted.files(event_log=log))


def test_events_of_registers_that_are_not_quoted() -> None:
    quoted, log = quoted_boot((0, 4, 7))
    checked = check_quote(quoted.files(values={}, event_log=log))
    assert checked.is_accepted
    assert notes(checked) == {Reason.EVENT_LOG_UNQUOTED}
    quoted, log = quoted_boot((8, 9))
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.EVENT_LOG_REPLAY}


def test_an_event_log_of_a_bank_that_is_not_quoted() -> None:
    """All values are given, so the quote is genuine: but nothing of the log is proven by it."""
    quoted, log = quoted_boot((0, 4, 7))
    quoted.values = {}
    quoted.bank("sha384", numbers=(0, 4, 7))
    assert not refusals(quoted.files())
    (finding,) = check_quote(quoted.files(event_log=log)).findings
    assert finding.reason is Reason.EVENT_LOG_REPLAY
    assert finding.expected == "a register of the log in the quote, in sha1, sha256"
    assert finding.found == "sha384:0, sha384:4, sha384:7"


def test_events_of_a_register_that_is_quoted_in_another_bank_alone() -> None:
    quoted, log = quoted_boot((0, 4))
    unproven = check_quote(quoted.files(event_log=log)).findings
    quoted.bank("sha384", numbers=(0, 4, 7))
    checked = check_quote(quoted.files(event_log=log))
    assert checked.is_accepted
    assert checked.findings == unproven
    assert "7" in unproven[0].found


def test_a_log_that_no_firmware_wrote() -> None:
    quoted, _ = quoted_boot(range(8))
    log = boot_log()
    forged = replace(log.events[16], data=b"Something else")
    events = (*log.events[:16], forged, *log.events[17:])
    files = quoted.files(values={}, event_log=replace(log, events=events).encode())
    assert refusals(files) == {Reason.EVENT_LOG_DIGEST}


@pytest.mark.parametrize("banks", [("sha256",), ("sha1", "sha256")])
def test_a_list_that_goes_on_where_firmware_left_a_register(banks: tuple[str, ...]) -> None:
    """Register 11 has an event of the boot stub, then entries of the list."""
    quoted, log = quoted_boot(range(12), *banks)
    firmware = b"".join(quoted.values["sha256", number] for number in range(10))
    records = [make_record("boot_aggregate", sha256(firmware)), *LIST[1:]]
    for bank in banks:
        for record in records:
            one = (bank, record.register)
            value = quoted.values[one] + record.extension(bank)
            quoted.values[one] = hashlib.new(bank, value).digest()
    files = quoted.files(values={}, event_log=log, ima_log=encoded(records))
    checked = check_quote(files)
    assert checked.is_accepted
    assert checked.ima is not None
    assert checked.ima.matched == len(records)
    assert refusals(replace(files, event_log=None)) == {Reason.QUOTE_VALUE_MISSING}
    assert not notes(checked)


# Bad input


def with_bytes(files: QuoteFiles, field: str, data: bytes) -> QuoteFiles:
    changes: dict[str, Any] = {field: data}
    return replace(files, **changes)


@pytest.mark.parametrize("field", ["signature", "ak", "ima_log", "event_log"])
@pytest.mark.parametrize("junk", [b"", b"\0", b"\0" * 63, b"\xff" * 500, b"0\x45\x02\x20" * 20])
def test_junk_is_malformed(field: str, junk: bytes) -> None:
    quoted, log = quoted_boot(range(12))
    files = quoted.files(values={}, event_log=log)
    with pytest.raises(Malformed):
        check_quote(with_bytes(files, field, junk))


@pytest.mark.parametrize("junk", [b"", b"\xffTC", b"\0" * 64, b"MI" * 80])
def test_a_message_that_is_none_is_malformed(junk: bytes) -> None:
    with pytest.raises(Malformed, match="TPMS_ATTEST"):
        check_quote(Quoted().bank("sha256").files(message=junk))


def test_a_signature_in_der_or_plain_is_malformed() -> None:
    quoted = Quoted("RSA 2048, RSASSA, SHA-256").bank("sha256")
    files = quoted.files()
    for signature in (files.signature[6:], files.signature[2:], files.signature + b"\0"):
        with pytest.raises(Malformed):
            check_quote(replace(files, signature=signature))
    ecc = Quoted().bank("sha256")
    der = ecc.key.sign(ecc.message(), ec.ECDSA(tpm_keys.TPM_HASHES[0xB]))
    with pytest.raises(Malformed):
        check_quote(ecc.files(signature=der))


@pytest.mark.parametrize("field", ["message", "signature", "ak"])
def test_no_flipped_bit_is_accepted(field: str) -> None:
    files = Quoted().bank("sha256").files()
    for flipped in flips(getattr(files, field)):
        changed = with_bytes(files, field, flipped)
        try:
            checked = check_quote(changed)
        except Malformed:
            continue
        if field == "ak" and checked.is_accepted:
            # Attributes and policy that say nothing of what is signed: no Name is compared here.
            one, other = (tpm.Public.decode(each.ak) for each in (files, changed))
            assert (one.unique, one.scheme) == (other.unique, other.scheme)
            continue
        assert not checked.is_accepted


@settings(max_examples=100, deadline=None)
@given(data=st.data(), size=st.integers(0, 300))
def test_truncations_and_junk_are_never_accepted(data: st.DataObject, size: int) -> None:
    files = Quoted().bank("sha256").files()
    field = data.draw(st.sampled_from(["message", "signature", "ak"]))
    whole = getattr(files, field)
    changed = data.draw(st.sampled_from([whole[:size], whole + bytes(1), data.draw(st.binary())]))
    if changed == whole:
        return
    try:
        assert not check_quote(replace(files, **{field: changed})).is_accepted
    except Malformed:
        return


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", id="empty"),
        pytest.param(pem(ec.derive_private_key(5, ec.SECP224R1()).public_key()), id="P-224"),
        pytest.param(pem(rsa.RSAPublicNumbers(65537, (1 << 1023) + 1).public_key()), id="RSA 1024"),
        pytest.param(pem(rsa.RSAPublicNumbers(3, (1 << 2047) + 1).public_key()), id="exponent 3"),
    ],
)
def test_a_pem_that_no_tpm_signs_with(key: bytes) -> None:
    files = Quoted().bank("sha256").files(ak=key, tolerated=tolerate(asked=UNCHECKED))
    with pytest.raises(Malformed):
        check_quote(files)


def test_a_refusal_costs_no_more_than_an_accept() -> None:
    """The list of 3000 entries is followed once, wherever it leads."""
    records = [AGGREGATE] + [make_record(f"/{n}", sha256(b"%d" % n)) for n in range(3_000)]
    quoted, good = quoted_list(records)
    quoted.values["sha256", 10] = bytes(32)
    known = {one: value for one, value in quoted.values.items() if one[1] < 10}
    bad = quoted.files(values=known, ima_log=good.ima_log)

    def seconds(files: QuoteFiles) -> float:
        started = process_time()
        check_quote(files)
        return process_time() - started

    assert check_quote(good).is_accepted
    assert refusals(bad) == {Reason.LIST_REPLAY}
    least = min(seconds(good) for _ in range(3))
    assert min(seconds(bad) for _ in range(3)) < 1.5 * least
    unsigned = replace(bad, signature=Quoted("P-256, ECDSA, SHA-256").files().signature)
    assert seconds(unsigned) < least / 4


def test_the_page_names_what_does_not_reject() -> None:
    """Reasons of event logs aside, which `check-eventlog` notes for itself."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "check-quote.md").read_text()
    for reason in NOTED | REQUESTS:
        if not reason.startswith("event-log."):
            assert f"`{reason}`" in page, reason


# The command


class Folder:
    """The files of a quote in a folder, and the command over them."""

    def __init__(self, folder: Path, files: QuoteFiles) -> None:
        self.folder, self.files = folder, files
        self.flags: list[str] = []
        for name in ("message", "signature", "ak"):
            self.write(name, getattr(files, name))
        for name in ("ima_log", "event_log"):
            if getattr(files, name) is not None:
                path = self.write(name, getattr(files, name))
                self.flags += [f"--{name.replace('_', '-')}", str(path)]
        for (bank, number), value in files.values.items():
            self.flags += ["--pcr", f"{bank}:{number}={value.hex()}"]

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def run(self, *flags: str, nonce: str | None = None) -> int:
        paths = {name: str(self.folder / name) for name in ("message", "signature", "ak")}
        named = [part for name, path in paths.items() for part in (f"--{name}", path)]
        nonce = self.files.nonce.hex() if nonce is None else nonce
        return main(["check-quote", *named, "--nonce", nonce, *self.flags, *flags])


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, quoted_list(LIST, more=(LIST[1],))[1])


def test_command_accepts(folder: Folder, capsys: Out) -> None:
    assert folder.run("--json") == YES
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["verdict", "findings", "quote", "ima"]
    assert answer["verdict"] == "accepted"
    assert answer["ima"] == {"entries": 5, "matched": 4, "violations": 0}
    assert [list(one) for one in answer["findings"]] == [["reason", "detail"]]
    assert folder.run() == YES
    told = capsys.readouterr().out
    assert told.startswith("accepted\n")
    assert "5, of which quoted 4" in told
    assert folder.run("--quiet") == YES
    assert capsys.readouterr().out == ""


def test_command_rejects(folder: Folder, capsys: Out) -> None:
    assert folder.run("--json", nonce="00" * 16) == NO
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "rejected"
    assert [one["reason"] for one in answer["findings"]] == ["quote.nonce-not-the-expected"]
    assert folder.run("--quiet", nonce="00" * 16) == NO
    told = capsys.readouterr().out
    assert told.startswith("refused  quote.nonce-not-the-expected")
    assert "next      quote again" in told


@pytest.mark.parametrize("nonce", ["", "0", "xyz", "00" * 65])
def test_command_wants_a_nonce(folder: Folder, capsys: Out, nonce: str) -> None:
    assert folder.run("--json", nonce=nonce) == MISUSED
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"] == "malformed"
    assert "nonce" in captured.err


@pytest.mark.parametrize("junk", [b"junk", b""], ids=["junk", "nothing"])
@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("message", "message"),
        ("signature", "signature"),
        ("ak", "key"),
        ("ima_log", "measurement list"),
        ("event_log", "event log"),
    ],
)
def test_command_says_what_is_malformed(
    folder: Folder, capsys: Out, name: str, called: str, junk: bytes
) -> None:
    """Six files are given: which of them is it?"""
    path = folder.write(name, junk)
    folder.flags += ["--event-log", str(path)] if name == "event_log" else []
    assert folder.run("--json") == MISUSED
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["verdict"] == "malformed"
    assert answer["findings"][0]["detail"].startswith(f"{called}: ")
    assert captured.err.startswith(f"verifier: {called}: ")


@pytest.mark.parametrize("name", ["message", "signature", "ak", "ima_log"])
def test_command_reads_no_file_that_is_too_long(folder: Folder, capsys: Out, name: str) -> None:
    folder.write(name, bytes(1 << 17))
    assert folder.run() == MISUSED
    assert "expected" in capsys.readouterr().err


def test_command_without_a_file(folder: Folder) -> None:
    (folder.folder / "ak").unlink()
    assert folder.run() == UNKNOWN


def test_command_with_a_register_written_wrong(folder: Folder) -> None:
    assert folder.run("--pcr", "sha256:1") == MISUSED


def test_command_with_a_policy(folder: Folder, capsys: Out) -> None:
    policy = folder.write("policy", b'version = 1\nreject = ["ima-list.longer-than-quote"]\n')
    assert folder.run("--policy", str(policy)) == NO
    assert "refused  ima-list.longer-than-quote" in capsys.readouterr().out
    for text in (b"version = 1\n", b"\xff", b'version = 1\nreject = ["x"]\n'):
        policy.write_bytes(text)
        assert folder.run("--policy", str(policy)) == MISUSED


def test_command_with_a_pem_key(folder: Folder) -> None:
    folder.write("ak", pem(make_ak("quoted")[0].public_key()))
    assert folder.run() == NO
    assert folder.run("--ak-attributes-unchecked") == YES


def test_command_with_padded_sha1(tmp_path: Path) -> None:
    folder = Folder(tmp_path, quoted_list(LIST, padded=True)[1])
    assert folder.run() == NO
    assert folder.run("--padded-sha1") == YES


def test_command_with_sha1(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Quoted().bank("sha1").files())
    assert folder.run() == NO
    assert folder.run("--allow-sha1") == YES


# Quotes that others have made


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


def generated_names() -> list[Any]:
    path = VECTORS / "generated-swtpm" / "index.json"
    if not path.is_file():
        return [pytest.param("", marks=needs_vectors, id="absent")]
    return sorted(json.loads(path.read_text())["vectors"])


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


GENERATED: dict[str, set[Reason]] = {
    "certify-creation": {Reason.QUOTE_TYPE},
    "reject-bad-magic-forgery": {Reason.QUOTE_AK},
    "reject-empty-selection": {Reason.QUOTE_EMPTY},
    "reject-gettime-as-quote": {Reason.QUOTE_TYPE},
    "reject-pcr16-relabelled-as-pcr10": {Reason.QUOTE_SELECTION},
    "reject-trailing-byte": {Reason.QUOTE_SIGNATURE},
    "reject-unrestricted-key-forgery": {Reason.QUOTE_AK},
}
"""Why each that is no genuine quote is rejected."""


@needs_vectors
@pytest.mark.parametrize("name", generated_names())
def test_generated_with_swtpm(name: str) -> None:
    entry = read_json("generated-swtpm/index.json")["vectors"][name]
    is_accepted = entry["verdict"].startswith("accept") and name != "certify-creation"
    checked = check_quote(generated(name))
    assert checked.is_accepted == is_accepted
    assert checked.refused == GENERATED.get(name, set())
    noted = {
        "owner-ak": {Reason.QUOTE_OBFUSCATED},
        "reject-pcr16-relabelled-as-pcr10": {Reason.QUOTE_RESETTABLE},
    }
    assert notes(checked) == noted.get(name, set())
    if name == "owner-ak":
        assert checked.quote["reset_count"] == entry["reset"]
        assert checked.quote["firmware_version"] == entry["fw"]
        assert checked.quote["hierarchy"] == "owner"
    if is_accepted and "qualified_name" in entry:
        assert checked.quote["signer"] == entry["qualified_name"]
        assert checked.quote["hierarchy"] == "endorsement"


@needs_vectors
@pytest.mark.parametrize("name", generated_names())
def test_generated_with_swtpm_and_a_key_without_attributes(name: str) -> None:
    """What the attributes alone refuse is let through then: hence the finding."""
    files = generated(name)
    if name == "owner-ak":
        pytest.skip("no PEM of its key")
    entry = read_json("generated-swtpm/index.json")["vectors"][name]
    ak = entry.get("ak", name.rpartition(".")[0] or name)
    as_pem = replace(
        files, ak=read(f"generated-swtpm/{ak}.ak.pem"), tolerated=tolerate(asked=UNCHECKED)
    )
    if name == "reject-bad-magic-forgery":
        with pytest.raises(Malformed):
            check_quote(as_pem)
        return
    expected = GENERATED.get(name, set())
    if name == "reject-unrestricted-key-forgery":
        expected = {Reason.QUOTE_VALUE_MISSING}
    checked = check_quote(as_pem)
    assert checked.refused == expected
    assert Reason.QUOTE_AK_UNCHECKED in notes(checked)


@needs_vectors
def test_a_generated_creation_is_one() -> None:
    files = generated("certify-creation")
    attest = tpm.Attest.decode(files.message)
    public = tpm.Public.decode_sized(files.ak)
    assert isinstance(attest.attested, tpm.Creation)
    assert attest.attested.name == public.name()


def in_tools_format(blob: bytes) -> list[bytes]:
    """Return the values in what tpm2_quote -o writes: libtss2's structures as they lie in memory.

    132 bytes of selection, a count of lists, and lists of up to eight digests of 66 bytes each.
    """
    lists = int.from_bytes(blob[132:136], "little")
    values = []
    for place in range(136, 136 + 532 * lists, 532):
        for number in range(int.from_bytes(blob[place : place + 4], "little")):
            start = place + 4 + 66 * number
            size = int.from_bytes(blob[start : start + 2], "little")
            values.append(blob[start + 2 : start + 2 + size])
    return values


@needs_vectors
def test_keylime_files_of_tpm2_tools() -> None:
    """The nonce is whatever the quote has: it is told nowhere."""
    message = read("keylime/tpm2-tools-files/quote.out")
    values = in_tools_format(read("keylime/tpm2-tools-files/quotepcr.out"))
    files = QuoteFiles(
        message=message,
        signature=read("keylime/tpm2-tools-files/quotesig.out"),
        ak=read("keylime/tpm2-tools-files/ak.pub"),
        nonce=tpm.Attest.decode(message).extra_data,
        values=dict(zip([("sha256", n) for n in (15, 16, 22)], values, strict=True)),
    )
    checked = check_quote(files)
    assert checked.is_accepted
    assert notes(checked) == {Reason.QUOTE_RESETTABLE}
    assert tpm.Public.decode_sized(files.ak).name() == read("keylime/tpm2-tools-files/ak.name")
    as_pem = replace(files, ak=read("keylime/tpm2-tools-files/akpub.pem"))
    assert refusals(as_pem) == {Reason.QUOTE_AK_UNCHECKED}
    assert not refusals(replace(as_pem, tolerated=tolerate(asked=UNCHECKED)))


@needs_vectors
def test_keylime_quote_of_register_16() -> None:
    """Accepted as register 16; as register 10, which edited unsigned data says, rejected."""
    vector = read_json("keylime/quotes/tpm_util_test.checkquote.json")
    (value,) = in_tools_format(base64.b64decode(vector["pcr_blob_tpm2tools_b64"]))
    files = QuoteFiles(
        message=base64.b64decode(vector["quote_b64"]),
        signature=base64.b64decode(vector["sig_b64"]),
        ak=vector["ak_pem"].encode(),
        nonce=vector["nonce_utf8"].encode(),
        values={("sha256", 16): value},
        tolerated=tolerate(asked=UNCHECKED),
    )
    checked = check_quote(files)
    assert checked.is_accepted
    assert notes(checked) == {Reason.QUOTE_AK_UNCHECKED, Reason.QUOTE_RESETTABLE}
    relabelled = replace(files, values={("sha256", 10): value})
    assert refusals(relabelled) == {Reason.QUOTE_SELECTION}


@needs_vectors
def test_rust_keylime_quote_without_a_key() -> None:
    """Read as what it is; by any key, a policy without SHA-1 refuses it before the signature."""
    message, signature, _ = (
        base64.b64decode(part)
        for part in read("rust-keylime/test-quote.txt").decode().strip()[1:].split(":")
    )
    attest = tpm.Attest.decode(message)
    assert isinstance(attest.attested, tpm.Quote)
    assert attest.extra_data == b"TEST"
    assert attest.attested.selections == (selection(tpm.ALG_SHA1, 16),)
    key = make_ak("any", AK_KINDS["RSA 2048, RSASSA, SHA-256"])[0].public_key()
    files = QuoteFiles(
        message=message,
        signature=signature,
        ak=pem(key),
        nonce=b"TEST",
        tolerated=tolerate(asked=UNCHECKED),
    )
    assert refusals(files) == {Reason.QUOTE_SHA1}
    allowed = replace(files, tolerated=tolerate(asked=UNCHECKED | SHA1))
    assert refusals(allowed) == {Reason.QUOTE_SIGNATURE}


@needs_vectors
def test_go_attestation_windows() -> None:
    """All of it is genuine, by SHA-1, and fresh for nobody: the nonce is empty."""
    vector = read_json("go-attestation/windows_gcp_shielded_vm.json")
    ak, quote = vector["AK"], vector["Quote"]
    log = base64.b64decode(vector["Log"]["Raw"])
    files = QuoteFiles(
        message=base64.b64decode(quote["Quote"]),
        signature=base64.b64decode(quote["Signature"]),
        ak=base64.b64decode(ak["Public"]),
        nonce=NONCE,
        values={
            ("sha1", one["Index"]): base64.b64decode(one["Digest"]) for one in vector["Log"]["PCRs"]
        },
        event_log=log,
    )
    assert refusals(files) == {Reason.QUOTE_SHA1}
    allowed = check_quote(replace(files, tolerated=tolerate(asked=SHA1)))
    assert allowed.refused == {Reason.QUOTE_NONCE}
    # The rest is good: of the same bytes, registers, log and creation.
    attest = tpm.Attest.decode(files.message)
    assert isinstance(attest.attested, tpm.Quote)
    values = [files.values["sha1", number] for number in range(24)]
    assert digest_of(values, "sha1") == attest.attested.digest
    logged = judge_event_log(EventLog.decode(log)).registers["sha1"]
    assert {number: files.values["sha1", number] for number in logged} == logged
    creation = base64.b64decode(ak["CreateAttestation"])
    public = tpm.Public.decode(files.ak)
    key = tpm_keys.public_key(public)
    assert key is not None
    signature = tpm.Signature.decode(base64.b64decode(ak["CreateSignature"]))
    assert tpm_keys.is_signed(key, signature, creation)
    certified = tpm.Attest.decode(creation).attested
    assert isinstance(certified, tpm.Creation)
    assert certified.name == public.name()
    assert certified.creation_hash == sha256(base64.b64decode(ak["CreateData"]))


def protobuf(data: bytes) -> Iterator[tuple[int, Any]]:
    """Yield field number and value of a protobuf message: numbers, and bytes."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        head = varint()
        if head & 7 == 0:
            yield head >> 3, varint()
        else:
            assert head & 7 == 2
            size = varint()
            yield head >> 3, data[place : place + size]
            place += size


def gce_quotes(name: str, nonce: bytes) -> dict[str, QuoteFiles]:
    """Return the quotes of each bank: go-tpm-tools, proto/attest.proto and tpm.proto."""
    fields = list(protobuf(read(f"go-tpm-tools/attestations/{name}.pb")))
    whole = dict(fields)
    found = {}
    for quote in (dict(protobuf(value)) for number, value in fields if number == 2):
        pcrs = list(protobuf(quote[3]))
        bank = tpm.HASHES[dict(pcrs)[1]]
        entries = [dict(protobuf(value)) for number, value in pcrs if number == 2]
        found[bank] = QuoteFiles(
            message=quote[1],
            signature=quote[2],
            ak=whole[1],
            nonce=nonce,
            values={(bank, entry.get(1, 0)): entry[2] for entry in entries},
            event_log=whole[3],
        )
    return found


@needs_vectors
def test_go_tpm_tools_gce_with_a_nonce() -> None:
    """SHA-256 over the values of the sha384 bank: the signature's hash, not the bank's."""
    quotes = gce_quotes("gce-cos-85-nonce9009", bytes.fromhex("9009"))
    assert sorted(quotes) == ["sha1", "sha256", "sha384"]
    for bank in ("sha256", "sha384"):
        checked = check_quote(quotes[bank])
        assert checked.is_accepted
        assert {Reason.QUOTE_NONCE_SHORT, Reason.QUOTE_RESETTABLE} <= notes(checked)
        assert checked.quote["scheme"] == "rsassa with sha256"
    assert refusals(quotes["sha1"]) == {Reason.QUOTE_SHA1}
    assert not refusals(replace(quotes["sha1"], tolerated=tolerate(asked=SHA1)))
    swapped = replace(quotes["sha256"], values=quotes["sha384"].values)
    assert refusals(swapped) == {Reason.QUOTE_SELECTION}


@needs_vectors
def test_go_tpm_tools_gce_without_a_nonce() -> None:
    quotes = gce_quotes("gce-cos-85-no-nonce", bytes.fromhex("9009"))
    for bank in ("sha256", "sha384"):
        assert refusals(quotes[bank]) == {Reason.QUOTE_NONCE}
        assert refusals(replace(quotes[bank], nonce=b"")) == {Reason.QUOTE_NONCE}


def rsassa(value: bytes, hash_: int = tpm.ALG_SHA256) -> bytes:
    """Return the TPMT_SIGNATURE of an RSA signature that is stored bare."""
    return tpm.Signature(scheme=tpm.ALG_RSASSA, hash=hash_, values=(value,)).encode()


@needs_vectors
def test_trustee_tpm() -> None:
    """A bare key: signature and values are good, and nothing ties the key to a TPM."""
    vector = read_json("trustee/tpm_evidence.json")
    quote = vector["tpm_quote"]
    der = base64.b64decode(vector["ak_public"])
    message = base64.b64decode(quote["message"])
    nonce = tpm.Attest.decode(message).extra_data
    assert (len(nonce), nonce[48:]) == (64, bytes(16))
    files = QuoteFiles(
        message=message,
        signature=base64.b64decode(quote["signature"]),
        ak=pem(serialization.load_der_public_key(der)),
        nonce=nonce,
        values={("sha256", n): bytes.fromhex(one) for n, one in enumerate(quote["pcrs"])},
    )
    assert refusals(files) == {Reason.QUOTE_AK_UNCHECKED}
    assert not refusals(replace(files, tolerated=tolerate(asked=UNCHECKED)))
    shorter = replace(files, nonce=nonce[:48], tolerated=tolerate(asked=UNCHECKED))
    assert refusals(shorter) == {Reason.QUOTE_NONCE}


AZURE = {
    "az-snp-vtpm/evidence-v0": b"challenge",
    "az-snp-vtpm/evidence-v1": b"challenge",
    "az-snp-vtpm/evidence-v2": None,
    "az-snp-vtpm/evidence-genoa": None,
    "az-snp-vtpm/tpm-quote-v1": b"challenge",
    "az-tdx-vtpm/evidence-v0": b"challenge",
    "az-tdx-vtpm/evidence-v1": b"challenge",
    "az-tdx-vtpm/tpm-quote-v1": b"challenge",
}
"""The nonce where it is told; the others have 48 bytes."""


def as_bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, list) else bytes.fromhex(value)


def hcl_key(report: bytes) -> Any:
    """Return HCLAkPub, the JWK of the attestation key that an HCL report has in its JSON."""
    start = report.index(b'{"keys"')
    claims, _ = json.JSONDecoder().raw_decode(report[start:].decode("utf-8", "replace"))
    (jwk,) = (one for one in claims["keys"] if one["kid"] == "HCLAkPub")
    e, n = (int.from_bytes(base64.urlsafe_b64decode(jwk[name] + "==")) for name in ("e", "n"))
    return rsa.RSAPublicNumbers(e, n).public_key()


def azure(name: str) -> QuoteFiles:
    vector = read_json(f"trustee/{name}.json")
    quote = vector.get("tpm_quote") or vector.get("quote") or vector
    report = vector.get("hcl_report") or vector.get("report")
    if report is None:
        raw = read(f"trustee/{name.partition('/')[0]}/hcl-report.bin")
    elif isinstance(report, list):
        raw = bytes(report)
    else:
        raw = base64.urlsafe_b64decode(report + "==")
    message = as_bytes(quote["message"])
    return QuoteFiles(
        message=message,
        signature=rsassa(as_bytes(quote["signature"])),
        ak=pem(hcl_key(raw)),
        nonce=AZURE[name] or tpm.Attest.decode(message).extra_data,
        values={("sha256", n): as_bytes(one) for n, one in enumerate(quote["pcrs"])},
        tolerated=tolerate(asked=UNCHECKED),
    )


@needs_vectors
@pytest.mark.parametrize("name", AZURE)
def test_trustee_azure(name: str) -> None:
    files = azure(name)
    checked = check_quote(files)
    assert checked.is_accepted
    assert Reason.QUOTE_AK_UNCHECKED in notes(checked)
    if AZURE[name] is None:
        assert len(files.nonce) == 48
    bare = replace(files, signature=files.signature[6:])
    with pytest.raises(Malformed):
        check_quote(bare)


@needs_vectors
@pytest.mark.parametrize("name", AZURE)
def test_trustee_azure_quote_of_another_key(name: str) -> None:
    message = read("trustee/az-snp-vtpm/tpm-quote.msg")
    other = replace(
        azure(name), message=message, signature=rsassa(read("trustee/az-snp-vtpm/tpm-quote.sig"))
    )
    assert refusals(other) == {Reason.QUOTE_SIGNATURE}


@needs_vectors
def test_veraison_enacttrust() -> None:
    """Made without a TPM: no nonce, no signer, a clock that is not safe."""
    told = read_json("veraison/tpm-enacttrust/basic.json")
    token = read("veraison/tpm-enacttrust/basic.token")
    size = int.from_bytes(token[16:18])
    message, signature = token[18 : 18 + size], token[18 + size :]
    files = QuoteFiles(
        message=message,
        signature=signature,
        ak=read("veraison/tpm-enacttrust/basic.pem.pub"),
        nonce=NONCE,
        tolerated=tolerate(asked=UNCHECKED),
    )
    checked = check_quote(files)
    assert checked.refused == {Reason.QUOTE_NONCE, Reason.QUOTE_SIGNER}
    assert notes(checked) == {Reason.QUOTE_AK_UNCHECKED, Reason.QUOTE_CLOCK_UNSAFE}
    assert checked.quote["digest"] == base64.b64decode(told["digest"]).hex()
    assert refusals(replace(files, tolerated=NOTED)) == {Reason.QUOTE_AK_UNCHECKED}


@needs_vectors
def test_veraison_parsec() -> None:
    """The quote and the certification are good by the node's key; the certified key is no AK."""
    evidence = cbor2.loads(read("veraison/parsec-tpm/evidence.cbor"))
    ta = read_json("veraison/parsec-tpm/comid-parsec-tpm-ta.json")
    (keys,) = ta["triples"]["attester-verification-keys"]
    ak = keys["verification-keys"][0]["value"].encode()
    platform, certified = evidence["pat"], evidence["kat"]
    nonce = bytes.fromhex("deadbeefdeadbeef")
    files = QuoteFiles(
        message=platform["attestInfo"],
        signature=platform["sig"],
        ak=ak,
        nonce=nonce,
        tolerated=tolerate(asked=UNCHECKED),
    )
    checked = check_quote(files)
    assert checked.refused == {Reason.QUOTE_VALUE_MISSING}  # signed; the values are not told
    assert checked.quote["selection"] == {"sha256": [0, 1, 2]}
    certification = replace(files, message=certified["certInfo"], signature=certified["sig"])
    assert refusals(certification) == {Reason.QUOTE_TYPE}
    attest = tpm.Attest.decode(certification.message)
    public = tpm.Public.decode(certified["pubArea"])
    assert isinstance(attest.attested, tpm.Certification)
    assert attest.attested.name == public.name()
    assert attest.extra_data == nonce
    assert refusals(replace(files, ak=certified["pubArea"])) == {Reason.QUOTE_AK}
    own = tpm_keys.public_key(public)
    assert own is not None
    assert refusals(replace(files, ak=pem(own))) == {Reason.QUOTE_SIGNATURE}


def registrations() -> list[Any]:
    path = VECTORS / "py_webauthn" / "tpm_registrations.json"
    if not path.is_file():
        return [pytest.param("", marks=needs_vectors, id="absent")]
    return sorted(json.loads(path.read_text()))


@needs_vectors
@pytest.mark.parametrize("name", registrations())
def test_py_webauthn_certifications(name: str) -> None:
    """By keys of real TPMs, with SHA-1: everything holds, and none of them is a quote."""
    response = read_json("py_webauthn/tpm_registrations.json")[name]["credential"]["response"]

    def part(of: str) -> bytes:
        text = response[of].replace("+", "-").replace("/", "_")
        return base64.urlsafe_b64decode(text + "==")

    whole = cbor2.loads(part("attestationObject"))
    statement = whole["attStmt"]
    certificate = x509.load_der_x509_certificate(statement["x5c"][0])
    message = statement["certInfo"]
    attest = tpm.Attest.decode(message)
    signed = whole["authData"] + sha256(part("clientDataJSON"))
    nonce = hashlib.sha1(signed, usedforsecurity=False).digest()
    assert attest.extra_data == nonce
    assert isinstance(attest.attested, tpm.Certification)
    assert attest.attested.name == tpm.Public.decode(statement["pubArea"]).name()
    files = QuoteFiles(
        message=message,
        signature=rsassa(statement["sig"], tpm.ALG_SHA1),
        ak=pem(certificate.public_key()),
        nonce=nonce,
        tolerated=tolerate(asked=UNCHECKED | SHA1),
    )
    assert refusals(files) == {Reason.QUOTE_TYPE}
    assert refusals(replace(files, tolerated=tolerate(asked=UNCHECKED))) == {Reason.QUOTE_SHA1}
    garbled = replace(files, message=message[:-1] + bytes([message[-1] ^ 1]))
    assert refusals(garbled) == {Reason.QUOTE_SIGNATURE}


# Quotes of real kernels


KERNELS = ("k6.1-sha1+sha256", "k7.2-sha1+sha256")
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


def quoted_boot_of(name: str) -> dict[Register, bytes]:
    """Return registers 0 to 9, which nothing extended any more when they were read."""
    return {
        one: value
        for one, value in banks_of(read_json(f"kernels/{name}/pcrs_after.json")).items()
        if one[0] == "sha256" and one[1] < 10
    }


@needs_vectors
@pytest.mark.parametrize("name", KERNELS)
def test_a_quote_of_a_real_kernel(name: str) -> None:
    """Every template, violations, weak digests, an entry in register 11, entries afterwards."""
    checked = check_quote(kernel(name))
    assert checked.is_accepted
    before = read(f"kernels/{name}/before_quote.binary_runtime_measurements")
    assert checked.ima is not None
    assert checked.ima.matched is not None
    assert checked.ima.violations == 2
    assert 0 < checked.ima.matched < checked.ima.entries
    assert {Reason.LIST_VIOLATION, Reason.LIST_DIGEST, Reason.LIST_LONGER} <= notes(checked)
    assert checked.quote["boot_aggregate"] == "sha256:0-9"
    # The registers of the boot by their values, in the place of the event log.
    by_value = check_quote(kernel(name, event_log=None, values=quoted_boot_of(name)))
    assert by_value.ima == checked.ima
    # The list as it was read before the quote is shorter: the quoting tool itself is an entry.
    assert refusals(kernel(name, ima_log=before)) == {Reason.LIST_REPLAY}


@needs_vectors
@pytest.mark.parametrize("bank", ["sha1", "sha256"])
def test_a_list_of_one_bank(bank: str) -> None:
    name = "k7.2-sha1+sha256"
    log = read(f"kernels/{name}/binary_runtime_measurements_{bank}")
    checked = check_quote(kernel(name, ima_log=log, log_hash=bank))
    assert checked.is_accepted
    assert checked.ima == check_quote(kernel(name)).ima


@needs_vectors
@pytest.mark.parametrize("name", KERNELS)
def test_a_real_list_of_another_boot(name: str) -> None:
    (other,) = (one for one in KERNELS if one != name)
    log = read(f"kernels/{other}/binary_runtime_measurements")
    assert refusals(kernel(name, ima_log=log)) == {Reason.LIST_REPLAY}
    assert refusals(kernel(name, nonce=KERNEL_NONCE[:-1])) == {Reason.QUOTE_NONCE}
    assert refusals(kernel(name, ak=read(f"kernels/{other}/ak.pub"))) == {Reason.QUOTE_SIGNATURE}
    assert refusals(kernel(name, tolerated=NOTED)) == {Reason.QUOTE_AK_UNCHECKED}


@needs_vectors
def test_a_real_quote_of_a_forged_entry() -> None:
    """Genuine all the same: that a known program extended the register shows in no quote.

    The honest list does not lead to it; with the invented entry put in, the list does.
    """
    name = "k6.12-forged-entry"
    values = {
        ("sha256", int(number)): bytes.fromhex(value)
        for number, value in read_json(f"kernels/{name}/pcrs.json").items()
        if int(number) < 10
    }
    honest = read(f"kernels/{name}/real.bin")
    files = kernel(
        name,
        nonce=bytes.fromhex("aabb"),
        ima_log=honest,
        event_log=None,
        values=values,
    )
    assert refusals(files) == {Reason.LIST_REPLAY}
    entry = read(f"kernels/{name}/forged_entry.bin")
    cuts = [0]
    for record in read_records(honest):
        cuts.append(cuts[-1] + len(record.encode()))
    forged = honest[: cuts[81]] + entry + honest[cuts[81] :]
    checked = check_quote(replace(files, ima_log=forged))
    assert checked.is_accepted
    assert Reason.QUOTE_NONCE_SHORT in notes(checked)


def test_every_kind_is_simulated() -> None:
    assert {kind.type for kind in AK_KINDS.values()} == {tpm.ALG_RSA, tpm.ALG_ECC}
    assert AkKind() in AK_KINDS.values()
