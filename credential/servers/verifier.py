"""Where the verifier is, and who this relying party is to it."""

import ssl
from datetime import timedelta

FETCH_SECONDS = 5
"""How long the verifier may take for one answer; a request waits for it at most once."""
FIRST_PAUSE = timedelta(seconds=1)
LONGEST_PAUSE = timedelta(seconds=30)
"""Between two tries, while the verifier is out of reach."""


class Verifier:
    """One verifier: nobody else is ever asked.

    `url` is its own, as its tokens have it (`iss`); `reached_at` is where it is, if somewhere else.
    `name` and `secret` are what `verifier relying-party add` has given to this relying party: for
    introspection and reports, not for status lists.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext,
        reached_at: str | None = None,
        name: str = "",
        secret: str = "",
    ) -> None:
        self.url = url.rstrip("/")
        self.tls = tls
        self.name = name
        self.secret = secret
        self._reached_at = self.url if reached_at is None else reached_at.rstrip("/")

    def at(self, path: str) -> str:
        """Return the URL of a path of the verifier's."""
        return self._reached_at + path
