"""Attacks on quotes that real TPMs have signed, as a script makes them, and on swtpm's own.

What a node may quote is fixed; in files there is everything: `check-quote` has to tell.
"""
# ruff: noqa: ANN401 - pytss has no types

import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from time import process_time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from evidence import Malformed, tpm
from evidence.ima import read_records
from swtpm import Manufacturer
from tests.shared_vectors import needs_vectors
from tests.simulated_keys import AK_KINDS, AkKind, make_ak, make_signature
from tests.verifier.quoted import NONCE, Quoted, generated, kernel, refusals
from verifier.check_quote import check_quote
from verifier.quote_files import QuoteFiles
from verifier.quoted_registers import digest_of
from verifier.reasons import Reason
from verifier.tolerance import tolerate

pytss = pytest.importorskip("tpm2_pytss")

ROOT = "root on the node"
QUOTE = "the verdict on a quote"
ALL = tolerate(asked=frozenset(Reason))

REAL = [
    "ecdsa-p256-sha256.one",
    "ecdsa-p384-sha384.one",
    "rsassa-sha256.one",
    "rsassa-sha384.multi",
    "rsapss-sha256.one",
]


# 8: two banks mixed


@pytest.fixture(scope="module")
def esys(manufacturer: Manufacturer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A TPM of three banks."""
    state = tmp_path_factory.mktemp("tpm")
    banks = ("sha1", "sha256", "sha384")
    with manufacturer.make_tpm(state, banks=banks) as tcti, pytss.ESAPI(tcti) as context:
        yield context


def quote_of(esys: Any, selection: str, kind: AkKind | None = None) -> QuoteFiles:
    """Return what the TPM quotes of this selection, with the values that it has."""
    _, public = make_ak("only its kind counts", kind or AkKind())
    wanted = replace(public, unique=tuple(b"" for _ in public.unique)).encode()
    template = pytss.TPM2B_PUBLIC(pytss.TPMT_PUBLIC.unmarshal(wanted)[0])
    ak, public, *_ = esys.create_primary(
        pytss.TPM2B_SENSITIVE_CREATE(), template, pytss.ESYS_TR.ENDORSEMENT
    )
    message, signature = esys.quote(ak, selection, pytss.TPM2B_DATA(NONCE))
    esys.flush_context(ak)
    values = {}
    for part in selection.split("+"):
        bank, _, numbers = part.partition(":")
        for number in map(int, numbers.split(",")):
            _, _, digests = esys.pcr_read(f"{bank}:{number}")
            values[bank, number] = bytes(next(iter(digests)))
    return QuoteFiles(
        message=bytes(message),
        signature=signature.marshal(),
        ak=public.marshal(),
        nonce=NONCE,
        values=values,
        tolerated=ALL,
    )


@pytest.mark.swtpm
@pytest.mark.attack(number=8, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        pytest.param("sha1:0,1,2,3,4,5,6,7,8,9+sha256:10", {Reason.QUOTE_BANKS_MIXED}, id="mixed"),
        pytest.param("sha256:0,7+sha1:10", {Reason.QUOTE_BANKS_MIXED}, id="the list by SHA-1"),
        pytest.param("sha1:0,7,10+sha256:0,7,10", set(), id="both whole"),
        pytest.param("sha256:0,7,10", set(), id="one"),
    ],
)
def test_008_registers_of_two_banks(esys: Any, selection: str, expected: set[Reason]) -> None:
    """Signed by the TPM as it was asked: even with SHA-1 allowed, one bank has to have them all."""
    assert refusals(quote_of(esys, selection)) == expected


@pytest.mark.swtpm
@pytest.mark.attack(number=7, attacker=ROOT, asset=QUOTE)
def test_007_only_sha1(esys: Any) -> None:
    files = quote_of(esys, "sha1:0,1,2,3,4,5,6,7,8,9,10")
    assert refusals(replace(files, tolerated=tolerate())) == {Reason.QUOTE_SHA1}
    assert not refusals(files)


@pytest.mark.swtpm
@pytest.mark.parametrize("name", [name for name in AK_KINDS if "4096" not in name])
def test_a_quote_of_swtpm_by_every_kind_of_key(esys: Any, name: str) -> None:
    """The TPM makes key, Name, salt and digest by itself; swtpm has no RSA of 4096 bits."""
    files = quote_of(esys, "sha256:0,7,10+sha384:0,7,10", AK_KINDS[name])
    checked = check_quote(files)
    assert checked.is_accepted
    assert not checked.findings
    assert checked.quote["hierarchy"] == "endorsement"


# 13: signatures


def values_of(files: QuoteFiles) -> tuple[bytes, ...]:
    return tpm.Signature.decode(files.signature).values


def remade(files: QuoteFiles, **changes: Any) -> bytes:
    return replace(tpm.Signature.decode(files.signature), **changes).encode()


FORMS: dict[str, Callable[[QuoteFiles], bytes]] = {
    "without its head": lambda files: b"".join(values_of(files)),
    "the value with its size": lambda files: files.signature[4:],
    "DER": lambda files: encode_dss_signature(
        *(int.from_bytes(one) for one in (*values_of(files), b"\1")[:2])
    ),
    "of no algorithm": lambda files: b"\0\x10" + files.signature[2:],
    "an HMAC": lambda files: b"\0\5" + files.signature[2:],
    "a byte more": lambda files: files.signature + b"\0",
    "a byte less": lambda files: files.signature[:-1],
    "twice": lambda files: files.signature * 2,
    "nothing": lambda _: b"",
}


@needs_vectors
@pytest.mark.attack(number=13, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("form", FORMS)
def test_013_a_real_signature_in_another_form(name: str, form: str) -> None:
    files = generated(name)
    assert check_quote(files).is_accepted
    with pytest.raises(Malformed):
        check_quote(replace(files, signature=FORMS[form](files), tolerated=ALL))


@needs_vectors
@pytest.mark.attack(number=13, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("hash_", tpm.HASHES)
@pytest.mark.parametrize("scheme", [tpm.ALG_RSASSA, tpm.ALG_RSAPSS, tpm.ALG_ECDSA])
def test_013_a_real_signature_that_says_another_scheme(name: str, hash_: int, scheme: int) -> None:
    """Never the key's: refused by name before anything is computed."""
    files = generated(name)
    signature = tpm.Signature.decode(files.signature)
    if (signature.scheme, signature.hash) == (scheme, hash_):
        return
    values = (signature.values * 2)[: 2 if scheme == tpm.ALG_ECDSA else 1]
    changed = remade(files, scheme=scheme, hash=hash_, values=values)
    assert refusals(replace(files, signature=changed, tolerated=ALL)) == {Reason.QUOTE_SCHEME}


@needs_vectors
@pytest.mark.attack(number=13, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda values: tuple(b"\0" + one for one in values), id="longer"),
        pytest.param(lambda values: tuple(bytes(len(one)) for one in values), id="zero"),
        pytest.param(lambda values: tuple(b"\xff" * len(one) for one in values), id="too large"),
        pytest.param(lambda values: tuple(b"" for _ in values), id="empty"),
        pytest.param(lambda values: tuple(one[::-1] for one in values), id="backwards"),
    ],
)
def test_013_a_real_signature_of_other_values(
    name: str, bend: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
) -> None:
    files = generated(name)
    changed = remade(files, values=bend(values_of(files)))
    assert refusals(replace(files, signature=changed, tolerated=ALL)) == {Reason.QUOTE_SIGNATURE}


