"""Why something was refused: the stable codes, and the one exception of this room.

    Malformed (evidence)   the bytes are not what their format says        -> 400, exit 2
    Rejected (here)        well-formed, and not trusted; carries findings  -> 403, exit 1
    anything else          disk, network, TPM: nothing was decided         -> 503, exit 3

A code is on the wire, in the ledger, in logs and in tests: never rename one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

from evidence.messages import FindingText


class Reason(StrEnum):
    """Every reason code, by the link of the chain that it breaks."""

    ENROL_NAME = "enrol.name-not-allowed"
    ENROL_TAKEN = "enrol.name-taken"
    ENROL_EK_ELSEWHERE = "enrol.ek-enrolled-elsewhere"
    ENROL_EK_TEMPLATE = "enrol.ek-template-unknown"
    ENROL_EK_CERTIFICATE_MISSING = "enrol.ek-certificate-missing"
    ENROL_EK_CERTIFICATE = "enrol.ek-certificate-not-trusted"
    ENROL_EK_CERTIFICATE_KEY = "enrol.ek-certificate-of-another-key"
    ENROL_EK_NOT_IN_INVENTORY = "enrol.ek-not-in-inventory"
    ENROL_AK = "enrol.ak-not-restricted-signing-key"
    ENROL_CHALLENGE = "enrol.challenge-unknown"
    ENROL_ANSWER = "enrol.activation-failed"

    NODE_UNKNOWN = "node.unknown"
    NODE_PENDING = "node.pending"
    NODE_ANOTHER = "node.evidence-of-another-node"
    MESSAGE_SIGNATURE = "message.signature-invalid"
    MESSAGE_INSTANCE = "message.instance-not-accepted"

    CHALLENGE_UNKNOWN = "challenge.unknown"
    CHALLENGE_EXPIRED = "challenge.expired"
    CHALLENGE_TRUST_DOMAIN = "challenge.of-another-trust-domain"

    QUOTE_SIGNATURE = "quote.signature-invalid"
    QUOTE_TYPE = "quote.not-a-quote"
    QUOTE_SIGNER = "quote.signer-not-the-enrolled-key"
    QUOTE_SCHEME = "quote.scheme-not-the-keys"
    QUOTE_AK = "quote.ak-not-restricted-signing-key"
    QUOTE_BINDING = "quote.not-bound-to-challenge-and-body"
    QUOTE_SELECTION = "quote.registers-not-the-requested"
    QUOTE_DIGEST = "quote.register-values-do-not-match"
    QUOTE_CLOCK = "quote.clock-not-above-the-last"
    QUOTE_RESET = "quote.reset-count-lower-than-seen"
    QUOTE_RESTART = "quote.restart-count-not-the-boots"
    QUOTE_CLOCK_UNSAFE = "quote.clock-not-safe"

    # Quotes in files
    QUOTE_AK_UNCHECKED = "quote.ak-attributes-unchecked"
    QUOTE_SHA1 = "quote.sha1"
    QUOTE_NONCE = "quote.nonce-not-the-expected"
    QUOTE_NONCE_SHORT = "quote.nonce-short"
    QUOTE_OBFUSCATED = "quote.counts-obfuscated"
    QUOTE_EMPTY = "quote.no-register"
    QUOTE_BANK = "quote.bank-unknown"
    QUOTE_BANKS_MIXED = "quote.banks-mixed"
    QUOTE_RESETTABLE = "quote.register-resettable"
    QUOTE_VALUE_MISSING = "quote.register-value-missing"

    BOOT_AGGREGATE = "boot.aggregate-does-not-match"
    BOOT_AGGREGATE_MISSING = "boot.aggregate-missing"
    BOOT_AGGREGATE_OPEN = "boot.aggregate-not-checked"
    BOOT_AGGREGATE_AGAIN = "boot.aggregate-again"
    BOOT_AGGREGATE_OLD = "boot.aggregate-of-old-kernel"
    BOOT_AGGREGATE_HASH = "boot.aggregate-not-sha256"
    BOOT_CHANGED = "boot.changed"
    BOOT_LOG_MISSING = "boot.log-missing"
    BOOT_LOG_SIZE = "boot.log-too-large"
    BOOT_LOG_FORMAT = "boot.log-malformed"
    BOOT_LOG_KIND = "boot.log-not-of-a-tpm"
    BOOT_LOG_BANK = "boot.log-without-sha256"
    BOOT_LOG_STORED = "boot.log-not-as-judged"
    BOOT_LOG_REPLAY = "boot.log-does-not-replay"
    BOOT_SECURE_BOOT = "boot.secure-boot-off"
    BOOT_VARIABLE = "boot.key-variable-unknown"
    BOOT_AUTHORITY = "boot.authority-unknown"
    BOOT_IMAGE = "boot.image-unknown"
    BOOT_IMAGE_MISSING = "boot.image-missing"
    BOOT_COMMAND_LINE = "boot.command-line-unknown"
    BOOT_COMMAND_LINE_MISSING = "boot.command-line-missing"
    BOOT_FIRMWARE = "boot.firmware-unknown"
    BOOT_EVENT = "boot.event-unknown"
    BOOT_SEPARATOR = "boot.separator-missing"
    BOOT_EXIT = "boot.exit-from-boot-services-missing"

    LIST_MISSING = "ima-list.missing"
    LIST_REPLAY = "ima-list.does-not-replay"
    LIST_TEMPLATE_HASH = "ima-list.template-hash-does-not-match"
    LIST_TEMPLATE = "ima-list.template-unknown"
    LIST_LEGACY = "ima-list.template-legacy"
    LIST_ALGORITHM = "ima-list.digest-algorithm-unknown"
    LIST_PADDED = "ima-list.template-hash-is-padded-sha1"
    LIST_PADDED_BANK = "ima-list.replays-only-with-padded-sha1"
    LIST_LONGER = "ima-list.longer-than-quote"
    LIST_UNQUOTED = "ima-list.register-not-quoted"
    LIST_REGISTER = "ima-list.register-unknown"
    LIST_DIGEST = "ima-list.digest-weak"
    LIST_HASH = "ima-list.digest-not-sha256"
    LIST_VERITY = "ima-list.digest-of-verity-tree"
    LIST_BUFFER = "ima-list.buffer-does-not-match-its-digest"
    LIST_VIOLATION = "ima-list.violation"
    LIST_UNKNOWN = "ima-list.entry-unknown"
    LIST_UNKNOWN_ATTESTOR = "ima-list.attestor-entry-unknown"
    LIST_REVOKED = "ima-list.digest-revoked"
    LIST_SIGNATURE_FORM = "ima-list.signature-malformed"
    LIST_SIGNATURE_ALGORITHM = "ima-list.signature-not-for-this-digest"
    LIST_SIGNATURE_KEY = "ima-list.signature-key-unknown"
    LIST_SIGNATURE = "ima-list.signature-invalid"
    LIST_SIGNATURE_PATH = "ima-list.signature-path-not-allowed"
    LIST_STORED = "ima-list.stored-part-does-not-match"
    LIST_USER = "ima-list.user-entries"
    KERNEL_POLICY_MISSING = "kernel-policy.not-measured"
    KERNEL_POLICY_UNKNOWN = "kernel-policy.unknown"
    KERNEL_POLICY_LATE = "kernel-policy.not-loaded-first"
    KERNEL_POLICY_AGAIN = "kernel-policy.loaded-again"
    KERNEL_POLICY_RULES = "kernel-policy.rules-differ"
    KERNEL_POLICY_CANARY = "kernel-policy.canary-missing"

    INSTANCE_REGISTER = "instance.register-does-not-match"
    INSTANCE_HAND_OVER = "instance.hand-over-invalid"
    INSTANCE_SECOND = "instance.second-start-not-approved"
    INSTANCE_SIGNER = "instance.not-the-signer"
    INSTANCE_BOOT = "instance.of-another-boot"

    POLICY_EMPTY = "policy.empty"
    POLICY_OLDER = "policy.older-than-last"
    POLICY_INVALID = "policy.invalid"

    MALFORMED_PROCESS = "malformed.process-record"

    PROCESS_NOT_WANTED = "process.not-wanted"
    PROCESS_AMBIGUOUS = "process.more-than-one-workload"
    PROCESS_NODE = "process.record-of-another-node"
    PROCESS_INSTANCE = "process.record-of-another-instance"
    PROCESS_BOOT = "process.record-of-another-boot"
    PROCESS_CHANGED = "process.changed"
    PROCESS_TWICE = "process.key-named-twice"
    PROCESS_WITHDRAWN = "process.withdrawn"
    PROCESS_UNKNOWN_KEY = "process.key-not-accepted-earlier"
    PROCESS_EXECUTABLE = "process.executable-unknown"
    PROCESS_INTERPRETER = "process.executable-is-an-interpreter"
    PROCESS_SCRIPT = "process.script-unknown"
    PROCESS_SCRIPT_UNPROVEN = "process.script-not-proven"
    PROCESS_MODULE = "process.module-unknown"
    PROCESS_EXECUTABLE_UNMAPPED = "process.executable-not-what-is-mapped"
    PROCESS_NOT_MEASURED = "process.file-not-in-measurement-list"
    PROCESS_MAPPED = "process.mapped-file-not-allowed"
    PROCESS_USER = "process.user-not-the-workloads"
    PROCESS_UNIT = "process.unit-not-the-workloads"
    PROCESS_STARTER = "process.starter-not-proven"
    PROCESS_ARGUMENTS = "process.arguments-not-the-workloads"
    PROCESS_ENVIRONMENT = "process.environment-not-the-workloads"
    PROCESS_CONFIGURATION = "process.configuration-not-the-workloads"
    PROCESS_CGROUP = "process.cgroup-not-the-containers"
    PROCESS_IMAGE = "process.file-not-of-the-image"
    PROCESS_BINDING = "process.binding-not-allowed"
    PROCESS_PEER_PROOF = "process.peer-proof-too-weak"
    PROCESS_DELETED = "process.file-deleted"
    PROCESS_OWNER = "process.file-writable-by-others-than-root"
    PROCESS_FILESYSTEM = "process.file-on-unmeasured-file-system"
    PROCESS_ANONYMOUS = "process.anonymous-executable-memory"
    PROCESS_WRITABLE = "process.writable-executable-memory"
    PROCESS_PATCHED = "process.text-patched"
    PROCESS_SPLIT = "process.text-cut-in-pieces"
    PROCESS_LAYOUT = "process.mapping-not-as-the-program-headers"
    PROCESS_TRACED = "process.traced"
    PROCESS_NAMESPACE = "process.namespace-not-initial"
    PROCESS_UIDS = "process.uids-differ"
    PROCESS_SHARED = "process.memory-shared-with-other-ids"
    PROCESS_CAPABILITIES = "process.capabilities-too-strong"
    PROCESS_KEY_ATTRIBUTES = "process-key.not-the-template"
    PROCESS_KEY_CERTIFICATION = "process-key.not-certified-by-the-ak"
    PROCESS_KEY_PARENT = "process-key.parent-not-in-null-hierarchy"
    PROCESS_KEY_RECORD = "process-key.made-for-another-record"
    PROCESS_KEY_RESET = "process-key.of-another-boot"
    PROCESS_CANARY = "process.canary-not-shown"
    PROCESS_POSTURE = "process.posture-not-as-demanded"
    PROCESS_LABELS = "process.node-labels-not-the-workloads"
    PROCESS_NETWORK = "process.network-not-the-workloads"
    PROCESS_LEVEL = "process.level-below-minimum"
    PROCESS_PROOF_KEY = "process.proof-key-not-the-workloads"
    PROCESS_PARENT = "process.parent-not-the-workloads"
    PROCESS_PARENT_MISSING = "process.parent-missing"
    PROCESS_PARENT_GONE = "process.parent-gone"

    # What it is wanted for
    USE_AUDIENCE = "use.audience-not-the-workloads"
    USE_SCOPE = "use.scope-not-the-workloads"
    USE_CONTEXT = "use.context-not-the-workloads"
    USE_AMBIGUOUS = "use.more-than-one"
    USE_WINDOW = "use.outside-window"
    USE_GRANT = "use.grant-missing"

    INTERNAL = "appraisal.failed"

    # Boot event logs
    EVENT_LOG_EMPTY = "event-log.nothing-measured"
    EVENT_LOG_NO_BANK = "event-log.no-whole-bank"
    EVENT_LOG_DIGEST = "event-log.digest-does-not-match-data"
    EVENT_LOG_REPLAY = "event-log.does-not-replay"
    EVENT_LOG_UNQUOTED = "event-log.register-not-quoted"
    EVENT_LOG_LOCALITY = "event-log.startup-locality-invalid"
    EVENT_LOG_BANK_INCOMPLETE = "event-log.bank-incomplete"
    EVENT_LOG_BANK_UNKNOWN = "event-log.bank-unknown"
    EVENT_LOG_DATA = "event-log.data-not-what-was-measured"
    EVENT_LOG_DYNAMIC = "event-log.register-of-dynamic-launch"
    EVENT_LOG_SEPARATOR_MISSING = "event-log.separator-missing"
    EVENT_LOG_SEPARATOR_AGAIN = "event-log.separator-again"
    EVENT_LOG_SEPARATOR_VALUE = "event-log.separator-not-zero"
    EVENT_LOG_LATE = "event-log.event-after-separator"
    EVENT_LOG_EXIT = "event-log.exit-from-boot-services-missing"
    EVENT_LOG_SECURE_BOOT = "event-log.secure-boot-unclear"

    # Certificates of endorsement keys
    EK_UNREADABLE = "ek.certificate-unreadable"
    EK_ATTRIBUTES = "ek.attribute-certificate"
    EK_CA = "ek.certificate-of-a-ca"
    EK_USAGE = "ek.usage-not-endorsement"
    EK_MANUFACTURER = "ek.manufacturer-missing"
    EK_EXPIRED = "ek.certificate-expired"
    EK_NOT_YET = "ek.certificate-not-yet-valid"
    EK_EXTENSION = "ek.critical-extension-unknown"
    EK_KEY = "ek.key-unsupported"
    EK_KEY_FACTORABLE = "ek.key-factorable"
    EK_ALGORITHM = "ek.signature-algorithm-unknown"
    EK_SHA1 = "ek.signature-sha1"
    EK_SIGNATURE = "ek.signature-invalid"
    EK_NO_ROOTS = "ek.no-roots"
    EK_CHAIN = "ek.chain-incomplete"
    EK_CHAIN_LONG = "ek.chain-too-long"
    EK_CHAIN_WORK = "ek.chain-has-too-many-candidates"
    EK_ROOT = "ek.root-unknown"
    EK_ISSUER = "ek.issuer-not-a-ca"
    EK_ISSUER_KEY = "ek.issuer-has-another-key"
    EK_ISSUER_USAGE = "ek.issuer-not-for-endorsement"
    EK_PATH_LENGTH = "ek.path-length-exceeded"
    EK_NAME = "ek.name-constrained"
    EK_FILE = "ek.file-unreadable"
    EK_SIGNER = "ek.key-is-for-signing"
    EK_OAEP = "ek.key-is-for-oaep-only"
    EK_MANUFACTURER_UNKNOWN = "ek.manufacturer-not-in-registry"
    EK_ROOT_LISTED = "ek.root-listed"
    EK_ROOT_NOT_LISTED = "ek.root-not-listed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason with its detail, in words for people. Never holds a secret."""

    reason: Reason
    what: str = ""
    """The thing that was judged: a path, a process, a register."""
    expected: str = ""
    found: str = ""

    def text(self) -> FindingText:
        """Return the finding as it travels."""
        return FindingText(
            reason=str(self.reason), what=self.what, expected=self.expected, found=self.found
        )


