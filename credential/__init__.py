"""Arrow 2: what a process obtains and presents, and a relying party checks.

>>> from datetime import UTC, datetime
>>> from credential import Keys, Malformed, Seen, check
>>> keys = Keys.read('{"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig",'
...     ' "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",'
...     ' "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU", "kid": "2026-11"}]}',
...     trust_domain="example.org")
>>> try:
...     check("a-copied-token", None, keys=keys, method="POST",
...         url="https://ledger.example.org/post", now=datetime.now(UTC), seen=Seen(), status={},
...         audience="https://ledger.example.org", minimum="L2")
... except Malformed as refusal:
...     print(refusal.findings[0].reason)
token.malformed
"""

from credential.caller import Caller
from credential.check import check
from credential.dpop import DPoP
from credential.keys import Keys
from credential.nonces import Nonces
from credential.obtain import Identity, obtain
from credential.reasons import Finding, Malformed, Reason, Refused
from credential.requirements import Requirements
from credential.seen import ReplayStore, Seen
from credential.status import StatusList
from credential.wit import Claims, Procseal

__all__ = [
    "Caller",
    "Claims",
    "DPoP",
    "Finding",
    "Identity",
    "Keys",
    "Malformed",
    "Nonces",
    "Procseal",
    "Reason",
    "Refused",
    "ReplayStore",
    "Requirements",
    "Seen",
    "StatusList",
    "check",
    "obtain",
]
