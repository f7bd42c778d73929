"""How much one user may have at a time: a clock in the test's hand."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from attestor.admission import Admission, Limits
from credential import Refused


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admission(clock: Callable[[], float], **limits: int) -> Admission:
    return Admission(Limits(**limits), clock)


def is_too_many(error: pytest.ExceptionInfo[Refused]) -> bool:
    return [str(one.reason) for one in error.value.findings] == ["local.too-many"]


def test_connections_of_one_user(clock: Clock) -> None:
    door = admission(clock, user_connections=2)
    with door.connection(1), door.connection(1), door.connection(2):
        with pytest.raises(Refused) as error, door.connection(1):
            pass
        assert is_too_many(error)
    with door.connection(1):
        pass


def test_connections_of_all_users(clock: Clock) -> None:
    door = admission(clock, connections=2)
    with door.connection(1), door.connection(2):
        with pytest.raises(Refused) as error, door.connection(3):
            pass
        assert is_too_many(error)


@pytest.mark.attack(number=131, attacker="an ordinary user", asset="others' turn")
def test_a_few_users_cannot_have_all_connections(clock: Clock) -> None:
    door = admission(clock, connections=4096, user_connections=1024)
    with ExitStack() as held:
        for uid in range(100):
            while True:
                try:
                    held.enter_context(door.connection(uid))
                except Refused:
                    break
        for uid in range(100, 110):
            held.enter_context(door.connection(uid))


def test_requests_of_one_user_at_a_time(clock: Clock) -> None:
    door = admission(clock, waiting=1)
    with door.waiting(1), door.waiting(2):
        with pytest.raises(Refused) as error, door.waiting(1):
            pass
        assert is_too_many(error)
    with door.waiting(1):
        pass


async def test_work_of_one_user_is_done_one_after_the_other(clock: Clock) -> None:
    door = admission(clock)
    going_on = {1: 0, 2: 0}
    most = {1: 0, 2: 0}

    async def work(uid: int) -> None:
        async with door.turn(uid):
            going_on[uid] += 1
            most[uid] = max(most[uid], going_on[uid])
            await asyncio.sleep(0)
            going_on[uid] -= 1

    await asyncio.gather(*(work(uid) for uid in (1, 2) * 20))
    assert most == {1: 1, 2: 1}


async def test_another_users_turn_does_not_wait(clock: Clock) -> None:
    door = admission(clock)
    async with door.turn(1), asyncio.timeout(30), door.turn(2), door.proof_turn(1):
        pass


async def test_requests_of_one_user_in_a_while(clock: Clock) -> None:
    door = admission(clock, burst=3, per_minute=60)

    async def ask(uid: int) -> None:
        async with door.turn(uid):
            pass

    for _ in range(3):
        await ask(1)
    with pytest.raises(Refused) as error:
        await ask(1)
    assert is_too_many(error)
    await ask(2)
    clock.now += 1
    await ask(1)
    with pytest.raises(Refused):
        await ask(1)
    async with door.turn(1, cost=0):
        pass
