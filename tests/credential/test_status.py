"""The status list, and what a relying party does with one."""
# ruff: noqa: ANN401 - JSON is of any type

import zlib
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Keys, Malformed, Refused, base64url, crypto, status
from credential.check import SKEW
from credential.status import BITS, MOST_STATUS_BYTES, Status, StatusList, pack
from tests.credential.world import (
    CLAIMS,
    KEYS,
    KID,
    NOW,
    OTHER_KEY,
    PLACE,
    TOKEN,
    VERIFIER_KEY,
    accept,
    flips,
    lists_of,
    make_list,
    make_proof,
    make_token,
    parts_of,
    reasons,
    sign_payload,
    truncations,
)

LIST = make_list()
PAYLOAD = parts_of(LIST)[1]
PROOF = make_proof()
SECOND = timedelta(seconds=1)
KNOWN = (Status.VALID, Status.INVALID, Status.SUSPENDED, Status.UNKNOWN)


def refusal_of(lists: Mapping[str, StatusList], **changes: Any) -> list[str]:
    with pytest.raises((Malformed, Refused)) as refusal:
        accept(TOKEN, make_proof(now=changes.get("now", NOW)), status=lists, **changes)
    return reasons(refusal.value)


def reading(text: str, keys: Keys = KEYS) -> list[str]:
    with pytest.raises((Malformed, Refused)) as refusal:
        status.read(text, keys)
    return reasons(refusal.value)


def signed(payload: Mapping[str, Any] | bytes) -> str:
    return sign_payload(payload, VERIFIER_KEY, typ=status.TYPE, kid=KID)


# The format


@given(st.dictionaries(st.integers(0, 4095), st.sampled_from(KNOWN)))
def test_what_is_packed_is_found(statuses: dict[int, Status]) -> None:
    packed = pack(statuses, entries=4096)
    found = status.read(make_list(statuses=packed), KEYS)
    assert [found.at(index) for index in range(4096)] == [
        statuses.get(index, Status.VALID) for index in range(4096)
    ]


def test_bits_are_in_the_drafts_order() -> None:
    """Section 10 of the draft: statuses 1 2 0 3 0 1 0 1 1 2 3 3 are the bytes c9 44 f9."""
    values = (1, 2, 0, 3, 0, 1, 0, 1, 1, 2, 3, 3)
    statuses = {index: Status(value) for index, value in enumerate(values)}
    assert pack(statuses, entries=12) == bytes.fromhex("c944f9")


def test_a_list_says_these_things() -> None:
    header, payload = parts_of(LIST)
    assert header == {"alg": "ES256", "typ": "statuslist+jwt", "kid": KID}
    assert set(payload) == {"sub", "iat", "exp", "ttl", "status_list"}
    assert (payload["sub"], payload["ttl"]) == (PLACE.uri, 30)
    assert payload["exp"] - payload["iat"] == 3600
    packed = zlib.decompress(base64url.decode(payload["status_list"]["lst"]))
    assert (payload["status_list"]["bits"], len(packed)) == (BITS, 1024)


def test_the_token_names_its_place() -> None:
    claim = parts_of(TOKEN)[1]["status"]
    assert claim == {"status_list": {"idx": 1234, "uri": PLACE.uri}}


