"""Where a process is: what operators call its node, and where the node's connection comes from.

Neither is proven by the node. A label is an operator's word. An address is the other end of the
connection that brought the evidence: of a node behind a proxy or a translator of addresses, that
one's. It says where an answer goes, and nothing of what goes on from there.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from verifier.policy import Workload
from verifier.reasons import Finding, Reason, label


def find_elsewhere(
    workload: Workload, *, labels: tuple[tuple[str, str], ...], address: str, what: str
) -> Iterator[Finding]:
    """Find what keeps a node with these labels, which speaks from there, from the workload.

    `address` is empty where nobody knows it: no workload that names networks is content with that.
    """
    held = dict(labels)
    for name, value in workload.nodes.items():
        if held.get(name) != value:
            expected, found = f"{name}={value}", _shown(name, held)
            yield Finding(reason=Reason.PROCESS_LABELS, what=what, expected=expected, found=found)
    if workload.network and not _is_in(workload, _read(address)):
        expected = ", ".join(map(str, workload.network))
        found = label(address) or "an unknown address"
        yield Finding(reason=Reason.PROCESS_NETWORK, what=what, expected=expected, found=found)


def has_labels(workload: Workload, labels: tuple[tuple[str, str], ...]) -> bool:
    """Say whether a node with these labels is one of the workload's."""
    return workload.nodes.items() <= dict(labels).items()


def _shown(name: str, held: dict[str, str]) -> str:
    return f"{name}={held[name]}" if name in held else f"no {name}"


def _is_in(workload: Workload, address: IPv4Address | IPv6Address | None) -> bool:
    return address is not None and any(address in one for one in workload.network)


def _read(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address, of version 4 where a socket of version 6 has taken it for its own."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
