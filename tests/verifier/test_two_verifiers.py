"""Two verifiers on one database are one verifier: nothing is lost, doubled or out of order."""
# ruff: noqa: ANN401 - options and answers are of any type

import gc
import http.client
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy.exc import DBAPIError

from tests.open_doors import Door, open_doors
from tests.postgresql import PostgreSql
from tests.relying_party import Party, register, token_of
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import SimulatedNode
from tests.verifier.test_kill import (
    Lost,
    Machine,
    Verifier,
    demand_nothing_lost,
    demand_nothing_torn,
    demand_nothing_twice,
    machines,
    make_another_home,
    make_home,
)
from verifier import Reason, Rejected
from verifier.case import WORKLOAD
from verifier.config import Misconfigured
from verifier.keys import GRANT_KEY, WIT_KEY, make_private
from verifier.ledger import Cause, Kind
from verifier.rows import ENROLLED

NODES = 8
ROUNDS = 6
KILLS = 12
STEP = 15
"""Seconds between two sweeps."""


@dataclass
class Pair:
    """Two verifiers, with a clock and an inventory that are the same."""

    first: RunningVerifier
    second: RunningVerifier
    database: str

    @classmethod
    @contextmanager
    def running(cls, directory: Path, database: str) -> Iterator["Pair"]:
        (directory / "first").mkdir()
        first = RunningVerifier(directory / "first", database=database)
        second = cls.another(first, directory / "second", database)
        yield cls(first, second, database)
        first.close()
        second.close()

    @staticmethod
    def another(
        first: RunningVerifier, directory: Path, database: str, **options: Any
    ) -> RunningVerifier:
        shutil.copytree(first.config.state.parent, directory)
        given = {"database": database, "allow_list": first.config.allow_list}
        return RunningVerifier(directory, **(given | options))

    @property
    def both(self) -> tuple[RunningVerifier, RunningVerifier]:
        return self.first, self.second

    def player(self, name: str = "build-7") -> Player:
        """Return a node that both trust and that speaks to the one or the other at random."""
        node = SimulatedNode(name)
        self.first.trust(node)
        player = Player(node, self.first.service)
        either: Any = Either([one.door for one in self.both], random.Random(name))
        player.door = either
        return player


class Either:
    """A door that leads each call to one of several verifiers."""

    def __init__(self, doors: list[Any], chance: random.Random) -> None:
        self._doors = doors
        self._chance = chance

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._chance.choice(self._doors), name)  # type: ignore[no-any-return]


