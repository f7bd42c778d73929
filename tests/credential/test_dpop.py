"""DPoP proofs: each rule of RFC 9449, section 4.3, broken; and the server's nonces."""
# ruff: noqa: ANN401 - JSON is of any type

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import DPoP, Malformed, Nonces, Refused, Seen, crypto, dpop, keys
from credential.check import SKEW
from credential.nonces import LIFETIME, PERIOD
from tests.credential.world import (
    AUDIENCE,
    CLAIMS,
    NONCES,
    NOW,
    OTHER_KEY,
    TOKEN,
    URL,
    USE_KEY,
    accept,
    flips,
    make_claims,
    make_dpop,
    make_proof,
    make_token,
    parts_of,
    reasons,
    sign_payload,
    truncations,
)

PROOF = make_dpop()
HEADER, PAYLOAD = parts_of(PROOF.proof)
SECOND = timedelta(seconds=1)
paths = st.from_regex(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]{0,9}){1,4}", fullmatch=True)
nonce_texts = st.just("") | st.from_regex(r"[!#-\[\]-~]{1,256}", fullmatch=True)


def refusal_of(proof: DPoP, *, token: str = TOKEN, **changes: Any) -> list[str]:
    with pytest.raises((Malformed, Refused)) as refusal:
        accept(token, proof, **changes)
    return reasons(refusal.value)


def signed(payload: Any, key: crypto.PrivateKey = USE_KEY, **header: Any) -> DPoP:
    """A proof of anything, well signed; its header is right but for `header`."""
    whole = {name: value for name, value in {**HEADER, **header}.items() if value is not None}
    del whole["alg"]
    return DPoP(proof=sign_payload(payload, key, **whole), nonces=NONCES)


def test_a_proven_request_is_accepted() -> None:
    assert accept(TOKEN, PROOF) == CLAIMS
    assert {
        "alg": "ES256", "typ": "dpop+jwt", "jwk": keys.to_bare_jwk(CLAIMS.use_key),
    } == HEADER  # fmt: skip
    assert set(PAYLOAD) == {"jti", "htm", "htu", "iat", "ath", "nonce"}


@given(
    paths,
    st.sampled_from(["GET", "POST", "PUT", "M-SEARCH"]),
    st.binary(min_size=16, max_size=16),
    nonce_texts,
    st.integers(-30, 89),
)
def test_what_is_made_is_accepted_while_it_lives(
    path: str, method: str, jti: bytes, nonce: str, age: int
) -> None:
    url = "https://ledger.example.org:8443" + path
    request: dict[str, Any] = {"method": method, "url": url}
    proof = make_dpop(jti=jti, nonce=nonce, nonces="unchecked", **request)
    assert accept(TOKEN, proof, now=NOW + age * SECOND, **request) == CLAIMS
    read = dpop.read(proof.proof, use_key=CLAIMS.use_key)
    assert (read.target, read.method, read.nonce, read.issued) == (url, method, nonce, NOW)


def test_a_proof_by_pyjwt_is_accepted() -> None:
    text = jwt.encode(PAYLOAD, USE_KEY, algorithm="ES256", headers=HEADER)
    assert accept(TOKEN, replace(PROOF, proof=text)) == CLAIMS


@pytest.mark.parametrize("mutate", [truncations, flips])
def test_no_other_proof_is_accepted(mutate: Callable[[str], list[bytes]]) -> None:
    for text in mutate(PROOF.proof):
        with pytest.raises((Malformed, Refused)):
            accept(TOKEN, replace(PROOF, proof=text.decode("latin-1")))


@given(st.text())
def test_no_text_is_an_unhandled_error(text: str) -> None:
    with pytest.raises((Malformed, Refused)):
        accept(TOKEN, replace(PROOF, proof=text))


def test_a_token_alone() -> None:
    assert refusal_of(replace(PROOF, proof="")) == ["proof.missing"]


def test_a_kind_is_not_taken_for_the_other() -> None:
    assert refusal_of(DPoP(proof=make_proof(), nonces=NONCES)) == ["proof.malformed"]
    with pytest.raises(Malformed) as refusal:
        accept(TOKEN, PROOF.proof)
    assert reasons(refusal.value) == ["proof.malformed"]


# Section 4.3, by its numbers: 1 to 5 are the form, 6 and 7 the key


def with_(**changes: Any) -> dict[str, Any]:
    return {**PAYLOAD, **changes}