MOST_FINDINGS = 64
"""A step that finds more says so, and looks no further."""
MOST_LABEL_CHARACTERS = 256
"""Of a node's own words in a finding."""


def capped(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings, or the first MOST_FINDINGS and one that says that there are more.

    The rest is not looked for: there can be as many as a message has room for, and whoever is
    refused must not cost more than whoever is accepted.
    """
    kept = tuple(islice(findings, MOST_FINDINGS + 1))
    if len(kept) <= MOST_FINDINGS:
        return kept
    more = Finding(reason=kept[-1].reason, what="and more", found="not looked at any further")
    return (*kept[:-1], more)


def printable(text: str) -> str:
    """Return the text on one line, so that a terminal shows it and obeys nothing in it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def label(words: bytes | str) -> str:
    """Return a node's own words (a path, a unit) so that they cannot pass as anything else."""
    text = words.decode("utf-8", "backslashreplace") if isinstance(words, bytes) else words
    shown = printable(text[:MOST_LABEL_CHARACTERS])
    return shown if len(text) <= MOST_LABEL_CHARACTERS else f"{shown}…"


def sha256_text(digest: bytes) -> str:
    """Return a SHA-256 digest as people read it."""
    return f"sha256:{digest.hex()}"


class Rejected(Exception):
    """Well-formed and not trusted: at least one finding says why."""

    def __init__(
        self, findings: Iterable[Finding], *, clock_seen: "ClockSeen | None" = None
    ) -> None:
        self.findings = tuple(findings)
        self.clock_seen = clock_seen
        """Set once a quote answered the challenge: what it says of time counts even if refused."""
        if not self.findings:
            raise ValueError("a rejection needs a finding")
        super().__init__("; ".join(str(finding.reason) for finding in self.findings))


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSeen:
    """Counts and a clock that the node's TPM has signed."""

    reset_count: int
    restart_count: int
    """As the boot with this reset count was first seen: another one does not replace it."""
    clock: int
    """Milliseconds."""


def reject(reason: Reason, what: str = "", *, expected: str = "", found: str = "") -> Rejected:
    """Return the rejection with one finding, to be raised."""
    return Rejected([Finding(reason=reason, what=what, expected=expected, found=found)])
