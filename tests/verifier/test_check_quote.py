"""`verifier check-quote`: quotes that others have made, and every rule broken by itself."""

from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from evidence import Malformed, tpm
from tests.evidence.shapes import flips
from tests.simulated_keys import AK_KINDS, ecc_public, make_signature, private_key, sha256
from tests.simulated_node import make_record
from tests.verifier.quoted import (
    AGGREGATE,
    NONCE,
    SHA1,
    UNCHECKED,
    Quoted,
    notes,
    pem,
    quoted_boot,
    quoted_list,
    refusals,
    selection,
)
from verifier.check_quote import check_quote
from verifier.crypto import tpm_keys
from verifier.quote_files import QuoteFiles, read_register, read_registers
from verifier.quoted_registers import digest_of
from verifier.reasons import Reason, Rejected
from verifier.tolerance import NOTED, REQUESTS, read_policy, tolerate


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
