"""A quote, and the values of the registers that it covers."""

import hashlib
from dataclasses import dataclass

from attestor.subject import boot_seconds
from attestor.tpm import Signed, Tpm, TpmFailed
from evidence import tpm

QUOTE_TRIES = 10
"""A register that changes between quote and reading makes the values useless."""


@dataclass(frozen=True, slots=True)
class Quoted:
    """A quote and the register values that it covers."""

    signed: Signed
    registers: tuple[bytes, ...]
    when: float
    """Seconds since boot, before the TPM was asked."""


def take_quote(one: Tpm, binding: bytes) -> Quoted:
    """Return a quote together with the register values that it covers."""
    for _ in range(QUOTE_TRIES):
        when = boot_seconds()
        signed = one.quote(binding)
        registers = one.read_registers()
        attested = tpm.Attest.decode(signed.attest).attested
        assert isinstance(attested, tpm.Quote)
        if attested.digest == hashlib.sha256(b"".join(registers)).digest():
            return Quoted(signed, registers, when)
    raise TpmFailed(f"the registers changed after each of {QUOTE_TRIES} quotes")
