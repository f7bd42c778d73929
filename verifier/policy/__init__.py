"""What is accepted: reference values ("golden hashes") and workloads, read from TOML.

Unknown keys, empty sets and anything ambiguous are refused when they are read
(`verifier.reference`, `verifier.workload`) or put together (`build_policy`).
"""

from verifier.policy.boot import BootPolicy
from verifier.policy.files import SHA256_BYTES, FileKey, ReferenceSet, Signer
from verifier.policy.fit import build_policy
from verifier.policy.kernel import KernelPolicy
from verifier.policy.whole import Policy
from verifier.policy.workload import LEVELS, Container, Interpreted, Launch, Use, Workload

__all__ = [
    "LEVELS",
    "SHA256_BYTES",
    "BootPolicy",
    "Container",
    "FileKey",
    "Interpreted",
    "KernelPolicy",
    "Launch",
    "Policy",
    "ReferenceSet",
    "Signer",
    "Use",
    "Workload",
    "build_policy",
]
