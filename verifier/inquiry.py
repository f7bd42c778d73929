"""What is known so far of a quote in files, be it refused in the end: steps add to it."""

from dataclasses import dataclass, field

from verifier.quote_files import QuoteFiles
from verifier.reasons import Finding, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedList:
    """What became of the measurement list."""

    entries: int
    violations: int
    matched: int | None
    """After how many entries it led to the quoted registers; None where it did not."""


@dataclass(slots=True, kw_only=True)
class Inquiry:
    """What has been found out of these files."""

    files: QuoteFiles
    findings: list[Finding] = field(default_factory=list)
    quote: dict[str, object] = field(default_factory=dict)
    """What was signed: nothing before the signature has been found good."""
    ima: CheckedList | None = None

    def settle(self, *findings: Finding) -> None:
        """Keep findings; raise Rejected where one of them rejects."""
        self.findings += findings
        refused = [one for one in findings if one.reason not in self.files.tolerated]
        if refused:
            raise Rejected(refused)
