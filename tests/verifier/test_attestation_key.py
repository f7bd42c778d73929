"""Which keys may sign evidence, and that the key's scheme decides, never the message."""

import hashlib
import math
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding

from evidence import tpm
from tests.simulated_keys import AK_KINDS, CURVES, AkKind, make_ak, make_signature
from tests.simulated_node import SimulatedNode
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason, Rejected
from verifier.attestation_key import STRONG, schemes_of, verify_ak, verify_public, verify_sound
from verifier.crypto import tpm_keys

each_kind = pytest.mark.parametrize("kind", [pytest.param(AK_KINDS[n], id=n) for n in AK_KINDS])
RSA = AK_KINDS["RSA 2048, RSASSA, SHA-256"]


@each_kind
def test_a_node_with_any_kind_of_key(kind: AkKind) -> None:
    """Quote and certification of a process key are by it, the quote's digest by its hash."""
    node = SimulatedNode(ak=kind)
    verifier = SimulatedVerifier(node)
    process = node.new_process()
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert [one.is_new for one in accepted(verdict)] == [True]
    verdict = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert [one.is_new for one in accepted(verdict)] == [False]


@each_kind
def test_a_signature_counts_for_its_key_and_data_alone(kind: AkKind) -> None:
    key, public = make_ak("one", kind)
    other, _ = make_ak("two", kind)
    ak = verify_public(public, Reason.QUOTE_AK)
    signature = tpm.Signature.decode(make_signature(key, kind, b"data"))
    assert ak.has_signed(b"data", signature)
    assert not ak.has_signed(b"datb", signature)
    assert not ak.has_signed(b"data", tpm.Signature.decode(make_signature(other, kind, b"data")))
    shorter = replace(signature, values=tuple(one[1:] for one in signature.values))
    longer = replace(signature, values=tuple(b"\0" + one for one in signature.values))
    assert not ak.has_signed(b"data", shorter)
    assert not ak.has_signed(b"data", longer)
    zeros = replace(signature, values=tuple(bytes(len(one)) for one in signature.values))
    assert not ak.has_signed(b"data", zeros)


@each_kind
def test_the_message_does_not_choose_the_scheme(kind: AkKind) -> None:
    """A signature that is good by another scheme, of the same key, is refused by name."""
    key, public = make_ak("one", kind)
    ak = verify_public(public, Reason.QUOTE_AK)
    for scheme in schemes_of(kind.type, (tpm.ALG_SHA1, *STRONG)):
        if scheme == public.scheme:
            continue
        another = replace(kind, scheme=scheme.algorithm, hash=scheme.parameters[0])
        signature = tpm.Signature.decode(make_signature(key, another, b"data"))
        assert tpm_keys.is_signed(ak.key, signature, b"data")
        assert not ak.has_signed(b"data", signature)


@pytest.mark.parametrize("kind", [AK_KINDS["P-384, ECDSA, SHA-384"]], ids=["SHA-384"])
def test_the_quotes_digest_is_by_the_schemes_hash(kind: AkKind) -> None:
    node = SimulatedNode(ak=kind)
    verifier = SimulatedVerifier(node)
    values = b"".join(node.tpm.registers)
    selection = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=tuple(range(16)))
    quote = tpm.Quote(selections=(selection,), digest=hashlib.sha256(values).digest())
    evidence = node.unsigned_evidence(verifier.challenge(), quote={"attested": quote})
    assert verifier.refusal(evidence) == {Reason.QUOTE_DIGEST}


def test_a_certification_by_another_scheme_of_the_same_key() -> None:
    node = SimulatedNode(ak=RSA)
    verifier = SimulatedVerifier(node)
    process = node.new_process()
    pss = replace(RSA, scheme=tpm.ALG_RSAPSS)
    forged = make_signature(node.tpm.ak_key, pss, process.new.certification)
    process = replace(process, new=replace(process.new, signature=forged))
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    (refused,) = verdict.processes
    assert {one.reason for one in refused.findings} == {  # type: ignore[union-attr]
        Reason.PROCESS_KEY_CERTIFICATION
    }


