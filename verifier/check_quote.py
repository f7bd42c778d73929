"""Whether a quote in files is genuine, not whether the software in its logs is known.

A tool for people who have files: a restricted key of a TPM signed the quote, for this nonce, over
registers that the given values and logs lead to. Every finding rejects unless its reason is
tolerated (`verifier.tolerance`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from verifier.check_log import details
from verifier.inquiry import CheckedList, Inquiry
from verifier.quote_files import QuoteFiles
from verifier.quote_key import verify_key, verify_signature
from verifier.quote_list import verify_aggregates, verify_list, verify_values
from verifier.quote_message import verify_attest, verify_selection
from verifier.quote_values import gather_values
from verifier.reasons import Finding, Reason, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedQuote:
    """The answer. Made by `check_quote` only."""

    findings: tuple[Finding, ...]
    refused: frozenset[Reason]
    """Which of their reasons reject; nothing is accepted while there is one."""
    quote: Mapping[str, object]
    """What was signed, empty unless the signature is good."""
    ima: CheckedList | None
    """None where no list was given, or the quote was rejected before it was read."""

    @property
    def is_accepted(self) -> bool:
        """Whether the quote is genuine."""
        return not self.refused

    def answer(self) -> dict[str, object]:
        """Return the answer for machines."""
        return {
            "verdict": "accepted" if self.is_accepted else "rejected",
            "findings": details(self.findings),
            "quote": dict(self.quote),
            "ima": None
            if self.ima is None
            else {
                "entries": self.ima.entries,
                "matched": self.ima.matched,
                "violations": self.ima.violations,
            },
        }


def check_quote(files: QuoteFiles) -> CheckedQuote:
    """Return whether the quote is genuine; raise Malformed where a file is not what it should be.

    What follows a step that rejects is not looked at: bytes that nobody has signed are not read.
    """
    inquiry = Inquiry(files=files)
    refused: set[Reason] = set()
    try:
        _judge(inquiry)
    except Rejected as rejected:
        inquiry.findings += [one for one in rejected.findings if one not in inquiry.findings]
        refused = {one.reason for one in rejected.findings}
    return CheckedQuote(
        findings=tuple(inquiry.findings),
        refused=frozenset(refused),
        quote=inquiry.quote,
        ima=inquiry.ima,
    )


def _judge(inquiry: Inquiry) -> None:
    # (1) The key is one that signs only what its TPM has made.
    key = verify_key(inquiry)
    # (2) The key has signed these bytes, by its own scheme.
    signed = verify_signature(inquiry, key)
    # (3) They are a quote, for this nonce.
    fresh = verify_attest(inquiry, signed)
    # (4) Of registers that say something.
    selection = verify_selection(inquiry, fresh)
    # (5) Each register's value is given, or what a log leads to.
    gathered = gather_values(inquiry, selection)
    # (6) Together they have the quoted digest; with a list, after some of its entries.
    if inquiry.files.ima_log is None:
        verify_values(gathered.target)
        return
    reached = verify_list(inquiry, inquiry.files.ima_log, gathered)
    # (7) The list is of the boot that the registers show.
    verify_aggregates(inquiry, reached)
