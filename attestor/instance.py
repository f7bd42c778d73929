"""The instance key: made at start, in memory only, and latched in PCR 15.

The register can be extended by anyone who can open the TPM, but never set back before a reset:
it holds exactly one extension only while nothing but this attestor has started in this boot, and
whoever starts later is named by the one before, or shows.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from attestor.failed import NotFirst
from attestor.state import State
from attestor.tpm import Tpm
from credential import crypto
from evidence.messages import INSTANCE_REGISTER, MOST_HAND_OVERS, HandOver, SignedMessage
from evidence.shapes import Message

UNTOUCHED = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A running attestor's own key."""

    public: bytes
    """P-256, uncompressed point, 65 bytes."""
    history: tuple[bytes, ...]
    """SHA-256 of every instance key of this boot; this one's is the last."""
    hand_overs: tuple[SignedMessage, ...]
    """By which instances of this boot named their successors, oldest first."""
    key: crypto.PrivateKey = field(repr=False)

    @property
    def digest(self) -> bytes:
        """SHA-256 of the public half: what the register was extended with."""
        return self.history[-1]

    def sign(self, message: Message) -> SignedMessage:
        """Return a message as it travels."""
        payload = message.encode()
        return SignedMessage(
            payload=payload, key=self.public, signature=crypto.sign(self.key, payload)
        )


def fold(digests: Iterable[bytes]) -> bytes:
    """Return the register's value after these extensions."""
    value = UNTOUCHED
    for digest in digests:
        value = hashlib.sha256(value + digest).digest()
    return value


def start(  # noqa: PLR0913 - what a start depends on
    tpm: Tpm,
    *,
    directory: Path,
    boot: str,
    key: crypto.PrivateKey,
    is_second_start: bool,
    hand_over: SignedMessage | None = None,
) -> Instance:
    """Latch an instance key; raise NotFirst where the register is not untouched.

    `hand_over` is the word of the instance before, which makes a later start one that counts.
    """
    state = State.load(directory).of_boot(boot)
    earlier = _earlier(tpm.read_registers()[INSTANCE_REGISTER], state)
    public = crypto.point_of(key)
    history = (*earlier, hashlib.sha256(public).digest())
    if hand_over is not None:
        _demand_succession(hand_over, history)
    elif earlier and not is_second_start:
        raise NotFirst(
            f"PCR {INSTANCE_REGISTER} says that an attestor has already run in this boot: reboot, "
            "or start with --second-start and have an operator of the verifier approve it"
        )
    given = () if hand_over is None else (hand_over.encode().hex(),)
    hand_overs = (*state.hand_overs, *given)[-MOST_HAND_OVERS:]
    # Saved first: a crash in between leaves one digest too many, which the register shows.
    instances = tuple(one.hex() for one in history)
    replace(state, instances=instances, hand_overs=hand_overs).save(directory)
    tpm.extend(INSTANCE_REGISTER, history[-1])
    if tpm.read_registers()[INSTANCE_REGISTER] != fold(history):
        raise NotFirst(f"something else extended PCR {INSTANCE_REGISTER} at the same time: reboot")
    return Instance(
        public=public,
        history=history,
        hand_overs=tuple(SignedMessage.decode(bytes.fromhex(one)) for one in hand_overs),
        key=key,
    )


def _demand_succession(hand_over: SignedMessage, history: tuple[bytes, ...]) -> None:
    """Raise NotFirst unless the last instance on record names the new one."""
    found = HandOver.decode(hand_over.payload)
    if (found.earlier, found.later) != history[-2:]:
        raise NotFirst(
            f"the attestor that hands over is not the last one in PCR {INSTANCE_REGISTER}"
        )


def _earlier(register: bytes, state: State) -> tuple[bytes, ...]:
    """Return the digests that the register was extended with before."""
    known = tuple(bytes.fromhex(one) for one in state.instances)
    for digests in (known, known[:-1], ()):
        if fold(digests) == register:
            return digests
    raise NotFirst(
        f"PCR {INSTANCE_REGISTER} was extended by something that is not on record here: reboot"
    )
