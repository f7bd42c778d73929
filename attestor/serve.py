"""The daemon: what it is made of, and the order in which it starts and stops."""

import asyncio
import hashlib
import json
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from attestor import instance, privileges
from attestor.admission import Admission, Limits
from attestor.canary import Canaries
from attestor.channel import Channel, Ended
from attestor.client import Unreachable, Verifier
from attestor.collector import Collector, Machine
from attestor.config import Config
from attestor.conversation import Command, Opening, Services, converse
from attestor.enrolment import enrol
from attestor.farewells import Farewells
from attestor.hand_over import (
    HandOverFailed,
    Introduction,
    Predecessor,
    Successor,
    command_line,
    tell_systemd,
)
from attestor.jobs import PARENT_ENDED, Jobs
from attestor.launcher import Launcher
from attestor.look import boot_id
from attestor.looker import Looker
from attestor.measurement_list import MeasurementList
from attestor.nursery import Nursery
from attestor.peer import Kernel, Peer, listen
from attestor.reasons import Local, refuse
from attestor.state import State
from attestor.subject import Subject
from attestor.tpm import Tpm, TpmFailed
from attestor.watch import Watch
from attestor.worker import Worker
from credential import Refused, crypto, jws, local
from evidence.messages import HandOver

log = logging.getLogger("attestor")

ACCEPT_PAUSE_SECONDS = 0.05
"""When there are no descriptors left: some will be closed."""
FAREWELL_SECONDS = 3
"""For telling the verifier, at the end, which keys are forgotten."""
MOST_DESCRIBED = 200
"""Processes in one answer of `status`: a message has 65536 bytes."""


