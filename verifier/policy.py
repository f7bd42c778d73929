"""What is accepted: reference values ("golden hashes") and workloads, read from TOML.

Unknown keys, empty sets and anything ambiguous are refused when they are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSet:
    """Digests of files that belong together."""

    name: str
    files: Mapping[str, tuple[bytes, ...]]
    """SHA-256 digests by path relative to the root, without a leading slash."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes it counts on; empty for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Who may have which identity."""

    id: str
    """SPIFFE ID."""
    executable_set: str
    executable_file: str
    mapped: tuple[str, ...]
    """Names of the sets that its mapped files may come from."""
    user: str
    unit: str
    """Last component of its cgroup; empty where `any_starter`."""
    any_starter: bool
    minimum: str
    """`lab`, `L1` ... `L4`."""
    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    lifetime: timedelta
    lease: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that an appraisal compares with."""

    version: int
    """Grows by one with every change."""
    trust_domain: str
    sets: tuple[ReferenceSet, ...]
    workloads: tuple[Workload, ...]
    kernel_policies: frozenset[bytes]
    """SHA-256 of the kernel policy files that are accepted."""
    execute_register: int = 10
    user_register: int = 12
    attestor_register: int = 13
