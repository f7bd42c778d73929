"""What relying parties report: each line once in the ledger, and nobody else's."""
# ruff: noqa: ANN401 - `changes` are of any type

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from credential import base64url, use, wit
from credential.use import MEDIA_TYPE, MOST_BATCH, Use
from tests.relying_party import Party, register
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import AUDIENCE, NOW
from tests.simulated_process import IDENTITY, SimulatedProcess
from verifier.__main__ import main
from verifier.commands import YES

PATH = "/v1/uses"


@pytest.fixture
def verifier(tmp_path: Path, database: str) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path, database=database)
    yield running
    running.close()


@pytest.fixture
def claims(player: Player, process: SimulatedProcess) -> wit.Claims:
    return player.claims(process)


def line(claims: wit.Claims, number: int = 1, **changes: Any) -> Use:
    made = use.make(
        id=base64url.encode(number.to_bytes(16, "big")), now=NOW, audience=AUDIENCE,
        method="POST", target="/post", claims=claims,
    )  # fmt: skip
    return replace(made, **changes)


def report(party: Party, *lines: Use, **headers: str) -> tuple[int, Any]:
    body = "".join(f"{use.encode(one)}\n" for one in lines).encode()
    return party.post(PATH, body, **{"Content_Type": MEDIA_TYPE, **headers})


def uses(verifier: RunningVerifier) -> list[Any]:
    return [row for row in verifier.ledger() if row.kind.startswith("use.")]


def test_each_line_is_a_row(verifier: RunningVerifier, party: Party, claims: wit.Claims) -> None:
    stranger = line(
        claims, 3, verdict="refused", reasons=("token.missing",), issuer="", subject="",
        scopes=(), jti="", executable="", node="", level="",
    )  # fmt: skip
    refused = line(claims, 2, verdict="refused", reasons=("proof.late",))
    assert report(party, line(claims), refused, stranger) == (200, {"recorded": 3})
    rows = uses(verifier)
    assert [row.kind for row in rows] == ["use.accepted", "use.refused", "use.refused"]
    assert [row.subject for row in rows] == [IDENTITY, IDENTITY, ""]
    assert [row.body["is_ours"] for row in rows] == [True, True, False]
    assert {row.body["by"] for row in rows} == {"ledger"}
    said = dict(rows[0].body)
    for name in ("jti", "node", "level", "scopes", "parent", "job", "context", "grant"):
        value = claims.jti if name == "jti" else getattr(claims.procseal, name)
        assert said[name] == (list(value) if isinstance(value, tuple) else value)


def test_a_line_that_comes_twice_is_there_once(
    verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    first, second = line(claims, 1), line(claims, 2)
    assert report(party, first, first) == (200, {"recorded": 2})
    assert report(party, first, second) == (200, {"recorded": 2})
    assert [row.body["id"] for row in uses(verifier)] == [first.id, second.id]


def test_another_relying_partys_line_is_another_line(
    verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    other = register(verifier, party.door, "other", AUDIENCE)
    for one in (party, other):
        assert report(one, line(claims)) == (200, {"recorded": 1})
    assert [row.body["by"] for row in uses(verifier)] == ["ledger", "other"]


@pytest.mark.parametrize(
    "change",
    [{"jti": "Zm9vYmFyYmF6cXV4MTIzNA"}, {"subject": f"{IDENTITY}-2"}, {"node": "build-8"}],
)
def test_a_token_that_this_verifier_has_not_issued_so_is_marked(
    change: dict[str, Any], verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    assert report(party, line(claims, **change))[0] == 200
    assert [row.body["is_ours"] for row in uses(verifier)] == [False]


def test_nobody_reports_for_another_audience(
    verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    """All or nothing: what came with it is not recorded either."""
    code, answer = report(party, line(claims, 1), line(claims, 2, audience="https://other.example"))
    assert code == 403
    assert [one["reason"] for one in answer["findings"]] == ["relying-party.of-another-audience"]
    assert uses(verifier) == []


@pytest.mark.parametrize("given", [b"", b"ledger:x", b"other:secret", b"x"])
def test_nobody_reports_without_the_secret(
    given: bytes, verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    basic = f"Basic {base64.b64encode(given).decode()}" if given else ""
    assert report(party, line(claims), Authorization=basic)[0] == 401
    assert uses(verifier) == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"x", id="no line"),
        pytest.param(b"\n", id="an empty line"),
        pytest.param(b"[]\n", id="no object"),
        pytest.param(b"\xff\n", id="no ASCII"),
    ],
)
def test_what_is_no_line_is_malformed(
    body: bytes, verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    good = f"{use.encode(line(claims))}\n".encode()
    for text in (body, good + body, good[:-1]):
        code, answer = party.post(PATH, text, Content_Type=MEDIA_TYPE)
        assert code == 400
        assert [one["reason"] for one in answer["findings"]] == ["use.malformed"]
    assert uses(verifier) == []


def test_a_line_of_another_version_is_told_apart(
    verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    """The reporter sets it aside: no later try would be answered differently."""
    later = use.encode(line(claims)).replace("procseal use 1", "procseal use 2")
    for text in (later, "{}"):
        code, answer = party.post(PATH, f"{text}\n".encode(), Content_Type=MEDIA_TYPE)
        assert code == 400
        assert [one["reason"] for one in answer["findings"]] == ["use.version-unknown"]
    assert uses(verifier) == []


def test_too_many_lines_are_malformed(
    verifier: RunningVerifier, party: Party, claims: wit.Claims
) -> None:
    lines = [line(claims, number) for number in range(MOST_BATCH + 1)]
    assert report(party, *lines)[0] == 400
    assert report(party, *lines[:-1]) == (200, {"recorded": MOST_BATCH})
    assert len(uses(verifier)) == MOST_BATCH


def test_a_form_is_not_what_is_read_here(party: Party, claims: wit.Claims) -> None:
    assert report(party, line(claims), Content_Type="application/json")[0] == 400


def test_operators_see_uses(
    verifier: RunningVerifier,
    party: Party,
    claims: wit.Claims,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Two calls of one agent are told apart by their session."""
    for number in (1, 2):
        report(party, line(claims, number, context={"session": f"{number}"}))
    report(party, line(claims, 3, subject=f"{IDENTITY}-2"))
    asking = ["--socket", str(verifier.config.socket)]
    assert main(["ledger", "uses", "--of", IDENTITY, *asking, "--json"]) == YES
    found = json.loads(capsys.readouterr().out)
    assert [one["context"] for one in found] == [{"session": "1"}, {"session": "2"}]
    assert main(["ledger", "uses", "-n", "1", *asking]) == YES
    assert f"accepted  []  ledger  POST  /post  {IDENTITY}-2" in capsys.readouterr().out
