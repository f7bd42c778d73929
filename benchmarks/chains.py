"""Certificates that a node sends with its introduction: a chain to a maker's root, or none.

Who sends them chooses their keys and how many look alike, so that is what is dear to refuse.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import partial

from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.refusing import Group
from evidence.messages import Enrol
from tests.makers import START, Maker, certify, found, trusting
from tests.simulated_node import NOW, SimulatedNode
from verifier.endorsement import DEEPEST, Trust
from verifier.enrolment import MOST_INTERMEDIATES, judge_enrolment

ROOT = "Maker root"


def all_groups() -> Iterator[Group]:
    """Yield every group."""
    yield introductions()


def introductions() -> Group:
    """Return introductions with as many intermediates as are read; the longest chain is good."""
    node = SimulatedNode()
    root, liar = _found(ROOT, seed="root"), _found(ROOT, seed="liar")
    trust = trusting([root])
    chain = _chain(root)
    others = [_found(f"other {number}") for number in range(MOST_INTERMEDIATES - len(chain))]
    bad = {
        "a chain to a root of the same name": [*_chain(liar), *others],
        "a chain of which a link is left out": [*chain[:3], *chain[4:], *others],
        "a chain that is signed by another": [_found("CA 1", liar), *chain[1:], *others],
        "CAs of one name and one key": _alike(liar, seeds=1),
        "CAs of one name, each with a key": _alike(liar, seeds=MOST_INTERMEDIATES),
        "two CAs at each of eight steps": _steps(liar),
    }
    return Group(
        name=f"enrolment with {MOST_INTERMEDIATES} intermediates",
        accept=partial(_enrol, _introduction(node, [*chain, *others]), trust),
        refuse={
            name: partial(_enrol, _introduction(node, makers), trust)
            for name, makers in bad.items()
        },
    )


def _found(name: str, issuer: Maker | None = None, *, seed: str = "", days: int = 0) -> Maker:
    """Return a CA with a key of the dearest kind, which names no key: any of its name may be it."""
    key = ec.derive_private_key(int.from_bytes(f"{name} {seed}".encode()[:60]), ec.SECP521R1())
    start = START + timedelta(days=days)
    return found(name, issuer, key=key, start=start, subject_key=None)


def _chain(root: Maker) -> list[Maker]:
    """Return the longest chain of CAs below the root, the last of them first."""
    makers = [root]
    for number in range(DEEPEST - 2, 0, -1):
        makers.insert(0, _found(f"CA {number}", makers[0]))
    return makers[:-1]


def _alike(root: Maker, *, seeds: int) -> list[Maker]:
    numbers = range(MOST_INTERMEDIATES)
    return [_found("CA", root, seed=f"{one % seeds}", days=one) for one in numbers]


def _steps(root: Maker) -> list[Maker]:
    """Return CAs of which each could be issued by two."""
    makers = [root]
    for number in range(MOST_INTERMEDIATES // 2):
        issuer = makers[0]
        makers[:0] = [_found(f"step {number}", issuer, days=day) for day in (1, 2)]
    return makers[:-1]


def _introduction(node: SimulatedNode, makers: Sequence[Maker]) -> bytes:
    """Return the introduction of a node whose EK the first of them vouches for."""
    certificate = certify(makers[0], node.tpm.ek_key.public_key(), authority_key=None)
    intermediates = tuple(one.der for one in makers)
    return node.enrol_message(ek_certificate=certificate, ek_intermediates=intermediates).encode()


def _enrol(message: bytes, trust: Trust) -> object:
    return judge_enrolment(
        Enrol.decode(message),
        holder=None,
        ek_holder="",
        inventory=frozenset(),
        trust=trust,
        require_certificate=True,
        now=NOW,
    )
