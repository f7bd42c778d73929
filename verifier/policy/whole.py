"""All that an appraisal compares with, put together."""

from collections.abc import Iterable
from dataclasses import dataclass

from verifier.confinement import Confinement
from verifier.policy.boot import BootPolicy
from verifier.policy.files import ReferenceSet, Signer
from verifier.policy.kernel import KernelPolicy
from verifier.policy.workload import Workload
from verifier.verity import Verity


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that an appraisal compares with. Made by `build_policy`."""

    version: int
    """Grows by one with every change."""
    trust_domain: str
    sets: tuple[ReferenceSet, ...]
    workloads: tuple[Workload, ...]
    kernel_policies: tuple[KernelPolicy, ...]
    signers: tuple[Signer, ...] = ()
    verities: tuple[Verity, ...] = ()
    confinements: tuple[Confinement, ...] = ()
    boot_policies: tuple[BootPolicy, ...] = ()
    """Where one counts on a node, one must hold; where none does, its level is `lab`."""
    execute_register: int = 10
    user_register: int = 12
    attestor_register: int = 13

    @property
    def list_registers(self) -> tuple[int, ...]:
        """The registers that the measurement list extends, ascending."""
        return tuple(sorted((self.execute_register, self.user_register, self.attestor_register)))

    @property
    def closed_registers(self) -> tuple[int, ...]:
        """Those in which nothing unknown may be."""
        return (self.execute_register, self.attestor_register)

    def sets_on(self, node: str) -> tuple[ReferenceSet, ...]:
        """Return the sets that count on the node of this name."""
        return tuple(one for one in self.sets if one.counts_on(node))

    def signers_on(self, node: str) -> tuple[Signer, ...]:
        """Return the signers that count on the node of this name."""
        return tuple(one for one in self.signers if one.counts_on(node))

    def verities_on(self, node: str) -> tuple[Verity, ...]:
        """Return the named dm-verity devices that count on the node of this name."""
        return tuple(one for one in self.verities if one.counts_on(node))

    def confinements_on(self, node: str) -> tuple[Confinement, ...]:
        """Return the vouched SELinux policies that count on the node of this name."""
        return tuple(one for one in self.confinements if one.counts_on(node))

    def named_signers_on(self, node: str, names: Iterable[str]) -> tuple[Signer, ...]:
        """Return those of the named signers that count on the node of this name."""
        wanted = frozenset(names)
        return tuple(one for one in self.signers_on(node) if one.name in wanted)

    def named_sets_on(self, node: str, names: Iterable[str]) -> tuple[ReferenceSet, ...]:
        """Return those of the named sets that count on the node of this name."""
        wanted = frozenset(names)
        return tuple(one for one in self.sets_on(node) if one.name in wanted)

    def boot_policies_on(self, node: str) -> tuple[BootPolicy, ...]:
        """Return the boot policies that count on the node of this name."""
        return tuple(one for one in self.boot_policies if one.counts_on(node))

    def workload(self, id_: str) -> Workload | None:
        """Return the workload with this SPIFFE ID, if there is one."""
        return next((one for one in self.workloads if one.id == id_), None)