@pytest.fixture
def pair(tmp_path: Path, shared_database: str) -> Iterator[Pair]:
    with Pair.running(tmp_path, shared_database) as pair:
        yield pair


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Return what the calls answer that are made at the same time, or why they were refused."""

    def answer(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Rejected as rejected:
            return {one.reason for one in rejected.findings}

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(answer, calls))


# One conversation


def test_each_step_may_be_at_another_verifier(pair: Pair) -> None:
    first, second = (one.door for one in pair.both)
    node = SimulatedNode()
    pair.first.trust(node)
    activation = first.enrol(node.enrol_message())
    assert second.answer_activation(node.answer(activation)).status == ENROLLED
    process = node.new_process()
    player = Player(node, pair.first.service)
    for asked, told in ((first, second), (second, first), (first, second)):
        new = [] if player.processes else [process]
        challenge = asked.challenge(node.challenge_request([process]))
        result = told.evidence(node.evidence(challenge, new, player.processes))
        player.take(challenge, process, result.outcomes[0])
        player.processes = [process]
    jti = player.claims(process).jti
    assert pair.first.statuses() == pair.second.statuses() == {jti: "valid"}
    first.gone(node.gone(process))
    assert pair.second.statuses() == {jti: Cause.EXITED}
    assert second.gone(node.gone(process)).key_names == (process.key_name,)
    assert pair.first.kinds().count(Kind.CREDENTIAL_REVOKED) == 1
    assert pair.first.ledger() == pair.second.ledger()


def test_an_enrolment_is_answered_once(pair: Pair) -> None:
    node = SimulatedNode()
    pair.first.trust(node)
    answer = node.answer(pair.first.door.enrol(node.enrol_message()))
    told = at_once(*(partial(one.door.answer_activation, answer) for one in pair.both * 2))
    assert told.count({Reason.ENROL_CHALLENGE}) == 3
    assert pair.first.kinds().count(Kind.NODE_ENROLLED) == 1


def test_a_challenge_is_answered_once(pair: Pair) -> None:
    player = pair.player()
    player.enrol()
    process = player.node.new_process()
    message = player.node.evidence(player.challenge([process]), [process])
    told = at_once(*(partial(one.door.evidence, message) for one in pair.both * 2))
    assert told.count({Reason.CHALLENGE_UNKNOWN}) == 3
    assert pair.first.kinds().count(Kind.EVIDENCE_ACCEPTED) == 1
    assert len(pair.first.statuses()) == 1


def test_a_policy_counts_at_both_at_once(pair: Pair) -> None:
    player = pair.player()
    player.enrol()
    process = player.node.new_process()
    player.attest([process])
    for verifier, scope in zip(pair.both * 2, ("read", "pay", "list", "read"), strict=True):
        text = player.node.workload_toml().replace('["post"]', f'["{scope}"]')
        verifier.operators.put(WORKLOAD, text)
        player.attest()
        assert player.claims(process).procseal.scopes == (scope,)


def test_both_change_the_policy_at_once(pair: Pair) -> None:
    text = SimulatedNode().workload_toml()
    pair.player()
    before = pair.first.operators.status()["policy_version"]

    def put(verifier: RunningVerifier, number: int) -> int:
        name = text.replace("payments", f"payments-{number}", 1)
        return int(verifier.operators.put(WORKLOAD, name)["version"])

    calls = [partial(put, pair.both[number % 2], number) for number in range(10)]
    assert sorted(at_once(*calls)) == list(range(before + 1, before + 11))
    assert len(pair.second.operators.documents(WORKLOAD)) == 11


# Whoever listens


def test_a_relying_party_hears_of_what_happened_at_the_other(pair: Pair) -> None:
    player = pair.player()
    player.enrol()
    process = player.node.new_process()
    player.attest([process])
    token = token_of(player, process)
    with open_doors(pair.first.service) as here, open_doors(pair.second.service) as there:
        party = register(pair.second, here, "ledger", player.node.audience)
        elsewhere = Party(there, party.name, party.secret)
        assert party.state(token) == elsewhere.state(token) == "valid"
        connection = http.client.HTTPConnection("localhost", here.port, timeout=10)
        connection.request("GET", "/v1/status-changes")
        response = connection.getresponse()
        pair.second.operators.credential_revoke(player.claims(process).jti)
        assert party.state(token) == elsewhere.state(token) == "revoked"
        while not (line := response.readline()).startswith(b"data: "):
            assert line
        assert line.decode().strip() == f"data: {party.list_of(token).uri}"
        connection.close()


# Many at once


def follow(verifier: RunningVerifier, is_over: Event) -> list[tuple[int, str, str]]:
    """Return the rows as somebody sees them who asks again and again for what is new."""
    seen: list[tuple[int, str, str]] = []
    while True:
        was_over = is_over.is_set()
        with verifier.service.reading() as reading:
            rows = reading.ledger(after=seen[-1][0] if seen else 0)
        seen += [(row.seq, row.kind, row.subject) for row in rows]
        if was_over and not rows:
            return seen


def test_many_nodes_at_both(pair: Pair) -> None:
    players = [pair.player(f"build-{number}") for number in range(NODES)]
    is_over = Event()
    lives: dict[str, str] = {}

    def live(player: Player) -> None:
        player.enrol()
        for number in range(ROUNDS):
            player.attest([player.node.new_process()])
            lives[player.claims(player.processes[-1]).jti] = "valid"
            if number % 3 == 2:
                ended = player.processes.pop(0)
                lives[player.claims(ended).jti] = Cause.EXITED
                player.door.gone(player.node.gone(ended))

    with ThreadPoolExecutor(NODES + 2) as pool:
        following = [pool.submit(follow, one, is_over) for one in pair.both]
        living = [pool.submit(live, player) for player in players]
        try:
            for life in living:
                life.result()
        finally:
            is_over.set()
    rows = pair.first.ledger()
    assert [row.seq for row in rows] == [number + 1 for number in range(len(rows))]
    for one in following:
        assert one.result() == [(row.seq, row.kind, row.subject) for row in rows]
    assert pair.first.statuses() == pair.second.statuses() == lives
    kinds = Counter(row.kind for row in rows)
    assert kinds[Kind.NODE_ENROLLED] == NODES
    assert kinds[Kind.EVIDENCE_ACCEPTED] == kinds[Kind.CREDENTIAL_ISSUED] == NODES * ROUNDS
    assert kinds[Kind.CREDENTIAL_REVOKED] == NODES * ROUNDS // 3
    issued = [row for row in rows if row.kind == Kind.CREDENTIAL_ISSUED]
    for row in issued:  # each with the decision that it names
        decision = rows[int(str(row.body["decision"])) - 1]
        assert (decision.kind, decision.subject) == (Kind.EVIDENCE_ACCEPTED, row.body["node"])
        assert decision.evidence == row.evidence
    claims = [player.claims(one) for player in players for one in player.processes]
    assert len({one.status for one in claims}) == len(claims)


def test_both_sweep_and_each_end_is_there_once(pair: Pair) -> None:
    players = [pair.player(f"build-{number}") for number in range(4)]
    for player in players:
        player.enrol()
        player.attest([player.node.new_process()])
    for seconds, kind in ((105, Kind.CREDENTIAL_SUSPENDED), (210, Kind.CREDENTIAL_REVOKED)):
        for _ in range(seconds // STEP):
            for one in pair.both:
                one.wait(STEP - 1)
            at_once(*(partial(one.watch, 1) for one in pair.both))
        assert pair.first.kinds().count(kind) == len(players)


def test_a_database_that_is_away_is_nobodys_silence(pair: Pair, postgresql: PostgreSql) -> None:
    player = pair.player()
    player.enrol()
    player.attest([player.node.new_process()])
    assert pair.first.watch(80) == 0
    with postgresql.away():
        for _ in range(20):
            pair.first.wait(20)
            with pytest.raises(DBAPIError):
                pair.first.watch(1)
    assert pair.first.watch(80) == 0
    assert set(pair.first.statuses().values()) == {"valid"}
    assert pair.first.watch(30) == 1
    assert set(pair.first.statuses().values()) == {Cause.LATE}


# What they have in common


@pytest.mark.parametrize("file", [WIT_KEY, GRANT_KEY])
def test_another_key_is_refused(pair: Pair, file: str) -> None:
    """Its tokens, lists or grants would be good at one of them only."""
    state = pair.second.config.state
    (state / file).unlink()
    make_private(state / file)
    with pytest.raises(Misconfigured, match=file):
        pair.second.restart()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("issuer", "https://another.example.org"),
        ("trust_domain", "another.example.org"),
        ("execute_register", 11),
    ],
)
def test_another_configuration_is_refused(
    pair: Pair, tmp_path: Path, option: str, value: str | int
) -> None:
    with pytest.raises(Misconfigured, match=option):
        Pair.another(pair.first, tmp_path / "third", pair.database, **{option: value})


def test_one_that_does_not_start_leaves_no_connection(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="none"):
        Pair.another(pair.first, tmp_path / "third", pair.database, allow_list=tmp_path / "none")
    gc.collect()  # psycopg warns of one that nobody has closed, and a warning is an error


# The death of one


@pytest.fixture
def killed(tmp_path: Path, shared_database: str) -> Iterator[tuple[Verifier, Verifier]]:
    first = make_home(tmp_path / "first", shared_database)
    second = make_another_home(tmp_path / "second", first)
    pair = Verifier(first), Verifier(second)
    yield pair
    for one in pair:
        one.kill()
        one.process.join(20)


def drive(mine: list[Machine], doors: dict[int, Door], is_over: Event, seed: int) -> int:
    """Let nodes do what nodes do at whichever verifier; say how often one was not there."""
    chance, lost = random.Random(seed), 0
    while not is_over.is_set():
        machine = chance.choice(mine)
        machine.player.door = doors[chance.choice([0, 1])]
        try:
            machine.step(chance)
        except Lost:
            lost += 1
    return lost


@pytest.mark.timeout(300)
def test_one_is_killed_and_the_other_goes_on(killed: tuple[Verifier, Verifier]) -> None:
    seed = int(os.environ.get("PROCSEAL_SEED", random.SystemRandom().randrange(1 << 32)))
    sys.stdout.write(f"PROCSEAL_SEED={seed}\n")
    chance = random.Random(seed)
    doors = {number: one.start() for number, one in enumerate(killed)}
    every = machines(killed[0])
    is_over = Event()
    with ThreadPoolExecutor(4) as pool:
        driving = [
            pool.submit(drive, every[number::4], doors, is_over, seed + number)
            for number in range(4)
        ]
        before: list[tuple[object, ...]] = []
        try:
            for number in range(KILLS):
                is_over.wait(chance.uniform(0.1, 1.0))
                victim = killed[number % 2]
                victim.kill()
                victim.process.join(20)
                ledger = victim.rows("SELECT seq, kind, subject, body FROM ledger ORDER BY seq")
                assert ledger[: len(before)] == before, "the ledger only grows"
                assert [row[0] for row in ledger] == [one + 1 for one in range(len(ledger))]
                before = ledger
                doors[number % 2] = victim.start()
        finally:
            is_over.set()
        lost = sum(one.result() for one in driving)
    sys.stdout.write(f"{lost} calls lost; {len(before)} rows in the ledger\n")
    for machine in every:
        machine.player.door = chance.choice(list(doors.values()))
        while machine.lost or machine.ending or machine.unanswered or not machine.is_enrolled:
            machine.step(chance)
        machine.attest([])
    demand_nothing_lost(every, killed[0])
    demand_nothing_torn(killed[0])
    demand_nothing_twice(killed[0])
