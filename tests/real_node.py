"""A node whose kernel and attestor are simulated, and whose TPM is not.

with Tpm(software_tpm.tcti) as chip:
    node = RealNode(chip)
    process = node.new_process()          -> its key is made and certified by the TPM
    node.goes_on_with(chip)               -> the same kernel, the TPM started anew
    node.extend_again()                   -> ... whose registers somebody extends as they were
"""
# ruff: noqa: ANN401 - `changes` are fields of any type

from dataclasses import replace
from typing import Any

from attestor.tpm import ProcessKey, Tpm
from evidence import tpm as structures
from evidence.messages import INSTANCE_REGISTER, NewProcess
from tests.simulated_keys import sha256
from tests.simulated_node import BOOT_REGISTERS, SimulatedNode
from tests.simulated_process import SimulatedProcess


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

    def goes_on_with(self, chip: Tpm) -> None:
        """Have the same list, instance and processes, and a TPM that was started anew."""
        keys = self.tpm.keys  # type: ignore[attr-defined]
        self.chip = chip
        self.tpm = RealTpm(chip)  # type: ignore[assignment]
        self.tpm.keys = keys  # type: ignore[attr-defined]

    def extend_again(self) -> None:
        """Extend the registers with what they were extended with before the TPM was reset."""
        for register in BOOT_REGISTERS:
            self.chip.extend(register, sha256(b"firmware %d" % register))
        for record in self.records:
            self.chip.extend(record.register, record.extension("sha256"))
        for instance in self.instances:
            self.chip.extend(INSTANCE_REGISTER, instance)

    def _boot(self) -> None:
        self.tpm = RealTpm(self.chip)  # type: ignore[assignment]
        super()._boot()

    def ek_certificate(self) -> bytes:
        return self.chip.ek_certificate()

    def ek_intermediates(self) -> tuple[bytes, ...]:
        return self.chip.ek_intermediates()

    def new_process(self, **changes: Any) -> SimulatedProcess:
        """Return a process with a key that the TPM has made for it."""
        simulated = SimulatedNode()
        simulated.pid = self.pid
        self.pid += 1
        simulated.boot_id = self.boot_id
        simulated.instance_key = self.instance_key
        made = simulated.new_process(**changes)
        return self.certify(made)

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
            modules=process.new.modules,
        )
        public = structures.Public.decode(key.public)
        self.tpm.keys[key.name] = key  # type: ignore[attr-defined]
        return replace(process, new=new, public=public)
