"""A verifier that is killed at any moment loses nothing that it has acknowledged.

A real process behind TLS, with its database on a real disk, its own or a PostgreSQL's, is sent
SIGKILL at fifty random moments while simulated nodes enrol, attest and are given credentials. After
each restart what was acknowledged must be there, and what was spent must stay spent.
"""

import asyncio
import http.client
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Timer
from time import monotonic, sleep
from typing import Any

import pytest
from sqlalchemy import create_engine

from evidence.messages import ActivationAnswer, Challenge, Result, SignedMessage
from tests.open_doors import Door, Refused, trusting
from tests.running_verifier import Player
from tests.simulated_node import KERNEL_POLICY, SimulatedNode
from tests.simulated_process import SimulatedProcess
from tests.simulated_tpm import MANUFACTURER
from verifier import Reason, client, plain
from verifier.__main__ import main
from verifier.case import KERNEL_POLICY as KERNEL_POLICY_KIND
from verifier.case import REFERENCE, WORKLOAD, Head
from verifier.commands import YES
from verifier.config import Config
from verifier.doors.serving import Doors, serve
from verifier.enrolment import ek_hash
from verifier.keys import Keys
from verifier.store import Store

KILLS = 50
NODES = 30
MOST_STEPS = 8
"""That a verifier lives to see the end of, each an enrolment, an attestation or an end."""

Lost = (OSError, http.client.HTTPException)


def serve_until_killed(config: Path, ready: Connection) -> None:
    """What `verifier serve` does, but that it tells its URL to a pipe."""
    asyncio.run(serve(Doors.build(Config.load(config)), ready=ready.send))


@dataclass
class Machine:
    """A node, and what its verifier has acknowledged."""

    player: Player
    answered: ActivationAnswer | None = None
    is_enrolled: bool = False
    lost: tuple[Challenge, SignedMessage, list[SimulatedProcess]] | None = None
    """Evidence that was sent and not answered."""
    unanswered: list[SimulatedProcess] = field(default_factory=list)
    """Processes of which nobody knows whether they were accepted."""
    ending: SimulatedProcess | None = None
    spent: list[SignedMessage] = field(default_factory=list)
    tokens: dict[str, SimulatedProcess] = field(default_factory=dict)
    """Acknowledged ones, by jti."""
    gone: set[bytes] = field(default_factory=set)

    @property
    def node(self) -> SimulatedNode:
        return self.player.node

    def step(self, chance: random.Random) -> None:
        """Do the next thing that an attestor would."""
        if not self.is_enrolled:
            self.enrol()
        elif self.lost is not None:
            self.send_again()
        elif self.ending is not None or (len(self.player.processes) > 1 and chance.random() < 0.3):
            self.end(chance)
        else:
            self.attest([self.node.new_process()] if chance.random() < 0.6 else [])

    def enrol(self) -> None:
        activation = self.player.door.enrol(self.node.enrol_message())
        self.answered = self.node.answer(activation)
        assert self.player.door.answer_activation(self.answered).status == "enrolled"
        self.is_enrolled = True

    def attest(self, new: list[SimulatedProcess]) -> None:
        challenge = self.player.challenge()
        new, self.unanswered = [*self.unanswered, *new], []
        message = self.node.evidence(challenge, new, self.player.processes)
        self.lost = challenge, message, new
        self.settle(self.player.door.evidence(message))

    def send_again(self) -> None:
        """Send what got no answer: it is accepted if it was not judged, and never twice."""
        assert self.lost is not None
        _, message, new = self.lost
        try:
            self.settle(self.player.door.evidence(message))
        except Refused as refused:
            if not refused.reasons <= {Reason.CHALLENGE_UNKNOWN, Reason.CHALLENGE_EXPIRED}:
                raise  # a slow host's clock may have ended it
            self.lost = None
            self.unanswered = new
            self.spent.append(message)

    def settle(self, result: Result) -> None:
        """Open what was granted: now the verifier has said so."""
        assert self.lost is not None
        challenge, message, new = self.lost
        order = (*new, *self.player.processes)
        for process, outcome in zip(order, result.outcomes, strict=True):
            assert outcome.grant, outcome.findings
            self.player.take(challenge, process, outcome)
            self.tokens[self.player.claims(process).jti] = process
        self.player.processes = list(order)
        self.lost = None
        self.spent.append(message)

    def end(self, chance: random.Random) -> None:
        if self.ending is None:
            self.ending = self.player.processes.pop(chance.randrange(len(self.player.processes)))
        self.player.door.gone(self.node.gone(self.ending))
        self.gone.add(self.ending.key_name)
        self.ending = None


