"""The token: what goes in comes out, and nothing else is read."""
# ruff: noqa: ANN401 - JSON is of any type

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Claims, Keys, Malformed, Procseal, Refused, crypto, keys, status, wit
from credential.status import Place
from tests.credential.world import (
    CLAIMS,
    ID,
    KEYS,
    KID,
    TOKEN,
    VERIFIER_KEY,
    flips,
    make_token,
    parts_of,
    reasons,
    sign_payload,
    truncations,
)

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60)
words = st.from_regex(r"[!-~]{1,80}", fullmatch=True)
digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
times = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
points = st.sampled_from([crypto.point_of(crypto.generate()) for _ in range(8)])
labels = st.from_regex(r"[a-z][a-z0-9_.-]{0,62}", fullmatch=True)
procseals = st.builds(
    Procseal,
    level=st.sampled_from(wit.LEVELS),
    binding=st.sampled_from(["launched", "attached"]),
    peer_proof=st.sampled_from(["child", "pidfs", "pidfd", "pid"]),
    proof_key=st.sampled_from(["attestor", "tpm", "process"]),
    executable=digests,
    set=names,
    node=st.from_regex(r"[a-z0-9.-]{1,63}", fullmatch=True),
    boot=st.uuids().map(str),
    labels=st.dictionaries(
        labels, st.from_regex(r"[A-Za-z0-9:/]{1,9}", fullmatch=True), max_size=4
    ),
    unit=names | st.just(""),
    user=names | st.just(""),
    audiences=st.lists(words, max_size=8).map(tuple),
    scopes=st.lists(st.from_regex(r"[a-z:.]{1,30}", fullmatch=True), max_size=8).map(tuple),
    parent=st.just("") | st.just("spiffe://example.org/controller"),
    job=st.from_regex(r"[A-Za-z0-9_.:/@-]{0,60}", fullmatch=True),
    context=st.dictionaries(labels, st.from_regex(r"[ -~]{1,60}", fullmatch=True), max_size=4),
    grant=st.from_regex(r"([0-9a-f]{16})?", fullmatch=True),
    evidence=digests,
    ledger=st.integers(0, 1 << 37),
)

places = st.builds(
    Place, uri=words.map("https://".__add__), index=st.integers(0, status.MOST_INDEX)
)


@st.composite
def all_claims(draw: st.DrawFn) -> Claims:
    issued = draw(times)
    return Claims(
        issuer="https://" + draw(words),
        id=draw(
            st.from_regex(r"spiffe://example\.org(/[a-z][a-zA-Z0-9._-]{0,20}){1,4}", fullmatch=True)
        ),
        issued=issued,
        expires=issued + timedelta(seconds=draw(st.integers(1, 86400))),
        jti=draw(st.from_regex(r"[A-Za-z0-9_-]{16,128}", fullmatch=True)),
        use_key=draw(points),
        status=draw(places),
        procseal=draw(procseals),
    )


@given(all_claims())
def test_what_goes_in_comes_out(claims: Claims) -> None:
    token = wit.encode(claims, key=VERIFIER_KEY, kid=KID)
    assert wit.read(token, KEYS) == claims
    assert wit.read_unverified(token) == claims


def test_pyjwt_reads_the_same() -> None:
    public = crypto.public_key(KEYS.points[KID])
    options: Any = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(TOKEN, public, algorithms=["ES256"], options=options)
    assert claims["sub"] == CLAIMS.id
    assert claims["exp"] == CLAIMS.expires.timestamp()
    assert claims["procseal"]["v"] == 2
    assert jwt.PyJWK(claims["cnf"]["jwk"]).key.public_numbers() == (
        crypto.public_key(CLAIMS.use_key).public_numbers()
    )
    assert jwt.get_unverified_header(TOKEN) == {"alg": "ES256", "typ": "wit+jwt", "kid": KID}
    assert "aud" not in claims


@pytest.mark.parametrize("mutate", [truncations, flips])
def test_no_other_text_is_accepted(mutate: Any) -> None:
    for text in mutate(TOKEN):
        with pytest.raises((Malformed, Refused)):
            wit.read(text.decode("latin-1"), KEYS)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_no_text_is_an_unhandled_error(text: str) -> None:
    with pytest.raises(Malformed):
        wit.read(text, KEYS)


