"""The grant: what goes in comes out, only whole, and only as the answer to its question."""
# ruff: noqa: ANN401 - `changes` are fields of any type

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Malformed, Refused, crypto, grant
from credential.grant import Grant
from tests.credential.world import (
    KEYS,
    KID,
    OTHER_KEY,
    VERIFIER_KEY,
    flips,
    reasons,
    sign_payload,
    truncations,
)

K0 = b"0" * 32
NONCE = b"n" * 12
LEASE = Grant(
    node="build-7",
    key_name=b"\x00\x0b" + b"k" * 32,
    core=b"c" * 32,
    challenge=b"q" * 32,
    lease_seconds=300,
    step=0,
)
FIRST = grant.seal_token(
    replace(LEASE, id_object=b"id", encrypted_secret=b"es"), "a.token", key=K0, nonce=NONCE
)
QUESTION = {
    "node": LEASE.node, "key_name": LEASE.key_name, "core": LEASE.core,
    "challenge": LEASE.challenge, "next_step": 0,
}  # fmt: skip


def sign(value: Grant = FIRST, key: crypto.PrivateKey = VERIFIER_KEY, kid: str = KID) -> str:
    return grant.sign(value, key=key, kid=kid)


def read(text: str, **changes: Any) -> Grant:
    return grant.read(text, KEYS, **{**QUESTION, **changes})


def renewal(step: int, token: str = "b.token") -> Grant:
    key = grant.chain_key(K0, held_step=0, step=step)
    return grant.seal_token(replace(LEASE, step=step), token, key=key, nonce=NONCE)


grants = st.builds(
    Grant,
    node=st.from_regex(r"[a-z0-9.-]{1,63}", fullmatch=True),
    key_name=st.binary(min_size=1, max_size=66),
    core=st.binary(min_size=32, max_size=32),
    challenge=st.binary(min_size=32, max_size=32),
    lease_seconds=st.integers(0, 86400),
    step=st.integers(1, 1 << 20),
    ciphertext=st.binary(max_size=2000),
)


@given(grants)
def test_what_goes_in_comes_out(value: Grant) -> None:
    question = {name: getattr(value, name) for name in QUESTION if name != "next_step"}
    assert read(sign(value), **question, next_step=value.step) == value


def test_a_first_token_opens_with_its_key() -> None:
    first = read(sign())
    assert first == FIRST
    assert grant.open_token(first, key=K0) == "a.token"
    with pytest.raises(Refused) as refusal:
        grant.open_token(first, key=b"1" * 32)
    assert reasons(refusal.value) == ["grant.does-not-open"]


def test_a_renewal_opens_with_the_next_key_even_when_one_was_lost() -> None:
    for step in (1, 2, 5):
        renewed = read(sign(renewal(step)), next_step=1)
        key = grant.chain_key(K0, held_step=0, step=step)
        assert grant.open_token(renewed, key=key) == "b.token"
        with pytest.raises(Refused):
            grant.open_token(renewed, key=K0)


@pytest.mark.parametrize("name", ["node", "key_name", "core", "challenge", "step"])
def test_a_ciphertext_opens_in_no_other_grant(name: str) -> None:
    other: Any = {"node": "build-8", "step": 1}.get(name, b"x" * 32)
    with pytest.raises(Refused) as refusal:
        grant.open_token(replace(FIRST, **{name: other}), key=K0)
    assert reasons(refusal.value) == ["grant.does-not-open"]


def test_a_sealed_text_that_is_no_ascii_is_malformed() -> None:
    associated = cbor2.dumps(
        ["procseal sealed 1", LEASE.node, LEASE.key_name, LEASE.core, LEASE.challenge, 0]
    )
    sealed = crypto.seal(K0, nonce=NONCE, plaintext=b"\xff", associated=associated)
    with pytest.raises(Malformed):
        grant.open_token(replace(FIRST, ciphertext=sealed), key=K0)


@pytest.mark.parametrize(
    ("value", "next_step", "is_accepted"),
    [
        pytest.param(FIRST, 0, True, id="a first token where there is none"),
        pytest.param(renewal(1), 1, True, id="a renewal"),
        pytest.param(replace(LEASE, step=4), 5, True, id="a lease for the token that is held"),
        pytest.param(replace(LEASE, step=5), 5, True, id="a lease, a renewal having been lost"),
        pytest.param(LEASE, 0, False, id="a lease where there is no token"),
        pytest.param(renewal(1), 0, False, id="a renewal where there is no token"),
        pytest.param(FIRST, 1, False, id="a first token again"),
        pytest.param(renewal(3), 4, False, id="a renewal again"),
        pytest.param(replace(LEASE, step=3), 5, False, id="a lease of an earlier token"),
    ],
)
def test_steps_do_not_go_back(value: Grant, next_step: int, *, is_accepted: bool) -> None:
    if is_accepted:
        assert read(sign(value), next_step=next_step) == value
    else:
        with pytest.raises(Refused) as refusal:
            read(sign(value), next_step=next_step)
        assert reasons(refusal.value) == ["grant.of-another-step"]


