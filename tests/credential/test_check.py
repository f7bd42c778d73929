"""The proof, and the relying party's decision."""
# ruff: noqa: ANN401 - JSON is of any type

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Malformed, Refused, Seen, crypto, wpt
from credential.check import SKEW
from tests.credential.world import (
    AUDIENCE,
    CLAIMS,
    NOW,
    TOKEN,
    URL,
    USE_KEY,
    accept,
    flips,
    make_claims,
    make_proof,
    make_token,
    parts_of,
    reasons,
    sign_payload,
    truncations,
)

PROOF = make_proof()
PAYLOAD = parts_of(PROOF)[1]
SECOND = timedelta(seconds=1)
paths = st.from_regex(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]{0,9}){1,4}", fullmatch=True)


def refusal_of(*arguments: Any, **changes: Any) -> list[str]:
    with pytest.raises(Refused) as refusal:
        accept(*arguments, **changes)
    return reasons(refusal.value)


def test_a_proven_request_is_accepted() -> None:
    assert accept(TOKEN, PROOF) == CLAIMS


@given(
    paths,
    st.sampled_from(["GET", "POST", "PUT", "M-SEARCH"]),
    st.from_regex(r"[!-~]{1,60}", fullmatch=True),
    st.binary(min_size=16, max_size=16),
    st.integers(-30, 89),
)
def test_what_is_made_is_accepted_while_it_lives(
    path: str, method: str, audience: str, jti: bytes, age: int
) -> None:
    url = "https://ledger.example.org:8443" + path
    token = make_token(audiences=(audience,))
    request: dict[str, Any] = {"audience": audience, "method": method, "url": url}
    proof = make_proof(token, jti=jti, **request)
    now = NOW + age * SECOND
    assert accept(token, proof, now=now, **request) == make_claims(audiences=(audience,))


def test_a_proof_by_pyjwt_is_accepted() -> None:
    headers = {"typ": "wpt+jwt"}
    proof = jwt.encode(PAYLOAD, USE_KEY, algorithm="ES256", headers=headers)
    assert accept(TOKEN, proof) == CLAIMS


@pytest.mark.parametrize("mutate", [truncations, flips])
def test_no_other_proof_is_accepted(mutate: Callable[[str], list[bytes]]) -> None:
    for text in mutate(PROOF):
        with pytest.raises((Malformed, Refused)):
            accept(TOKEN, text.decode("latin-1"))


@pytest.mark.parametrize("mutate", [truncations, flips])
def test_no_other_token_is_accepted(mutate: Callable[[str], list[bytes]]) -> None:
    for text in mutate(TOKEN):
        with pytest.raises((Malformed, Refused)):
            accept(text.decode("latin-1"), PROOF)


@given(st.text(), st.none() | st.text(min_size=1), st.text(), st.text())
def test_no_request_is_an_unhandled_error(
    token: str, proof: str | None, method: str, url: str
) -> None:
    with pytest.raises((Malformed, Refused)):
        accept(token, proof, method=method, url=url)
    with pytest.raises((Malformed, Refused)):
        accept(TOKEN, proof, method=method, url=url)


def with_(**changes: Any) -> dict[str, Any]:
    return {**PAYLOAD, **changes}


@pytest.mark.parametrize(
    "payload",
    [
        *(
            pytest.param({k: v for k, v in PAYLOAD.items() if k != name}, id=f"no {name}")
            for name in PAYLOAD
        ),
        pytest.param(with_(ath="x"), id="a claim that is not known"),
        pytest.param(with_(oth={"digest": "x"}), id="a header that is not known"),
        pytest.param(with_(aud=[URL]), id="several targets"),
        pytest.param(with_(aud=URL + "?a=b"), id="a target with a query"),
        pytest.param(with_(aud=URL + "#a"), id="a target with a fragment"),
        pytest.param(with_(aud="https://Ledger.example.org/post"), id="a target in capitals"),
        pytest.param(with_(aud="https://ledger.example.org:443/post"), id="a default port"),
        pytest.param(with_(aud="https://ledger.example.org"), id="a target without path"),
        pytest.param(with_(aud="ledger.example.org/post"), id="a target without scheme"),
        pytest.param(with_(iat=str(PAYLOAD["iat"])), id="a time in words"),
        pytest.param(with_(iat=PAYLOAD["iat"] + 0.5), id="half a second"),
        pytest.param(with_(exp=True), id="true for a time"),
        pytest.param(with_(jti=""), id="no jti"),
        pytest.param(with_(jti="x"), id="a short jti"),
        pytest.param(with_(jti="x" * 5000), id="a long jti"),
        pytest.param(with_(wth=None), id="null for a hash"),
        pytest.param(with_(procseal={"v": 1, "audience": AUDIENCE}), id="no method"),
        pytest.param(with_(procseal={**PAYLOAD["procseal"], "x": 1}), id="a member more"),
        pytest.param(with_(procseal=[]), id="no object"),
        pytest.param(json.dumps(PAYLOAD)[:-1].encode() + b', "iat": 0}', id="a claim twice"),
        pytest.param(b"null", id="null"),
    ],
)
def test_a_signed_proof_of_another_form_is_malformed(payload: Any) -> None:
    proof = sign_payload(payload, USE_KEY, typ="wpt+jwt")
    with pytest.raises(Malformed) as refusal:
        accept(TOKEN, proof)
    assert reasons(refusal.value) == ["proof.malformed"]


