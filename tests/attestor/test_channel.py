"""Messages in the event loop, and their deadlines."""

import asyncio
import os
import socket

import pytest

from attestor.channel import Channel, Ended, read_pipe
from credential import Refused, local


@pytest.fixture
def ends() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


async def test_a_message_each_way(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    with ours, theirs:
        channel = Channel(ours)
        await channel.send(local.Token())
        assert local.decode(theirs.recv(100)) == local.Token()
        waiting = asyncio.create_task(channel.receive(5))
        await asyncio.sleep(0)
        theirs.send(b"hello")
        assert (await waiting).data == b"hello"


async def test_nothing_comes(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    with ours, theirs, pytest.raises(Refused) as error:
        await Channel(ours).receive(0.01)
    assert [str(one.reason) for one in error.value.findings] == ["local.timeout"]


async def test_the_other_end_hangs_up(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    with ours:
        channel = Channel(ours)
        waiting = asyncio.create_task(channel.receive(5))
        await asyncio.sleep(0)
        theirs.close()
        with pytest.raises(Ended):
            await waiting
        with pytest.raises(Ended):
            await channel.send(local.Token())


async def test_nobody_takes_what_is_sent(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attestor.channel.SEND_SECONDS", 0.05)
    ours, theirs = ends
    with ours, theirs:
        channel = Channel(ours)

        async def fill() -> None:
            while True:
                await channel.send(local.Token())

        with pytest.raises(Ended):
            await fill()


async def test_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"1234")
    assert await read_pipe(reading, 4) == b"1234"
    os.close(writing)
    assert await read_pipe(reading, 4) == b""
    os.close(reading)
