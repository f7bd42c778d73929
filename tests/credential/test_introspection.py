"""The verifier's answer about a token: what is read of it, and what follows."""
# ruff: noqa: ANN401 - `changes` are of any type

import json
import ssl
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from credential import Caller, Malformed, Refused, use
from credential.introspection import MOST_BYTES, Introspected
from credential.servers.introspection import Introspection
from credential.servers.verifier import Verifier
from credential.wit import as_json
from tests.credential.test_gate import make_gate, request
from tests.credential.world import (
    CLAIMS,
    NOW,
    OTHER_KEY,
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


async def test_the_verifier_is_asked_about_no_request_that_is_refused_anyway() -> None:
    """A token is no secret: what is sent with a copy of it costs the verifier nothing."""
    asked: list[str] = []
    lines: list[str] = []

    async def answer(question: web.Request) -> web.Response:
        asked.append(str((await question.post())["token"]))
        return web.Response(body=ACTIVE, content_type="application/json")

    app = web.Application()
    app.router.add_post("/v1/introspect", answer)
    async with TestServer(app) as server:
        place = Verifier(
            CLAIMS.issuer, tls=ssl.create_default_context(), reached_at=str(server.make_url("/"))
        )
        gate = make_gate(lines.append, status=Introspection(place, clock=lambda: NOW))
        low, good = make_token(level="L1"), request()
        bad = (
            request(proof=""), request(proof="junk"), request(proof=make_proof(key=OTHER_KEY)),
            request(target="/other"), request(method="GET"), request(low, make_proof(low)),
            request(proof=make_proof(now=NOW - timedelta(minutes=5))),
        )  # fmt: skip
        async with gate.open():
            for one in bad:
                await gate.admit(one)
            assert asked == []
            assert isinstance(await gate.admit(good), Caller)
            await gate.admit(good)
            assert asked == [TOKEN]
    assert [use.read(line).reasons for line in lines] == [
        ("proof.missing",), ("proof.malformed",), ("proof.signature-invalid",),
        ("proof.of-another-url",), ("proof.of-another-method",), ("token.level-below-minimum",),
        ("proof.late",), (), ("proof.replayed",),
    ]  # fmt: skip
