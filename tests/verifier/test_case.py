"""Any decision can be made again from its exported case, and a case cannot be changed."""

import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidence import Malformed, cbor
from evidence.messages import Evidence
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import NOW, SimulatedNode
from verifier import Reason, Rejected, plain
from verifier.__main__ import main
from verifier.case import TYPE, Exported, judge, outcome_of
from verifier.commands import MISUSED, NO, YES
from verifier.keys import GRANT_KEY, SigningKey, jwks, make_private
from verifier.ledger import Kind
from verifier.node import Checkpoint, Known, Measured, Node
from verifier.operations.answers import Unfit
from verifier.reasons import ClockSeen


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningVerifier]:
    """A verifier that has accepted thrice and refused twice, once each for bytes and for trust."""
    running = RunningVerifier(tmp_path_factory.mktemp("verifier"))
    node = SimulatedNode()
    running.trust(node)
    player = Player(node, running.service)
    player.enrol()
    player.attest()
    player.attest([node.new_process(), node.new_process(core={"user": "root"})])
    node.measure("usr/lib/systemd/systemd", b"\x7fELF systemd", register=12)
    running.wait(30)
    player.attest()
    garbled = node.unsigned_evidence(player.challenge(), quote={"firmware_version": 1})
    with pytest.raises(Malformed):
        running.door.evidence(node.signed(replace(garbled, signature=b"\0").encode()))
    node.measure("usr/bin/odd", b"odd")
    player.processes = []
    with pytest.raises(Rejected):
        player.attest()
    yield running
    running.close()


def exported(verifier: RunningVerifier, seq: int) -> bytes:
    return base64.b64decode(verifier.operators.ledger_evidence(seq)["case"])


def decisions(verifier: RunningVerifier) -> list[int]:
    return [row.seq for row in verifier.ledger() if row.kind.startswith("evidence.")]


def test_every_decision_is_made_again_with_the_same_result(verifier: RunningVerifier) -> None:
    verdicts = []
    for seq in decisions(verifier):
        case, recorded = Exported.decode(exported(verifier, seq)).open()
        try:
            outcome = outcome_of(judge(case))
        except (Rejected, Malformed) as refusal:
            outcome = outcome_of(refusal)
        assert outcome == recorded
        verdicts.append(outcome.verdict)
    assert verdicts == ["accepted", "accepted", "accepted", "malformed", "refused"]


def test_it_is_judged_with_the_policy_of_then(verifier: RunningVerifier) -> None:
    seq = decisions(verifier)[0]
    before = exported(verifier, seq)
    verifier.operators.remove("workload", "spiffe://example.org/payments")
    assert exported(verifier, seq)[: len(before) - 70] == before[: len(before) - 70]
    case, _ = Exported.decode(exported(verifier, seq)).open()
    assert [one.id for one in case.policy.workloads] == ["spiffe://example.org/payments"]
    judge(case)


def test_rows_without_evidence_have_none(verifier: RunningVerifier) -> None:
    for seq in (0, 1, 10_000):
        with pytest.raises(Unfit):
            verifier.operators.ledger_evidence(seq)
    issued = next(row for row in verifier.ledger() if row.kind == Kind.CREDENTIAL_ISSUED)
    assert exported(verifier, issued.seq), "an issue rests on its decision's evidence"