def _places(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for name, member in value.items():
            yield (*path, name)
            yield from _places(member, (*path, name))


def _with(payload: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(payload)
    place = changed
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return changed


PAYLOAD = parts_of(TOKEN)[1]
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    1.5,
    1e300,
    1 << 70,
    [],
    [1],
    ["\n"],
    {},
    {"a": 1},
    "",
    "\n",
    "a\n",
    "\ud800",
    "é" * 3000,
)
FITTING = {
    *((name, "") for name in ("unit", "user", "parent", "job", "grant")),
    *((name, "[]") for name in ("audiences", "scopes")),
    *((name, "{}") for name in ("labels", "context")),
    *((name, "None") for name in ("zone", "session")),
}
"""Of WRONG, what is right there."""
CASES = [
    pytest.param(path, wrong, id=f"{'.'.join(path)}-{number}")
    for path in _places(PAYLOAD)
    for number, wrong in enumerate(WRONG)
    if (path[-1], str(wrong)) not in FITTING
]


@pytest.mark.parametrize(("path", "wrong"), CASES)
def test_a_signed_claim_of_another_form_is_malformed(path: tuple[str, ...], wrong: Any) -> None:
    token = sign_payload(_with(PAYLOAD, path, wrong), VERIFIER_KEY, typ="wit+jwt", kid=KID)
    with pytest.raises(Malformed) as refusal:
        wit.read(token, KEYS)
    assert reasons(refusal.value)[0] in {"token.malformed", "token.version-unknown"}


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({**PAYLOAD, "aud": "https://ledger.example.org"}, id="an aud"),
        pytest.param({**PAYLOAD, "nbf": 0}, id="a claim that is not known"),
        pytest.param(_with(PAYLOAD, ("procseal", "mood"), "x"), id="a member that is not known"),
        pytest.param({**PAYLOAD, "exp": PAYLOAD["iat"]}, id="ends as it begins"),
        pytest.param(json.dumps(PAYLOAD).encode() + b" ]", id="something behind it"),
        pytest.param(json.dumps(PAYLOAD)[:-1].encode() + b', "sub": "x"}', id="a claim twice"),
        pytest.param(b"\xff", id="no UTF-8"),
        pytest.param(b"[" * 9000, id="deeply nested"),
        pytest.param(b'{"exp": ' + b"9" * 5000 + b"}", id="a number of 5000 digits"),
        pytest.param(b'{"exp": NaN}', id="no number"),
    ],
)
def test_a_signed_payload_of_another_form_is_malformed(payload: Any) -> None:
    token = sign_payload(payload, VERIFIER_KEY, typ="wit+jwt", kid=KID)
    with pytest.raises(Malformed) as refusal:
        wit.read(token, KEYS)
    assert reasons(refusal.value) == ["token.malformed"]


def test_another_version_has_its_own_reason() -> None:
    token = sign_payload(_with(PAYLOAD, ("procseal", "v"), 1), VERIFIER_KEY, typ="wit+jwt", kid=KID)
    with pytest.raises(Malformed) as refusal:
        wit.read(token, KEYS)
    assert reasons(refusal.value) == ["token.version-unknown"]


@pytest.mark.parametrize(
    "id_",
    [
        ID + "\n", "spiffe://example.org", "spiffe://example.org/", ID + "/", ID + "//a",
        "spiffe://example.org/..", "spiffe://example.org/./a", "spiffe://Example.org/a",
        "SPIFFE://example.org/a", "https://example.org/a", "spiffe://example.org/a%20b",
        "spiffe://example.org:80/a", "spiffe://u@example.org/a", "spiffe:///a", ID + "?a",
        ID + "#a", ID + "é", "spiffe://example.org/" + "a" * 2048, "",
    ],
)  # fmt: skip
def test_what_is_no_spiffe_id(id_: str) -> None:
    with pytest.raises(Malformed):
        make_token(id=id_)


@pytest.mark.parametrize("id_", ["spiffe://example.org/...", "spiffe://a_b.c-1/..a/.b/A"])
def test_what_is_a_spiffe_id(id_: str) -> None:
    assert wit.read_unverified(make_token(id=id_)).id == id_


def test_a_token_longer_than_16_kib_is_not_made() -> None:
    with pytest.raises(Malformed):
        make_token(audiences=tuple("x" * 2000 + str(number) for number in range(8)))


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"typ": "JWT", "kid": KID}, id="typ JWT"),
        pytest.param({"typ": "WIT+JWT", "kid": KID}, id="typ in capitals"),
        pytest.param({"typ": "wpt+jwt", "kid": KID}, id="a proof"),
        pytest.param({"typ": "procseal-grant+jws", "kid": KID}, id="a grant"),
        pytest.param({"typ": "wit+jwt"}, id="no kid"),
        pytest.param({"typ": "wit+jwt", "kid": KID, "jku": "https://evil.example"}, id="a jku"),
        pytest.param({"typ": "wit+jwt", "kid": KID, "x5c": "a"}, id="an x5c"),
        pytest.param({"typ": "wit+jwt", "kid": "a b"}, id="kid with a space"),
    ],
)
def test_another_header_is_malformed_however_well_signed(header: dict[str, str]) -> None:
    with pytest.raises(Malformed) as refusal:
        wit.read(sign_payload(PAYLOAD, VERIFIER_KEY, **header), KEYS)
    assert reasons(refusal.value) == ["token.malformed"]


def test_the_message_does_not_choose_its_algorithm() -> None:
    secret = jwt.PyJWK(keys.to_jwk(KEYS.points[KID])).key.public_numbers()
    public = secret.x.to_bytes(32, "big")
    header = {"typ": "wit+jwt", "kid": KID}
    for algorithm, key in (("HS256", public), ("none", None)):
        token = jwt.encode(PAYLOAD, key, algorithm=algorithm, headers=header)  # type: ignore[arg-type]
        with pytest.raises(Malformed) as refusal:
            wit.read(token, KEYS)
        assert reasons(refusal.value) == ["token.malformed"]


def test_a_token_of_another_trust_domain() -> None:
    elsewhere = Keys.of("example.com", list(KEYS.points.items()))
    with pytest.raises(Refused) as refusal:
        wit.read(TOKEN, elsewhere)
    assert reasons(refusal.value) == ["token.of-another-trust-domain"]


def test_a_key_that_is_not_known() -> None:
    with pytest.raises(Refused) as refusal:
        wit.read(make_token(kid="somebody"), KEYS)
    assert reasons(refusal.value) == ["token.key-unknown"]
