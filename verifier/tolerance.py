"""Which findings on files reject: all but those that are only noted, or that somebody asked for.

A policy takes some of them back. Nothing essential can be tolerated.
"""

import re

from verifier.reasons import Reason
from verifier.tables import Table

NOTED = frozenset(
    {
        Reason.QUOTE_NONCE_SHORT,
        Reason.QUOTE_CLOCK_UNSAFE,
        Reason.QUOTE_OBFUSCATED,
        Reason.QUOTE_RESETTABLE,
        Reason.LIST_TEMPLATE,
        Reason.LIST_LEGACY,
        Reason.LIST_ALGORITHM,
        Reason.LIST_PADDED,
        Reason.LIST_DIGEST,
        Reason.LIST_BUFFER,
        Reason.LIST_VIOLATION,
        Reason.LIST_LONGER,
        Reason.LIST_UNQUOTED,
        Reason.BOOT_AGGREGATE_AGAIN,
        Reason.BOOT_AGGREGATE_OLD,
        Reason.BOOT_AGGREGATE_OPEN,
        Reason.EVENT_LOG_UNQUOTED,
        Reason.EVENT_LOG_BANK_INCOMPLETE,
        Reason.EVENT_LOG_BANK_UNKNOWN,
        Reason.EVENT_LOG_DATA,
        Reason.EVENT_LOG_DYNAMIC,
        Reason.EVENT_LOG_SEPARATOR_MISSING,
        Reason.EVENT_LOG_SEPARATOR_AGAIN,
        Reason.EVENT_LOG_SEPARATOR_VALUE,
        Reason.EVENT_LOG_LATE,
        Reason.EVENT_LOG_EXIT,
        Reason.EVENT_LOG_SECURE_BOOT,
    }
)
"""Findings that reject only where a policy says so."""
REQUESTS = frozenset({Reason.QUOTE_AK_UNCHECKED, Reason.QUOTE_SHA1, Reason.LIST_PADDED_BANK})
"""Findings that are tolerated where somebody asks for it by name."""

_REASON = re.compile(r"[a-z0-9.-]+")


def read_policy(text: str) -> frozenset[Reason]:
    """Return the reasons of NOTED that reject; raise Rejected unless it is a policy.

    TOML: `version = 1` and `reject`, an array of reasons with at least one.
    """
    table = Table.parse(text, "policy")
    reasons = table.texts("reject", _REASON)
    table.end()
    noted = {str(one): one for one in (*NOTED, *REQUESTS)}
    if not reasons or not set(reasons) <= set(noted):
        expected = f"some of {', '.join(sorted(noted))}"
        raise table.refuse("reject", expected=expected)
    return frozenset(noted[one] for one in reasons)


def tolerate(
    *, asked: frozenset[Reason] = frozenset(), rejected: frozenset[Reason] = frozenset()
) -> frozenset[Reason]:
    """Return the reasons that do not reject: NOTED and those asked for, but those of a policy."""
    return (NOTED | (asked & REQUESTS)) - rejected