def serve(
    config: Config,
    *,
    kernel: Kernel,
    is_second_start: bool = False,
    predecessor: Predecessor | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Run the daemon until SIGTERM or SIGINT; `ready` is called when processes can connect.

    SIGHUP has it hand over to a successor, whose `predecessor` it is.

    `kernel` is what this kernel can say of peers, or less, as on an older one.
    """
    jws.load()
    config.state.mkdir(mode=0o700, exist_ok=True)
    # Forked before there are threads, keys or an open TPM.
    nursery = Nursery.start(looker_uid=config.looker_uid, looker_gid=config.looker_uid)
    privileges.hide_memory()
    _raise_descriptor_limit()
    try:
        start = Start(is_second=is_second_start, predecessor=predecessor)
        asyncio.run(_serve(config, nursery, kernel, start, ready=ready))
    finally:
        nursery.close()


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: about four per process with an identity."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Whether an attestor has run in this boot before."""

    is_second: bool
    """It has, and an operator will approve this one."""
    predecessor: Predecessor | None
    """It does, and hands over."""


async def _serve(
    config: Config,
    nursery: Nursery,
    kernel: Kernel,
    start: Start,
    *,
    ready: Callable[[], None],
) -> None:
    boot = boot_id()
    verifier = Verifier(
        config.verifier, ca_file=str(config.ca_file), timeout_seconds=config.verifier_seconds
    )
    key, hand_over, listener = crypto.generate(), None, None
    if start.predecessor is not None:
        who = Introduction(public=crypto.point_of(key), node=config.node)
        hand_over, listener = start.predecessor.ask(who)
    with ExitStack() as stack:
        with _telling_failure(start.predecessor):
            tpm = stack.enter_context(Tpm(config.tcti, ek=config.ek_kind))
            own = instance.start(
                tpm,
                directory=config.state,
                boot=boot,
                key=key,
                is_second_start=start.is_second,
                hand_over=hand_over,
            )
        if start.predecessor is not None:
            start.predecessor.say_latched()
        privileges.keep_only({privileges.DAC_READ_SEARCH})  # the measurement list is root's
        machine = Machine(
            node=config.node,
            boot=boot,
            kernel=os.uname().release,
            boot_log=str(config.boot_log),
            instance=own,
        )
        with closing(_Workers(config, tpm, nursery)) as workers:
            async with verifier:
                daemon = _Daemon(config, kernel, machine, verifier, workers)
                await daemon.run(_listener(listener, config, kernel), ready)


def _listener(given: socket.socket | None, config: Config, kernel: Kernel) -> socket.socket:
    """Return the listening socket: the predecessor's, with whoever waits there, if it will do."""
    if given is not None:
        if given.getsockname() == str(config.socket):
            return given
        given.close()
    return listen(str(config.socket), kernel)


@contextmanager
def _telling_failure(predecessor: Predecessor | None) -> Iterator[None]:
    """Have the attestor that runs go on if something goes wrong before it is too late."""
    try:
        yield
    except Exception as error:
        if predecessor is not None:
            predecessor.say_failed(f"{type(error).__name__}: {error}")
        raise


class _Workers:
    """What blocks, each in a thread of its own."""

    def __init__(self, config: Config, tpm: Tpm, nursery: Nursery) -> None:
        self.nursery = nursery
        self.lookers = tuple(
            Looker(
                nursery.new_looker,
                most_bytes=config.most_file_bytes,
                deadline_seconds=config.look_seconds,
            )
            for _ in range(2)
        )
        self.canaries = Canaries.within(
            config.interval, nursery.new_canary, config.canary_directories
        )
        self.tpm = Worker(tpm, "tpm")
        self.strangers, self.acquaintances = (Worker(one, "looker") for one in self.lookers)
        self.measurement_list = Worker(MeasurementList(str(config.measurement_list)), "list")

    def close(self) -> None:
        for looker in self.lookers:
            looker.close()
        for worker in (self.tpm, self.strangers, self.acquaintances, self.measurement_list):
            worker.close()


class _Daemon:
    """The parts, and how they know each other."""

    def __init__(
        self,
        config: Config,
        kernel: Kernel,
        machine: Machine,
        verifier: Verifier,
        workers: _Workers,
    ) -> None:
        self.config = config
        self.workers = workers
        self.nursery = workers.nursery
        self.verifier = verifier
        self.kernel = kernel
        self.farewells = Farewells(node=config.node, verifier=verifier, instance=machine.instance)
        self.watch = Watch(self.end)
        self.jobs = Jobs(self.end)
        self.collector = Collector(
            machine=machine,
            verifier=verifier,
            tpm=workers.tpm,
            looker=workers.acquaintances,
            measurement_list=workers.measurement_list,
            interval_seconds=config.interval.total_seconds(),
            canaries=workers.canaries,
            on_canaries=self.count_canaries,
            enrol=self.enrol,
            on_end=self.end,
        )
        self.services = Services(
            collector=self.collector,
            admission=Admission(
                Limits(
                    connections=config.most_connections,
                    user_connections=config.most_user_connections,
                    waiting=config.most_user_waiting,
                    per_minute=config.user_requests_per_minute,
                ),
                time.monotonic,
            ),
            watch=self.watch,
            jobs=self.jobs,
            strangers=workers.strangers,
            acquaintances=workers.acquaintances,
            on_end=self.end,
        )
        self.conversations: set[asyncio.Task[None]] = set()
        self.handing_over = asyncio.Lock()
        self.over = asyncio.Event()
        """Set once a successor speaks."""

    async def run(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        """Enrol if need be, then serve until a signal says to stop, or a successor speaks."""
        self.listener = listener
        launcher = Launcher(nursery=self.nursery, kernel=self.kernel, services=self.services)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._start_restart)
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        work: list[Coroutine[Any, Any, object]] = [
            self.collector.run(),
            self.farewells.run(),
            self.watch.run(),
            self._accept(listener, launcher),
            stop.wait(),
            self.over.wait(),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        try:
            ready()
            tell_systemd("READY=1")
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # only the signal and the successor end without an error
        finally:
            listener.close()
            await _cancel([*tasks, *self.conversations])
            if not self.over.is_set():
                await self._say_farewell()
            # Else the socket is the successor's, and its first evidence ends what was here.

    async def _say_farewell(self) -> None:
        """End the credentials: nobody will hold their keys any more."""
        with suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self.farewells.tell()
        with suppress(OSError):
            self.config.socket.unlink()

    def end(self, subject: Subject, cause: str) -> None:
        """Forget a process and its steps; have the verifier told of those with an identity."""
        self._forget(subject, cause)
        for step in self.jobs.end_all_of(subject):
            self._forget(step, PARENT_ENDED)

    def _forget(self, subject: Subject, cause: str) -> None:
        self.watch.remove(subject)
        subject.end(cause)
        if self.collector.drop(subject) and not self.over.is_set():
            self.farewells.add(subject.key_name, cause)

    # Handing over

    def _start_restart(self) -> None:
        task = asyncio.create_task(self._restart())
        self.conversations.add(task)
        task.add_done_callback(self.conversations.discard)

    async def _restart(self) -> None:
        try:
            await self.hand_over()
        except HandOverFailed as error:
            log.error("%s; this attestor goes on", error)  # noqa: TRY400
        except TpmFailed as error:
            log.error("%s; start the attestor again", error)  # noqa: TRY400
        else:
            self.over.set()

    async def hand_over(self) -> dict[str, object]:
        """Let a successor speak, and say which; raise HandOverFailed, and this one goes on.

        Once it returns nothing may be signed here any more: set `over`.
        """
        async with self.handing_over:
            try:
                start = partial(self.nursery.new_successor, command_line())
                successor = await asyncio.to_thread(start)
            except OSError as error:
                raise HandOverFailed(str(error)) from error
            with closing(successor):
                who = await asyncio.to_thread(successor.introduction)
                later = hashlib.sha256(who.public).digest()
                if who.node != self.config.node:
                    raise HandOverFailed(f"the successor is of node {who.node}")
                await self.collector.between_rounds.acquire()
                try:
                    await self._let_speak(successor, later)
                except BaseException:
                    successor.end()
                    await self._go_on()
                    raise
            tell_systemd(f"MAINPID={successor.pid}")
            log.info("handed over to instance %s, pid %d", later.hex(), successor.pid)
            return {"instance": later.hex(), "pid": successor.pid}

    async def _go_on(self) -> None:
        """Reach for the TPM again; raise TpmFailed where it is gone."""
        try:
            await self.workers.tpm.run(Tpm.open)
        finally:
            self.collector.between_rounds.release()

    async def _let_speak(self, successor: Successor, later: bytes) -> None:
        machine = self.collector.machine
        message = HandOver(
            node=machine.node, boot=machine.boot, earlier=machine.instance.digest, later=later
        )
        signed = machine.instance.sign(message)
        await self.workers.tpm.run(Tpm.close)
        await asyncio.to_thread(successor.let_speak, signed, self.listener)

    def count_canaries(self, count: int) -> None:
        """Remember how many have been let loose in this boot."""
        if count:
            state = State.load(self.config.state).of_boot(self.collector.machine.boot)
            replace(state, canaries=state.canaries + count).save(self.config.state)

    async def enrol(self) -> None:
        """Introduce the node to a verifier that does not know it."""
        try:
            enrolled = await enrol(self.config.node, self.verifier, self.workers.tpm)
        except Refused as refused:
            raise Unreachable(f"the verifier does not enrol this node: {refused}") from refused
        except TpmFailed as error:
            raise Unreachable(f"enrolment: {error}") from error
        log.info("%s: %s, EK %s", enrolled.node, enrolled.status, enrolled.ek_hash)

    async def _accept(self, listener: socket.socket, launcher: Launcher) -> None:
        loop = asyncio.get_running_loop()
        command = partial(self._command, launcher)
        while True:
            try:
                connection, _ = await loop.sock_accept(listener)
            except OSError as error:
                log.warning("no connection accepted: %s", error)
                await asyncio.sleep(ACCEPT_PAUSE_SECONDS)
                continue
            task = asyncio.create_task(self._talk(connection, command))
            self.conversations.add(task)
            task.add_done_callback(self.conversations.discard)

    async def _talk(self, connection: socket.socket, command: Command) -> None:
        with connection:
            channel = Channel(connection)
            try:
                peer = Peer.of(connection, self.kernel)
            except Refused as refused:
                with suppress(Ended):
                    await channel.send(local.Refusal.of(refused.findings))
                return
            try:
                await converse(channel, peer, self.services, command=command)
            except Exception:
                log.exception("%s: the conversation failed", peer.label)
                raise
            finally:
                peer.close()

    async def _command(
        self, launcher: Launcher, channel: Channel, peer: Peer, opening: Opening
    ) -> None:
        match opening.message:
            case local.Launch():
                await launcher.launch(channel, peer, opening)
            case local.Restart():
                if peer.uid not in (0, os.geteuid()):
                    expected = "root, or the attestor's own uid"
                    raise refuse(Local.USER, "restart", expected=expected, found=f"{peer.uid}")
                await self._restart_for(channel)
            case local.Status():
                await channel.send(local.State(json=await self._status(peer)))
            case _:
                found = opening.message.VERB
                raise refuse(Local.UNEXPECTED, peer.label, expected="obtain", found=found)

    async def _restart_for(self, channel: Channel) -> None:
        try:
            who = await self.hand_over()
        except (HandOverFailed, TpmFailed) as error:
            raise refuse(Local.RESTART, found=str(error)) from error
        try:
            await channel.send(local.State(json=json.dumps(who)))
        finally:
            self.over.set()

    async def _status(self, peer: Peer) -> str:
        """Return what the attestor is doing; of processes, each user sees its own."""
        collector = self.collector
        answered = self.verifier.last_answer
        operations = await self.workers.tpm.run(lambda one: dict(one.operations))
        status = {
            "node": self.config.node,
            "pid": os.getpid(),
            "boot": collector.machine.boot,
            "peer_proof": self.kernel.peer_proof,
            "instances": len(collector.machine.instance.history),
            "canaries": State.load(self.config.state).of_boot(collector.machine.boot).canaries,
            "rounds": collector.rounds,
            "accepted": collector.is_accepted,
            "findings": [str(one.reason) for one in collector.findings],
            "verifier": self.verifier.url,
            "last_answer": answered.isoformat(timespec="seconds") if answered else "",
            "next_round_seconds": max(0, round(collector.due - time.monotonic())),
            "tpm_operations": operations,
            "processes": len(collector.known),
            "yours": [
                _describe(one) for one in collector.known.values() if peer.uid in (0, one.core.uid)
            ][:MOST_DESCRIBED],
        }
        return json.dumps(status)


def _describe(subject: Subject) -> dict[str, object]:
    claims = subject.claims
    return {
        "pid": subject.core.pid,
        "uid": subject.core.uid,
        "binding": subject.core.binding,
        "id": claims.id if claims else "",
        "level": claims.procseal.level if claims else "",
        "expires": claims.expires.isoformat() if claims else "",
        "lease_seconds": round(subject.lease_seconds),
    }


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
