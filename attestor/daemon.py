"""The daemon: its parts, how they know each other, and how it ends.

a process connects   reception: a conversation (handshake, then replies)
a round is due       rounds: evidence (collector, by lookout and quote), then grants
a process ends       watch, jobs and lookout: `end`, then farewells
a successor starts   succession
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from attestor.admission import Admission, Limits
from attestor.aside import aside
from attestor.client import Unreachable, Verifier
from attestor.collector import Collector
from attestor.config import Config
from attestor.enrolment import enrol
from attestor.farewells import Farewells
from attestor.grants import Grants
from attestor.hand_over import tell_systemd
from attestor.jobs import PARENT_ENDED, Jobs
from attestor.launcher import Launcher
from attestor.lookout import Lookout
from attestor.machine import Machine
from attestor.peer import Kernel
from attestor.reception import MOST_REFUSED, Reception
from attestor.roster import Roster
from attestor.rounds import Rounds
from attestor.services import Services
from attestor.state import State
from attestor.status import Status
from attestor.subject import Subject
from attestor.succession import Succession
from attestor.tpm import TpmFailed
from attestor.watch import Watch
from attestor.workers import Workers
from credential import Refused

FAREWELL_SECONDS = 3
"""For telling the verifier, at the end, which keys are forgotten."""

log = logging.getLogger("attestor")


class Daemon:
    """The parts, and what happens between them."""

    def __init__(  # noqa: PLR0913, PLR0917 - what there is once it has started
        self,
        config: Config,
        kernel: Kernel,
        machine: Machine,
        verifier: Verifier,
        workers: Workers,
        listener: socket.socket,
    ) -> None:
        self._config = config
        self._machine = machine
        self._verifier = verifier
        self._tpm = workers.tpm
        self._farewells = Farewells(node=config.node, verifier=verifier, instance=machine.instance)
        self._watch = Watch(self.end)
        self._jobs = Jobs(self.end)
        self._roster = Roster()
        self._rounds = self._plan_rounds(workers)
        self._succession = Succession(
            machine=machine,
            nursery=workers.nursery,
            tpm=workers.tpm,
            between_rounds=self._rounds.between,
            listener=listener,
        )
        services = self._services(workers)
        self._reception = Reception(
            kernel=kernel,
            services=services,
            launcher=Launcher(nursery=workers.nursery, kernel=kernel, services=services),
            status=Status(
                config=config,
                kernel=kernel,
                verifier=verifier,
                tpm=workers.tpm,
                rounds=self._rounds,
            ),
            succession=self._succession,
            lines=asyncio.Semaphore(config.most_connections + MOST_REFUSED),
        )

    def _plan_rounds(self, workers: Workers) -> Rounds:
        machine, roster, looker = self._machine, self._roster, workers.acquaintances
        return Rounds(
            machine=machine,
            verifier=self._verifier,
            tpm=workers.tpm,
            roster=roster,
            collector=Collector(
                machine=machine,
                tpm=workers.tpm,
                measurement_list=workers.measurement_list,
                lookout=Lookout(looker, roster, self.end),
                roster=roster,
            ),
            grants=Grants(machine.node, workers.tpm, looker, roster),
            interval_seconds=self._config.interval.total_seconds(),
            canaries=workers.canaries,
            on_canaries=self._count_canaries,
            enrol=self._enrol,
        )

    def _services(self, workers: Workers) -> Services:
        config = self._config
        limits = Limits(
            connections=config.most_connections,
            user_connections=config.most_user_connections,
            waiting=config.most_user_waiting,
            per_minute=config.user_requests_per_minute,
        )
        return Services(
            machine=self._machine,
            rounds=self._rounds,
            tpm=workers.tpm,
            admission=Admission(limits, time.monotonic),
            watch=self._watch,
            jobs=self._jobs,
            strangers=workers.strangers,
            acquaintances=workers.acquaintances,
            on_end=self.end,
        )

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until a signal says to stop, or a successor speaks; `ready` is told it begins."""
        loop = asyncio.get_running_loop()
        restart = self._succession.restart
        loop.add_signal_handler(signal.SIGHUP, lambda: self._reception.begin(restart()))
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        work: list[Coroutine[Any, Any, object]] = [
            self._rounds.run(),
            self._farewells.run(),
            self._watch.run(),
            self._reception.run(),
            stop.wait(),
            self._succession.over.wait(),
        ]
        tasks = [asyncio.create_task(one) for one in work]
        try:
            ready()
            tell_systemd("READY=1")
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # only the signal and the successor end without an error
        finally:
            aside(self._succession.listener.close)  # and what lies in connections not accepted yet
            await _cancel([*tasks, *self._reception.conversations])
            if not self._succession.over.is_set():
                await self._say_farewell()
            # Else the socket is the successor's, and its first evidence ends what was here.

    async def _say_farewell(self) -> None:
        """End the credentials: nobody will hold their keys any more."""
        with suppress(Unreachable, TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._farewells.tell()
        with suppress(OSError):
            self._config.socket.unlink()

    def end(self, subject: Subject, cause: str) -> None:
        """Forget a process and its steps; have the verifier told of those with an identity."""
        self._forget(subject, cause)
        for step in self._jobs.end_all_of(subject):
            self._forget(step, PARENT_ENDED)

    def _forget(self, subject: Subject, cause: str) -> None:
        self._watch.remove(subject)
        subject.end(cause)
        if self._roster.drop(subject) and not self._succession.over.is_set():
            self._farewells.add(subject.key_name, cause)

    def _count_canaries(self, count: int) -> None:
        """Remember how many have been let loose in this boot."""
        if count:
            state = State.load(self._config.state).of_boot(self._machine.boot)
            replace(state, canaries=state.canaries + count).save(self._config.state)

    async def _enrol(self) -> None:
        """Introduce the node to a verifier that does not know it."""
        try:
            enrolled = await enrol(self._config.node, self._verifier, self._tpm)
        except Refused as refused:
            raise Unreachable(f"the verifier does not enrol this node: {refused}") from refused
        except TpmFailed as error:
            raise Unreachable(f"enrolment: {error}") from error
        log.info("%s: %s, EK %s", enrolled.node, enrolled.status, enrolled.ek_hash)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
