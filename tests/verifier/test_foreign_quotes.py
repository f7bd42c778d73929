"""Quotes that others have made: by other attestors, for other verifiers."""
# ruff: noqa: ANN401 - `changes` are fields of any type, keys are of several

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from evidence import Malformed, tpm
from evidence.event_log import EventLog
from tests.shared_vectors import VECTORS, needs_vectors
from tests.simulated_keys import AK_KINDS, make_ak, sha256
from tests.verifier.quoted import (
    NONCE,
    SHA1,
    UNCHECKED,
    generated,
    notes,
    pem,
    read,
    read_json,
    refusals,
    selection,
)
from verifier.check_quote import check_quote
from verifier.crypto import tpm_keys
from verifier.event_log import judge_event_log
from verifier.quote_files import QuoteFiles
from verifier.quoted_registers import digest_of
from verifier.reasons import Reason
from verifier.tolerance import NOTED, tolerate


def generated_names() -> list[Any]:
    path = VECTORS / "generated-swtpm" / "index.json"
    if not path.is_file():
        return [pytest.param("", marks=needs_vectors, id="absent")]
    return sorted(json.loads(path.read_text())["vectors"])


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
