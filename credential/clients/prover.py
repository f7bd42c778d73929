"""What the clients have in common: each request to one origin proven, with its newest nonce."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from credential import dpop, presentation, wpt
from credential.obtain import Identity
from credential.presentation import Kind

CHALLENGE_HEADER = "WWW-Authenticate"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try of a request."""

    headers: Mapping[str, str]
    """What proves it; none where it goes to another origin."""
    nonce: str
    """The one that it was made with, empty where none was known."""


class Prover:
    """Proves requests to one origin, and none to any other.

    `origin` (scheme, host, port) is where `audience` answers: the same, if it is a URL. Raise
    ValueError if it is no origin, or `kind` none of `presentation.KINDS`.
    """

    def __init__(
        self, identity: Identity, *, audience: str, origin: str | None, kind: Kind
    ) -> None:
        self._identity = identity
        self._audience = audience
        self._kind = kind
        self._home = wpt.target_of(audience if origin is None else origin)
        self._nonce = ""
        if urlsplit(self._home).path != "/":
            raise ValueError("expected an origin: scheme, host and port")
        if kind not in presentation.KINDS:
            raise ValueError(f"expected a kind among {presentation.KINDS}")

    async def attempt(self, *, method: str, url: str) -> Attempt:
        """Return what proves this request now."""
        if not wpt.target_of(url).startswith(self._home):
            return Attempt({}, "")
        nonce = self._nonce
        proven = await self._identity.prove(
            audience=self._audience, method=method, url=url, kind=self._kind, nonce=nonce
        )
        return Attempt(
            presentation.headers(self._kind, token=proven.token, proof=proven.proof), nonce
        )

    def hear(self, attempt: Attempt, *, status: int, nonce: str, challenge: str) -> bool:
        """Take an answer's DPoP-Nonce; say whether the request lacked it, and may be made again."""
        is_nonce = re.fullmatch(dpop.NONCE, nonce) is not None
        if self._kind != "dpop" or not attempt.headers or not is_nonce:
            return False
        self._nonce = nonce
        is_asked = status == HTTPStatus.UNAUTHORIZED and presentation.asks_for_nonce(challenge)
        return is_asked and nonce != attempt.nonce
