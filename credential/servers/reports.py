"""Lines of the log for the verifier's ledger: on disk first, and then sent until they are there.

A line that the verifier will not have is set aside, on disk too, and stops no other. It is sent
again when the gate is opened again.

reports = Reports(Verifier(url, tls=tls, name="ledger", secret=secret), Path("uses.sqlite"))
gate = Gate(..., reports=reports)
"""

import asyncio
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from aiohttp import ClientSession, encode_basic_auth

from credential.reasons import Reason, Refused
from credential.servers.verifier import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    Unwanted,
    Verifier,
    session,
    whole_body,
)
from credential.spool import MOST_LINES, Batch, Spool
from credential.use import MEDIA_TYPE, MOST_BATCH, MOST_BATCH_BYTES, Use

GATHER_SECONDS = 0.5
"""How long lines gather before they are sent together."""
LOOK_SECONDS = 30
"""How often the spool is looked at for what another process has left there."""
MOST_RECEIPT_BYTES = 4096
UNRECORDABLE = frozenset(
    {Reason.USE_MALFORMED, Reason.USE_VERSION, "relying-party.of-another-audience"}
)
"""Why the verifier will not have lines, today or tomorrow: they are of another version of this
program, or from when this relying party had another audience."""
MOST_REFUSED_PER_HOUR = 1_000
"""Refused requests that are reported, of those with a token of the verifier's and of those without
each: strangers fill neither the spool nor the ledger, and keep no misused token's line out of them.
The others are in this server's own log."""

T = TypeVar("T")

log = logging.getLogger("credential")


class Reports:
    """A relying party's way to the ledger; each value belongs to one gate."""

    def __init__(self, verifier: Verifier, spool: Path, *, most: int = MOST_LINES) -> None:
        self._verifier = verifier
        self._path = spool
        self._most = most
        self._spool: Spool | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._added = asyncio.Event()
        self._refused: dict[bool, tuple[int, int]] = {}
        """By whether they named a token: which hour, and how many in it."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Send what waits until the end of the block; what is left then waits for the next one."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        spool = self._spool = await self._in_thread(lambda: Spool(self._path, most=self._most))
        if count := await self._in_thread(spool.take_back):
            log.warning("%s: %d lines were set aside: they are sent again", self._path, count)
        sending = asyncio.create_task(self._send_for_ever())
        try:
            yield
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            self._spool = None
            await self._in_thread(spool.close)
            self._thread.shutdown()

    async def keep(self, one: Use) -> None:
        """Return once the line is on disk; raise Refused if it is not and has to be.

        What has to be is the line of a request that is let in. Of the others as many are kept as
        there is room for.
        """
        spool = self._spool
        if spool is None:
            raise Refused.because(Reason.USE_SPOOL, "the gate is not open")
        if not one.is_accepted and not self._has_room_for_refused(one):
            return
        try:
            await self._in_thread(lambda: spool.add(one))
        except (sqlite3.Error, OSError) as error:
            log.exception("%s: a line could not be kept", self._path)
            raise Refused.because(Reason.USE_SPOOL, "see this server's log") from error
        except Refused:
            if one.is_accepted:
                raise
            return
        self._added.set()

    def _has_room_for_refused(self, one: Use) -> bool:
        hour, names_token = int(one.time.timestamp()) // 3600, bool(one.subject)
        then, count = self._refused.get(names_token, (hour, 0))
        count = count + 1 if then == hour else 1
        self._refused[names_token] = hour, count
        return count <= MOST_REFUSED_PER_HOUR

    async def _in_thread(self, call: Callable[[], T]) -> T:
        """Do what waits for the disk where nobody else waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _send_for_ever(self) -> None:
        pause = FIRST_PAUSE
        async with session() as opened:
            while True:
                try:
                    is_all = await self._send(opened)
                except (OSError, ValueError) as error:
                    log.warning("lines wait for the verifier: %s: %s", type(error).__name__, error)
                except Exception:
                    log.exception("lines wait for the verifier")
                else:
                    pause = FIRST_PAUSE
                    if is_all:
                        await self._gather()
                    continue
                await asyncio.sleep(pause.total_seconds())
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _gather(self) -> None:
        """Wait for a line, and for those that come right after it."""
        try:
            await asyncio.wait_for(self._added.wait(), LOOK_SECONDS)
        except TimeoutError:
            return
        await asyncio.sleep(GATHER_SECONDS)

    async def _send(self, opened: ClientSession) -> bool:
        """Send the lines that wait longest; say whether none was left to send."""
        spool = self._spool
        assert spool is not None
        self._added.clear()
        batch = await self._in_thread(
            lambda: spool.first(most=MOST_BATCH, most_bytes=MOST_BATCH_BYTES)
        )
        if batch is None:
            return True
        await self._deliver(opened, spool, batch)
        return False

    async def _deliver(self, opened: ClientSession, spool: Spool, batch: Batch) -> None:
        """Bring all of these into the ledger but those that the verifier will not have."""
        try:
            await self._post(opened, batch)
        except Unwanted as unwanted:
            reason = _unrecordable(unwanted.body)
            if not reason:
                raise
            if len(batch.lines) > 1:  # one of them is meant
                for half in batch.halves():
                    await self._deliver(opened, spool, half)
                return
            count = await self._in_thread(lambda: spool.set_aside(batch, reason))
            log.warning("%s: %d lines set aside, the last for %s", self._path, count, reason)
        else:
            await self._in_thread(lambda: spool.remove(batch))

    async def _post(self, opened: ClientSession, batch: Batch) -> None:
        """Return once the verifier has said that all of these are in its ledger."""
        proof = encode_basic_auth(self._verifier.name, self._verifier.secret)
        request = opened.post(
            self._verifier.at("/v1/uses"),
            data="".join(f"{line}\n" for line in batch.lines).encode("ascii"),
            headers={"Content-Type": MEDIA_TYPE, "Authorization": proof},
            ssl=self._verifier.tls,
            allow_redirects=False,
        )
        body = await whole_body(request, most_bytes=MOST_RECEIPT_BYTES)
        if json.loads(body) != {"recorded": len(batch.lines)}:
            raise ValueError(f"expected a receipt for {len(batch.lines)} lines, got {body!a}")


def _unrecordable(body: bytes) -> str:
    """Return the reason of an answer that is about the lines themselves, empty if it is not."""
    try:
        [finding] = json.loads(body)["findings"]
        reason = finding["reason"]
    except (ValueError, TypeError, KeyError):
        return ""
    return reason if isinstance(reason, str) and reason in UNRECORDABLE else ""