@pytest.mark.parametrize(
    "payload",
    [
        *(
            pytest.param({k: v for k, v in PAYLOAD.items() if k != name}, id=f"no {name}")
            for name in PAYLOAD
            if name != "nonce"
        ),
        pytest.param(with_(aud=AUDIENCE), id="a claim that is not known"),
        pytest.param(with_(exp=PAYLOAD["iat"] + 60), id="an end of its own"),
        pytest.param(with_(htu=[URL]), id="several targets"),
        pytest.param(with_(htu=URL + "?a=b"), id="a target with a query"),
        pytest.param(with_(htu=URL + "#a"), id="a target with a fragment"),
        pytest.param(with_(htu="https://Ledger.example.org/post"), id="a target in capitals"),
        pytest.param(with_(htu="https://ledger.example.org:443/post"), id="a default port"),
        pytest.param(with_(htu="/post"), id="a path"),
        pytest.param(with_(htm=""), id="no method"),
        pytest.param(with_(htm="A B"), id="no token"),
        pytest.param(with_(iat=str(PAYLOAD["iat"])), id="a time in words"),
        pytest.param(with_(iat=PAYLOAD["iat"] + 0.5), id="half a second"),
        pytest.param(with_(iat=-1), id="before 1970"),
        pytest.param(with_(jti="x"), id="a short jti"),
        pytest.param(with_(jti="x" * 5000), id="a long jti"),
        pytest.param(with_(ath=None), id="null for a hash"),
        pytest.param(with_(nonce=""), id="an empty nonce"),
        pytest.param(with_(nonce='a"b'), id="a quote in a nonce"),
        pytest.param(with_(nonce="x" * 257), id="a long nonce"),
        pytest.param(json.dumps(PAYLOAD)[:-1].encode() + b', "iat": 0}', id="a claim twice"),
        pytest.param(b"null", id="null"),
    ],
)
def test_a_signed_proof_of_another_form_is_malformed(payload: Any) -> None:
    assert refusal_of(signed(payload)) == ["proof.malformed"]


JWK = HEADER["jwk"]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"typ": "JWT"}, id="typ JWT"),
        pytest.param({"typ": "DPOP+JWT"}, id="typ in capitals"),
        pytest.param({"typ": "wpt+jwt"}, id="another kind of proof"),
        pytest.param({"typ": None}, id="no typ"),
        pytest.param({"jwk": None}, id="no jwk"),
        pytest.param({"jwk": None, "kid": "a"}, id="a kid for a jwk"),
        pytest.param({"kid": "a"}, id="a kid"),
        pytest.param({"jwk": {**JWK, "d": "AAAA"}}, id="a private key"),
        pytest.param({"jwk": {**JWK, "alg": "ES256"}}, id="an alg in the key"),
        pytest.param({"jwk": {**JWK, "crv": "P-384"}}, id="another curve"),
        pytest.param({"jwk": {**JWK, "x": JWK["y"]}}, id="no point"),
        pytest.param({"jwk": {"kty": "oct", "k": "AAAA"}}, id="a symmetric key"),
        pytest.param({"jwk": [JWK]}, id="several keys"),
    ],
)
def test_another_header_is_malformed_however_well_signed(header: dict[str, Any]) -> None:
    assert refusal_of(signed(PAYLOAD, **header)) == ["proof.malformed"]


def test_the_message_does_not_choose_its_algorithm() -> None:
    public = crypto.public_key(CLAIMS.use_key).public_numbers().x.to_bytes(32, "big")
    header = {name: value for name, value in HEADER.items() if name != "alg"}
    for algorithm, key in (("HS256", public), ("none", None)):
        text = jwt.encode(PAYLOAD, key, algorithm=algorithm, headers=header)  # type: ignore[arg-type]
        assert refusal_of(replace(PROOF, proof=text)) == ["proof.malformed"]


@pytest.mark.attack(number=103, attacker="whoever hears a request", asset="the credential")
def test_dpop_proof_by_another_key() -> None:
    """The thief's own key, honestly named; and the owner's, named by the thief."""
    assert refusal_of(make_dpop(key=OTHER_KEY)) == ["proof.of-another-key"]
    assert refusal_of(signed(PAYLOAD, OTHER_KEY)) == ["proof.signature-invalid"]


@pytest.mark.attack(number=103, attacker="whoever hears a request", asset="the credential")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": "GET"}, "proof.of-another-method"),
        ({"method": "post"}, "proof.of-another-method"),
        ({"url": URL + "/"}, "proof.of-another-url"),
        ({"url": "http://ledger.example.org/post"}, "proof.of-another-url"),
        ({"url": "https://ledger.example.org:8443/post"}, "proof.of-another-url"),
    ],
)
def test_dpop_proof_for_another_request(changes: dict[str, str], reason: str) -> None:
    assert refusal_of(PROOF, **changes) == [reason]


def test_the_url_is_compared_in_its_one_form() -> None:
    assert accept(TOKEN, PROOF, url="HTTPS://Ledger.example.org:443/post?draft=1#x") == CLAIMS


def test_another_token() -> None:
    renewed = make_token(jti="cmVuZXdlZC1yZW5ld2Vk")
    assert refusal_of(PROOF, token=renewed) == ["proof.of-another-token"]


def test_an_audience_that_the_token_is_not_for() -> None:
    """The proof does not name one; the token's audiences are the limit."""
    other = "https://audit.example.org"
    assert refusal_of(PROOF, audience=other) == ["token.audience-not-allowed"]
    both = make_token(audiences=(AUDIENCE, other))
    claims = make_claims(audiences=(AUDIENCE, other))
    assert accept(both, make_dpop(both), audience=other) == claims