@pytest.mark.parametrize("number", range(5))
def test_the_command_judges_again(
    verifier: RunningVerifier, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    path = tmp_path / "case"
    path.write_bytes(exported(verifier, decisions(verifier)[number]))
    expected = [YES, YES, YES, MISUSED, NO][number]
    assert main(["appraise", str(path), "--json"]) == expected
    told = json.loads(capsys.readouterr().out)
    assert told["as_recorded"] is True
    assert told["verdict"] == ["accepted", "accepted", "accepted", "malformed", "refused"][number]
    assert main(["appraise", str(path)]) == expected
    if number == 4:
        assert told["findings"][0]["reason"] == Reason.LIST_UNKNOWN
        assert f"refused  {Reason.LIST_UNKNOWN}\n  what " in capsys.readouterr().out


def test_any_bit_flipped_is_noticed(
    verifier: RunningVerifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every byte, one random bit of each: exit 1 or 2, never an accept, never an exception."""
    path = tmp_path / "case"
    whole = exported(verifier, decisions(verifier)[1])
    chance = random.Random(91)
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << chance.randrange(8)
        with pytest.raises(Malformed):
            Exported.decode(bytes(flipped)).open()
        if position % 97 == 0:
            path.write_bytes(flipped)
            assert main(["appraise", str(path)]) in (NO, MISUSED)
    assert "verifier:" in capsys.readouterr().err


def test_any_truncation_is_noticed(verifier: RunningVerifier) -> None:
    whole = exported(verifier, decisions(verifier)[0])
    for length in range(0, len(whole), 61):
        with pytest.raises(Malformed):
            Exported.decode(whole[:length])


def _another_message(found: Exported) -> Exported:
    return replace(found, message=found.message[:-1] + bytes([found.message[-1] ^ 1]))


@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(_another_message, id="message"),
        pytest.param(lambda found: replace(found, parts=()), id="stored set"),
        pytest.param(lambda found: replace(found, documents=found.documents[1:]), id="policy"),
        pytest.param(lambda found: replace(found, ledger=found.ledger + 1), id="row"),
        pytest.param(lambda found: replace(found, signature=bytes(64)), id="signature"),
        pytest.param(lambda found: replace(found, signer=bytes(65)), id="signer"),
    ],
)
def test_a_part_exchanged_is_noticed(
    verifier: RunningVerifier, bend: Callable[[Exported], Exported]
) -> None:
    bent = bend(Exported.decode(exported(verifier, decisions(verifier)[1])))
    with pytest.raises(Malformed):
        Exported.decode(bent.encode()).open()


def test_the_signer_can_be_demanded(verifier: RunningVerifier, tmp_path: Path) -> None:
    """Whoever has the whole file can sign it anew; not with the verifier's key."""
    path, keys = tmp_path / "case", tmp_path / "keys.json"
    path.write_bytes(exported(verifier, decisions(verifier)[1]))
    keys.write_text(json.dumps({"grant_keys": jwks(verifier.service.keys.grant)}))
    assert main(["appraise", str(path), "--keys", str(keys), "--quiet"]) == YES
    keys.write_text(json.dumps(jwks(verifier.service.keys.grant)))
    assert main(["appraise", str(path), "--keys", str(keys), "--quiet"]) == YES
    make_private(tmp_path / GRANT_KEY)
    other = SigningKey.load(tmp_path / GRANT_KEY)
    found = Exported.decode(path.read_bytes())
    forged = Exported.make(
        ledger=found.ledger,
        head=found.head,
        message=found.message,
        parts=found.parts,
        boot_log=found.boot_log,
        documents=found.documents,
        key=other,
    )
    path.write_bytes(forged.encode())
    assert main(["appraise", str(path), "--quiet"]) == YES
    assert main(["appraise", str(path), "--keys", str(keys)]) == MISUSED
    keys.write_text("[]")
    assert main(["appraise", str(path), "--keys", str(keys)]) == MISUSED


def test_a_case_is_no_message(verifier: RunningVerifier) -> None:
    for data in (b"", cbor.encode([TYPE]), cbor.encode([TYPE, []]), cbor.encode(["other", []])):
        with pytest.raises(Malformed):
            Exported.decode(data)
    message = Exported.decode(exported(verifier, decisions(verifier)[0])).message
    with pytest.raises(Malformed):
        Exported.decode(message)
    with pytest.raises(Malformed):
        Evidence.decode(exported(verifier, decisions(verifier)[0]))


# The values that cases are made of

KNOWN = st.builds(Known, key_name=st.binary(), core=st.binary(), workload=st.text())
NUMBER = st.integers(0, 2**64 - 1)
CLOCK = st.builds(ClockSeen, reset_count=NUMBER, clock=NUMBER)
NODE = st.builds(
    Node,
    name=st.text(),
    ak_public=st.binary(),
    ek_public=st.binary(),
    instance=st.binary(),
    instance_reset_count=NUMBER,
    approved_instances=st.lists(st.binary()).map(tuple),
    known=st.lists(KNOWN, max_size=3).map(tuple),
    clock=st.none() | CLOCK,
)
CHECKPOINT = st.builds(
    Checkpoint,
    ak_name=st.binary(),
    reset_count=NUMBER,
    instance=st.binary(),
    records=NUMBER,
    registers=st.lists(st.tuples(NUMBER, st.binary())).map(tuple),
    policy_version=NUMBER,
    root=st.binary(),
)
MEASURED = st.builds(
    Measured,
    register=NUMBER,
    algorithm=st.text(),
    digest=st.binary(),
    path=st.binary(),
    template=st.text(),
)


@given(NODE)
def test_nodes_come_back(node: Node) -> None:
    assert plain.decode(Node, plain.encode(Node, node)) == node


@given(CHECKPOINT)
def test_checkpoints_come_back(checkpoint: Checkpoint) -> None:
    assert plain.decode(Checkpoint, plain.encode(Checkpoint, checkpoint)) == checkpoint


@given(MEASURED, st.data())
def test_a_truncated_value_is_malformed(measured: Measured, data: st.DataObject) -> None:
    whole = plain.encode(Measured, measured)
    assert plain.decode(Measured, whole) == measured
    with pytest.raises(Malformed):
        plain.decode(Measured, whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(Malformed):
        plain.decode(Node, whole)


def test_times_are_whole_seconds_of_this_era() -> None:
    assert plain.unpack(type(NOW), plain.pack(type(NOW), NOW)) == NOW
    for odd in (-1, 1 << 60, "now"):
        with pytest.raises(Malformed):
            plain.unpack(type(NOW), odd)
