"""Files of people: quotes with their logs, as `check-quote` judges them."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks import lists
from benchmarks.refusing import Group
from evidence import tpm
from evidence.ima import Record
from tests.simulated_node import SimulatedNode
from verifier.check_quote import check_quote
from verifier.quote_files import QuoteFiles

NONCE = b"n" * 32
REGISTERS = (*range(10), 10)


def quoted(size: int) -> Iterator[Group]:
    """Yield quotes with a measurement list of so many records."""
    node = SimulatedNode()
    head = list(node.records)
    honest = [*head, *(lists.known(one) for one in range(size))]
    good = _files(node, honest)
    list_ = good.ima_log or b""
    bad = {
        "another nonce": replace(good, nonce=b"m" * 32),
        "another key": replace(good, ak=SimulatedNode("x").tpm.ak.encode()),
        "a key that may sign anything": replace(good, ak=_unrestricted(node)),
        "a signature that is none": replace(good, signature=bytes(72)),
        "no quote": replace(good, message=bytes(len(good.message))),
        "a list cut by one byte": replace(good, ima_log=list_[:-1]),
        "a list without its last record": replace(good, ima_log=lists.encode(honest[:-1])),
        "a list of another boot": replace(good, ima_log=lists.encode(honest[1:])),
        "a bit of the list wrong": replace(good, ima_log=lists.flipped(list_, 60)),
        "an event log cut by one byte": replace(good, event_log=node.boot_log[:-1]),
        "an event log of another boot": replace(good, event_log=_other_log(node)),
        "every template hash of the list wrong": replace(
            good, ima_log=lists.encode(map(lists.misstated, honest))
        ),
    }
    yield Group(
        name=f"check-quote with a list of {size} records",
        accept=partial(_is_accepted, good),
        refuse={name: partial(_is_accepted, files) for name, files in bad.items()},
    )


def _files(node: SimulatedNode, records: list[Record]) -> QuoteFiles:
    node.relist(records)
    values = b"".join(node.tpm.registers[one] for one in REGISTERS)
    selection = tpm.PcrSelection(bank=tpm.ALG_SHA256, registers=REGISTERS)
    attested = tpm.Quote(selections=(selection,), digest=hashlib.sha256(values).digest())
    message, signature = node.tpm.attest(attested=attested, extra_data=NONCE)
    return QuoteFiles(
        message=message,
        signature=signature,
        ak=node.tpm.ak.encode(),
        nonce=NONCE,
        ima_log=lists.encode(records),
        event_log=node.boot_log,
    )


def _unrestricted(node: SimulatedNode) -> bytes:
    return replace(node.tpm.ak, attributes=node.tpm.ak.attributes & ~tpm.RESTRICTED).encode()


def _other_log(node: SimulatedNode) -> bytes:
    return node.boot_log[:-4] + b"\1\1\1\1"


def _is_accepted(files: QuoteFiles) -> bool:
    return check_quote(files).is_accepted
