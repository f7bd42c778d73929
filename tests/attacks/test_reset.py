"""A software TPM that is reset, cleared or cut off while the kernel runs on; a late answer.

The TPM is real as far as these attacks go: what its counts, clocks, registers and keys do is
swtpm's own. Kernel and attestor are simulated; whoever resets the TPM extends it as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attestor.tpm import Tpm, TpmFailed
from credential import Claims, Keys, Refused, Seen, check, wpt
from swtpm import SoftwareTpm
from tests.real_node import RealNode
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import AUDIENCE, NOW, TRUST_DOMAIN
from tests.simulated_verifier import SimulatedVerifier, reasons
from verifier import Reason
from verifier.crypto.activation import ENTROPY_BYTES, make_credential

pytestmark = pytest.mark.swtpm

ROOT = "root on the node"
RESETTER = "whoever resets the TPM"
NODE = "the node's verdict"
KEY_PARTS = ("public", "creation_data", "certification", "signature")
"""Of a new process's record: what the TPM made and said."""
pytss = pytest.importorskip("tpm2_pytss")


class BootedAgain(RealNode):
    """The same machine after another boot: its attestor has made another instance key."""

    def start_again(self) -> None:
        self._starts += 1
        super().start_again()


@pytest.fixture
def chip(software_tpm: SoftwareTpm) -> Iterator[Tpm]:
    with Tpm(software_tpm.tcti, ek="ecc256") as chip:
        yield chip


@contextmanager
def started_again(tpm: SoftwareTpm, node: RealNode, *, in_order: bool = True) -> Iterator[Tpm]:
    """Give the node the TPM after a reset; the kernel and the attestor have not noticed."""
    node.chip.esys.close()
    tpm.stop() if in_order else tpm.cut_power()
    tpm.start()
    with Tpm(tpm.tcti, ek="ecc256") as chip:
        node.goes_on_with(chip)
        yield chip


@pytest.mark.attack(number=14, attacker=RESETTER, asset=NODE)
def test_014_a_tpm_reset_under_a_running_kernel(software_tpm: SoftwareTpm, chip: Tpm) -> None:
    """The golden list extended again, without what was measured since: refused, and all is dead.

    The instance key is the old boot's; a process key of the old reset count does not certify for
    the new one, and what was sealed to it opens no more.
    """
    node = RealNode(chip)
    verifier = SimulatedVerifier(node)
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    golden = tuple(node.records)
    entropy = bytes(range(ENTROPY_BYTES))
    sealed = make_credential(node.tpm.ek, name=process.key_name, secret=b"k" * 32, entropy=entropy)
    assert node.open_secret(process, *sealed) == b"k" * 32
    late = node.new_process()
    node.measure("usr/bin/evil", b"evil")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    assert verifier.node.clock is not None
    before = verifier.node.clock.reset_count
    with started_again(software_tpm, node):
        node.records = list(golden)
        node.extend_again()
        for known in ([], [process]):
            evidence = node.evidence(verifier.challenge(), known=known)
            assert verifier.refusal(evidence) == {Reason.INSTANCE_BOOT}
        assert verifier.node.clock.reset_count > before
        with pytest.raises(TpmFailed):
            node.open_secret(process, *sealed)
        # Another attestor, whose key this boot has not seen, has no use for the old keys either.
        node.instances = []
        node.start_again()
        fresh = verifier.challenge()
        assert fresh.first_record == 0
        assert verifier.refusal(node.evidence(fresh, new=[late])) == {Reason.INSTANCE_REGISTER}


@pytest.mark.attack(number=14, attacker=RESETTER, asset="the identity")
def test_014_a_process_key_of_the_boot_before(software_tpm: SoftwareTpm, chip: Tpm) -> None:
    """Its certification is genuine, by the same AK, and of another reset count."""
    node = RealNode(chip)
    verifier = SimulatedVerifier(node)
    verifier.judge(node.evidence(verifier.challenge()))
    old = node.new_process().new
    with started_again(software_tpm, node):
        verifier.peer = again = BootedAgain(node.chip)
        fresh = again.new_process()
        kept = {name: getattr(old, name) for name in KEY_PARTS}
        process = replace(fresh, new=replace(fresh.new, **kept))
        (refused,) = verifier.judge(again.evidence(verifier.challenge(), new=[process])).processes
    assert reasons(refused) == {Reason.PROCESS_KEY_RESET, Reason.PROCESS_KEY_RECORD}


@pytest.mark.attack(number=127, attacker=ROOT, asset=NODE)
def test_127_evidence_held_back_and_of_a_lower_clock(chip: Tpm) -> None:
    """Made while the node was good; by then the verifier has seen worse, of a later clock."""
    node = RealNode(chip)
    verifier = SimulatedVerifier(node)
    verifier.judge(node.evidence(verifier.challenge()))
    challenge = verifier.challenge()
    held = node.evidence(challenge)
    node.measure("usr/bin/evil", b"evil")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    assert verifier.refusal(held, challenge=challenge) == {Reason.QUOTE_CLOCK}


