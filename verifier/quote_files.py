"""What somebody gives who has a quote in files, and registers as a command line names them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from evidence import Malformed, tpm
from verifier.quoted_registers import REGISTERS, Register, Values, text_of
from verifier.reasons import Reason
from verifier.tolerance import NOTED

MOST_SMALL_BYTES = 1 << 16
"""Of a message, a signature or a key: each is a few hundred bytes."""
MOST_NONCE_BYTES = 64
"""Of extraData (TPM 2.0 Part 2, 10.4.3): no TPM signs a longer one."""

_PCR = re.compile(r"([a-z0-9]+):([0-9]{1,2})=((?:[0-9a-fA-F]{2})+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteFiles:
    """What is to be judged: the bytes of the files, and what was asked of the TPM."""

    message: bytes
    """TPMS_ATTEST."""
    signature: bytes
    """TPMT_SIGNATURE."""
    ak: bytes
    """TPM2B_PUBLIC, TPMT_PUBLIC, or PEM."""
    nonce: bytes
    """As it was asked: the extraData is this, no more, no less."""
    values: Values = field(default_factory=dict)
    """Registers whose values somebody gives."""
    ima_log: bytes | None = None
    log_hash: str = "sha1"
    """Algorithm of the list's template hashes."""
    event_log: bytes | None = None
    tolerated: frozenset[Reason] = NOTED
    """Reasons that do not reject: see `verifier.tolerance`."""


def read_register(text: str) -> tuple[Register, bytes]:
    """Return what `BANK:N=HEX` says; raise Malformed on anything else."""
    match = _PCR.fullmatch(text)
    banks = tuple(tpm.HASHES.values())
    if match is None or match[1] not in banks or int(match[2]) not in REGISTERS:
        expected = f"BANK:N=HEX, with a bank among {', '.join(banks)} and a number up to 23"
        raise Malformed(f"expected {expected}, got {text[:80]!r}")
    bank, value = match[1], bytes.fromhex(match[3])
    size = hashlib.new(bank).digest_size
    if len(value) != size:
        raise Malformed(f"expected {size} bytes in {bank}:{match[2]}, got {len(value)}")
    return (bank, int(match[2])), value


def read_registers(texts: Sequence[str]) -> Values:
    """Return the given registers; raise Malformed where one is given twice."""
    values: dict[Register, bytes] = {}
    for text in texts:
        register, value = read_register(text)
        if register in values:
            raise Malformed(f"expected one value for {text_of([register])}, got two")
        values[register] = value
    return values
