"""Words: what an operator says for the ledger, beside what he does."""

from evidence import Malformed

MOST_WORDS = 1024
"""Characters of what an operator says for the ledger."""


def read_words(reason: str) -> str:
    """Return an operator's own words, as the ledger keeps them."""
    if len(reason) > MOST_WORDS or not reason.isprintable():
        raise Malformed(f"expected a reason on one line, at most {MOST_WORDS} characters")
    return reason
