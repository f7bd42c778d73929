"""Windows, grants and labels that open and close, as the ledger and relying parties see it.

The verifier's clock is in the test's hand: what happens by itself happens in the second in which
it is due.
"""

import base64
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from credential import wit
from evidence import Malformed
from evidence.process import Purpose
from tests.open_doors import open_doors
from tests.relying_party import REVOKED, VALID, Party, token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import AUDIENCE, NOW, SimulatedNode
from tests.simulated_process import IDENTITY, SimulatedProcess
from verifier import NodeVerdict, Reason
from verifier.__main__ import main
from verifier.case import WORKLOAD, Case, Exported, judge, outcome_of
from verifier.commands import MISUSED, NO, YES
from verifier.conversation import judgement
from verifier.grants import LONGEST, MOST_OF_PROCESS, MOST_WAITING, WAITING
from verifier.ledger import Cause, Kind
from verifier.operations.answers import Unfit
from verifier.operations.verbs import call
from verifier.operations.words import MOST_WORDS

PROCESS = "the process itself"
ACCESS = "the access"

OTHER = "https://archive.example.org"
OFFICE = f"""
[[use]]
audience = "{AUDIENCE}"
scopes = ["post"]
window = "Tue 11:00-12:30 UTC"
"""
"""NOW is a Tuesday, 12:00."""
APPROVED = f"""
[[use]]
audience = "{AUDIENCE}"
scopes = ["close-year"]
grant = "approval"
"""
ALWAYS = f"""
[[use]]
audience = "{OTHER}"
scopes = ["post"]
"""
QUARTER = 15 * 60


def put(verifier: RunningVerifier, uses: str, *lines: str) -> None:
    """Put the workload with these uses and lines."""
    head = SimulatedNode().workload_toml().partition("[[use]]")[0]
    verifier.operators.put(WORKLOAD, "\n".join((head, *lines, uses)))


def purpose(
    audience: str = "", scopes: tuple[str, ...] = (), context: tuple[str, ...] = ()
) -> Purpose:
    return Purpose(audience=audience, scopes=scopes, context=context)


def start(player: Player, wanted: Purpose | None = None) -> SimulatedProcess:
    """Start a process, which asks; it may be refused."""
    process = player.node.new_process(core={"purpose": wanted} if wanted else None)
    player.attest([process])
    return process


def refused(player: Player, wanted: Purpose | None = None) -> Mapping[str, str]:
    """Return why a new process is refused."""
    process = player.node.new_process(core={"purpose": wanted} if wanted else None)
    result = player.attest([process])
    [outcome] = [one for one in result.outcomes if one.key_name == process.key_name]
    [finding] = outcome.findings
    told = {name: getattr(finding, name) for name in ("reason", "expected", "found")}
    return {name: str(value) for name, value in told.items()}


def causes(verifier: RunningVerifier) -> list[str]:
    rows = [row for row in verifier.ledger() if row.kind == Kind.CREDENTIAL_REVOKED]
    return [str(row.body["cause"]) for row in rows]


def rows(verifier: RunningVerifier, kind: Kind) -> list[dict[str, Any]]:
    return [{**row.body, "subject": row.subject} for row in verifier.ledger() if row.kind == kind]


YEAR = purpose(AUDIENCE, ("close-year",))


def approved(verifier: RunningVerifier, player: Player, seconds: int = QUARTER) -> str:
    """Have an operator approve what a process asks for; return the grant's id."""
    put(verifier, APPROVED)
    assert refused(player, YEAR)["reason"] == Reason.USE_GRANT
    [waiting] = verifier.operators.grant_list()
    answer = verifier.operators.grant_approve(waiting["grant"], seconds, "year-end, ticket 7")
    return str(answer["grant"])


