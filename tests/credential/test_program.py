"""The program `credential`, called as people and scripts call it."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from credential.__main__ import main
from credential.status import Status
from tests.credential.world import (
    AUDIENCE,
    ID,
    KEYS,
    NOW,
    OTHER_KEY,
    PROCSEAL,
    TOKEN,
    URL,
    make_dpop,
    make_list,
    make_proof,
    make_token,
)

Verify = Callable[..., int]


@pytest.fixture
def verify(tmp_path: Path) -> Verify:
    """Write the files and run `credential verify` on them."""

    def run(
        *more: str, token: str = TOKEN, proof: str | None = None, keys: str = "", status: str = ""
    ) -> int:
        files = {
            "token": token + "\n",
            "proof": (make_proof() if proof is None else proof) + "\n",
            "keys": keys or json.dumps(KEYS.to_jwks()),
            "status": status or make_list(),
        }
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        names = [str(tmp_path / name) for name in ("token", "proof")]
        return main([
            "verify", *names, "--keys", str(tmp_path / "keys"), "--trust-domain", "example.org",
            "--audience", AUDIENCE, "--method", "POST", "--url", URL, "--minimum", "L2",
            "--at", NOW.isoformat(), "--status", str(tmp_path / "status"), *more,
        ])  # fmt: skip

    return run


def test_accepted_is_0(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify() == 0
    assert capsys.readouterr().out.startswith(f"accepted  {ID}\n  level           L2\n")
    assert verify("--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["id"], told["scopes"]) == ("accepted", ID, ["post"])


def test_refused_is_1(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify("--method", "GET") == 1
    assert capsys.readouterr().out == (
        "refused  proof.of-another-method\n  what      method\n  expected  GET\n  found     POST\n"
    )
    assert verify("--json", proof=make_proof(key=OTHER_KEY)) == 1
    told = json.loads(capsys.readouterr().out)
    assert [finding["reason"] for finding in told["findings"]] == ["proof.signature-invalid"]


def test_lab_has_to_be_allowed(verify: Verify) -> None:
    token = make_token(level="lab")
    proof = make_proof(token)
    assert verify("--minimum", "lab", token=token, proof=proof) == 1
    assert verify("--minimum", "lab", "--allow-lab", token=token, proof=proof) == 0


@pytest.mark.parametrize(
    ("met", "broken", "reason"),
    [
        (("--binding", "attached"), ("--binding", "launched"), "token.of-another-binding"),
        (
            ("--proof-key", "tpm", "--proof-key", "attestor"),
            ("--proof-key", "tpm"),
            "token.of-another-proof-key",
        ),
        (("--scope", "post"), ("--scope", "post", "--scope", "void"), "token.scope-missing"),
        (
            ("--executable", PROCSEAL.executable, "--executable", "sha256:" + "00" * 32),
            ("--executable", "sha256:" + "00" * 32),
            "token.of-another-executable",
        ),
        (("--label", "zone=eu-1"), ("--label", "zone=eu-2"), "token.label-missing"),
        (("--context", "session=17"), ("--context", "ticket"), "token.context-missing"),
        (
            ("--max-evidence-age", "60", "--at", "2026-11-24T12:01:00"),
            ("--max-evidence-age", "59", "--at", "2026-11-24T12:01:00"),
            "token.evidence-too-old",
        ),
    ],
)
def test_each_demand(
    met: tuple[str, ...],
    broken: tuple[str, ...],
    reason: str,
    verify: Verify,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert verify(*met) == 0
    capsys.readouterr()
    assert verify(*broken, "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert [finding["reason"] for finding in told["findings"]] == [reason]


def test_a_dpop_proof(verify: Verify) -> None:
    assert verify("--dpop", proof=make_dpop().proof) == 0
    assert verify("--dpop", proof=make_proof()) == 2
    assert verify("--dpop", "--method", "GET", proof=make_dpop().proof) == 1


@pytest.mark.parametrize(
    ("at", "status"), [("2026-11-24T12:00:00", 0), ("2026-11-24T12:00:00Z", 0), ("2027-01-01", 1)]
)
def test_a_time_without_zone_is_utc(at: str, status: int, verify: Verify) -> None:
    assert verify("--at", at) == status


def test_now_is_the_default(verify: Verify, tmp_path: Path) -> None:
    verify()
    arguments = [
        "verify", str(tmp_path / "token"), "--keys", str(tmp_path / "keys"), "--trust-domain",
        "example.org", "--audience", AUDIENCE, "--method", "POST", "--url", URL, "--minimum", "L2",
        "--status-unchecked",
    ]  # fmt: skip
    assert main(arguments) == 1


@pytest.mark.parametrize("token", ["", "x", "\xff", "a.b.c", TOKEN + "\n", " " + TOKEN])
def test_malformed_is_2(token: str, verify: Verify) -> None:
    assert verify(token=token) == 2


def test_malformed_keys_are_2(verify: Verify) -> None:
    assert verify(keys='{"keys": []}') == 2


@pytest.mark.parametrize(
    "more",
    [
        ("--minimum", "L9"),
        ("--at", "noon"),
        ("--nonsense",),
        ("--binding", "started"),
        ("--scope", "two words"),
        ("--executable", "3f"),
        ("--label", "zone"),
        ("--context", ""),
        ("--max-evidence-age", "0"),
        ("--max-status-age", "-1"),
        ("--audience", ""),
        ("--keys", "http://verifier.example.org/v1/keys"),
        ("--keys", "ftp://localhost/keys"),
        ("--status", "http://verifier.example.org/v1/status/1"),
    ],
)
def test_misused_is_2(more: tuple[str, ...], verify: Verify) -> None:
    with pytest.raises(SystemExit) as exit_:
        verify(*more)
    assert exit_.value.code == 2


def test_a_minimum_is_required() -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["verify", "token", "--keys", "k", "--trust-domain", "example.org",
              "--audience", "a", "--method", "GET", "--url", URL,
              "--status-unchecked"])  # fmt: skip
    assert exit_.value.code == 2


def test_what_became_of_the_token_is_asked_or_left_unasked_by_name(verify: Verify) -> None:
    revoked = make_list(at=Status.INVALID)
    assert verify(status=revoked) == 1
    with pytest.raises(SystemExit) as exit_:
        verify("--status-unchecked")  # both
    assert exit_.value.code == 2
    late = (NOW + timedelta(seconds=70)).isoformat()
    assert verify("--at", late) == 0
    assert verify("--at", late, "--max-status-age", "60") == 1
    assert verify(status="x") == 2


def test_an_unreadable_file_is_3(verify: Verify, capsys: pytest.CaptureFixture[str]) -> None:
    """One of the kernel's that is there, and of which every read fails."""
    assert verify("--keys", "/proc/self/mem") == 3
    assert "could not tell" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--keys", "--status"])
def test_a_file_that_is_not_there_is_2(
    verify: Verify, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        verify(option, str(tmp_path / "nothing"))
    assert exit_.value.code == 2
    assert f"{tmp_path / 'nothing'}: No such file" in capsys.readouterr().err


def test_importing_the_room_imports_no_http_library() -> None:
    code = "import sys, credential; sys.exit('aiohttp' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_the_room_exports_is_there() -> None:
    import credential  # noqa: PLC0415

    assert all(hasattr(credential, name) for name in credential.__all__)
    assert sorted(credential.__all__) == credential.__all__