@pytest.mark.attack(number=127, attacker=ROOT, asset=NODE)
def test_127_evidence_of_the_boot_before(software_tpm: SoftwareTpm, chip: Tpm) -> None:
    """Held back over a reset: its reset count is lower than one that was seen."""
    node = RealNode(chip)
    verifier = SimulatedVerifier(node)
    verifier.judge(node.evidence(verifier.challenge()))
    challenge = verifier.challenge()
    held = node.evidence(challenge)
    with started_again(software_tpm, node):
        verifier.peer = again = BootedAgain(node.chip)
        verifier.judge(again.evidence(verifier.challenge()))
        verifier.peer = node
        assert verifier.refusal(held, challenge=challenge) >= {Reason.QUOTE_RESET}


def clear(tcti: str) -> None:
    """TPM2_Clear, which whoever owns the machine can ask for."""
    with pytss.ESAPI(tcti) as context:
        context.clear(pytss.ESYS_TR.LOCKOUT)


@pytest.mark.attack(number=133, attacker=ROOT, asset=NODE)
def test_133_a_tpm_cleared_under_a_running_kernel(software_tpm: SoftwareTpm, chip: Tpm) -> None:
    """The registers stay, the counts and the clock start anew: refused until it is enrolled anew.

    The AK is what it was, since the endorsement seed stays; process keys go with their hierarchy.
    """
    node = RealNode(chip)
    verifier = SimulatedVerifier(node)
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    registers = node.tpm.registers
    seen = verifier.node.clock
    assert seen is not None
    chip.esys.close()
    clear(software_tpm.tcti)
    with Tpm(software_tpm.tcti, ek="ecc256") as again:
        node.goes_on_with(again)
        assert node.tpm.registers == registers
        refused = verifier.refusal(node.evidence(verifier.challenge(), known=[process]))
        assert refused == {Reason.QUOTE_RESET}
        assert verifier.node.clock == seen


@pytest.mark.attack(number=133, attacker="a power cut", asset=NODE)
def test_133_a_power_cut(software_tpm: SoftwareTpm, chip: Tpm) -> None:
    """Another boot, whose clock is not safe: accepted once it has booted, and reported."""
    node = RealNode(chip)
    verifier = SimulatedVerifier(node)
    verifier.judge(node.evidence(verifier.challenge()))
    seen = verifier.node.clock
    assert seen is not None
    with started_again(software_tpm, node, in_order=False):
        verifier.peer = again = BootedAgain(node.chip)
        verdict = verifier.judge(again.evidence(verifier.challenge()))
    assert verdict.starts_over
    assert verdict.forgets_known
    assert verdict.clock.reset_count > seen.reset_count
    assert [one.reason for one in verdict.reported] == [Reason.QUOTE_CLOCK_UNSAFE]


@pytest.mark.attack(number=134, attacker="a machine whose boot is not proven", asset="the access")
def test_134_level_lab_at_a_relying_party(chip: Tpm, tmp_path: Path) -> None:
    """A token from evidence to relying party: by the TPM, the verifier and `check` as they are."""
    node = RealNode(chip)
    verifier = RunningVerifier(tmp_path, require_ek_certificate=False)
    try:
        verifier.trust(node)
        player = Player(node, verifier.service)
        player.enrol()
        process = node.new_process()
        player.attest([process])
        token = player.tokens[process.key_name][2]
        key = verifier.service.keys.wit
        keys = Keys.of(TRUST_DOMAIN, [(key.kid, key.point)])
        assert player.claims(process).procseal.level == "lab"
    finally:
        verifier.close()
    request: dict[str, Any] = {"method": "POST", "url": f"{AUDIENCE}/post", "now": NOW}
    unsigned = wpt.compose(token=token, jti=b"j" * 16, audience=AUDIENCE, **request)
    proof = unsigned.sign(process.use_key)

    def ask(**demands: Any) -> Claims:  # noqa: ANN401
        return check(
            token,
            proof,
            keys=keys,
            seen=Seen(),
            status="unchecked",
            audience=AUDIENCE,
            **demands,
            **request,
        )

    def refusal(**demands: Any) -> list[str]:  # noqa: ANN401
        with pytest.raises(Refused) as refused:
            ask(**demands)
        return [str(one.reason) for one in refused.value.findings]

    for minimum in ("lab", "L1", "L2"):
        assert refusal(minimum=minimum) == ["token.level-lab"]
    assert refusal(minimum="L1", allow_lab=True) == ["token.level-below-minimum"]
    with pytest.raises(TypeError, match="minimum"):
        refusal()
    assert ask(minimum="lab", allow_lab=True).procseal.level == "lab"
