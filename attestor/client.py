"""The verifier, as the attestor hears it: messages over HTTPS, refusals as findings."""

import json
import ssl
from datetime import UTC, datetime
from typing import Self, TypeVar

import aiohttp

from attestor.failed import Failed
from credential import Keys, Refused
from credential.reasons import Finding, Malformed
from evidence import Malformed as MalformedEvidence
from evidence.shapes import Message

CBOR = "application/cbor"
MOST_ANSWER_BYTES = 16 << 20
"""Grants of 512 processes, each at most 32 KiB."""
MOST_FINDINGS = 16

_FINDING = ("reason", "what", "expected", "found")

Answer = TypeVar("Answer", bound=Message)


class Unreachable(Failed):
    """The verifier did not answer, or could not tell: nothing was decided."""


class Verifier:
    """The verifier at `url`, whose certificate one of the CAs in `ca_file` signed."""

    def __init__(self, url: str, *, ca_file: str, timeout_seconds: float) -> None:
        self.url = url.rstrip("/")
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None
        self.last_answer: datetime | None = None
        """When it last answered, a refusal being an answer too."""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=8)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def ask(self, route: str, message: Message, answer: type[Answer]) -> Answer:
        """Post a message; return the answer, or raise Refused or Unreachable."""
        body = await self._request("POST", route, message.encode())
        try:
            return answer.decode(body)
        except MalformedEvidence as error:
            raise Unreachable(f"{route}: the answer is not understood: {error}") from error

    async def grant_keys(self) -> tuple[str, Keys]:
        """Return the trust domain, and the keys that sign grants."""
        body = await self._request("GET", "/v1/trust-domain")
        try:
            members = json.loads(body)
            trust_domain = members["trust_domain"]
            jwks = json.dumps(members["grant_keys"])
            return trust_domain, Keys.read(jwks, trust_domain=trust_domain)
        except (ValueError, KeyError, TypeError, Malformed) as error:
            raise Unreachable(f"/v1/trust-domain: the answer is not understood: {error}") from error

    async def _request(self, method: str, route: str, body: bytes | None = None) -> bytes:
        assert self._session is not None
        url = self.url + route
        try:
            async with self._session.request(
                method, url, data=body, headers={"Content-Type": CBOR}, allow_redirects=False
            ) as response:
                content = await response.content.read(MOST_ANSWER_BYTES + 1)
                while not response.content.at_eof() and len(content) <= MOST_ANSWER_BYTES:
                    content += await response.content.read(MOST_ANSWER_BYTES + 1)
                status = response.status
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Unreachable(f"{url}: {type(error).__name__}: {error}") from error
        if len(content) > MOST_ANSWER_BYTES:
            raise Unreachable(f"{url}: an answer of more than {MOST_ANSWER_BYTES} bytes")
        if status == 200:  # noqa: PLR2004
            self.last_answer = datetime.now(UTC)
            return content
        findings = _findings(content)
        if status in (400, 403, 413) and findings:
            self.last_answer = datetime.now(UTC)
            raise Refused(findings)
        raise Unreachable(f"{url}: status {status}")


def _findings(content: bytes) -> list[Finding]:
    """Return the findings of a refusal, or none where it is not one."""
    try:
        found = json.loads(content)["findings"][:MOST_FINDINGS]
        return [
            Finding(
                **{name: str(one.get(name, "")) for name in ("reason", "what", "expected", "found")}
            )
            for one in found
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
