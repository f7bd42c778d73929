"""The ways in which a command of the attestor's ends without an answer of its own.

Light on purpose: the program imports nothing else before it knows what it is asked to do.
"""


class Failed(Exception):
    """Disk, network or TPM: it could not be told."""


class Misused(Exception):
    """What is asked for cannot be done like this; nothing was tried."""


class NotFirst(Exception):
    """Something extended PCR 15 before this start; the message says what to do."""
