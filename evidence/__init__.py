"""Arrow 1: what a node sends. Bytes to frozen values and back; no opinion on any of it.

>>> from evidence import Challenge, Malformed
>>> Challenge.decode(b"junk")
Traceback (most recent call last):
evidence.malformed.Malformed: ...
"""

from evidence.malformed import Malformed
from evidence.messages import Body, Challenge, Evidence
from evidence.process import CoreRecord, Look

__all__ = ["Body", "Challenge", "CoreRecord", "Evidence", "Look", "Malformed"]