# 16: a list cut where the quote is


@needs_vectors
@pytest.mark.attack(number=16, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize("name", ["k6.1-sha1+sha256", "k7.2-sha1+sha256"])
def test_016_a_real_list_cut_where_the_quote_is(name: str) -> None:
    """Accepted, as the quote proves no more, and one entry less is not; the rest is told apart.

    Whoever hides what came later has to show it with the next quote, whose nonce is newer.
    """
    whole = kernel(name)
    told = check_quote(whole)
    assert told.ima is not None
    assert told.ima.matched is not None
    assert whole.ima_log is not None
    records = [record.encode() for record in read_records(whole.ima_log)]
    hidden = len(records) - told.ima.matched
    assert hidden > 0
    cut = check_quote(replace(whole, ima_log=b"".join(records[: told.ima.matched])))
    assert cut.is_accepted
    assert cut.ima is not None
    assert cut.ima.matched == cut.ima.entries == told.ima.matched
    assert Reason.LIST_LONGER not in {one.reason for one in cut.findings}
    (longer,) = (one for one in told.findings if one.reason is Reason.LIST_LONGER)
    assert longer.found.startswith(f"{hidden} entries")
    short = replace(whole, ima_log=b"".join(records[: told.ima.matched - 1]))
    assert refusals(short) == {Reason.LIST_REPLAY}
    assert refusals(replace(whole, nonce=b"a newer challenge")) == {Reason.QUOTE_NONCE}


# 100: counts that say whatever they like


def counts(message: bytes) -> dict[str, tuple[int, int]]:
    """Return place and size of each count and length in a quote."""
    attest = tpm.Attest.decode(message)
    assert isinstance(attest.attested, tpm.Quote)
    found = {"signer": (6, 2)}
    place = 8 + len(attest.qualified_signer)
    found["nonce"] = (place, 2)
    place += 2 + len(attest.extra_data) + 17 + 8
    found["selections"] = (place, 4)
    found["bitmap"] = (place + 6, 1)
    found["digest"] = (len(message) - len(attest.attested.digest) - 2, 2)
    return found


@needs_vectors
@pytest.mark.attack(number=100, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("count", ["signer", "nonce", "selections", "bitmap", "digest"])
@pytest.mark.parametrize("kind", ["largest", "half", "one more", "none"])
def test_100_a_count_in_a_real_quote(name: str, count: str, kind: str) -> None:
    """Not signed, so refused before it is read; read all the same, it costs nothing."""
    files = generated(name)
    place, size = counts(files.message)[count]
    real = int.from_bytes(files.message[place : place + size])
    most = (1 << 8 * size) - 1
    said = {"largest": most, "half": most // 2 + 1, "one more": real + 1, "none": 0}[kind]
    message = b"".join(
        (files.message[:place], said.to_bytes(size, "big"), files.message[place + size :])
    )
    tracemalloc.start()
    started = process_time()
    with pytest.raises(Malformed):
        tpm.Attest.decode(message)
    spent = process_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20
    assert spent < 1
    assert refusals(replace(files, message=message)) == {Reason.QUOTE_SIGNATURE}


@pytest.mark.attack(number=100, attacker="whoever can open the TPM", asset=QUOTE)
@pytest.mark.parametrize("count", [17, 1 << 16, (1 << 32) - 1])
def test_100_more_selections_than_there_are_banks_signed(count: int) -> None:
    """Signed by a key that signs what it is given: malformed before the first is read."""
    quoted = Quoted().bank("sha256")
    message = quoted.message()
    place, size = counts(message)["selections"]
    forged = message[:place] + count.to_bytes(size, "big") + message[place + size :] + bytes(600)
    signature = make_signature(quoted.key, quoted.kind, forged)
    with pytest.raises(Malformed, match="at most 16"):
        check_quote(quoted.files(message=forged, signature=signature))


@needs_vectors
@pytest.mark.attack(number=100, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize("size", [1 << 16, 1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("field", ["name", "data"])
def test_100_a_length_in_a_real_list(size: int, field: str) -> None:
    files = kernel("k6.1-sha1+sha256")
    assert files.ima_log is not None
    first = next(iter(read_records(files.ima_log)))
    place = 24 if field == "name" else 28 + len(first.template)
    log = files.ima_log[:place] + size.to_bytes(4, "little") + files.ima_log[place + 4 :]
    started = process_time()
    with pytest.raises(Malformed):
        check_quote(replace(files, ima_log=log))
    assert process_time() - started < 1


# 3: other attestations, which the same key signs as gladly


@needs_vectors
@pytest.mark.attack(number=3, attacker=ROOT, asset=QUOTE)
@pytest.mark.parametrize("name", ["reject-gettime-as-quote", "certify-creation"])
def test_003_a_real_attestation_of_something_else(name: str) -> None:
    assert refusals(replace(generated(name), tolerated=ALL)) == {Reason.QUOTE_TYPE}


@needs_vectors
@pytest.mark.attack(number=94, attacker=ROOT, asset=QUOTE)
def test_094_a_real_register_16_told_as_10() -> None:
    files = generated("reject-pcr16-relabelled-as-pcr10")
    ((_, value),) = files.values.items()
    assert refusals(files) == {Reason.QUOTE_SELECTION}
    as_it_is = check_quote(replace(files, values={("sha256", 16): value}))
    assert as_it_is.is_accepted
    assert [one.reason for one in as_it_is.findings] == [Reason.QUOTE_RESETTABLE]
    assert digest_of([value], "sha256").hex() == as_it_is.quote["digest"]
