"""Why the attestor itself said no to a process: the codes `local.*`, beside the verifier's."""

from enum import StrEnum

from credential.reasons import Finding, Refused


class Local(StrEnum):
    """Every reason of the attestor's own. On the wire and in tests: never rename one."""

    NOT_FROM_PROCESS = "local.message-not-from-the-process"
    NONCE = "local.nonce-wrong"
    USE_KEY = "local.use-key-not-proven"
    USE_KEY_ELSEWHERE = "local.use-key-not-ours"
    DESCRIPTOR_MISSING = "local.descriptor-missing"
    NAMESPACE = "local.pid-namespace-not-trusted"
    TOO_MANY = "local.too-many"
    TIMEOUT = "local.timeout"
    PEER_UNKNOWN = "local.peer-unknown"
    PROCESS_GONE = "local.process-gone"
    PROCESS_CHANGED = "local.process-changed"
    LOOK_FAILED = "local.look-failed"
    NOT_READY = "local.node-not-accepted-yet"
    NO_CREDENTIAL = "local.no-credential"
    LEASE_ENDED = "local.lease-ended"
    TOKEN_EXPIRED = "local.token-expired"  # noqa: S105 a code, not a password
    AUDIENCE = "local.audience-not-allowed"
    VERIFIER = "local.verifier-unreachable"
    TPM = "local.tpm-failed"
    UNEXPECTED = "local.unexpected-message"
    USER = "local.user-not-allowed"
    CONTAINED = "local.launch-from-another-namespace"
    RESTART = "local.successor-does-not-start"
    JOB_UNKNOWN = "local.job-unknown"
    JOB_NAME = "local.job-of-another-name"
    START = "local.program-does-not-start"
    INTERNAL = "local.failed"


def refuse(reason: Local, what: str = "", *, expected: str = "", found: str = "") -> Refused:
    """Return the refusal with one finding, to be raised."""
    return Refused([Finding(reason=str(reason), what=what, expected=expected, found=found)])
