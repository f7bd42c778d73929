"""Link 6: the attestor that speaks is the one that started first in this boot, or its successor.

At its start an attestor finds register 15 at zero and extends it with SHA-256 of its public
key. Whoever starts later extends it again, and everyone can see that. A later start counts if the
instance right before it has signed its key (a hand-over), or an operator has approved it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from evidence import Malformed
from evidence.messages import INSTANCE_REGISTER, MOST_HAND_OVERS, HandOver, SignedMessage
from verifier.crypto import p256
from verifier.node import Node
from verifier.quote import VerifiedQuote
from verifier.reasons import Finding, Reason, Rejected, capped, label, reject

REGISTER_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """Bytes, and whose they are. Made by `verify_signed` only."""

    payload: bytes
    signer: bytes
    """SHA-256 of the instance key that signed them; whether to listen to it is not said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedInstance:
    """The attestor that speaks may speak. Made by `verify_instance` only."""

    quote: VerifiedQuote
    instance: bytes
    """SHA-256 of its key."""
    is_same: bool
    """Boot and instance are those that were accepted last: what was known still is."""


def verify_signed(message: SignedMessage) -> Signed:
    """Return the message's bytes and signer; raise Rejected if the signature is not by its key."""
    if not p256.is_signed_by_instance(message.key, message.signature, message.payload):
        raise reject(Reason.MESSAGE_SIGNATURE, "the message's own key")
    return Signed(payload=message.payload, signer=hashlib.sha256(message.key).digest())


def fold(extensions: Iterable[bytes]) -> bytes:
    """Return the value of a register after these extensions, sha256 bank."""
    register = bytes(REGISTER_BYTES)
    for extension in extensions:
        register = hashlib.sha256(register + extension).digest()
    return register


def verify_instance(quote: VerifiedQuote, *, node: Node, signer: bytes) -> AcceptedInstance:
    """Return the instance that speaks; raise Rejected unless register 15 and the signer agree."""
    findings = capped(chain(_register(quote), _signer(quote, signer), _later(quote, node)))
    if findings:
        raise Rejected(findings)
    is_same = is_same_boot(quote, node) and node.instance == signer
    return AcceptedInstance(quote=quote, instance=signer, is_same=is_same)


def _register(quote: VerifiedQuote) -> Iterator[Finding]:
    instances, quoted = quote.body.instances, quote.registers[INSTANCE_REGISTER]
    what = f"register {INSTANCE_REGISTER}"
    if not instances or any(len(one) != REGISTER_BYTES for one in instances):
        expected = "at least one SHA-256 digest"
        yield Finding(reason=Reason.INSTANCE_REGISTER, what=what, expected=expected)
    elif fold(instances) != quoted:
        expected, found = fold(instances).hex(), quoted.hex()
        yield Finding(reason=Reason.INSTANCE_REGISTER, what=what, expected=expected, found=found)


def _signer(quote: VerifiedQuote, signer: bytes) -> Iterator[Finding]:
    last = quote.body.instances[-1:]
    if last != (signer,):
        expected = last[0].hex() if last else "an instance"
        yield Finding(reason=Reason.INSTANCE_SIGNER, expected=expected, found=signer.hex())


def _later(quote: VerifiedQuote, node: Node) -> Iterator[Finding]:
    instances = quote.body.instances
    given = {one.later: (one, signer) for one, signer in _hand_overs(quote)}
    for place in range(_accepted_starts(quote, node), len(instances)):
        later = instances[place]
        if later in node.approved_instances:
            continue
        if later not in given:
            expected = "one start, or a hand-over to the later one, or an operator's approval of it"
            yield Finding(reason=Reason.INSTANCE_SECOND, expected=expected, found=later.hex())
            continue
        one, signer = given[later]
        wanted = HandOver(
            node=node.name, boot=quote.body.boot, earlier=instances[place - 1], later=later
        )
        if one != wanted or signer != wanted.earlier:
            yield _invalid(later, expected=_told(wanted, wanted.earlier), found=_told(one, signer))
    found = ", ".join(one.hex() for one in quote.body.instances[:4])
    if is_same_boot(quote, node) and node.instance not in quote.body.instances:
        expected = node.instance.hex()
        yield Finding(reason=Reason.INSTANCE_SECOND, expected=expected, found=found)
    if not is_same_boot(quote, node) and node.instance in quote.body.instances:
        expected = "a key made in this boot: the TPM was reset under a running kernel"
        yield Finding(reason=Reason.INSTANCE_BOOT, expected=expected, found=found)


def _hand_overs(quote: VerifiedQuote) -> Iterator[tuple[HandOver, bytes]]:
    """Yield each hand-over with SHA-256 of the key that has signed it."""
    messages = quote.body.hand_overs
    if len(messages) > MOST_HAND_OVERS:
        raise Malformed(f"expected at most {MOST_HAND_OVERS} hand-overs, got {len(messages)}")
    for message in messages:
        one = HandOver.decode(message.payload)
        is_signed = p256.is_signed_by_instance(message.key, message.signature, message.payload)
        yield one, hashlib.sha256(message.key).digest() if is_signed else b""


def _invalid(later: bytes, *, expected: str, found: str) -> Finding:
    return Finding(
        reason=Reason.INSTANCE_HAND_OVER, what=later.hex(), expected=expected, found=found
    )


def _told(one: HandOver, signer: bytes) -> str:
    by = f"signed by {signer.hex()}" if signer else "with an invalid signature"
    return f"by {one.earlier.hex()} on {label(one.node)}, boot {label(one.boot)}, {by}"


def _accepted_starts(quote: VerifiedQuote, node: Node) -> int:
    """Return how many starts need no approval: the first, or those up to the one accepted last.

    The register is over all of them in their order, so they are those that were accepted with it.
    """
    instances = quote.body.instances
    if is_same_boot(quote, node) and node.instance in instances:
        return instances.index(node.instance) + 1
    return 1


def is_same_boot(quote: VerifiedQuote, node: Node) -> bool:
    """Say whether the boot is that of the instance accepted last."""
    return bool(node.instance) and node.instance_reset_count == quote.clock_info.reset_count