ECC = AkKind()
MISFITS: dict[str, tuple[AkKind, dict[str, Any]]] = {
    "no scheme": (ECC, {"scheme": tpm.NO_SCHEME}),
    "SHA-1": (ECC, {"scheme": tpm.Scheme(algorithm=tpm.ALG_ECDSA, parameters=(tpm.ALG_SHA1,))}),
    "ECDAA": (ECC, {"scheme": tpm.Scheme(algorithm=tpm.ALG_ECDAA, parameters=(0xB, 1))}),
    "SM2": (ECC, {"scheme": tpm.Scheme(algorithm=tpm.ALG_SM2, parameters=(0xB,))}),
    "another curve's size": (ECC, {"size": tpm.CURVE_P384}),
    "a curve that nobody knows": (ECC, {"size": 0x0020}),
    "no point": (ECC, {"unique": (bytes(32), bytes(32))}),
    "a point off the curve": (ECC, {"unique": (b"\1" * 32, b"\2" * 32)}),
    "coordinates too large": (ECC, {"unique": (b"\xff" * 40, b"\xff" * 40)}),
    "a Name by SHA-1": (ECC, {"name_hash": tpm.ALG_SHA1}),
    "a cipher": (ECC, {"symmetric": tpm.AES_128_CFB}),
    "not restricted": (ECC, {"attributes": 0x40072}),
    "RSA with SHA-1": (
        RSA, {"scheme": tpm.Scheme(algorithm=tpm.ALG_RSASSA, parameters=(tpm.ALG_SHA1,))}
    ),
    "RSA without scheme": (RSA, {"scheme": tpm.NO_SCHEME}),
    "RSA exponent 3": (RSA, {"exponent": 3}),
    "RSA of another size than it says": (RSA, {"size": 3072}),
    "RSA 1024": (RSA, {"size": 1024, "unique": (b"\xff" * 128,)}),
    "an even modulus": (RSA, {"unique": (b"\xff" * 255 + b"\xfe",)}),
    "a modulus with a leading zero": (RSA, {"unique": (b"\0" + b"\xff" * 255,)}),
    "no modulus": (RSA, {"unique": (b"",)}),
}  # fmt: skip


@pytest.mark.parametrize("name", MISFITS)
def test_keys_that_may_not_sign_evidence(name: str) -> None:
    kind, changes = MISFITS[name]
    _, public = make_ak("one", kind)
    with pytest.raises(Rejected) as rejection:
        verify_ak(replace(public, **changes).encode(), Reason.ENROL_AK)
    assert {one.reason for one in rejection.value.findings} == {Reason.ENROL_AK}


def test_a_key_of_a_flawed_generator() -> None:
    """CVE-2017-15361: modulo each small prime, the modulus is a power of 65537."""
    product = math.prod(n for n in range(3, 168) if all(n % m for m in range(2, n)))
    modulus = pow(65537, 4242, product) + product * ((1 << 2047) // product + 1)
    modulus += product * (not modulus & 1)
    _, public = make_ak("one", RSA)
    flawed = replace(public, unique=(modulus.to_bytes(256, "big"),))
    key = tpm_keys.public_key(flawed)
    assert key is not None
    for refused in (
        lambda: verify_ak(flawed.encode(), Reason.ENROL_AK),
        lambda: verify_sound(key, Reason.ENROL_AK),
    ):
        with pytest.raises(Rejected) as rejection:
            refused()
        assert {one.reason for one in rejection.value.findings} == {Reason.ENROL_AK}


def test_exponent_65537_written_out() -> None:
    _, public = make_ak("one", RSA)
    assert verify_ak(replace(public, exponent=65537).encode(), Reason.ENROL_AK)


def test_every_curve_of_the_drawer_is_simulated() -> None:
    assert set(CURVES) == set(tpm_keys.TPM_CURVES)


@each_kind
def test_tpm2_pytss_says_the_same_of_a_signature(kind: AkKind) -> None:
    """Not of long salts, which it does not take."""
    pytss = pytest.importorskip("tpm2_pytss")
    if kind.salt is padding.PSS.MAX_LENGTH:
        return
    key, public = make_ak("one", kind)
    encoded = make_signature(key, kind, b"data")
    signature, _ = pytss.TPMT_SIGNATURE.unmarshal(encoded)
    area, _ = pytss.TPMT_PUBLIC.unmarshal(public.encode())
    ak = verify_public(public, Reason.QUOTE_AK)
    for data in (b"data", b"datb"):
        try:
            signature.verify_signature(area, data)
            is_good = True
        except InvalidSignature:
            is_good = False
        assert ak.has_signed(data, tpm.Signature.decode(encoded)) == is_good == (data == b"data")
