"""Whether the parts of a policy fit together: anything ambiguous or missing is refused."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from verifier.confinement import Confinement
from verifier.policy.boot import BootPolicy
from verifier.policy.files import ReferenceSet, Signer
from verifier.policy.kernel import KernelPolicy
from verifier.policy.whole import Policy
from verifier.policy.workload import LEVELS, MOST_OF_INTERPRETERS, Workload
from verifier.reasons import Finding, Reason, Rejected
from verifier.verity import Verity

_Files = Mapping[str, Mapping[str, tuple[bytes, ...]]]
"""The files of each set, by name."""


def build_policy(  # noqa: PLR0913 - a policy is made of this
    *,
    version: int,
    trust_domain: str,
    sets: Iterable[ReferenceSet],
    workloads: Iterable[Workload],
    kernel_policies: Iterable[KernelPolicy],
    signers: Iterable[Signer] = (),
    verities: Iterable[Verity] = (),
    confinements: Iterable[Confinement] = (),
    boot_policies: Iterable[BootPolicy] = (),
    execute_register: int = 10,
    user_register: int = 12,
    attestor_register: int = 13,
) -> Policy:
    """Return the policy made of these; raise Rejected where they do not fit together.

    An empty part is not refused here but by every appraisal: a verifier without any workload
    yet starts, and accepts nothing.
    """
    policy = Policy(
        version=version,
        trust_domain=trust_domain,
        sets=tuple(sets),
        workloads=tuple(workloads),
        kernel_policies=tuple(kernel_policies),
        signers=tuple(signers),
        verities=tuple(verities),
        confinements=tuple(confinements),
        boot_policies=tuple(boot_policies),
        execute_register=execute_register,
        user_register=user_register,
        attestor_register=attestor_register,
    )
    findings = tuple(_misfits(policy))
    if findings:
        raise Rejected(findings)
    return policy


def _misfits(policy: Policy) -> Iterator[Finding]:
    yield from _repeated_names(policy)
    yield from _boot_registers(policy)
    yield from _list_registers(policy)
    files = {one.name: one.files for one in policy.sets}
    signers = frozenset(one.name for one in policy.signers)
    for workload in policy.workloads:
        yield from _identity(workload, policy.trust_domain)
        yield from _mapped(workload, files, signers)
        yield from _image(workload, files)
        yield from _interpreter(workload, files)
        yield from _executable(workload, files, signers)


def _repeated_names(policy: Policy) -> Iterator[Finding]:
    names = (
        *(one.name for one in policy.sets),
        *(one.name for one in policy.signers),
        *(one.name for one in policy.verities),
        *(one.name for one in policy.confinements),
    )
    for name in _repeated(names):
        yield _misfit(f"reference set {name}", expected="one of that name", found="several")
    for id_ in _repeated(one.id for one in policy.workloads):
        yield _misfit(f"workload {id_}", expected="one of that id", found="several")
    for name in _repeated(one.name for one in policy.boot_policies):
        yield _misfit(f"boot policy {name}", expected="one of that name", found="several")


def _boot_registers(policy: Policy) -> Iterator[Finding]:
    for one in policy.boot_policies:
        taken = sorted(one.registers.keys() & set(policy.list_registers))
        if taken:
            expected, found = "no register of the measurement list", f"{taken}"
            yield _misfit(f"boot policy {one.name}", expected=expected, found=found)


def _list_registers(policy: Policy) -> Iterator[Finding]:
    if len(set(policy.list_registers)) != len(policy.list_registers):
        found = str(policy.list_registers)
        yield _misfit("registers", expected="three different ones", found=found)


# A workload and the rest


def _identity(workload: Workload, trust_domain: str) -> Iterator[Finding]:
    what, prefix = _what(workload), f"spiffe://{trust_domain}/"
    if not workload.id.startswith(prefix):
        yield _misfit(what, expected=f"{prefix}…", found=workload.id)
    parent = workload.parent
    if parent and (parent == workload.id or not parent.startswith(prefix)):
        yield _misfit(f"{what}: parent", expected=f"another {prefix}…", found=parent)


def _mapped(workload: Workload, files: _Files, signers: frozenset[str]) -> Iterator[Finding]:
    for name in workload.mapped:
        if name not in files and name not in signers:
            yield _misfit(_what(workload), expected=f"set or signer {name}", found="none such")


def _image(workload: Workload, files: _Files) -> Iterator[Finding]:
    container = workload.container
    if container and container.image not in files:
        yield _misfit(_what(workload), expected=f"set {container.image}", found="none such")


def _interpreter(workload: Workload, files: _Files) -> Iterator[Finding]:
    one, what = workload.interpreter, _what(workload)
    if one and one.script not in files.get(one.modules, {}):
        yield _misfit(what, expected=f"{one.script} in set {one.modules}", found="no such file")
    if one and LEVELS.index(workload.minimum) > LEVELS.index(MOST_OF_INTERPRETERS):
        expected = f"{MOST_OF_INTERPRETERS} at most, being an interpreter"
        yield _misfit(what, expected=expected, found=workload.minimum)


def _executable(workload: Workload, files: _Files, signers: frozenset[str]) -> Iterator[Finding]:
    what, set_, file = _what(workload), workload.executable_set, workload.executable_file
    if set_ in signers:
        # A key says who made a program, and he makes others: an identity is one program's.
        expected = "a set with the executable's digest"
        yield _misfit(what, expected=expected, found=f"signer {set_}")
    elif set_ not in files:
        yield _misfit(what, expected=f"set {set_}", found="none such")
    elif file not in files[set_]:
        yield _misfit(what, expected=f"{file} in set {set_}", found="no such file")


def _what(workload: Workload) -> str:
    return f"workload {workload.id}"


def _misfit(what: str, *, expected: str, found: str) -> Finding:
    return Finding(reason=Reason.POLICY_INVALID, what=what, expected=expected, found=found)


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, times in Counter(names).items() if times > 1)