class Verifier:
    """The process that is killed, and what can be seen of it from outside."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = Config.load(home / "verifier.toml")
        self.keys = Keys.load(self.config.state)
        self._tls = trusting(home / "ca.pem")
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.verifier.test_kill"])

    def start(self) -> Door:
        """Start it; return its door once it is open."""
        here, there = self._context.Pipe(duplex=False)
        target = partial(serve_until_killed, self.home / "verifier.toml", there)
        self.process = self._context.Process(target=target, daemon=True)
        self.process.start()
        there.close()
        with here:
            assert here.poll(20), "it does not start"
            url: str = here.recv()
        return Door(int(url.rpartition(":")[2]), self._tls)

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> None:
        """Wait until it is dead, and until a PostgreSQL has finished what it had asked for."""
        self.process.join(20)
        assert self.process.exitcode == -signal.SIGKILL
        others = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        while self.config.database_url.startswith("postgresql:") and len(self.rows(others)) > 1:
            sleep(0.01)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the database itself, once its owner is dead."""
        url = self.config.database_url.replace("postgresql:", "postgresql+psycopg:")
        engine = create_engine(url)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.exec_driver_sql(query)]
        finally:
            engine.dispose()


def make_home(home: Path, database: str) -> Path:
    """Return the directory of a new verifier with this database."""
    arguments = ["--port", "0", "--host", "localhost", "--quiet"]
    assert main(["init", str(home), *arguments]) == YES
    (home / "ek-roots/manufacturer.der").write_bytes(MANUFACTURER.root())
    config = home / "verifier.toml"
    with config.open("a") as file:
        file.write(f'\ndatabase = "{database}"\n')
    return home


def make_another_home(home: Path, first: Path) -> Path:
    """Return the directory of a verifier that is as the first one, with a socket of its own."""
    shutil.copytree(first, home, ignore=shutil.ignore_patterns("*.sock"))
    config = home / "verifier.toml"
    config.write_text(config.read_text().replace(f"{first}/", f"{home}/"))
    (home / "allow-list").unlink()
    (home / "allow-list").symlink_to(first / "allow-list")
    return home


@pytest.fixture
def verifier(tmp_path: Path, database: str) -> Iterator[Verifier]:
    running = Verifier(make_home(tmp_path / "verifier", database))
    yield running
    running.kill()
    running.process.join(20)


def machines(verifier: Verifier) -> list[Machine]:
    """Return nodes that the verifier trusts, none of them enrolled."""

    class Opener:
        """What a Player needs of the service that it does not talk to."""

        keys = verifier.keys

    found = [
        Machine(Player(SimulatedNode(f"build-{number}"), Opener()))  # type: ignore[arg-type]
        for number in range(NODES)
    ]
    lines = [f"{ek_hash(one.node.tpm.ek.encode())} {one.node.name}\n" for one in found]
    (verifier.home / "allow-list").write_text("".join(lines))
    put = partial(client.call, verifier.config.socket, "put")
    for text in found[0].node.reference_toml():
        put(kind=REFERENCE, text=text)
    put(kind=KERNEL_POLICY_KIND, text=KERNEL_POLICY.decode())
    put(kind=WORKLOAD, text=found[0].node.workload_toml())
    return found


@dataclass
class Assassin:
    """Kills the verifier in the middle of a step, whatever the speed of the machine."""

    chance: random.Random
    verifier: Verifier
    seconds: float = 0.05
    """That a step takes, on average."""

    def drive(self, every: list[Machine], door: Door) -> str:
        """Let the nodes do what nodes do until the verifier is gone; say what was under way."""
        for machine in every:
            machine.player.door = door
        for _ in range(self.chance.randrange(MOST_STEPS)):
            started = monotonic()
            self.chance.choice(every).step(self.chance)
            self.seconds = 0.9 * self.seconds + 0.1 * (monotonic() - started)
        timer = Timer(self.chance.uniform(0, self.seconds), self.verifier.kill)
        timer.start()
        try:
            return self.until_dead(every)
        finally:
            timer.join()
            self.verifier.wait()

    def until_dead(self, every: list[Machine]) -> str:
        while True:
            machine = self.chance.choice(every)
            try:
                machine.step(self.chance)
            except Lost:
                if not machine.is_enrolled:
                    return "enrolment"
                return "evidence" if machine.lost else "end" if machine.ending else "challenge"


