"""A decision told link by link: each finding stands at the link that it breaks."""

import json
from pathlib import Path
from typing import Any

import pytest

from evidence import Malformed
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import SimulatedNode
from tests.verifier.test_case import decisions, exported
from tests.verifier.test_case import verifier as verifier  # noqa: PLC0414 - a fixture
from verifier import Finding, Reason, Rejected
from verifier.__main__ import main
from verifier.commands import MISUSED, NO, YES
from verifier.explanation import NODE_LINKS, State, explain, link_of


def chain(*reasons: Reason) -> dict[int, str]:
    """Return the state of each link of a node that is refused for these reasons.

    No boot policy counts on it.
    """
    node = SimulatedNode()
    refusal = Rejected([Finding(reason=reason) for reason in reasons])
    links = explain(refusal, node=node.enrolled(), ek_hash="ab", policy=node.policy())
    return {link.number: str(link.state) for link in links}


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_breaks_a_link(reason: Reason) -> None:
    assert link_of(reason) in range(10)


HELD, BROKEN, UNREACHED = (str(one) for one in (State.HOLDS, State.BROKEN, State.UNREACHED))


@pytest.mark.parametrize(
    ("reason", "broken", "held"),
    [
        pytest.param(Reason.POLICY_EMPTY, 0, {1}, id="policy"),
        pytest.param(Reason.INTERNAL, 0, {1}, id="internal"),
        pytest.param(Reason.NODE_PENDING, 1, set(), id="pending"),
        pytest.param(Reason.QUOTE_SIGNATURE, 2, {1}, id="signature"),
        pytest.param(Reason.MESSAGE_SIGNATURE, 6, {1}, id="message"),
        pytest.param(Reason.QUOTE_BINDING, 9, {1, 2}, id="binding"),
        pytest.param(Reason.CHALLENGE_EXPIRED, 9, {1, 2}, id="challenge"),
        pytest.param(Reason.INSTANCE_SECOND, 6, {1, 2, 9}, id="instance"),
        pytest.param(Reason.LIST_REPLAY, 4, {1, 2, 6, 9}, id="replay"),
        pytest.param(Reason.BOOT_AGGREGATE, 3, {1, 2, 6, 9}, id="boot"),
        pytest.param(Reason.KERNEL_POLICY_UNKNOWN, 4, {1, 2, 6, 9}, id="kernel policy"),
        pytest.param(Reason.LIST_UNKNOWN, 5, {1, 2, 4, 6, 9}, id="unknown"),
    ],
)
def test_what_was_passed_holds_and_the_rest_was_not_looked_at(
    reason: Reason, broken: int, held: set[int]
) -> None:
    found = chain(reason)
    assert {number for number, state in found.items() if state == BROKEN} == {broken}
    assert {number for number, state in found.items() if state == HELD} == held
    assert set(found) == {*NODE_LINKS, broken}


def test_the_earliest_of_several_findings_counts() -> None:
    found = chain(Reason.QUOTE_CLOCK, Reason.QUOTE_SIGNER)
    assert (found[2], found[9], found[6]) == (BROKEN, BROKEN, UNREACHED)


def test_bytes_that_are_no_evidence_break_everything() -> None:
    node = SimulatedNode()
    links = explain(Malformed("odd"), node=node.enrolled(), ek_hash="ab", policy=node.policy())
    assert [(link.number, str(link.state)) for link in links[:3]] == [
        (0, BROKEN),
        (1, HELD),
        (2, UNREACHED),
    ]
    assert not [link for link in links[2:] if link.state is not State.UNREACHED]


@pytest.fixture(scope="module")
def told(verifier: RunningVerifier, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Every decision of the verifier, in files."""
    directory = tmp_path_factory.mktemp("cases")
    paths = [directory / f"{seq}.case" for seq in decisions(verifier)]
    for path in paths:
        path.write_bytes(exported(verifier, int(path.stem)))
    return paths


def answer(path: Path, capsys: pytest.CaptureFixture[str], status: int) -> dict[str, Any]:
    assert main(["explain", str(path), "--json"]) == status
    return dict(json.loads(capsys.readouterr().out))


def test_an_accepted_node_and_each_of_its_processes(
    told: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    links = answer(told[1], capsys, YES)["links"]
    node = [link for link in links if not link["process"]]
    assert [link["link"] for link in node] == list(NODE_LINKS)
    assert {link["state"] for link in node if link["link"] != 3} == {HELD}
    processes = [(link["link"], link["state"]) for link in links if link["process"]]
    assert processes == [(7, HELD), (8, HELD), (7, BROKEN), (8, UNREACHED)]
    (held,) = [
        link for link in links if link["process"] and (link["link"], link["state"]) == (7, HELD)
    ]
    assert ", for post at https://ledger.example.org;" in held["detail"]
    (refused,) = [link for link in links if link["process"] and link["state"] == BROKEN]
    assert [one["reason"] for one in refused["findings"]] == [Reason.PROCESS_USER]


def test_a_refused_node(told: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    links = {link["link"]: link for link in answer(told[4], capsys, NO)["links"]}
    assert links[5]["state"] == BROKEN
    assert links[5]["findings"][0]["reason"] == Reason.LIST_UNKNOWN
    assert links[4]["state"] == HELD


def test_malformed_evidence(told: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(told[3], capsys, MISUSED)["verdict"] == "malformed"


def test_it_is_read_by_people(told: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(told[4])]) == NO
    said = capsys.readouterr().out
    assert said.startswith("refused  build-7, judged 2026-")
    assert "x 5  nothing unknown has run with privilege: broken\n" in said
    assert f"       {Reason.LIST_UNKNOWN}\n         what " in said
    assert "         next      verifier reference put FILE" in said
    assert "\x1b" not in said


def test_colours_are_for_terminals(
    told: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert main(["explain", str(told[4])]) == NO
    assert "\x1b[31mx 5  " in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["explain", str(told[4])]) == NO
    assert "\x1b" not in capsys.readouterr().out


def test_a_nodes_words_cannot_paint_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    running = RunningVerifier(tmp_path)
    node = SimulatedNode()
    running.trust(node)
    player = Player(node, running.service)
    player.enrol()
    player.attest()
    node.measure("usr/bin/\x1b[32mgood\x1b[0m", b"odd")
    with pytest.raises(Rejected):
        player.attest()
    path = tmp_path / "case"
    path.write_bytes(exported(running, decisions(running)[-1]))
    running.close()
    assert main(["explain", str(path)]) == NO
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("command", ["explain", "appraise"])
@pytest.mark.parametrize("junk", [b"", b"junk", b"{}"], ids=["nothing", "junk", "JSON"])
def test_a_file_that_is_no_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], junk: bytes, command: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(junk)
    assert main([command, str(path), "--json"]) == MISUSED
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"] == "malformed"
    assert captured.err.startswith(f"verifier: {path}: ")
    assert "is this what `verifier ledger evidence` wrote?" in captured.err