def test_another_version_has_its_own_reason() -> None:
    payload = with_(procseal={**PAYLOAD["procseal"], "v": 2})
    with pytest.raises(Malformed) as refusal:
        accept(TOKEN, sign_payload(payload, USE_KEY, typ="wpt+jwt"))
    assert reasons(refusal.value) == ["proof.version-unknown"]


@pytest.mark.parametrize(
    "header",
    [
        pytest.param({"typ": "JWT"}, id="typ JWT"),
        pytest.param({"typ": "dpop+jwt"}, id="another kind of proof"),
        pytest.param({"typ": "wit+jwt"}, id="a token"),
        pytest.param({"typ": "wpt+jwt", "kid": "a"}, id="a kid"),
    ],
)
def test_another_header_is_malformed_however_well_signed(header: dict[str, str]) -> None:
    with pytest.raises(Malformed) as refusal:
        accept(TOKEN, sign_payload(PAYLOAD, USE_KEY, **header))
    assert reasons(refusal.value) == ["proof.malformed"]


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("HTTPS://A.Example:443", "https://a.example/"),
        ("http://a.example:80/?q#f", "http://a.example/"),
        ("http://a.example:443/", "http://a.example:443/"),
        ("https://a.example:8443/a/../B", "https://a.example:8443/a/../B"),
        ("https://a.example//x/", "https://a.example//x/"),
        ("https://[2001:DB8::1]:8443/", "https://[2001:db8::1]:8443/"),
        ("https://a.example/%7e", "https://a.example/%7e"),
    ],
)
def test_targets(written: str, target: str) -> None:
    assert wpt.target_of(written) == target
    assert wpt.target_of(target) == target


@pytest.mark.parametrize(
    "url",
    [
        "", "/post", "a.example/post", "ftp://a.example/", "https:///post", "https://:443/",
        "https://u:p@a.example/", "https://a.example:/", "https://a.example:0/",
        "https://a.example:65536/", "https://a.example:99999/", "https://a.example:+1/",
        "https://a example/", "https://a.example/ ", "https://a.example/\n",
        "https://a.example\\@b/", "https://a.example/é", "https://é.example/",
        "https://a.example/<x>", "https://[::1/", "https://]/", "https://a.example/" + "x" * 2048,
    ],
)  # fmt: skip
def test_what_is_no_target(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (also the standard library's)
        wpt.target_of(url)
    with pytest.raises(Malformed) as refusal:
        make_proof(url=url)
    assert reasons(refusal.value) == ["proof.malformed"]
    assert refusal_of(TOKEN, PROOF, url=url) == ["proof.of-another-url"]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("audience", ""),
        ("audience", "a b"),
        ("audience", "a\nb"),
        ("method", ""),
        ("method", "A B"),
    ],
)
def test_a_process_may_not_ask_for_a_proof_of_anything(name: str, wrong: str) -> None:
    changes: dict[str, Any] = {name: wrong}
    with pytest.raises(Malformed):
        make_proof(**changes)


def test_findings_of_a_step_come_together_and_no_step_is_taken_after_a_failed_one() -> None:
    late = NOW + timedelta(days=1)
    found = refusal_of(TOKEN, None, now=late, minimum="L3", audience="https://other.example.org")
    assert found == ["token.level-below-minimum", "token.audience-not-allowed", "token.expired"]
    found = refusal_of(TOKEN, PROOF, method="GET", url=URL + "/x")
    assert found == ["proof.of-another-method", "proof.of-another-url"]


@pytest.mark.parametrize(
    ("level", "minimum", "is_lab_allowed", "reason"),
    [
        ("lab", "lab", True, None),
        ("lab", "lab", False, "token.level-lab"),
        ("lab", "L1", True, "token.level-below-minimum"),
        ("lab", "L1", False, "token.level-lab"),
        ("L1", "lab", False, None),
        ("L1", "L1", False, None),
        ("L1", "L2", True, "token.level-below-minimum"),
        ("L4", "L4", False, None),
        ("L3", "L4", False, "token.level-below-minimum"),
    ],
)
def test_levels(level: str, minimum: str, *, is_lab_allowed: bool, reason: str | None) -> None:
    token = make_token(level=level)
    changes = {"minimum": minimum, "allow_lab": is_lab_allowed}
    if reason is None:
        assert accept(token, make_proof(token), **changes).procseal.level == level
    else:
        assert refusal_of(token, make_proof(token), **changes) == [reason]


