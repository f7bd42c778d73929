"""Why a credential was not accepted: the stable codes, and the two exceptions of this room.

    Malformed    the bytes are not what their format says    -> 400, exit 2
    Refused      well-formed, and not trusted                -> 403, exit 1

Both carry findings. A code is on the wire, in logs and in tests: never rename one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Every reason code of this room, by what it is about."""

    KEYS_MALFORMED = "keys.malformed"

    TOKEN_MISSING = "token.missing"  # noqa: S105  (a code, not a password; so are the next ones)
    TOKEN_MALFORMED = "token.malformed"  # noqa: S105
    TOKEN_VERSION = "token.version-unknown"  # noqa: S105
    TOKEN_KEY_UNKNOWN = "token.key-unknown"  # noqa: S105
    TOKEN_SIGNATURE = "token.signature-invalid"  # noqa: S105
    TOKEN_TRUST_DOMAIN = "token.of-another-trust-domain"  # noqa: S105
    TOKEN_EXPIRED = "token.expired"  # noqa: S105
    TOKEN_EARLY = "token.early"  # noqa: S105
    TOKEN_LEVEL = "token.level-below-minimum"  # noqa: S105
    TOKEN_LAB = "token.level-lab"  # noqa: S105
    TOKEN_AUDIENCE = "token.audience-not-allowed"  # noqa: S105
    TOKEN_EVIDENCE = "token.evidence-too-old"  # noqa: S105
    TOKEN_BINDING = "token.of-another-binding"  # noqa: S105
    TOKEN_SCOPE = "token.scope-missing"  # noqa: S105
    TOKEN_EXECUTABLE = "token.of-another-executable"  # noqa: S105
    TOKEN_PROOF_KEY = "token.of-another-proof-key"  # noqa: S105
    TOKEN_PARENT = "token.of-another-parent"  # noqa: S105
    TOKEN_JOB = "token.of-another-job"  # noqa: S105
    TOKEN_LABEL = "token.label-missing"  # noqa: S105
    TOKEN_CONTEXT = "token.context-missing"  # noqa: S105
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    TOKEN_INACTIVE = "token.not-active"  # noqa: S105
    TOKEN_SUSPENDED = "token.suspended"  # noqa: S105

    STATUS_MALFORMED = "status.malformed"
    STATUS_KEY_UNKNOWN = "status.key-unknown"
    STATUS_SIGNATURE = "status.signature-invalid"
    STATUS_MISSING = "status.list-missing"
    STATUS_OTHER = "status.of-another-list"
    STATUS_OLD = "status.list-too-old"
    STATUS_EARLY = "status.list-early"
    STATUS_INDEX = "status.index-out-of-range"
    STATUS_UNKNOWN = "status.value-unknown"

    INTROSPECTION_MALFORMED = "introspection.malformed"
    INTROSPECTION_OTHER = "introspection.of-another-token"
    INTROSPECTION_OLD = "introspection.too-old"
    INTROSPECTION_EARLY = "introspection.early"
    INTROSPECTION_UNANSWERED = "introspection.unanswered"

    PROOF_MISSING = "proof.missing"
    PROOF_MALFORMED = "proof.malformed"
    PROOF_VERSION = "proof.version-unknown"
    PROOF_SIGNATURE = "proof.signature-invalid"
    PROOF_KEY = "proof.of-another-key"
    PROOF_TOKEN = "proof.of-another-token"  # noqa: S105
    PROOF_URL = "proof.of-another-url"
    PROOF_METHOD = "proof.of-another-method"
    PROOF_AUDIENCE = "proof.of-another-audience"
    PROOF_LATE = "proof.late"
    PROOF_EARLY = "proof.early"
    PROOF_LIFETIME = "proof.lives-too-long"
    PROOF_NONCE_MISSING = "proof.nonce-missing"
    PROOF_NONCE_UNKNOWN = "proof.nonce-unknown"
    PROOF_NONCE_TIME = "proof.nonce-of-another-time"
    PROOF_REPLAYED = "proof.replayed"
    PROOF_STORE_FULL = "proof.replay-store-full"
    PROOF_STORE = "proof.replay-store-failed"

    REQUEST_NOT_HTTP = "request.not-http"
    REQUEST_NOT_JUDGED = "request.not-judged"
    REQUEST_TOO_MANY = "request.too-many"
    USE_MALFORMED = "use.malformed"
    USE_VERSION = "use.version-unknown"
    USE_SPOOL_FULL = "use.spool-full"
    USE_SPOOL = "use.spool-failed"

    GRANT_MALFORMED = "grant.malformed"
    GRANT_KEY_UNKNOWN = "grant.key-unknown"
    GRANT_SIGNATURE = "grant.signature-invalid"
    GRANT_NODE = "grant.of-another-node"
    GRANT_KEY = "grant.of-another-key"
    GRANT_RECORD = "grant.of-another-record"
    GRANT_CHALLENGE = "grant.of-another-challenge"
    GRANT_STEP = "grant.of-another-step"
    GRANT_SEAL = "grant.does-not-open"

    LOCAL_MALFORMED = "local.malformed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reason with its detail, in words for people. Never holds a secret."""

    reason: str
    """A Reason; from the attestor, also one of the verifier's or the attestor's codes."""
    what: str = ""
    """The thing that was judged."""
    expected: str = ""
    found: str = ""

    def lines(self) -> str:
        """Return the finding as people read it, one line per member that says something."""
        details = {"what": self.what, "expected": self.expected, "found": self.found}
        told = [f"  {name:<9} {value}" for name, value in details.items() if value]
        return "\n".join([f"refused  {self.reason}", *told])


class _WithFindings(Exception):
    def __init__(self, findings: Iterable[Finding]) -> None:
        self.findings = tuple(findings)
        if not self.findings:
            raise ValueError("a refusal needs a finding")
        super().__init__("; ".join(_sentence(finding) for finding in self.findings))

    def to_json(self) -> dict[str, object]:
        """Return the refusal as HTTP answers and `--json` carry it."""
        names = ("reason", "what", "expected", "found")
        told = [{name: str(getattr(one, name)) for name in names} for one in self.findings]
        return {"verdict": "refused", "findings": told}


class Refused(_WithFindings):
    """Well-formed and not trusted: at least one finding says why."""

    @classmethod
    def because(
        cls, reason: Reason, what: str = "", *, expected: str = "", found: str = ""
    ) -> "Refused":
        """Return the refusal with one finding, to be raised."""
        return cls([Finding(reason=reason, what=what, expected=expected, found=found)])


class Malformed(_WithFindings):
    """Not what the format says; nothing was judged."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__([Finding(reason=reason, what=what)])


def _sentence(finding: Finding) -> str:
    return f"{finding.reason} ({finding.what})" if finding.what else str(finding.reason)
