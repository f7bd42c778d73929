"""What travels between a node and a verifier, in the order in which it travels.

A node sends nothing unsigned after its enrolment: each message is the payload of a
SignedMessage, by the instance key of the attestor that is running. All sizes are bounded by
the door that reads them (verifier) and by `evidence.shapes`.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from evidence import cbor
from evidence.canary import CanaryReport, Place
from evidence.posture import Posture, Presence
from evidence.process import Look
from evidence.shapes import Message, Shape

QUOTED_REGISTERS = tuple(range(16))
"""Every quote is over sha256:0-15."""
INSTANCE_REGISTER = 15
"""Extended at each start of an attestor, with SHA-256 of its instance key."""
MOST_HAND_OVERS = 64
"""In one body: a verifier that has heard of none of so many asks its operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrol(Message):
    """A node introduces its TPM."""

    TYPE: ClassVar[str] = "procseal enrol 2"

    node: str
    """The name that it wants: lower-case letters, digits, `.` and `-`, at most 63."""
    ek_public: bytes
    """TPMT_PUBLIC."""
    ek_certificate: bytes
    """DER, padding trimmed; empty where the TPM has none."""
    ek_intermediates: tuple[bytes, ...]
    """Certificates of CAs that the TPM holds with it, DER; Intel's sign on the chip."""
    ak_public: bytes
    """TPMT_PUBLIC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation(Message):
    """The verifier's question that only the TPM with this EK and this AK can answer."""

    TYPE: ClassVar[str] = "procseal activation 1"

    id: str
    expires: int
    """Unix seconds."""
    id_object: bytes
    """TPM2B_ID_OBJECT without its size."""
    encrypted_secret: bytes
    """TPM2B_ENCRYPTED_SECRET without its size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationAnswer(Message):
    """The node's answer."""

    TYPE: ClassVar[str] = "procseal activation answer 1"

    id: str
    answer: bytes
    """HMAC-SHA256, under the activated secret, of `activation_text(id, node, AK Name)`."""


