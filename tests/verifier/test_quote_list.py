"""A quote in files with a measurement list: which of its entries the quote proves."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from evidence.ima import Record, encode_values
from tests.simulated_keys import sha256
from tests.simulated_node import make_record, record_of
from tests.verifier.quoted import (
    AGGREGATE,
    FIRMWARE,
    LIST,
    Quoted,
    aggregate_of,
    encoded,
    extended,
    notes,
    quoted_list,
    refusals,
)
from verifier.check_quote import check_quote
from verifier.reasons import Reason
from verifier.tolerance import tolerate


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