def demand_nothing_lost(every: list[Machine], verifier: Verifier) -> None:
    nodes = {str(row[0]) for row in verifier.rows("SELECT name FROM nodes")}
    query = "SELECT jti, key_name, status FROM tokens"
    tokens = {str(jti): (key_name, status) for jti, key_name, status in verifier.rows(query)}
    for machine in every:
        assert not machine.is_enrolled or machine.node.name in nodes
        for jti, process in machine.tokens.items():
            key_name, status = tokens[jti]
            assert key_name == process.key_name
            is_ending = machine.ending is not None and machine.ending.key_name == key_name
            if key_name in machine.gone:
                assert status == "revoked"
            elif not is_ending:
                assert status == "valid"


def demand_nothing_torn(verifier: Verifier) -> None:
    """Whatever is in one table is in all: a decision is whole or not there."""
    rows = verifier.rows("SELECT kind, body, evidence FROM ledger")
    kinds = [(kind, json.loads(body).get("jti"), evidence) for kind, body, evidence in rows]
    issued = Counter(jti for kind, jti, _ in kinds if str(kind).startswith("credential.i"))
    issued.update(jti for kind, jti, _ in kinds if kind == "credential.renewed")
    assert issued == Counter(jti for (jti,) in verifier.rows("SELECT jti FROM tokens"))
    revoked = Counter(jti for kind, jti, _ in kinds if kind == "credential.revoked")
    assert set(revoked.values()) <= {1}
    decided = Counter(d for kind, _, d in kinds if d and str(kind).startswith("evidence."))
    assert decided == Counter(d for (d,) in verifier.rows("SELECT digest FROM evidence"))
    enrolled = Counter(name for (name,) in verifier.rows("SELECT name FROM nodes"))
    query = "SELECT DISTINCT subject FROM ledger WHERE kind = 'node.enrolled'"
    assert enrolled == Counter(name for (name,) in verifier.rows(query))


def demand_nothing_twice(verifier: Verifier) -> None:
    """Each challenge was answered by one decision at most."""
    heads = [head for (head,) in verifier.rows("SELECT head FROM evidence")]
    challenges = Counter(plain.decode(Head, head).challenge for head in heads)
    assert set(challenges.values()) == {1}


def demand_spent(every: list[Machine]) -> None:
    """What was answered once is refused for ever."""
    for machine in every:
        calls: list[Callable[[], object]] = [
            partial(machine.player.door.evidence, message) for message in machine.spent[-3:]
        ]
        if machine.is_enrolled and machine.answered is not None:
            calls.append(partial(machine.player.door.answer_activation, machine.answered))
        for call in calls:
            with pytest.raises(Refused) as refused:
                call()
            assert refused.value.reasons & {Reason.CHALLENGE_UNKNOWN, Reason.ENROL_CHALLENGE}


def test_sigkill_at_any_moment(verifier: Verifier) -> None:
    seed = int(os.environ.get("PROCSEAL_SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"PROCSEAL_SEED={seed}\n")
    chance = random.Random(seed)
    door = verifier.start()
    every = machines(verifier)
    assassin = Assassin(chance, verifier)
    before: list[tuple[object, ...]] = []
    under_way: Counter[str] = Counter()
    kills = KILLS if verifier.config.database_url.startswith("sqlite:") else KILLS // 2
    for number in range(kills):
        under_way[assassin.drive(every, door)] += 1
        ledger = verifier.rows("SELECT * FROM ledger ORDER BY seq")
        assert ledger[: len(before)] == before, "the ledger only grows"
        before = ledger
        demand_nothing_lost(every, verifier)
        demand_nothing_torn(verifier)
        door = verifier.start()
        for machine in every:
            machine.player.door = door
        if number % 10 == 0:
            demand_spent(every)
    sys.stdout.write(f"killed during {dict(under_way)}; {len(before)} rows in the ledger\n")
    demand_nothing_twice(verifier)
    assert sum(under_way.values()) == kills
    for machine in every:
        while machine.lost or machine.ending or machine.unanswered or not machine.is_enrolled:
            machine.step(chance)
        machine.attest([])
    verifier.kill()
    verifier.wait()
    Store(verifier.config.database_url).close()
    demand_nothing_lost(every, verifier)
    demand_nothing_torn(verifier)
    demand_nothing_twice(verifier)
