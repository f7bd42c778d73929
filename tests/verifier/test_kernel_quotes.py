"""Quotes of real kernels, with their lists."""

from dataclasses import replace

import pytest

from evidence import tpm
from evidence.ima import read_records
from tests.shared_vectors import needs_vectors
from tests.simulated_keys import AK_KINDS, AkKind
from tests.verifier.quoted import KERNEL_NONCE, banks_of, kernel, notes, read, read_json, refusals
from verifier.check_quote import check_quote
from verifier.quoted_registers import Register
from verifier.reasons import Reason
from verifier.tolerance import NOTED

KERNELS = ("k6.1-sha1+sha256", "k7.2-sha1+sha256")


def quoted_boot_of(name: str) -> dict[Register, bytes]:
    """Return registers 0 to 9, which nothing extended any more when they were read."""
    return {
        one: value
        for one, value in banks_of(read_json(f"kernels/{name}/pcrs_after.json")).items()
        if one[0] == "sha256" and one[1] < 10
    }


@needs_vectors
@pytest.mark.parametrize("name", KERNELS)
def test_a_quote_of_a_real_kernel(name: str) -> None:
    """Every template, violations, weak digests, an entry in register 11, entries afterwards."""
    checked = check_quote(kernel(name))
    assert checked.is_accepted
    before = read(f"kernels/{name}/before_quote.binary_runtime_measurements")
    assert checked.ima is not None
    assert checked.ima.matched is not None
    assert checked.ima.violations == 2
    assert 0 < checked.ima.matched < checked.ima.entries
    assert {Reason.LIST_VIOLATION, Reason.LIST_DIGEST, Reason.LIST_LONGER} <= notes(checked)
    assert checked.quote["boot_aggregate"] == "sha256:0-9"
    # The registers of the boot by their values, in the place of the event log.
    by_value = check_quote(kernel(name, event_log=None, values=quoted_boot_of(name)))
    assert by_value.ima == checked.ima
    # The list as it was read before the quote is shorter: the quoting tool itself is an entry.
    assert refusals(kernel(name, ima_log=before)) == {Reason.LIST_REPLAY}


@needs_vectors
@pytest.mark.parametrize("bank", ["sha1", "sha256"])
def test_a_list_of_one_bank(bank: str) -> None:
    name = "k7.2-sha1+sha256"
    log = read(f"kernels/{name}/binary_runtime_measurements_{bank}")
    checked = check_quote(kernel(name, ima_log=log, log_hash=bank))
    assert checked.is_accepted
    assert checked.ima == check_quote(kernel(name)).ima


@needs_vectors
@pytest.mark.parametrize("name", KERNELS)
def test_a_real_list_of_another_boot(name: str) -> None:
    (other,) = (one for one in KERNELS if one != name)
    log = read(f"kernels/{other}/binary_runtime_measurements")
    assert refusals(kernel(name, ima_log=log)) == {Reason.LIST_REPLAY}
    assert refusals(kernel(name, nonce=KERNEL_NONCE[:-1])) == {Reason.QUOTE_NONCE}
    assert refusals(kernel(name, ak=read(f"kernels/{other}/ak.pub"))) == {Reason.QUOTE_SIGNATURE}
    assert refusals(kernel(name, tolerated=NOTED)) == {Reason.QUOTE_AK_UNCHECKED}


@needs_vectors
def test_a_real_quote_of_a_forged_entry() -> None:
    """Genuine all the same: that a known program extended the register shows in no quote.

    The honest list does not lead to it; with the invented entry put in, the list does.
    """
    name = "k6.12-forged-entry"
    values = {
        ("sha256", int(number)): bytes.fromhex(value)
        for number, value in read_json(f"kernels/{name}/pcrs.json").items()
        if int(number) < 10
    }
    honest = read(f"kernels/{name}/real.bin")
    files = kernel(
        name,
        nonce=bytes.fromhex("aabb"),
        ima_log=honest,
        event_log=None,
        values=values,
    )
    assert refusals(files) == {Reason.LIST_REPLAY}
    entry = read(f"kernels/{name}/forged_entry.bin")
    cuts = [0]
    for record in read_records(honest):
        cuts.append(cuts[-1] + len(record.encode()))
    forged = honest[: cuts[81]] + entry + honest[cuts[81] :]
    checked = check_quote(replace(files, ima_log=forged))
    assert checked.is_accepted
    assert Reason.QUOTE_NONCE_SHORT in notes(checked)


def test_every_kind_is_simulated() -> None:
    assert {kind.type for kind in AK_KINDS.values()} == {tpm.ALG_RSA, tpm.ALG_ECC}
    assert AkKind() in AK_KINDS.values()