# Windows


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_a_window_that_closes(verifier: RunningVerifier, player: Player, party: Party) -> None:
    """Nothing outlives it: the token, the lease, a renewal; and it is revoked in that second."""
    put(verifier, OFFICE, 'lifetime = "1h"')
    process = start(player)
    token = token_of(player, process)
    assert player.claims(process).expires == NOW + timedelta(minutes=30)
    for _ in range(29):
        verifier.wait(60)
        player.attest()
    assert token_of(player, process) == token, "another one would live no longer"
    verifier.wait(59)
    assert verifier.sweeper.sweep() == 0
    assert party.state(token) == VALID
    last = len(verifier.ledger())
    verifier.wait(1)
    assert verifier.sweeper.sweep() == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.WINDOW_CLOSED]
    with verifier.service.reading() as reading:
        assert reading.changed_lists(last), "listeners are told, their clocks may be late"
    assert refused(player)["reason"] == Reason.USE_WINDOW


def test_a_window_that_closes_between_two_sweeps(verifier: RunningVerifier, player: Player) -> None:
    """Evidence comes before the sweep: it says the same."""
    put(verifier, OFFICE)
    process = start(player)
    verifier.wait(1800)
    result = player.attest()
    assert {one.reason for one in result.outcomes[0].findings} == {Reason.USE_WINDOW}
    assert process.key_name not in player.tokens
    assert causes(verifier) == [Cause.WINDOW_CLOSED]


def test_a_window_that_opens(verifier: RunningVerifier, player: Player) -> None:
    put(verifier, OFFICE.replace("11:00", "12:05"))
    assert refused(player)["expected"].endswith("opens 2026-11-24T12:05:00+00:00")
    verifier.wait(300)
    assert player.claims(start(player)).procseal.audiences == (AUDIENCE,)


