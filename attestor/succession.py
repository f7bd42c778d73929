"""How the attestor that runs lets a successor speak, and what it does where that fails.

`attestor.hand_over` has the whole of it, and the channel between the two.
"""

import asyncio
import hashlib
import logging
import socket
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from attestor.hand_over import HandOverFailed, Successor, command_line, tell_systemd
from attestor.machine import Machine
from attestor.nursery import Nursery
from attestor.tpm import Tpm, TpmFailed
from attestor.worker import Worker
from evidence.messages import HandOver

log = logging.getLogger("attestor")


@dataclass(frozen=True, slots=True)
class Heir:
    """A successor that speaks."""

    instance: bytes
    """SHA-256 of its instance key."""
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Succession:
    """Hands over, once."""

    machine: Machine
    nursery: Nursery
    tpm: Worker[Tpm]
    between_rounds: asyncio.Lock
    listener: socket.socket
    """Where processes connect: it becomes the successor's."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a successor speaks."""
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def restart(self) -> None:
        """Hand over for a signal, to which nothing can be answered."""
        try:
            await self.hand_over()
        except HandOverFailed as error:
            log.error("%s; this attestor goes on", error)  # noqa: TRY400
        except TpmFailed as error:
            log.error("%s; start the attestor again", error)  # noqa: TRY400
        else:
            self.over.set()

    async def hand_over(self) -> Heir:
        """Let a successor speak, and say which; raise HandOverFailed, and this one goes on.

        Once it returns nothing may be signed here any more: set `over`.
        """
        async with self._starting:
            try:
                start = partial(self.nursery.new_successor, command_line())
                successor = await asyncio.to_thread(start)
            except OSError as error:
                raise HandOverFailed(str(error)) from error
            with closing(successor):
                heir = await self._meet(successor)
                await self.between_rounds.acquire()
                try:
                    await self._let_speak(successor, heir)
                except BaseException:
                    successor.end()
                    await self._go_on()
                    raise
            tell_systemd(f"MAINPID={heir.pid}")
            log.info("handed over to instance %s, pid %d", heir.instance.hex(), heir.pid)
            return heir

    async def _meet(self, successor: Successor) -> Heir:
        who = await asyncio.to_thread(successor.introduction)
        if who.node != self.machine.node:
            raise HandOverFailed(f"the successor is of node {who.node}")
        return Heir(hashlib.sha256(who.public).digest(), successor.pid)

    async def _let_speak(self, successor: Successor, heir: Heir) -> None:
        machine = self.machine
        message = HandOver(
            node=machine.node,
            boot=machine.boot,
            earlier=machine.instance.digest,
            later=heir.instance,
        )
        signed = machine.instance.sign(message)
        await self.tpm.run(lambda one: one.esys.close())
        await asyncio.to_thread(successor.let_speak, signed, self.listener)

    async def _go_on(self) -> None:
        """Reach for the TPM again; raise TpmFailed where it is gone."""
        try:
            await self.tpm.run(lambda one: one.esys.open())
        finally:
            self.between_rounds.release()
