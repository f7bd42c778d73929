"""The verifier's answer about a token: what is read of it, and what follows."""
# ruff: noqa: ANN401 - `changes` are of any type

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Malformed, Refused
from credential.introspection import MOST_BYTES, Introspected
from credential.wit import as_json
from tests.credential.world import (
    CLAIMS,
    NOW,
    TOKEN,
    accept,
    make_proof,
    make_token,
    reasons,
    truncations,
)

ACTIVE = json.dumps({"active": True, "scope": "post", **as_json(CLAIMS)}).encode()
INACTIVE = b'{"active": false}'
SECOND = timedelta(seconds=1)


def read(body: bytes, token: str = TOKEN) -> Introspected:
    return Introspected.read(body, token=token, asked=NOW)


def refusal_of(status: Introspected, **changes: Any) -> list[str]:
    now = changes.get("now", NOW)
    with pytest.raises(Refused) as refusal:
        accept(TOKEN, make_proof(now=now), status=status, **changes)
    return reasons(refusal.value)


def test_an_active_token_is_let_in() -> None:
    assert accept(TOKEN, make_proof(), status=read(ACTIVE)) == CLAIMS


def test_another_is_not() -> None:
    assert refusal_of(read(INACTIVE)) == ["token.not-active"]


def test_an_answer_about_another_token() -> None:
    other = make_token(jti="b3RoZXJvdGhlcm90aGVyb3")
    with pytest.raises(Refused) as refusal:
        read(ACTIVE, other)
    assert reasons(refusal.value) == ["introspection.of-another-token"]
    assert refusal_of(Introspected(token=other, is_active=True, asked=NOW)) == [
        "introspection.of-another-token"
    ]


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (timedelta(minutes=5), None),
        (timedelta(minutes=5) + SECOND, "introspection.too-old"),
        (-31 * SECOND, "introspection.early"),
    ],
)
def test_an_answer_of_another_time(age: timedelta, reason: str | None) -> None:
    found = Introspected(token=TOKEN, is_active=True, asked=NOW - age)
    if reason is None:
        assert accept(TOKEN, make_proof(), status=found) == CLAIMS
    else:
        assert refusal_of(found) == [reason]


def test_what_is_no_answer() -> None:
    for body in (
        *truncations(ACTIVE), b"[]", b"{}", b'{"active": 1}', b'{"active": "true"}',
        b'{"active": null}', b'{"active": true, "active": false}', b" " * (MOST_BYTES + 1),
    ):  # fmt: skip
        with pytest.raises(Malformed) as refusal:
            read(body)
        assert reasons(refusal.value) == ["introspection.malformed"]
    for body in (b'{"active": true}', b'{"active": true, "jti": 1}'):
        with pytest.raises(Refused):
            read(body)


@given(st.binary())
def test_no_answer_is_an_unhandled_error(body: bytes) -> None:
    try:
        assert not read(body).is_active
    except (Malformed, Refused) as refusal:
        assert refusal.findings  # noqa: PT017 - either will do