@pytest.mark.parametrize(
    "claim",
    [
        pytest.param(None, id="none"),
        pytest.param({}, id="no list"),
        pytest.param({"status_list": {"idx": 1}}, id="no uri"),
        pytest.param({"status_list": {"uri": PLACE.uri}}, id="no index"),
        pytest.param({"status_list": {"idx": -1, "uri": PLACE.uri}}, id="below zero"),
        pytest.param({"status_list": {"idx": "1", "uri": PLACE.uri}}, id="no number"),
        pytest.param({"status_list": {"idx": True, "uri": PLACE.uri}}, id="true"),
        pytest.param({"status_list": {"idx": 1 << 18, "uri": PLACE.uri}}, id="in no list"),
        pytest.param({"status_list": {"idx": 1, "uri": "file:///etc/passwd"}}, id="no web address"),
        pytest.param({"status_list": {"idx": 1, "uri": PLACE.uri, "x": 1}}, id="a member more"),
        pytest.param({"status_list": {"idx": 1, "uri": PLACE.uri}, "x": 1}, id="one more outside"),
    ],
)
def test_a_token_without_a_place_is_malformed(claim: object) -> None:
    payload = {**parts_of(TOKEN)[1], "status": claim}
    if claim is None:
        del payload["status"]
    token = sign_payload(payload, VERIFIER_KEY, typ="wit+jwt", kid=KID)
    with pytest.raises(Malformed) as refusal:
        accept(token, make_proof(token), status="unchecked")
    assert reasons(refusal.value) == ["token.malformed"]


def _lst(data: bytes) -> dict[str, Any]:
    return {**PAYLOAD, "status_list": {"bits": BITS, "lst": base64url.encode(data)}}


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({**PAYLOAD, "iss": "https://x"}, id="a claim more"),
        *(
            pytest.param({key: one for key, one in PAYLOAD.items() if key != name}, id=f"no {name}")
            for name in PAYLOAD
        ),
        pytest.param({**PAYLOAD, "sub": "list 3"}, id="sub is no address"),
        pytest.param({**PAYLOAD, "exp": PAYLOAD["iat"]}, id="ends when it begins"),
        pytest.param({**PAYLOAD, "ttl": 0}, id="lives for no time"),
        pytest.param({**PAYLOAD, "ttl": -1}, id="lives for less"),
        pytest.param({**PAYLOAD, "iat": 1.5}, id="half a second"),
        pytest.param(
            {**PAYLOAD, "status_list": {**PAYLOAD["status_list"], "bits": 1}}, id="one bit each"
        ),
        pytest.param(
            {**PAYLOAD, "status_list": {**PAYLOAD["status_list"], "aggregation_uri": "x"}},
            id="a member more",
        ),
        pytest.param(_lst(b""), id="an empty lst"),
        pytest.param(_lst(zlib.compress(b"")), id="nothing, packed"),
        pytest.param(_lst(b"junk"), id="junk"),
        pytest.param(_lst(zlib.compress(b"abc")[:-1]), id="cut short"),
        pytest.param(_lst(zlib.compress(b"abc") + b"x"), id="more behind it"),
        pytest.param(_lst(zlib.compress(b"abc") * 2), id="two streams"),
        pytest.param(_lst(zlib.compress(bytes(MOST_STATUS_BYTES + 1))), id="too large"),
        pytest.param(_lst(zlib.compress(bytes(50_000_000), 9)), id="a bomb"),
        pytest.param(b"null", id="nothing"),
        pytest.param(b'{"sub": 1, "sub": 1}', id="a claim twice"),
    ],
)
def test_another_form_is_malformed(payload: Any) -> None:
    assert reading(signed(payload)) == ["status.malformed"]


def test_a_changed_list_is_no_list() -> None:
    for changed in (*truncations(LIST), *flips(LIST)):
        with pytest.raises((Malformed, Refused)):
            status.read(changed.decode("latin-1"), KEYS)


def test_the_largest_list_is_read() -> None:
    assert status.read(make_list(statuses=bytes(MOST_STATUS_BYTES)), KEYS).at(1 << 17) == 0


def test_a_list_by_another_key() -> None:
    assert reading(make_list(key=OTHER_KEY)) == ["status.signature-invalid"]
    assert reading(make_list(key=OTHER_KEY, kid="other")) == ["status.key-unknown"]
    others = Keys.of("example.org", [(KID, crypto.point_of(OTHER_KEY))])
    assert reading(LIST, others) == ["status.signature-invalid"]


def test_a_token_is_no_list_and_a_list_is_no_token() -> None:
    assert reading(TOKEN) == ["status.malformed"]
    with pytest.raises(Malformed) as refusal:
        accept(LIST, PROOF)
    assert reasons(refusal.value) == ["token.malformed"]


