"""Room 2: the only place that trusts; what it decides is decided by `appraise` alone.

>>> from verifier import Reason
>>> Reason("ima-list.entry-unknown").name
'LIST_UNKNOWN'
"""

from verifier.appraisal import appraise
from verifier.instance import verify_signed
from verifier.reasons import Finding, Reason, Rejected
from verifier.verdict import Accepted, NodeVerdict, Refused

__all__ = [
    "Accepted",
    "Finding",
    "NodeVerdict",
    "Reason",
    "Refused",
    "Rejected",
    "appraise",
    "verify_signed",
]
