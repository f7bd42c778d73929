"""The instance key: made at start, in memory only, and latched in PCR 15.

The register can be extended by anyone who can open the TPM, but never set back before a reset:
it holds exactly one extension only while nothing but this attestor has started in this boot.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from attestor.failed import NotFirst
from attestor.state import State
from attestor.tpm import Tpm
from credential import crypto
from evidence.messages import INSTANCE_REGISTER, SignedMessage
from evidence.shapes import Message

UNTOUCHED = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A running attestor's own key."""

    public: bytes
    """P-256, uncompressed point, 65 bytes."""
    history: tuple[bytes, ...]
    """SHA-256 of every instance key of this boot; this one's is the last."""
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


def start(tpm: Tpm, *, directory: Path, boot: str, is_second_start: bool) -> Instance:
    """Make an instance key and latch it; raise NotFirst where the register is not untouched."""
    state = State.load(directory).of_boot(boot)
    earlier = _earlier(tpm.read_registers()[INSTANCE_REGISTER], state)
    if earlier and not is_second_start:
        raise NotFirst(
            f"PCR {INSTANCE_REGISTER} says that an attestor has already run in this boot: reboot, "
            "or start with --second-start and have an operator of the verifier approve it"
        )
    key = crypto.generate()
    public = crypto.point_of(key)
    history = (*earlier, hashlib.sha256(public).digest())
    # Saved first: a crash in between leaves one digest too many, which the register shows.
    replace(state, instances=tuple(one.hex() for one in history)).save(directory)
    tpm.extend(INSTANCE_REGISTER, history[-1])
    if tpm.read_registers()[INSTANCE_REGISTER] != fold(history):
        raise NotFirst(f"something else extended PCR {INSTANCE_REGISTER} at the same time: reboot")
    return Instance(public=public, history=history, key=key)


def _earlier(register: bytes, state: State) -> tuple[bytes, ...]:
    """Return the digests that the register was extended with before."""
    known = tuple(bytes.fromhex(one) for one in state.instances)
    for digests in (known, known[:-1], ()):
        if fold(digests) == register:
            return digests
    raise NotFirst(
        f"PCR {INSTANCE_REGISTER} was extended by something that is not on record here: reboot"
    )
