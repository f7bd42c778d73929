"""Keys, thumbprints, signatures and ciphers against published values and the standard library."""
# ruff: noqa: ANN401 - JSON is of any type

import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from credential import Keys, Malformed, base64url, crypto, keys
from tests.credential.world import KEYS, KID, flips, reasons, truncations

JWK = keys.to_jwk(KEYS.points[KID])
ENTRY = {**JWK, "kid": KID, "use": "sig"}


def read_keys(*entries: Any) -> Keys:
    return Keys.read(json.dumps({"keys": entries}), trust_domain="example.org")


def test_thumbprint_of_rfc_9449_section_6_1() -> None:
    x = base64url.decode("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs")
    y = base64url.decode("9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA")
    assert keys.thumbprint(b"\x04" + x + y) == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_what_goes_in_comes_out() -> None:
    assert Keys.read(json.dumps(KEYS.to_jwks()), trust_domain="example.org") == KEYS


def test_keys_of_other_kinds_are_left_out() -> None:
    others = [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256", "use": "sig"},
        {"kty": "OKP", "crv": "Ed25519", "x": "a"},
        {**ENTRY, "use": "enc", "kid": "b"},
        {**ENTRY, "alg": ["ES256"], "kid": "c"},
    ]
    assert read_keys(*others, ENTRY) == KEYS


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([], id="none"),
        pytest.param([{"kty": "RSA"}], id="none that can be used"),
        pytest.param([ENTRY, ENTRY], id="one twice"),
        pytest.param([{**ENTRY, "d": "AAAA"}], id="a private half"),
        pytest.param([{**ENTRY, "x": ENTRY["y"]}], id="no point of the curve"),
        pytest.param([{**ENTRY, "x": ENTRY["x"] + "A"}], id="a coordinate too long"),
        pytest.param([{**ENTRY, "kid": ""}], id="no kid"),
        pytest.param([{**ENTRY, "kid": 7}], id="a number for a kid"),
        pytest.param(["key"], id="no object"),
        pytest.param([ENTRY] * 65, id="too many"),
    ],
)
def test_what_is_no_key_set(entries: list[Any]) -> None:
    with pytest.raises(Malformed) as refusal:
        read_keys(*entries)
    assert reasons(refusal.value) == ["keys.malformed"]


@pytest.mark.parametrize("domain", ["", "Example.org", "example.org\n", "spiffe://example.org"])
def test_what_is_no_trust_domain(domain: str) -> None:
    with pytest.raises(Malformed):
        Keys.read(json.dumps(KEYS.to_jwks()), trust_domain=domain)


@given(st.text() | st.recursive(st.none() | st.booleans() | st.text(), st.lists).map(json.dumps))
def test_no_key_set_is_an_unhandled_error(text: str) -> None:
    with pytest.raises(Malformed):
        Keys.read(text, trust_domain="example.org")


@given(st.binary(max_size=80))
def test_base64url_has_one_text(data: bytes) -> None:
    text = base64url.encode(data)
    assert base64url.decode(text) == data
    for other in flips(text):
        try:
            assert base64url.decode(other.decode("latin-1")) != data
        except ValueError:
            continue


@given(st.binary(max_size=200))
def test_signatures(data: bytes) -> None:
    key = crypto.generate()
    point = crypto.point_of(key)
    signature = crypto.sign(key, data)
    assert len(signature) == 64
    assert crypto.is_signed(point, data, signature)
    assert not crypto.is_signed(point, data + b"\0", signature)
    assert not crypto.is_signed(KEYS.points[KID], data, signature)


def test_no_other_signature_and_no_other_point_has_signed() -> None:
    key = crypto.generate()
    point = crypto.point_of(key)
    signature = crypto.sign(key, b"data")
    for other in (*flips(signature), *truncations(signature), bytes(64), b"\xff" * 64):
        assert not crypto.is_signed(point, b"data", other)
    for other in (*flips(point), *truncations(point), bytes(65)):
        assert not crypto.is_signed(other, b"data", signature)


def test_a_key_on_another_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="P-256"):
        crypto.point_of(ec.generate_private_key(ec.SECP384R1()))


def test_the_next_key_is_hkdf_of_rfc_5869() -> None:
    key = bytes(range(32))
    extracted = hmac.digest(bytes(32), key, hashlib.sha256)
    assert crypto.next_key(key) == hmac.digest(extracted, b"procseal renewal 1\x01", hashlib.sha256)
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.next_key(key[:-1])


def test_what_is_sealed_opens_with_its_key_and_data_alone() -> None:
    key, nonce = b"k" * 32, b"n" * 12
    sealed = crypto.seal(key, nonce=nonce, plaintext=b"secret", associated=b"with")
    assert crypto.unseal(key, sealed, associated=b"with") == b"secret"
    assert crypto.unseal(key, sealed, associated=b"without") is None
    assert crypto.unseal(b"K" * 32, sealed, associated=b"with") is None
    assert crypto.unseal(b"k", sealed, associated=b"with") is None
    for other in (*flips(sealed), *truncations(sealed)):
        assert crypto.unseal(key, other, associated=b"with") is None