@pytest.mark.parametrize("minimum", ["", "L0", "l2", "L5", None])
def test_a_minimum_that_is_no_level_is_the_callers_mistake(minimum: Any) -> None:
    with pytest.raises(ValueError, match="minimum"):
        accept(TOKEN, PROOF, minimum=minimum)


def test_a_time_without_zone_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="time zone"):
        accept(TOKEN, PROOF, now=NOW.replace(tzinfo=None))


def test_any_time_zone_will_do() -> None:
    assert accept(TOKEN, PROOF, now=NOW.astimezone(timezone(timedelta(hours=5)))) == CLAIMS


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (CLAIMS.expires + SKEW - SECOND, None),
        (CLAIMS.expires + SKEW, "token.expired"),
        (CLAIMS.issued - SKEW, None),
        (CLAIMS.issued - SKEW - SECOND, "token.early"),
    ],
)
def test_clocks_may_be_apart_by_the_skew_and_no_more(now: datetime, reason: str | None) -> None:
    proof = make_proof(now=now)
    if reason is None:
        assert accept(TOKEN, proof, now=now) == CLAIMS
    else:
        assert refusal_of(TOKEN, proof, now=now) == [reason]


@pytest.mark.parametrize("seconds", [61, 3600, 0, -1])
def test_a_proof_that_lives_too_long_or_not_at_all(seconds: int) -> None:
    payload = with_(exp=PAYLOAD["iat"] + seconds)
    proof = sign_payload(payload, USE_KEY, typ="wpt+jwt")
    assert refusal_of(TOKEN, proof) == ["proof.lives-too-long"]


def test_a_refused_request_uses_up_nothing() -> None:
    seen = Seen()
    assert refusal_of(TOKEN, PROOF, method="GET", seen=seen) == ["proof.of-another-method"]
    assert accept(TOKEN, PROOF, seen=seen) == CLAIMS


def test_seen_forgets_what_has_ended_and_nothing_else() -> None:
    seen = Seen(most=2)
    ends = [NOW + number * SECOND for number in (2, 1, 3)]
    assert seen.add("a", now=NOW, until=ends[0])
    assert seen.add("b", now=NOW, until=ends[1])
    with pytest.raises(Refused) as refusal:
        seen.add("c", now=NOW, until=ends[2])
    assert reasons(refusal.value) == ["proof.replay-store-full"]
    assert not seen.add("a", now=NOW, until=ends[0])
    assert seen.add("c", now=ends[1], until=ends[2])
    assert not seen.add("a", now=ends[1], until=ends[0])


def test_one_token_has_as_much_room_in_seen_as_it_leaves_to_all_others() -> None:
    """And has it again once its proofs are forgotten."""
    seen = Seen(most=100)
    for now, end in ((NOW, NOW + SECOND), (NOW + SECOND, NOW + 2 * SECOND)):
        added = {"loud": 0, "other": 0, "late": 0}
        for token in added:
            with pytest.raises(Refused) as refusal:  # noqa: PT012 - it is the last that is refused
                for number in range(200):
                    seen.add(f"{token}.{number}", now=now, until=end)
                    added[token] += 1
            assert reasons(refusal.value) == ["request.too-many"]
        assert added == {"loud": 50, "other": 25, "late": 13}


def test_a_clock_set_back_does_not_make_seen_forget() -> None:
    seen = Seen()
    assert seen.add("a", now=NOW, until=NOW + SECOND)
    assert seen.add("b", now=NOW + 9 * SECOND, until=NOW + 10 * SECOND)
    assert not seen.add("a", now=NOW, until=NOW + SECOND)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 25))))
def test_seen_says_new_once_whatever_the_clock_does(steps: list[tuple[int, int]]) -> None:
    seen, known = Seen(), set[int]()
    for end, second in steps:
        if seen.add(str(end), now=NOW + second * SECOND, until=NOW + end * SECOND):
            assert end not in known
            known.add(end)


def test_the_proof_that_was_read() -> None:
    proof = wpt.read(PROOF, use_key=crypto.point_of(USE_KEY))
    assert proof == wpt.Proof(
        target=URL,
        audience=AUDIENCE,
        method="POST",
        issued=NOW.astimezone(UTC),
        expires=NOW + timedelta(seconds=60),
        jti="ampqampqampqampqampqag",
        token_hash=wpt.hash_of(TOKEN),
    )
    assert replace(proof, method="GET") != proof
