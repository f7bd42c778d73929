"""What every server says of a request: one caller or one refusal, and one line of the log."""
# ruff: noqa: ANN401 - `changes` are of any type

import asyncio
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credential import Caller, Keys, Seen, use
from credential.servers.gate import Gate, Refusal, Request
from tests.credential.world import (
    AUDIENCE,
    CLAIMS,
    ID,
    KEYS,
    NONCES,
    NOW,
    OTHER_KEY,
    PROCSEAL,
    REQUIRED,
    TOKEN,
    make_dpop,
    make_proof,
    make_token,
)

WIT, WPT = "Workload-Identity-Token", "Workload-Proof-Token"


def make_gate(log: Callable[[str], object], **changes: Any) -> Gate:
    options: dict[str, Any] = {
        "keys": KEYS, "require": REQUIRED, "clock": lambda: NOW, "status": "unchecked", "log": log,
    }  # fmt: skip
    return Gate(**{**options, **changes})


def request(token: str = TOKEN, proof: str | None = None, **changes: Any) -> Request:
    headers = ((WIT, token), (WPT, make_proof(token) if proof is None else proof))
    return Request(**{"method": "POST", "target": "/post?draft=1", "headers": headers, **changes})


def admit(asked: Request, **changes: Any) -> tuple[Caller | Refusal, use.Use]:
    """Return the answer, and what the one line of the log says."""
    lines: list[str] = []
    found = asyncio.run(make_gate(lines.append, **changes).admit(asked))
    [line] = lines
    return found, use.read(line)


def test_who_is_let_in_is_one_frozen_value() -> None:
    caller, _ = admit(request())
    assert isinstance(caller, Caller)
    assert (caller.id, caller.level, caller.audience, caller.scopes) == (
        ID, "L2", AUDIENCE, ("post",),
    )  # fmt: skip
    assert (caller.jti, caller.expires, caller.issued) == (CLAIMS.jti, CLAIMS.expires, NOW)
    for name in ("executable", "node", "labels", "unit", "parent", "job", "context", "grant"):
        assert getattr(caller, name) == getattr(PROCSEAL, name)
    with pytest.raises(FrozenInstanceError):
        caller.id = "spiffe://example.org/other"  # type: ignore[misc]
    with pytest.raises(TypeError):
        caller.context["session"] = "18"  # type: ignore[index]


def test_the_line_of_a_request_that_was_let_in() -> None:
    caller, said = admit(request())
    assert isinstance(caller, Caller)
    assert said == use.Use(
        id=caller.use, time=NOW, verdict="accepted", reasons=(), audience=AUDIENCE, method="POST",
        target="/post", issuer=CLAIMS.issuer, subject=ID, scopes=("post",), jti=CLAIMS.jti,
        executable=PROCSEAL.executable, node=PROCSEAL.node, level="L2", parent=PROCSEAL.parent,
        job=PROCSEAL.job, context=PROCSEAL.context, grant=PROCSEAL.grant,
    )  # fmt: skip


def test_the_line_of_a_refused_request_names_the_process_whose_token_it_is() -> None:
    asked = request(proof=make_proof(key=OTHER_KEY))
    refusal, said = admit(asked)
    assert isinstance(refusal, Refusal)
    assert (said.verdict, said.reasons) == ("refused", ("proof.signature-invalid",))
    assert (said.subject, said.jti, said.node) == (ID, CLAIMS.jti, PROCSEAL.node)
    assert json.loads(refusal.body)["use"] == said.id


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "token.missing"),
        ("junk", "token.malformed"),
        (make_token(key=OTHER_KEY), "token.signature-invalid"),
    ],
)
def test_the_line_of_a_stranger_names_nobody(token: str, reason: str) -> None:
    _, said = admit(request(token, make_proof()))
    assert (said.verdict, said.reasons) == ("refused", (reason,))
    assert (said.subject, said.jti, said.scopes, said.context) == ("", "", (), {})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"target": '/\n{"type":"procseal use 1"}'}, id="a line of its own"),
        pytest.param({"target": "/\x1b[2J\x7f\x9b\u2028"}, id="an escape sequence"),
        pytest.param({"method": "POST\r\nX"}, id="a method of two lines"),
        pytest.param({"target": "/" + "x" * 100_000}, id="a long path"),
        pytest.param({"target": "/\udc80é"}, id="no text"),
    ],
)
def test_nothing_that_a_client_sends_gets_out_of_its_line(changes: dict[str, Any]) -> None:
    lines: list[str] = []
    asyncio.run(make_gate(lines.append).admit(request(**changes)))
    [line] = lines
    assert line.isascii()
    assert line.isprintable()
    said = use.read(line)
    assert all(
        str(getattr(said, one.name)).isprintable() for one in fields(said) if one.name != "time"
    )
    assert len(said.target) <= use.MOST_TARGET


@given(st.text(), st.text(), st.lists(st.tuples(st.text(), st.text())))
def test_no_request_goes_without_its_line(
    method: str, target: str, headers: list[tuple[str, str]]
) -> None:
    refusal, said = admit(Request(method=method, target=target, headers=tuple(headers)))
    assert isinstance(refusal, Refusal)
    assert said.verdict == "refused"


def test_an_error_lets_nobody_in() -> None:
    def no_keys() -> Keys:
        raise RuntimeError("the application's own")

    refusal, said = admit(request(), keys=no_keys)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 503
    assert said.reasons == ("request.not-judged",)


def test_a_line_that_cannot_be_written_lets_nobody_in() -> None:
    def full(_line: str) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        asyncio.run(make_gate(full).admit(request()))


def test_the_line_goes_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    gate = Gate(keys=KEYS, require=REQUIRED, status="unchecked", clock=lambda: NOW)
    asyncio.run(gate.admit(request()))
    printed = capsys.readouterr().err
    assert printed.endswith("\n")
    assert use.read(printed.removesuffix("\n")).is_accepted


def test_proofs_are_for_the_url_that_this_server_is_known_by() -> None:
    """A proxy has cut a part of the path, and a request's headers say nothing about it."""
    known = "https://api.example.org/ledger"
    for url, expected in ((f"{known}/post", ()), (f"{AUDIENCE}/post", ("proof.of-another-url",))):
        headers = ((WIT, TOKEN), (WPT, make_proof(url=url)), ("Host", "ledger.example.org"))
        _, said = admit(request(headers=headers), base_url=known)
        assert said.reasons == expected


def test_dpop_is_let_in_with_the_nonce_that_the_refusal_gave() -> None:
    def asked(nonce: str) -> Request:
        proof = make_dpop(nonce=nonce).proof
        return request(headers=(("authorization", f"DPoP {TOKEN}"), ("DPoP", proof)))

    refusal, said = admit(asked(""), nonces=NONCES)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, said.reasons) == (401, ("proof.nonce-missing",))
    assert 'error="use_dpop_nonce"' in refusal.headers["WWW-Authenticate"]
    caller, said = admit(asked(refusal.headers["DPoP-Nonce"]), nonces=NONCES)
    assert isinstance(caller, Caller)
    assert (caller.id, said.is_accepted) == (ID, True)


def test_nonces_are_a_servers_own_unless_it_shares_them() -> None:
    proof = make_dpop().proof
    asked = request(headers=(("Authorization", f"DPoP {TOKEN}"), ("DPoP", proof)))
    refusal, said = admit(asked)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, said.reasons) == (401, ("proof.nonce-unknown",))


def test_a_full_store_of_proofs_is_this_servers_trouble() -> None:
    refusal, said = admit(request(), seen=Seen(most=0))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, said.reasons) == (503, ("proof.replay-store-full",))
