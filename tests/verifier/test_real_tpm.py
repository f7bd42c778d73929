"""The whole appraisal against a software TPM, driven by the attestor's own code.

The simulated node says what its author believes of a TPM; here a TPM says it.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from attestor.tpm import ProcessKey, Tpm, TpmFailed
from evidence import tpm as structures
from evidence.messages import Activation, NewProcess
from swtpm import Manufacturer, SoftwareTpm
from tests.simulated_node import SimulatedNode, SimulatedProcess, sha256
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason, Rejected
from verifier.crypto import ENTROPY_BYTES, make_credential
from verifier.enrolment import Allowed, ek_hash, judge_enrolment, verify_answer

pytestmark = pytest.mark.swtpm


class RealTpm:
    """A TPM in the place of a SimulatedTpm: what it signs is its own."""

    def __init__(self, chip: Tpm) -> None:
        self.chip = chip
        self.ak = structures.Public.decode(chip.ak_public())
        self.ek = structures.Public.decode(chip.ek_public())
        self.reset_count = 0
        self.clock = 0
        self.keys: dict[bytes, ProcessKey] = {}

    @property
    def registers(self) -> tuple[bytes, ...]:
        return self.chip.read_registers()

    def extend(self, register: int, digest: bytes) -> None:
        self.chip.extend(register, digest)

    def activate(self, name: bytes, id_object: bytes, encrypted_secret: bytes) -> bytes:
        if name == self.ak.name():
            return self.chip.activate(id_object, encrypted_secret)
        return self.chip.activate_process_key(self.keys[name], id_object, encrypted_secret)

    def quote(self, binding: bytes) -> tuple[bytes, bytes]:
        signed = self.chip.quote(binding)
        info = structures.Attest.decode(signed.attest).clock_info
        self.reset_count, self.clock = info.reset_count, info.clock
        return signed.attest, signed.signature


class RealNode(SimulatedNode):
    """A node whose kernel and attestor are simulated, and whose TPM is not."""

    def __init__(self, chip: Tpm) -> None:
        self.chip = chip
        super().__init__()

    def _boot(self) -> None:
        self.tpm = RealTpm(self.chip)  # type: ignore[assignment]
        super()._boot()

    def ek_certificate(self) -> bytes:
        return self.chip.ek_certificate()

    def certify(self, process: SimulatedProcess) -> SimulatedProcess:
        """Return the process with a key that the TPM has made for it."""
        key = self.chip.create_process_key(process.core.digest())
        new = NewProcess(
            core=process.core.encode(),
            look=process.look,
            public=key.public,
            creation_data=key.creation_data,
            certification=key.certification,
            signature=key.signature,
        )
        public = structures.Public.decode(key.public)
        self.tpm.keys[key.name] = key  # type: ignore[attr-defined]
        return replace(process, new=new, public=public)


@pytest.fixture(params=["rsa2048", "ecc256"])
def chip(request: pytest.FixtureRequest, software_tpm: SoftwareTpm) -> Iterator[Tpm]:
    with Tpm(software_tpm.tcti, ek=request.param) as chip:
        yield chip


@pytest.fixture
def node(chip: Tpm) -> RealNode:
    return RealNode(chip)


@pytest.fixture
def make_process() -> Callable[[RealNode], SimulatedProcess]:
    """Make a process of the node's, with a key of its TPM's."""

    def make(node: RealNode) -> SimulatedProcess:
        simulated = SimulatedNode()
        simulated.pid = node.pid
        node.pid += 1
        simulated.boot_id = node.boot_id
        simulated.instance_key = node.instance_key
        return node.certify(simulated.new_process())

    return make


def roots(manufacturer: Manufacturer) -> tuple[bytes, ...]:
    """Return the manufacturer's certificates, DER: those of its intermediates too."""
    files = (manufacturer.root_file, manufacturer.intermediate_file)
    return tuple(
        one.public_bytes(Encoding.DER)
        for file in files
        for one in x509.load_pem_x509_certificates(file.read_bytes())
    )


def test_enrolment(node: RealNode, manufacturer: Manufacturer) -> None:
    enrol = node.enrol_message()
    judged = judge_enrolment(
        enrol,
        holder=None,
        ek_holder="",
        inventory={Allowed(ek_hash=ek_hash(enrol.ek_public), node=node.name)},
        roots=roots(manufacturer),
        require_certificate=True,
        now=x509.load_der_x509_certificate(enrol.ek_certificate).not_valid_before_utc,
    )
    assert judged.is_allowed
    secret = sha256(b"secret")
    id_object, encrypted = make_credential(
        judged.ek, name=judged.ak_name, secret=secret, entropy=bytes(range(ENTROPY_BYTES))
    )
    activation = Activation(id="1", expires=0, id_object=id_object, encrypted_secret=encrypted)
    verify_answer(node.answer(activation), judged=judged, id_="1", secret=secret)


def test_evidence(node: RealNode, make_process: Callable[[RealNode], SimulatedProcess]) -> None:
    """A new process is accepted, then known; an unknown program refuses the node."""
    verifier = SimulatedVerifier(node)
    process = make_process(node)
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert [one.is_new for one in accepted(verdict)] == [True]
    assert verdict.firmware_version > 0
    verdict = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert [one.is_new for one in accepted(verdict)] == [False]
    node.measure("usr/bin/evil", b"evil")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


def test_a_sealed_secret_opens_in_its_process_key_alone(
    node: RealNode, make_process: Callable[[RealNode], SimulatedProcess]
) -> None:
    process, other = make_process(node), make_process(node)
    sealed = make_credential(
        node.tpm.ek, name=process.key_name, secret=b"k" * 32, entropy=bytes(range(ENTROPY_BYTES))
    )
    assert node.open_secret(process, *sealed) == b"k" * 32
    with pytest.raises(TpmFailed):
        node.open_secret(other, *sealed)


def test_a_reset_is_another_boot(
    software_tpm: SoftwareTpm, make_process: Callable[[RealNode], SimulatedProcess]
) -> None:
    """In which the instance key of the boot before has no place."""
    with Tpm(software_tpm.tcti) as chip:
        node = RealNode(chip)
        verifier = SimulatedVerifier(node)
        process = make_process(node)
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
