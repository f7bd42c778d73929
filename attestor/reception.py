"""Where processes connect, and people: each gets a conversation of its own."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from attestor.channel import Channel, Ended
from attestor.conversation import converse
from attestor.hand_over import HandOverFailed
from attestor.handshake import Opening
from attestor.launcher import Launcher
from attestor.peer import Kernel, Peer
from attestor.reasons import Local, refuse
from attestor.services import Services
from attestor.status import Status
from attestor.succession import Succession
from attestor.tpm import TpmFailed
from credential import Refused, local

ACCEPT_PAUSE_SECONDS = 0.05
"""When there are no descriptors left: some will be closed."""
MOST_REFUSED = 1024
"""Connections beyond those that may be, at a time; to be told so and closed, which can take long
(attestor/aside.py)."""

log = logging.getLogger("attestor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """Accepts connections, and answers what is asked in the place of an identity."""

    kernel: Kernel
    services: Services
    launcher: Launcher
    status: Status
    succession: Succession
    lines: asyncio.Semaphore
    """Connections that may be open, refused ones until they are closed."""
    conversations: set[asyncio.Task[None]] = field(default_factory=set)
    """Those that go on."""

    async def run(self) -> None:
        """Accept connections, for as long as the attestor runs."""
        loop = asyncio.get_running_loop()
        while True:
            await self.lines.acquire()
            try:
                connection, _ = await loop.sock_accept(self.succession.listener)
            except OSError as error:
                log.warning("no connection accepted: %s", error)
                self.lines.release()
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            self.begin(self._talk(connection))

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that ends with the attestor at the latest."""
        task = asyncio.create_task(work)
        self.conversations.add(task)
        task.add_done_callback(self.conversations.discard)

    async def _talk(self, connection: socket.socket) -> None:
        channel = Channel(connection)
        channel.when_gone(self.lines.release)
        try:
            peer = Peer.of(connection, self.kernel)
        except Refused as refused:
            try:
                with suppress(Ended):
                    await channel.send(local.Refusal.of(refused.findings))
            finally:
                channel.hang_up()
            return
        try:
            await converse(channel, peer, self.services, command=self._command)
        except Exception:
            log.exception("%s: the conversation failed", peer.label)
            raise
        finally:
            peer.close()

    async def _command(self, channel: Channel, peer: Peer, opening: Opening) -> None:
        match opening.message:
            case local.Launch():
                await self.launcher.launch(channel, peer, opening)
            case local.Restart():
                if peer.uid not in (0, os.geteuid()):
                    expected = "root, or the attestor's own uid"
                    raise refuse(Local.USER, "restart", expected=expected, found=f"{peer.uid}")
                await self._restart_for(channel)
            case local.Status():
                await channel.send(local.State(json=await self.status.describe(peer.uid)))
            case _:
                found = opening.message.VERB
                raise refuse(Local.UNEXPECTED, peer.label, expected="obtain", found=found)

    async def _restart_for(self, channel: Channel) -> None:
        try:
            heir = await self.succession.hand_over()
        except (HandOverFailed, TpmFailed) as error:
            raise refuse(Local.RESTART, found=str(error)) from error
        try:
            told = {"instance": heir.instance.hex(), "pid": heir.pid}
            await channel.send(local.State(json=json.dumps(told)))
        finally:
            self.succession.over.set()
