"""The whole appraisal against a software TPM, driven by the attestor's own code.

The simulated node says what its author believes of a TPM; here a TPM says it.
"""

from collections.abc import Iterator

import pytest

from attestor.tpm import Tpm, TpmFailed
from evidence.certificate import Certificate
from evidence.messages import Activation
from swtpm import Manufacturer, SoftwareTpm
from tests.real_node import RealNode
from tests.simulated_keys import sha256
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason, Rejected
from verifier.certificates import read_file
from verifier.crypto.activation import ENTROPY_BYTES, make_credential
from verifier.endorsement import Trust
from verifier.enrolment import Allowed, ek_hash, judge_enrolment, verify_answer

pytestmark = pytest.mark.swtpm


@pytest.fixture(params=["rsa2048", "ecc256"])
def chip(request: pytest.FixtureRequest, software_tpm: SoftwareTpm) -> Iterator[Tpm]:
    with Tpm(software_tpm.tcti, ek=request.param) as chip:
        yield chip


@pytest.fixture
def node(chip: Tpm) -> RealNode:
    return RealNode(chip)


def trust(manufacturer: Manufacturer) -> Trust:
    """Return the manufacturer's root: the CA under it the TPM has to send."""
    return Trust(roots=tuple(map(Certificate.decode, read_file(manufacturer.root_file))))


def test_enrolment(node: RealNode, manufacturer: Manufacturer) -> None:
    enrol = node.enrol_message()
    judged = judge_enrolment(
        enrol,
        holder=None,
        ek_holder="",
        inventory={Allowed(ek_hash=ek_hash(enrol.ek_public), node=node.name)},
        trust=trust(manufacturer),
        require_certificate=True,
        now=Certificate.decode(enrol.ek_certificate).not_before,
    )
    assert judged.is_allowed
    secret = sha256(b"secret")
    id_object, encrypted = make_credential(
        judged.ek, name=judged.ak_name, secret=secret, entropy=bytes(range(ENTROPY_BYTES))
    )
    activation = Activation(id="1", expires=0, id_object=id_object, encrypted_secret=encrypted)
    verify_answer(node.answer(activation), judged=judged, id_="1", secret=secret)


def test_evidence(node: RealNode) -> None:
    """A new process is accepted, then known; an unknown program refuses the node."""
    verifier = SimulatedVerifier(node)
    process = node.new_process()
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert [one.is_new for one in accepted(verdict)] == [True]
    assert verdict.firmware_version > 0
    verdict = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert [one.is_new for one in accepted(verdict)] == [False]
    node.measure("usr/bin/evil", b"evil")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


def test_a_sealed_secret_opens_in_its_process_key_alone(node: RealNode) -> None:
    process, other = node.new_process(), node.new_process()
    sealed = make_credential(
        node.tpm.ek, name=process.key_name, secret=b"k" * 32, entropy=bytes(range(ENTROPY_BYTES))
    )
    assert node.open_secret(process, *sealed) == b"k" * 32
    with pytest.raises(TpmFailed):
        node.open_secret(other, *sealed)


def test_a_reset_is_another_boot(software_tpm: SoftwareTpm) -> None:
    """In which the instance key of the boot before has no place."""
    with Tpm(software_tpm.tcti) as chip:
        node = RealNode(chip)
        verifier = SimulatedVerifier(node)
        process = node.new_process()
        verifier.judge(node.evidence(verifier.challenge(), new=[process]))
        before = verifier.node.clock
    software_tpm.stop()
    software_tpm.start()
    with Tpm(software_tpm.tcti) as chip:
        verifier.peer = again = RealNode(chip)
        with pytest.raises(Rejected) as rejection:
            verifier.judge(again.evidence(verifier.challenge(), known=[process]))
    seen = rejection.value.clock_seen
    assert before is not None
    assert seen is not None
    assert seen.reset_count > before.reset_count
    assert [one.reason for one in rejection.value.findings] == [Reason.INSTANCE_BOOT]