def test_what_has_another_use_goes_on_with_that(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    """Its token ends with the window; the next evidence brings one that says less."""
    put(verifier, OFFICE + ALWAYS, 'lifetime = "1h"')
    process = start(player)
    both = token_of(player, process)
    assert player.claims(process).procseal.audiences == (AUDIENCE, OTHER)
    assert player.claims(process).expires == NOW + timedelta(minutes=30)
    verifier.wait(1800)
    assert verifier.sweeper.sweep() == 1
    assert verifier.sweeper.sweep() == 0
    assert party.state(both) == REVOKED
    player.attest()
    claims = player.claims(process)
    assert (claims.procseal.audiences, claims.procseal.scopes) == ((OTHER,), ("post",))
    assert claims.expires == NOW + timedelta(minutes=90)
    assert causes(verifier) == [Cause.WINDOW_CLOSED]


def test_a_use_that_opens_is_in_the_next_token(verifier: RunningVerifier, player: Player) -> None:
    put(verifier, OFFICE.replace("11:00", "12:05") + ALWAYS, 'lifetime = "1h"')
    process = start(player)
    assert player.claims(process).procseal.audiences == (OTHER,)
    verifier.wait(300)
    player.attest()
    assert player.claims(process).procseal.audiences == (AUDIENCE, OTHER)


# Grants


def test_a_request_waits_for_an_operator_by_name(verifier: RunningVerifier, player: Player) -> None:
    put(verifier, APPROVED, 'context = ["session"]')
    wanted = purpose(AUDIENCE, ("close-year",), ("session=4711",))
    told = refused(player, wanted)
    [waiting] = verifier.operators.grant_list()
    assert told["expected"] == f"verifier grant approve {waiting['grant']}"
    assert told["found"] == f"none: {AUDIENCE} close-year session=4711"
    assert waiting["workload"] == IDENTITY
    assert waiting["node"] == player.node.name
    assert waiting["pid"] == player.node.pid
    assert waiting["state"] == "waits"
    assert (waiting["audience"], waiting["scopes"]) == (AUDIENCE, ["close-year"])
    assert waiting["context"] == ["session=4711"]
    assert len(rows(verifier, Kind.GRANT_ASKED)) == 1


def test_asking_again_is_no_other_request(verifier: RunningVerifier, player: Player) -> None:
    put(verifier, APPROVED)
    first = refused(player, YEAR)
    verifier.wait(60)
    assert refused(player, YEAR) == first
    assert len(verifier.operators.grant_list()) == 1
    assert len(rows(verifier, Kind.GRANT_ASKED)) == 1


def test_what_is_asked_for_is_bounded_for_each_workload_and_node(
    verifier: RunningVerifier, player: Player
) -> None:
    put(verifier, APPROVED, 'context = ["session"]')
    for number in range(MOST_WAITING):
        refused(player, purpose(AUDIENCE, context=(f"session={number}",)))
    last = refused(player, purpose(AUDIENCE, context=("session=x",)))
    assert last["reason"] == Reason.USE_GRANT
    assert last["expected"] == "fewer requests that wait already"
    assert len(verifier.operators.grant_list()) == MOST_WAITING


def test_no_process_keeps_the_others_of_its_workload_from_asking(
    verifier: RunningVerifier, player: Player
) -> None:
    """What it asks again is no further request; what was approved waits no longer."""
    put(verifier, APPROVED, 'context = ["session"]')

    def ask(session: str, pid: int) -> str:
        wanted = purpose(AUDIENCE, context=(f"session={session}",))
        core = {"purpose": wanted, "pid": pid}
        process = player.node.new_process(core=core, look={"pid": pid})
        [outcome] = [
            one for one in player.attest([process]).outcomes if one.key_name == process.key_name
        ]
        [finding] = outcome.findings
        assert finding.reason == Reason.USE_GRANT
        return finding.expected

    for number in (*range(MOST_OF_PROCESS), 0):
        assert ask(f"{number}", 500).startswith("verifier grant approve")
    assert ask("one more", 500) == "fewer requests that wait already"
    assert ask("of another", 501).startswith("verifier grant approve")
    waiting = verifier.operators.grant_list()
    assert len(waiting) == MOST_OF_PROCESS + 1
    verifier.operators.grant_approve(
        next(one["grant"] for one in waiting if one["pid"] == 500), QUARTER
    )
    assert ask("one more", 500).startswith("verifier grant approve")


def test_what_nobody_approves_waits_no_longer_than_an_hour(
    verifier: RunningVerifier, player: Player
) -> None:
    put(verifier, APPROVED)
    refused(player, YEAR)
    verifier.wait(WAITING.total_seconds() - 1)
    verifier.sweeper.sweep()
    [waiting] = verifier.operators.grant_list()
    verifier.wait(1)
    with pytest.raises(Unfit):
        verifier.operators.grant_approve(waiting["grant"], QUARTER)
    assert verifier.sweeper.sweep() == 0
    assert verifier.operators.grant_list() == []
    [closed] = rows(verifier, Kind.GRANT_CLOSED)
    assert closed["cause"] == Cause.GRANT_EXPIRED


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_what_was_approved_ends_when_its_time_is_over(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    id_ = approved(verifier, player, 300)
    process = start(player, YEAR)
    token = token_of(player, process)
    claims = player.claims(process)
    assert claims.procseal.grant == id_
    assert claims.procseal.scopes == ("close-year",)
    assert claims.expires == NOW + timedelta(seconds=300)
    verifier.wait(299)
    player.attest()
    assert verifier.sweeper.sweep() == 0
    assert party.state(token) == VALID
    verifier.wait(1)
    assert verifier.sweeper.sweep() == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.GRANT_EXPIRED]
    assert refused(player, YEAR)["reason"] == Reason.USE_GRANT
    assert verifier.operators.grant_list()[0]["grant"] != id_, "another one"


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_what_was_approved_ends_when_an_operator_closes_it(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    id_ = approved(verifier, player)
    process, other = start(player, YEAR), start(player, YEAR)
    tokens = [token_of(player, one) for one in (process, other)]
    assert verifier.operators.grant_close(id_, "done")["revoked"] == 2
    assert [party.state(one) for one in tokens] == [REVOKED, REVOKED]
    assert causes(verifier) == [Cause.GRANT_CLOSED] * 2
    assert verifier.operators.grant_list() == []
    assert refused(player, YEAR)["reason"] == Reason.USE_GRANT


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_what_was_approved_ends_when_its_node_reboots(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    """With the first evidence of the next boot, which asks for the same; so does what waits."""
    id_ = approved(verifier, player)
    put(verifier, APPROVED + APPROVED.replace("close-year", "close-month"))
    refused(player, purpose(AUDIENCE, ("close-month",)))
    token = token_of(player, start(player, YEAR))
    player.node.reboot()
    player.processes = []
    told = refused(player, YEAR)
    assert told["reason"] == Reason.USE_GRANT
    assert party.state(token) == REVOKED
    [waiting] = verifier.operators.grant_list()
    assert told["expected"] == f"verifier grant approve {waiting['grant']}"
    assert (waiting["grant"] != id_, waiting["state"]) == (True, "waits")
    ends = [one["cause"] for one in rows(verifier, Kind.GRANT_CLOSED)]
    assert ends == [Cause.NODE_REBOOTED] * 2


def test_what_was_approved_survives_another_attestor_of_the_same_boot(
    verifier: RunningVerifier, player: Player
) -> None:
    id_ = approved(verifier, player)
    player.node.hand_over()
    player.processes = []
    player.attest()
    assert player.claims(start(player, YEAR)).procseal.grant == id_


def test_the_ledger_has_all_of_it_with_the_operators_words(
    verifier: RunningVerifier, player: Player
) -> None:
    id_ = approved(verifier, player)
    process = start(player, YEAR)
    verifier.operators.grant_close(id_, "done")
    [asked] = rows(verifier, Kind.GRANT_ASKED)
    [told] = rows(verifier, Kind.GRANT_APPROVED)
    [issued] = rows(verifier, Kind.CREDENTIAL_ISSUED)
    [closed] = rows(verifier, Kind.GRANT_CLOSED)
    assert {one["grant"] for one in (asked, told, issued, closed)} == {id_}
    assert {one["subject"] for one in (asked, told, issued, closed)} == {IDENTITY}
    assert (told["reason"], closed["reason"]) == ("year-end, ticket 7", "done")
    assert told["until"] == int(NOW.timestamp()) + QUARTER
    assert closed["cause"] == Cause.GRANT_CLOSED
    assert issued["key"] == process.key_name.hex()
    assert (issued["audiences"], issued["scopes"]) == ([AUDIENCE], ["close-year"])


def test_an_approval_is_for_one_node(verifier: RunningVerifier, player: Player) -> None:
    id_ = approved(verifier, player)
    other = SimulatedNode("build-8")
    verifier.allow(other)
    second = Player(other, verifier.service)
    second.enrol()
    second.attest()
    assert refused(second, YEAR)["reason"] == Reason.USE_GRANT
    assert {one["node"] for one in verifier.operators.grant_list()} == {"build-7", "build-8"}
    assert player.claims(start(player, YEAR)).procseal.grant == id_


def test_what_an_operator_may_not_say(verifier: RunningVerifier, player: Player) -> None:
    id_ = approved(verifier, player)
    operators = verifier.operators
    with pytest.raises(Unfit):
        operators.grant_approve(id_, QUARTER)
    for unknown in ("0" * 16, "", "x"):
        with pytest.raises(Unfit):
            operators.grant_approve(unknown, QUARTER)
        with pytest.raises(Unfit):
            operators.grant_close(unknown)
    for seconds in (0, -1, int(LONGEST.total_seconds()) + 1):
        with pytest.raises(Malformed):
            operators.grant_approve(id_, seconds)
    for words in ("two\nlines", "x" * (MOST_WORDS + 1), "\x1b[2J"):
        with pytest.raises(Malformed):
            operators.grant_close(id_, words)
    assert operators.grant_list()[0]["state"] == "open"


def test_closing_what_waits_refuses_it(verifier: RunningVerifier, player: Player) -> None:
    put(verifier, APPROVED)
    refused(player, YEAR)
    [waiting] = verifier.operators.grant_list()
    assert verifier.operators.grant_close(waiting["grant"], "no")["revoked"] == 0
    assert verifier.operators.grant_list() == []
    assert refused(player, YEAR)["expected"] != f"verifier grant approve {waiting['grant']}"


@pytest.mark.parametrize("removed", ["node", "workload"])
def test_grants_end_with_their_node_and_their_workload(
    verifier: RunningVerifier, player: Player, removed: str
) -> None:
    approved(verifier, player)
    if removed == "node":
        verifier.operators.node_remove(player.node.name)
        verifier.operators.node_forget(player.node.name)
    else:
        verifier.operators.remove(WORKLOAD, IDENTITY)
    assert verifier.operators.grant_list() == []


def test_a_workload_that_needs_no_approval_any_more(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    """The token that names the grant ends with the evidence that brings one without."""
    id_ = approved(verifier, player)
    process = start(player, YEAR)
    named = token_of(player, process)
    put(verifier, APPROVED.replace('grant = "approval"', ""))
    assert party.state(named) == VALID
    player.attest()
    assert player.claims(process).procseal.grant == ""
    assert (party.state(named), party.state(token_of(player, process))) == (REVOKED, VALID)
    assert verifier.operators.grant_close(id_)["revoked"] == 0
    assert party.state(token_of(player, process)) == VALID


def test_grants_survive_a_restart(verifier: RunningVerifier, player: Player) -> None:
    id_ = approved(verifier, player, 300)
    process = start(player, YEAR)
    verifier.restart()
    player.turn_to(verifier)
    player.attest()
    assert player.claims(process).procseal.grant == id_
    verifier.wait(300)
    verifier.restart()
    player.turn_to(verifier)
    assert verifier.sweeper.sweep() == 1
    assert causes(verifier) == [Cause.GRANT_EXPIRED]


def test_a_grant_that_closes_while_evidence_is_judged(
    verifier: RunningVerifier, player: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was judged with it is judged again without it."""
    id_ = approved(verifier, player)
    closed: list[str] = []

    def judge_slowly(case: Case) -> NodeVerdict:
        verdict = judge(case)
        if not closed:
            closed.append(id_)
            verifier.operators.grant_close(id_)
        return verdict

    monkeypatch.setattr(judgement, "judge", judge_slowly)
    assert refused(player, YEAR)["reason"] == Reason.USE_GRANT
    assert closed == [id_]
    assert Kind.CREDENTIAL_ISSUED not in verifier.kinds()


def test_an_operator_at_the_command_line(
    verifier: RunningVerifier, player: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    put(verifier, APPROVED)
    with open_doors(verifier.service):
        asking = ["--socket", str(verifier.config.socket)]
        refused(player, YEAR)
        assert main(["grant", "list", *asking]) == YES
        id_, state, *_ = capsys.readouterr().out.split()
        assert state == "waits"
        approve = ["grant", "approve", id_, "--reason", "year-end", *asking]
        for time in ("soon", "0m", "15", "-15m", "25h"):
            assert ends(["--for", time], approve) == MISUSED
        assert ends([], approve) == MISUSED
        assert main([*approve, "--for", "15m"]) == YES
        assert main([*approve, "--for", "15m"]) == NO
        capsys.readouterr()
        assert main(["grant", "list", "--json", *asking]) == YES
        [listed] = json.loads(capsys.readouterr().out)
        assert (listed["state"], listed["until"]) == ("open", "2026-11-24T12:15:00+00:00")
        assert main(["grant", "close", id_, *asking]) == YES
        assert capsys.readouterr().out.split() == [id_, "closed", "0"]
        assert main(["node", "label", player.node.name, "zone=eu-1", "rack=7", *asking]) == YES
        assert main(["node", "label", player.node.name, "rack=", *asking]) == YES
        assert main(["node", "label", player.node.name, "rack", *asking]) == MISUSED
    assert verifier.operators.node_list()[0]["labels"] == {"zone": "eu-1"}


def ends(more: list[str], command: list[str]) -> int:
    """Return the exit status of a command, whoever ends it."""
    try:
        return main([*command, *more])
    except SystemExit as exit_:
        return int(str(exit_.code))


# Prompt sessions


@pytest.mark.attack(number=116, attacker="another program of the same user", asset=ACCESS)
def test_116_two_sessions_of_one_agent_are_told_apart(
    verifier: RunningVerifier, player: Player
) -> None:
    """In the token, in the ledger, and when it is renewed."""
    put(verifier, ALWAYS, 'context = ["session"]')
    first = start(player, purpose(context=("session=1",)))
    second = start(player, purpose(context=("session=2",)))
    assert player.claims(first).procseal.context == {"session": "1"}
    verifier.wait(400)
    player.attest()
    assert player.claims(first).procseal.context == {"session": "1"}
    assert player.claims(second).procseal.context == {"session": "2"}
    for kind in (Kind.CREDENTIAL_ISSUED, Kind.CREDENTIAL_RENEWED):
        told = {row["key"]: row["context"] for row in rows(verifier, kind)}
        assert told == {
            first.key_name.hex(): ["session=1"],
            second.key_name.hex(): ["session=2"],
        }
    assert refused(player)["reason"] == Reason.USE_CONTEXT


# Labels


@pytest.mark.attack(number=118, attacker="another node", asset=ACCESS, outcome="detected")
def test_118_a_label_that_changes_ends_what_no_longer_fits(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    name = player.node.name
    put(verifier, OFFICE, 'nodes = { zone = "eu-1" }')
    assert refused(player)["reason"] == Reason.PROCESS_LABELS
    assert verifier.operators.node_label(name, ["zone=eu-1", "rack=7"])["revoked"] == 0
    process = start(player)
    token = token_of(player, process)
    assert player.claims(process).procseal.labels == {"zone": "eu-1", "rack": "7"}
    assert verifier.operators.node_label(name, ["zone=eu-2"], "moved")["revoked"] == 1
    assert party.state(token) == REVOKED
    assert causes(verifier) == [Cause.LABELS_CHANGED]
    assert refused(player)["reason"] == Reason.PROCESS_LABELS
    told = rows(verifier, Kind.NODE_LABELLED)
    assert [one["labels"]["zone"] for one in told] == ["eu-1", "eu-2"]
    assert told[1]["reason"] == "moved"


def test_a_label_that_a_token_says_and_is_no_longer_true(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    """The token ends at once, and the next evidence brings another."""
    name = player.node.name
    put(verifier, OFFICE)
    verifier.operators.node_label(name, ["zone=eu-1"])
    process = start(player)
    before = token_of(player, process)
    assert verifier.operators.node_label(name, ["zone="])["revoked"] == 1
    assert party.state(before) == REVOKED
    player.attest()
    assert player.claims(process).procseal.labels == {}
    assert party.state(token_of(player, process)) == VALID


def test_a_label_that_changes_back_before_the_next_evidence(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    name = player.node.name
    put(verifier, OFFICE)
    verifier.operators.node_label(name, ["zone=eu-1"])
    process = start(player)
    for value in ("eu-2", "eu-1"):
        verifier.operators.node_label(name, [f"zone={value}"])
    player.attest()
    assert party.state(token_of(player, process)) == VALID
    assert player.claims(process).procseal.labels == {"zone": "eu-1"}


def test_a_label_that_is_only_added_ends_nothing(
    verifier: RunningVerifier, player: Player, party: Party
) -> None:
    name = player.node.name
    put(verifier, OFFICE)
    process = start(player)
    before = token_of(player, process)
    assert verifier.operators.node_label(name, ["rack=7"])["revoked"] == 0
    assert party.state(before) == VALID
    player.attest()
    assert player.claims(process).procseal.labels == {"rack": "7"}
    assert causes(verifier) == []


def test_labels_that_are_none(verifier: RunningVerifier, player: Player) -> None:
    name = player.node.name
    label = verifier.operators.node_label
    for bad in ("zone", "=x", "Zone=x", "zone=a b", "zone=a\n", "zone=" + "x" * 256, "z\u00f6=x"):
        with pytest.raises(Malformed):
            label(name, [bad])
    with pytest.raises(Malformed):
        label(name, ["zone=a", "zone=b"])
    with pytest.raises(Unfit):
        label("nobody", ["zone=a"])
    label(name, [f"l{number}=x" for number in range(wit.MOST_LABELS)])
    with pytest.raises(Unfit):
        label(name, ["one-more=x"])
    assert len(rows(verifier, Kind.NODE_LABELLED)) == 1
    assert verifier.operators.node_list()[0]["labels"]["l7"] == "x"


@pytest.mark.parametrize("labels", ["zone=a", [1], [["zone=a"]], None])
def test_labels_that_are_no_list_of_texts(
    verifier: RunningVerifier, player: Player, labels: object
) -> None:
    with pytest.raises(Malformed):
        call(verifier.service, "node_label", {"node": player.node.name, "labels": labels})


# The network


@pytest.mark.attack(number=118, attacker="another node", asset=ACCESS)
def test_118_the_door_says_where_evidence_comes_from(
    verifier: RunningVerifier, player: Player
) -> None:
    """It is the socket's word: what the request says of itself counts for nothing."""
    put(verifier, OFFICE, 'network = ["127.0.0.0/8", "::1/128"]')
    assert refused(player)["reason"] == Reason.PROCESS_NETWORK, "asked past the door"
    with open_doors(verifier.service) as door:
        player.door = door
        player.claims(start(player))
        put(verifier, OFFICE, 'network = ["10.1.0.0/16"]')
        assert refused(player)["reason"] == Reason.PROCESS_NETWORK
        post = door.request
        door.request = lambda *given, **headers: post(  # type: ignore[method-assign]
            *given, X_Forwarded_For="10.1.0.1", Forwarded="for=10.1.0.1", **headers
        )
        assert refused(player)["reason"] == Reason.PROCESS_NETWORK
    last = verifier.ledger()[-1].body
    assert last["address"] in ("127.0.0.1", "::1")


# Judged again


def test_a_decision_is_made_again_with_its_labels_grants_and_address(
    verifier: RunningVerifier, player: Player
) -> None:
    put(verifier, APPROVED, 'nodes = { zone = "eu-1" }', 'network = ["127.0.0.0/8", "::1/128"]')
    verifier.operators.node_label(player.node.name, ["zone=eu-1"])
    with open_doors(verifier.service) as door:
        player.door = door
        refused(player, YEAR)
        [waiting] = verifier.operators.grant_list()
        verifier.operators.grant_approve(waiting["grant"], QUARTER)
        process = start(player, YEAR)
    row = player.claims(process).procseal.ledger
    verifier.operators.grant_close(waiting["grant"])
    verifier.operators.node_label(player.node.name, ["zone="])
    file = base64.b64decode(verifier.operators.ledger_evidence(row)["case"])
    case, recorded = Exported.decode(file).open()
    outcome = outcome_of(judge(case))
    assert outcome == recorded
    [granted] = [one.granted for one in outcome.processes]
    assert granted is not None
    assert granted.approval == waiting["grant"]