def activation_text(id_: str, node: str, ak_name: bytes) -> bytes:
    """Return what the activated secret authenticates."""
    return cbor.encode(["procseal activation text 1", id_, node, ak_name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled(Message):
    """What became of an enrolment."""

    TYPE: ClassVar[str] = "procseal enrolled 1"

    node: str
    status: str
    """`enrolled`, or `pending` until an operator approves the EK: then nothing is issued."""
    ek_hash: str
    """SHA-256 of the EK's SubjectPublicKeyInfo, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedMessage(Message):
    """Any message of a running attestor's."""

    TYPE: ClassVar[str] = "procseal signed 1"

    payload: bytes
    """An encoded message, which names its own type."""
    key: bytes
    """The instance key's public half: P-256, uncompressed point, 65 bytes."""
    signature: bytes
    """ECDSA with SHA-256 over `payload`, r and s of 32 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver(Message):
    """A running attestor names the one that speaks after it in the same boot."""

    TYPE: ClassVar[str] = "procseal hand-over 1"

    node: str
    boot: str
    """/proc/sys/kernel/random/boot_id."""
    earlier: bytes
    """SHA-256 of the instance key that signs this."""
    later: bytes
    """SHA-256 of the instance key that extends PCR 15 next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted(Message):
    """Does any workload want this core record? Asked before the TPM does any work for it."""

    TYPE: ClassVar[str] = "procseal wanted 1"

    node: str
    core: bytes
    """An encoded CoreRecord."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedAnswer(Message):
    """Yes; a no is a refusal with its findings."""

    TYPE: ClassVar[str] = "procseal wanted answer 2"

    core: bytes
    """SHA-256 of the core record."""
    wants_canary: bool
    """Whether its place has to be named when a challenge is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChallengeRequest(Message):
    """The node wants to be judged."""

    TYPE: ClassVar[str] = "procseal challenge request 2"

    node: str
    places: tuple[Place, ...]
    """Of the processes that the evidence will be about, those that need a canary there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Message):
    """The verifier's freshness: one is outstanding per node and asker, and each counts once."""

    TYPE: ClassVar[str] = "procseal challenge 2"

    verifier: str
    """The issuer's URL."""
    trust_domain: str
    node: str
    nonce: bytes
    """32 random bytes."""
    expires: int
    """Unix seconds."""
    first_record: int
    """Index of the first record of the measurement list that is wanted."""
    wants_boot_log: bool
    canaries: tuple[Place, ...]
    """Where canaries are wanted, made of `nonce` and used before the quote."""

    def digest(self) -> bytes:
        """Return SHA-256 of the challenge."""
        return hashlib.sha256(self.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProcess(Shape):
    """A process that asks for a credential, and the key that was made for it."""

    core: bytes
    """An encoded CoreRecord."""
    look: Look
    public: bytes
    """TPMT_PUBLIC of the process key."""
    creation_data: bytes
    """TPMS_CREATION_DATA."""
    certification: bytes
    """TPMS_ATTEST of TPM2_CertifyCreation by the AK."""
    signature: bytes
    """TPMT_SIGNATURE over it."""
    modules: bytes
    """An encoded ModuleTree, whose SHA-256 is the record's; else empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownProcess(Shape):
    """A process that was accepted earlier under the same AK, reset count and instance."""

    key_name: bytes
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Body(Message):
    """What the quote binds besides the registers."""

    TYPE: ClassVar[str] = "procseal body 3"

    boot: str
    """/proc/sys/kernel/random/boot_id."""
    kernel: str
    """uname -r, for people."""
    instances: tuple[bytes, ...]
    """SHA-256 of every instance key that extended PCR 15 in this boot; the last one speaks."""
    hand_overs: tuple[SignedMessage, ...]
    """Of this boot, oldest first: a HandOver each, by the earlier instance. At most
    MOST_HAND_OVERS, the newest."""
    canaries: tuple[CanaryReport, ...]
    """One for each that the challenge wanted, in its order."""
    posture: Posture
    presences: tuple[Presence, ...]
    """Of the uids of the processes below, ascending; none where the attestor does not see every
    process of the node."""
    new: tuple[NewProcess, ...]
    known: tuple[KnownProcess, ...]

    def digest(self) -> bytes:
        """Return SHA-256 of the body."""
        return hashlib.sha256(self.encode()).digest()


def quote_binding(trust_domain: str, challenge: bytes, body: bytes) -> bytes:
    """Return a quote's extraData, 32 bytes, given SHA-256 of the challenge and of the body."""
    bound = cbor.encode(["procseal evidence 1", trust_domain, challenge, body])
    return hashlib.sha256(bound).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence(Message):
    """The answer to a challenge."""

    TYPE: ClassVar[str] = "procseal evidence 1"

    node: str
    challenge: bytes
    """SHA-256 of the challenge that is answered."""
    body: bytes
    """An encoded Body."""
    quote: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""
    registers: tuple[bytes, ...]
    """Values of sha256:0-15, 32 bytes each; believed only as far as the quote's digest goes."""
    records: bytes
    """The measurement list from the challenge's first record on, read after the quote."""
    withdrawn: tuple[bytes, ...]
    """Key Names of processes that a second look no longer found as they were."""
    boot_log: bytes
    """TCG event log; empty unless the challenge wanted it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingText(Shape):
    """One finding as it travels: a stable reason code and its detail."""

    reason: str
    what: str
    expected: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Shape):
    """What became of one process."""

    key_name: bytes
    grant: str
    """A signed grant (`credential.grant`); empty where the process was refused."""
    findings: tuple[FindingText, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Message):
    """The verifier's answer to evidence whose node it accepted."""

    TYPE: ClassVar[str] = "procseal result 1"

    challenge: bytes
    """SHA-256 of the challenge."""
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneProcess(Shape):
    """A process whose credential must end."""

    key_name: bytes
    cause: str
    """`process.exited`, `process.executed`, `process.changed`, `parent.ended` or `job.ended`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone(Message):
    """Processes that ended, or are no longer what they were."""

    TYPE: ClassVar[str] = "procseal gone 1"

    node: str
    processes: tuple[GoneProcess, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoneAnswer(Message):
    """The verifier has it on record."""

    TYPE: ClassVar[str] = "procseal gone answer 1"

    key_names: tuple[bytes, ...]