@pytest.mark.attack(number=103, attacker="a host with a wrong clock", asset="the credential")
@pytest.mark.parametrize(
    ("seconds", "reason"),
    [(-31, "proof.early"), (-30, None), (0, None), (89, None), (90, "proof.late")],
)
def test_dpop_proof_by_a_clock_that_is_apart(seconds: int, reason: str | None) -> None:
    """A minute, and the skew at either end."""
    made = NOW + timedelta(minutes=5)
    now = made + seconds * SECOND
    proof = make_dpop(now=made, nonce=NONCES.at(now))
    if reason is None:
        assert accept(TOKEN, proof, now=now) == CLAIMS
    else:
        assert refusal_of(proof, now=now) == [reason]


@pytest.mark.attack(number=103, attacker="whoever hears a request", asset="the credential")
def test_dpop_proof_replayed() -> None:
    seen = Seen()
    assert accept(TOKEN, PROOF, seen=seen) == CLAIMS
    for seconds in (0, 89):
        assert refusal_of(PROOF, seen=seen, now=NOW + seconds * SECOND) == ["proof.replayed"]
    assert accept(TOKEN, make_dpop(jti=b"k" * 16), seen=seen) == CLAIMS


def test_a_refused_proof_uses_up_nothing() -> None:
    seen = Seen()
    assert refusal_of(PROOF, method="GET", seen=seen) == ["proof.of-another-method"]
    assert accept(TOKEN, PROOF, seen=seen) == CLAIMS


# Nonces


@pytest.mark.parametrize(
    ("nonce", "reason"),
    [
        ("", "proof.nonce-missing"),
        ("AAAA", "proof.nonce-unknown"),
        (NONCES.at(NOW).lower(), "proof.nonce-unknown"),
        (NONCES.at(NOW) + "A", "proof.nonce-unknown"),
        (Nonces(b"x" * 32).at(NOW), "proof.nonce-unknown"),
        (NONCES.at(NOW - LIFETIME), "proof.nonce-of-another-time"),
        (NONCES.at(NOW + SKEW + PERIOD), "proof.nonce-of-another-time"),
        (NONCES.at(NOW - LIFETIME + PERIOD), None),
    ],
)
def test_nonces(nonce: str, reason: str | None) -> None:
    """Missing, not a nonce, changed, of another server, old, of the future, the last good one."""
    proof = make_dpop(nonce=nonce)
    if reason is None:
        assert accept(TOKEN, proof) == CLAIMS
    else:
        assert refusal_of(proof) == [reason]


@pytest.mark.attack(number=103, attacker="the process itself", asset="the credential")
def test_dpop_proof_made_in_advance() -> None:
    """Whoever could sign for a moment has signed for tomorrow."""
    tomorrow = NOW + timedelta(hours=20)
    token = make_token(expires=tomorrow + timedelta(hours=1))
    proof = make_dpop(token, now=tomorrow, nonce=NONCES.at(NOW))
    assert refusal_of(proof, token=token, now=tomorrow) == ["proof.nonce-of-another-time"]


def test_a_server_without_nonces_says_so() -> None:
    assert accept(TOKEN, make_dpop(nonce="", nonces="unchecked")) == CLAIMS
    wrong: Any = "none"
    with pytest.raises(ValueError, match="unchecked"):
        accept(TOKEN, make_dpop(nonces=wrong))


@given(st.binary(min_size=32, max_size=32), st.datetimes(NOW.replace(tzinfo=None)), st.integers(0))
def test_a_nonce_says_when_it_was_given_out(key: bytes, time: Any, bit: int) -> None:
    nonces, now = Nonces(key), time.replace(tzinfo=NOW.tzinfo)
    nonce = nonces.at(now)
    given_out = nonces.time_of(nonce)
    assert given_out is not None
    assert given_out <= now < given_out + PERIOD
    assert nonces.at(given_out + PERIOD - SECOND) == nonce
    changed = flips(nonce)[bit % (8 * len(nonce))].decode("latin-1")
    assert nonces.time_of(changed) is None


@given(st.text())
def test_no_other_text_is_a_nonce(text: str) -> None:
    assert NONCES.time_of(text) is None


def test_servers_with_one_key_know_each_others_nonces() -> None:
    assert Nonces(NONCES.key).time_of(NONCES.at(NOW)) == NOW
    with pytest.raises(ValueError, match="32"):
        Nonces(b"short")


# What a process may ask for


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("method", "A B"), ("url", "ledger.example.org"), ("nonce", "a b"), ("nonce", 'a"')],
)
def test_a_process_may_not_ask_for_a_proof_of_anything(name: str, wrong: str) -> None:
    changes: dict[str, Any] = {name: wrong}
    with pytest.raises(Malformed):
        make_dpop(**changes)
