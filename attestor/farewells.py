"""Telling the verifier which processes are gone, within a second and until it has heard."""

import asyncio
import logging

from attestor.client import Unreachable, Verifier
from attestor.instance import Instance
from attestor.pauses import Pauses
from credential import Malformed, Refused
from evidence.messages import Gone, GoneAnswer, GoneProcess

MOST = 1000
"""Processes in one message."""
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 30.0

log = logging.getLogger("attestor")


class Farewells:
    """Collects what to tell, and tells it."""

    def __init__(self, *, node: str, verifier: Verifier, instance: Instance) -> None:
        self._node = node
        self._verifier = verifier
        self._instance = instance
        self._gone: dict[bytes, str] = {}
        self._wake = asyncio.Event()

    def add(self, key_name: bytes, cause: str) -> None:
        """Have the verifier told that the process with this key is gone."""
        self._gone[key_name] = cause
        self._wake.set()

    async def run(self) -> None:
        """Tell, for as long as the attestor runs."""
        pauses = Pauses(first_seconds=FIRST_PAUSE_SECONDS, longest_seconds=LONGEST_PAUSE_SECONDS)
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self.tell()
                pauses.after_success()
            except Unreachable as error:
                log.warning("not told that %d processes are gone: %s", len(self._gone), error)
                await asyncio.sleep(pauses.after_failure())
                self._wake.set()

    async def tell(self) -> None:
        """Tell everything that there is to tell."""
        while self._gone:
            told = dict(list(self._gone.items())[:MOST])
            processes = tuple(
                GoneProcess(key_name=name, cause=cause) for name, cause in told.items()
            )
            message = self._instance.sign(Gone(node=self._node, processes=processes))
            try:
                await self._verifier.ask("/v1/gone", message, GoneAnswer)
            except (Refused, Malformed) as refused:
                # It will not be otherwise the next time; the leases end by themselves.
                log.warning("the verifier does not take a farewell: %s", refused)
            for name in told:
                self._gone.pop(name, None)
