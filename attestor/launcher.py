"""`attestor run`: a program that is started from the very descriptor that was hashed.

The child opens the file as its user, the looker hashes what was opened, the child executes what
was opened. Its end of a socket pair is the only way in; what comes over it counts only if the
child itself sent it.
"""

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from attestor import starter
from attestor.channel import Channel, Ended, read_pipe
from attestor.conversation import converse
from attestor.handshake import Opening
from attestor.interpreter import PythonProgram
from attestor.jobs import Job
from attestor.look import NAMESPACES
from attestor.looker import Looker, NoAccount
from attestor.nursery import STATUS_BYTES, Child, Nursery
from attestor.peer import Kernel, Peer
from attestor.proc import NoLook
from attestor.reasons import Local, refuse
from attestor.services import Services
from attestor.starter import Account, Order
from attestor.subject import Started
from credential import local
from evidence.process import (
    ConfigurationFile,
    Look,
    arguments_digest,
    environment_digest,
)

STANDARD = 3
"""Descriptors that a launch brings: what becomes 0, 1 and 2."""
START_SECONDS = 20.0
"""How long a child may take to open its program, and to execute it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Launches programs for whoever asks, as whoever asks."""

    nursery: Nursery
    kernel: Kernel
    services: Services

    async def launch(self, channel: Channel, peer: Peer, opening: Opening) -> None:
        """Launch a program, tell its pid and how it ended, and talk with it meanwhile."""
        message = opening.message
        assert isinstance(message, local.Launch)
        if not _is_beside_us(opening.greeting.look):
            # What is launched is not in the caller's container: the same uid, and a way out.
            expected = "our own user and pid namespaces"
            raise refuse(Local.CONTAINED, peer.label, expected=expected)
        job, standard = self._claim(message, peer, opening.packet.descriptors)
        account = await self._account(message.user, peer)
        program, modules = await self._program(message, peer)
        arguments = message.argument if program is None else program.arguments(message.argument[1:])
        order = Order(account=account, arguments=arguments, environment=message.environment)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.kernel.name_senders(ours)
        with _line(ours) as line, await asyncio.to_thread(self._child) as child:
            with theirs:
                place = [theirs.fileno(), *standard]
                executable, configuration = await self._start(
                    peer, order, message.file, child, place
                )
            channel.throw_away(opening.packet)
            started = Started(
                executable=executable,
                arguments=arguments_digest(order.arguments),
                environment=environment_digest(order.variables),
                configuration=configuration,
                program=program,
                modules=modules,
                job=job,
            )
            launched = Peer(
                pidfd=child.pidfd,
                pid=child.pid,
                uid=account.uid,
                gid=account.gid,
                proof="child",
                kernel=self.kernel,
            )
            talk = converse(line, launched, self.services, started=started)
            await _accompany(channel, child, talk)

    def _claim(
        self, message: local.Launch, peer: Peer, descriptors: list[int]
    ) -> tuple[Job | None, list[int]]:
        """Return the job that a step is asked for, if one is, and the standard descriptors."""
        standard, job = descriptors[:STANDARD], descriptors[STANDARD:]
        if len(standard) != STANDARD or len(job) != bool(message.job):
            expected = f"{STANDARD}, and with a job that one"
            found = f"{len(descriptors)} descriptors"
            raise refuse(Local.DESCRIPTOR_MISSING, peer.label, expected=expected, found=found)
        if not job:
            return None, standard
        return self.services.jobs.claim(message.job, job[0], uid=peer.uid), standard

    async def _program(
        self, message: local.Launch, peer: Peer
    ) -> tuple[PythonProgram | None, bytes]:
        """Return the Python program that is asked for, if one is, and what it could import.

        Whatever that is was hashed before the program starts.
        """
        if not message.interpreter:
            return None, b""
        script = message.argument[0]
        find = partial(Looker.program, interpreter=message.interpreter, script=script)
        async with self.services.admission.turn(peer.uid):
            try:
                return await self.services.strangers.run(find)
            except NoLook as error:
                raise refuse(Local.LOOK_FAILED, script, found=str(error)) from error

    async def _account(self, user: str, peer: Peer) -> Account:
        """Return whom the program runs as: whoever asked, or whom root names."""
        find = self.services.strangers.run
        try:
            _, account = await find(partial(Looker.account, who=user or peer.uid))
        except NoAccount as error:
            if user:
                raise refuse(Local.USER, user, found=str(error)) from error
            account = Account(uid=peer.uid, gid=peer.gid, groups=())
        except NoLook as error:
            raise refuse(Local.LOOK_FAILED, user, found=str(error)) from error
        if peer.uid not in (account.uid, 0):
            raise refuse(Local.USER, user, expected=f"uid {peer.uid}", found=f"uid {account.uid}")
        return account

    def _child(self) -> closing[Child]:
        child = self.nursery.new_child()
        child.orders.settimeout(START_SECONDS)
        return closing(child)

    async def _start(
        self, peer: Peer, order: Order, files: Sequence[str], child: Child, place: list[int]
    ) -> tuple[bytes, tuple[ConfigurationFile, ...]]:
        """Have the child open, hash what it opened and its files, have it execute that."""
        path = order.arguments[0]
        async with self.services.admission.turn(peer.uid):
            try:
                file = await asyncio.to_thread(starter.give, order, child.orders, place)
                try:
                    find = self.services.strangers.run
                    digest = await find(partial(Looker.digest, descriptor=file))
                    configuration = await find(partial(Looker.configuration, files=files))
                finally:
                    os.close(file)
                await asyncio.to_thread(starter.go, child.orders)
            except (OSError, EOFError) as error:
                raise refuse(Local.START, path, found=str(error)) from error
            except NoLook as error:
                raise refuse(Local.LOOK_FAILED, path, found=str(error)) from error
        return digest, configuration


@contextmanager
def _line(ours: socket.socket) -> Iterator[Channel]:
    """Hang up at the end of the block, if that has not been done before."""
    line = Channel(ours)
    try:
        yield line
    finally:
        line.hang_up()


async def _accompany(channel: Channel, child: Child, talk: Coroutine[Any, Any, None]) -> None:
    """Tell whoever asked of the child's start and end, and have the talk with it meanwhile."""
    talking = asyncio.create_task(talk)
    try:
        with suppress(Ended):
            await channel.send(local.Launched(pid=child.pid))
        status = await read_pipe(child.report, STATUS_BYTES)
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    code = int.from_bytes(status, "big", signed=True)
    await channel.send(local.Ended(status=code))


def _is_beside_us(look: Look) -> bool:
    """Say whether a process is in no container: in the user and pid namespaces that we are in."""
    own = os.stat(f"/proc/self/ns/{NAMESPACES[1]}").st_ino  # noqa: PTH116
    return look.is_user_namespace_initial and look.namespaces[1] == own
