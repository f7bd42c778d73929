"""A quote in files with a boot event log."""

import hashlib
from dataclasses import replace

import pytest

from tests.simulated_keys import sha256
from tests.simulated_node import make_record
from tests.verifier.quoted import LIST, boot_log, encoded, notes, quoted_boot, refusals
from verifier.check_quote import check_quote
from verifier.reasons import Reason


def test_values_of_an_event_log() -> None:
    """Registers without events have their reset value, whatever that is."""
    quoted, log = quoted_boot(range(24))
    checked = check_quote(quoted.files(values={}, event_log=log))
    assert checked.is_accepted
    assert notes(checked) == {Reason.QUOTE_RESETTABLE}


def test_an_event_log_of_another_boot() -> None:
    quoted, log = quoted_boot(range(12))
    quoted.values["sha256", 4] = sha256(b"another")
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.QUOTE_DIGEST}
    assert refusals(quoted.files(event_log=log)) == {Reason.EVENT_LOG_REPLAY}
    assert not refusals(quoted.files())


def test_a_register_that_something_else_extended() -> None:
    """Zero is assumed without events: where that is wrong, its value has to be given."""
    quoted, log = quoted_boot(range(12))
    quoted.values["sha256", 8] = sha256(b"grub")
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.QUOTE_DIGEST}
    given = {("sha256", 8): sha256(b"grub")}
    assert refusals(quoted.files(values=given, event_log=log)) == {Reason.EVENT_LOG_REPLAY}
    quoted, log = quoted_boot(range(13))
    quoted.values |= {("sha256", number): sha256(b"system") for number in (10, 11, 12)}
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.QUOTE_DIGEST}
    checked = check_quote(quoted.files(event_log=log))
    assert checked.is_accepted
    (further,) = checked.findings
    assert (further.reason, further.what) == (Reason.EVENT_LOG_UNQUOTED, "sha256:11")


def test_a_bank_that_the_event_log_does_not_have() -> None:
    quoted, log = quoted_boot(range(8))
    quoted.bank("sha384", numbers=tuple(range(8)))
    sha256_only = {one: value for one, value in quoted.values.items() if one[0] == "sha256"}
    checked = check_quote(quoted.files(values=sha256_only, event_log=log))
    assert checked.refused == {Reason.QUOTE_VALUE_MISSING}
    assert not refusals(quoted.files(event_log=log))


def test_events_of_registers_that_are_not_quoted() -> None:
    quoted, log = quoted_boot((0, 4, 7))
    checked = check_quote(quoted.files(values={}, event_log=log))
    assert checked.is_accepted
    assert notes(checked) == {Reason.EVENT_LOG_UNQUOTED}
    quoted, log = quoted_boot((8, 9))
    assert refusals(quoted.files(values={}, event_log=log)) == {Reason.EVENT_LOG_REPLAY}


def test_an_event_log_of_a_bank_that_is_not_quoted() -> None:
    """All values are given, so the quote is genuine: but nothing of the log is proven by it."""
    quoted, log = quoted_boot((0, 4, 7))
    quoted.values = {}
    quoted.bank("sha384", numbers=(0, 4, 7))
    assert not refusals(quoted.files())
    (finding,) = check_quote(quoted.files(event_log=log)).findings
    assert finding.reason is Reason.EVENT_LOG_REPLAY
    assert finding.expected == "a register of the log in the quote, in sha1, sha256"
    assert finding.found == "sha384:0, sha384:4, sha384:7"


def test_events_of_a_register_that_is_quoted_in_another_bank_alone() -> None:
    quoted, log = quoted_boot((0, 4))
    unproven = check_quote(quoted.files(event_log=log)).findings
    quoted.bank("sha384", numbers=(0, 4, 7))
    checked = check_quote(quoted.files(event_log=log))
    assert checked.is_accepted
    assert checked.findings == unproven
    assert "7" in unproven[0].found


def test_a_log_that_no_firmware_wrote() -> None:
    quoted, _ = quoted_boot(range(8))
    log = boot_log()
    forged = replace(log.events[16], data=b"Something else")
    events = (*log.events[:16], forged, *log.events[17:])
    files = quoted.files(values={}, event_log=replace(log, events=events).encode())
    assert refusals(files) == {Reason.EVENT_LOG_DIGEST}


@pytest.mark.parametrize("banks", [("sha256",), ("sha1", "sha256")])
def test_a_list_that_goes_on_where_firmware_left_a_register(banks: tuple[str, ...]) -> None:
    """Register 11 has an event of the boot stub, then entries of the list."""
    quoted, log = quoted_boot(range(12), *banks)
    firmware = b"".join(quoted.values["sha256", number] for number in range(10))
    records = [make_record("boot_aggregate", sha256(firmware)), *LIST[1:]]
    for bank in banks:
        for record in records:
            one = (bank, record.register)
            value = quoted.values[one] + record.extension(bank)
            quoted.values[one] = hashlib.new(bank, value).digest()
    files = quoted.files(values={}, event_log=log, ima_log=encoded(records))
    checked = check_quote(files)
    assert checked.is_accepted
    assert checked.ima is not None
    assert checked.ima.matched == len(records)
    assert refusals(replace(files, event_log=None)) == {Reason.QUOTE_VALUE_MISSING}
    assert not notes(checked)