# The decision


@pytest.mark.parametrize(
    ("at", "reason"),
    [
        (Status.INVALID, "token.revoked"),
        (Status.SUSPENDED, "token.suspended"),
        (Status.UNKNOWN, "status.value-unknown"),
    ],
)
def test_what_is_not_valid_is_refused(at: Status, reason: str) -> None:
    assert refusal_of(lists_of(make_list(at=at))) == [reason]
    assert accept(TOKEN, PROOF) == CLAIMS


def test_the_neighbours_status_is_the_neighbours() -> None:
    others = {PLACE.index + one: Status.INVALID for one in (-5, -4, -1, 1, 2, 4)}
    text = make_list(statuses=pack(others, entries=4096))
    assert accept(TOKEN, PROOF, status=lists_of(text)) == CLAIMS


def test_without_a_list_there_is_no_answer() -> None:
    assert refusal_of({}) == ["status.list-missing"]
    other = lists_of(make_list(uri="https://verifier.example.org/v1/status/4"))
    assert refusal_of(other) == ["status.list-missing"]
    (mislaid,) = other.values()
    assert refusal_of({PLACE.uri: mislaid}) == ["status.of-another-list"]


def test_the_list_has_to_have_the_place() -> None:
    shorter = pack({}, entries=PLACE.index - PLACE.index % 4)
    assert refusal_of(lists_of(make_list(statuses=shorter))) == ["status.index-out-of-range"]


def test_a_list_counts_for_five_minutes() -> None:
    age = timedelta(minutes=5)
    now = NOW + age
    fixed = lists_of(LIST)
    assert accept(TOKEN, make_proof(now=now), now=now, status=fixed) == CLAIMS
    assert refusal_of(fixed, now=now + SECOND) == ["status.list-too-old"]
    later: dict[str, Any] = {"now": now + SECOND, "max_status_age": age + SECOND}
    assert accept(TOKEN, make_proof(now=now), status=fixed, **later) == CLAIMS
    assert refusal_of(lists_of(LIST), now=NOW + SECOND, max_status_age=timedelta(0)) == [
        "status.list-too-old"
    ]


def test_the_verifier_can_say_less() -> None:
    short = lists_of(make_list(expires=NOW + SECOND))
    assert accept(TOKEN, PROOF, status=short) == CLAIMS
    assert refusal_of(short, now=NOW + SECOND) == ["status.list-too-old"]


def test_an_old_list_says_nothing_good_or_bad() -> None:
    """The reason of its own: nobody knows whether the token was revoked."""
    old = lists_of(make_list(at=Status.INVALID, issued=NOW - timedelta(minutes=6)))
    assert refusal_of(old) == ["status.list-too-old"]


def test_a_list_of_the_future() -> None:
    early = lists_of(make_list(issued=NOW + SKEW))
    assert accept(TOKEN, PROOF, status=early) == CLAIMS
    early = lists_of(make_list(issued=NOW + SKEW + SECOND))
    assert refusal_of(early) == ["status.list-early"]


def test_an_expired_token_stays_expired_in_a_list_that_calls_it_valid() -> None:
    now = NOW + timedelta(minutes=11)
    fresh = lists_of(make_list(issued=now))
    assert refusal_of(fresh, now=now) == ["token.expired"]


def test_a_refused_token_uses_up_no_proof() -> None:
    token = make_token()
    proof = make_proof(token)
    with pytest.raises(Refused):
        accept(token, proof, status={})
    assert accept(token, proof) == CLAIMS


def test_unchecked_is_said_in_one_way() -> None:
    revoked = "unchecked"
    assert accept(TOKEN, PROOF, status=revoked) == CLAIMS
    for odd in ("", "none", PLACE.uri):
        with pytest.raises(ValueError, match="unchecked"):
            accept(TOKEN, PROOF, status=odd)
    with pytest.raises(AttributeError):
        accept(TOKEN, PROOF, status=None)