def test_all_differences_are_found() -> None:
    with pytest.raises(Refused) as refusal:
        read(sign(), node="x", key_name=b"x", core=b"x", challenge=b"x", next_step=1)
    assert reasons(refusal.value) == [
        "grant.of-another-node", "grant.of-another-key", "grant.of-another-record",
        "grant.of-another-challenge", "grant.of-another-step",
    ]  # fmt: skip


def test_another_signer() -> None:
    with pytest.raises(Refused) as refusal:
        read(sign(key=OTHER_KEY))
    assert reasons(refusal.value) == ["grant.signature-invalid"]
    with pytest.raises(Refused) as refusal:
        read(sign(kid="another"))
    assert reasons(refusal.value) == ["grant.key-unknown"]


@pytest.mark.parametrize("mutate", [truncations, flips])
def test_no_other_text_is_accepted(mutate: Callable[[str], list[bytes]]) -> None:
    for text in mutate(sign()):
        with pytest.raises((Malformed, Refused)):
            read(text.decode("latin-1"))


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_no_text_is_an_unhandled_error(text: str) -> None:
    with pytest.raises(Malformed):
        read(text)


ARRAY = ["procseal grant 1", *(getattr(FIRST, field.name) for field in fields(FIRST))]


def encoded(*, at: int, value: Any) -> bytes:
    return cbor2.dumps([*ARRAY[:at], value, *ARRAY[at + 1 :]], canonical=True)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(encoded(at=0, value="procseal grant 2"), id="another version"),
        pytest.param(encoded(at=0, value=1), id="no name"),
        pytest.param(encoded(at=1, value=b"build-7"), id="bytes for a node"),
        pytest.param(encoded(at=1, value=""), id="no node"),
        pytest.param(encoded(at=1, value="n" * 64), id="a long node"),
        pytest.param(encoded(at=2, value=b""), id="no key name"),
        pytest.param(encoded(at=2, value=b"k" * 67), id="a long key name"),
        pytest.param(encoded(at=3, value=b"c" * 31), id="a short hash"),
        pytest.param(encoded(at=4, value=b"c" * 33), id="a long hash"),
        pytest.param(encoded(at=5, value=-1), id="a negative lease"),
        pytest.param(encoded(at=5, value=86401), id="a lease of more than a day"),
        pytest.param(encoded(at=5, value=True), id="true for a lease"),
        pytest.param(encoded(at=5, value=1.0), id="a fraction for a lease"),
        pytest.param(encoded(at=6, value=False), id="false for a step"),
        pytest.param(encoded(at=6, value=1 << 64), id="a huge step"),
        pytest.param(encoded(at=6, value=1), id="a renewal with a seal"),
        pytest.param(encoded(at=7, value=b""), id="half a seal"),
        pytest.param(encoded(at=8, value=b"x" * 1025), id="a long seal"),
        pytest.param(encoded(at=9, value=b""), id="a seal of nothing"),
        pytest.param(encoded(at=9, value=None), id="null for a ciphertext"),
        pytest.param(cbor2.dumps(ARRAY[:-1]), id="a member too few"),
        pytest.param(cbor2.dumps([*ARRAY, b""]), id="a member too many"),
        pytest.param(cbor2.dumps(ARRAY) + b"\0", id="something behind it"),
        pytest.param(b"\x9f" + cbor2.dumps(ARRAY)[1:] + b"\xff", id="an indefinite length"),
        pytest.param(b"\xd9\xd9\xf7" + cbor2.dumps(ARRAY), id="a tag"),
        pytest.param(b"\xc0\x61a", id="a date that is none"),
        pytest.param(b"\x81" * 2000 + b"\0", id="deeply nested"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_a_signed_payload_of_another_form_is_malformed(payload: bytes) -> None:
    text = sign_payload(payload, VERIFIER_KEY, typ="procseal-grant+jws", kid=KID)
    with pytest.raises(Malformed) as refusal:
        read(text)
    assert reasons(refusal.value) == ["grant.malformed"]


def test_what_could_not_be_read_is_not_signed() -> None:
    with pytest.raises(Malformed):
        sign(replace(FIRST, node=""))
    with pytest.raises(Malformed):
        sign(replace(FIRST, ciphertext=b"x" * 40_000))


def test_a_token_is_no_grant() -> None:
    text = sign_payload(cbor2.dumps(ARRAY), VERIFIER_KEY, typ="wit+jwt", kid=KID)
    with pytest.raises(Malformed):
        read(text)
