"""That the gathered values are the quoted ones, with a list after some of its entries."""

from collections.abc import Iterator

from evidence.ima import LIST_HASHES, read_records
from verifier.inquiry import CheckedList, Inquiry
from verifier.quote_values import GatheredValues
from verifier.quoted_registers import Reached, Target, digest_of, judge_aggregates, search, text_of
from verifier.reasons import Finding, Reason, reject


def verify_values(target: Target) -> None:
    """Raise Rejected unless the known values have the quoted digest."""
    found = digest_of((target.known[one] for one in target.registers), target.algorithm)
    if found != target.digest:
        expected = target.digest.hex()
        what = "hash over the registers' values"
        raise reject(Reason.QUOTE_DIGEST, what, expected=expected, found=found.hex())


def verify_list(inquiry: Inquiry, ima_log: bytes, gathered: GatheredValues) -> Reached:
    """Return the prefix of the list that the quote proves; raise Rejected if there is none."""
    target = gathered.target
    if not target.start:
        expected, found = "a register of the list in the quote", text_of(target.registers)
        raise reject(Reason.LIST_REPLAY, expected=expected, found=found)
    if set(target.registers) <= set(target.known):
        verify_values(target)
    records = read_records(ima_log, template_hash_bytes=LIST_HASHES[inquiry.files.log_hash])
    reached = search(records, target)
    assert inquiry.ima is not None
    if reached is None:
        what = text_of(target.start)
        expected = "values after some entry of the list that have the quoted digest"
        raise reject(
            Reason.LIST_REPLAY, what, expected=expected, found=f"none of {inquiry.ima.entries}"
        )
    inquiry.ima = CheckedList(
        entries=inquiry.ima.entries, violations=inquiry.ima.violations, matched=reached.entries
    )
    inquiry.settle(*_judge_prefix(reached, gathered, inquiry.ima.entries - reached.entries))
    return reached


def verify_aggregates(inquiry: Inquiry, reached: Reached) -> None:
    """Raise Rejected unless the list is of the boot that the registers show."""
    judged = judge_aggregates(reached)
    inquiry.quote["boot_aggregate"] = judged.form
    inquiry.settle(*judged.findings)


def _judge_prefix(reached: Reached, gathered: GatheredValues, more: int) -> Iterator[Finding]:
    if reached.is_padded:
        expected, found = "each bank's own hash of the template data", "SHA-1 and zeros"
        yield Finding(reason=Reason.LIST_PADDED_BANK, expected=expected, found=found)
    if more:
        found = f"{more} entries after the quote, which nobody vouches for"
        yield Finding(reason=Reason.LIST_LONGER, expected=f"{reached.entries} entries", found=found)
    unquoted = sorted(gathered.list_registers - {number for _, number in reached.values})
    if unquoted:
        found = f"entries of {', '.join(map(str, unquoted))}, which nobody vouches for"
        yield Finding(reason=Reason.LIST_UNQUOTED, expected="in the quote", found=found)
