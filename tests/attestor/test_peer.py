"""Who sent a message, by each of the three means that kernels have; the sockets are real."""

import os
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from attestor.peer import Kernel, Packet, Peer, listen, receive
from credential import Refused
from tests.attestor.puppets import LocalPuppet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starts programs of other users")

UID = 65534
KERNELS = {
    "pidfs": Kernel(has_peer_pidfd=True, has_pidfs=True),
    "pidfd": Kernel(has_peer_pidfd=True, has_pidfs=False),
    "pid": Kernel(has_peer_pidfd=False, has_pidfs=False),
}


@dataclass
class Meeting:
    """A listener, a puppet that is connected to it, and what the kernel says of the two."""

    listener: socket.socket
    kernel: Kernel
    path: Path
    start: Callable[[], LocalPuppet]

    def connect(self) -> tuple[LocalPuppet, socket.socket, Peer]:
        puppet = self.start()
        puppet.do(f"connect {self.path}")
        connection, _ = self.listener.accept()
        connection.setblocking(False)  # noqa: FBT003
        return puppet, connection, Peer.of(connection, self.kernel)


@pytest.fixture(params=KERNELS)
def meeting(
    request: pytest.FixtureRequest, puppet_path: Path, open_directory: Path
) -> Iterator[Meeting]:
    kernel = KERNELS[request.param]
    ours = Kernel.find_out()
    if (kernel.has_peer_pidfd, kernel.has_pidfs) > (ours.has_peer_pidfd, ours.has_pidfs):
        pytest.skip("this kernel has no such thing")
    assert kernel.peer_proof == request.param
    puppets: list[LocalPuppet] = []

    def start() -> LocalPuppet:
        puppets.append(LocalPuppet(puppet_path, uid=UID))
        return puppets[-1]

    path = open_directory / "socket"
    with listen(str(path), kernel) as listener:
        yield Meeting(listener, kernel, path, start)
    for puppet in puppets:
        puppet.end()


def next_packet(connection: socket.socket) -> Packet | None:
    """Return the next message that has been sent."""
    readable, _, _ = select.select([connection], [], [], 60)
    if not readable:
        raise TimeoutError
    return receive(connection)


def sender_is(connection: socket.socket, peer: Peer) -> bool:
    packet = next_packet(connection)
    assert packet is not None
    try:
        return packet.is_from(peer)
    finally:
        packet.close()


def test_the_process_itself(meeting: Meeting) -> None:
    puppet, connection, peer = meeting.connect()
    assert (peer.pid, peer.uid, peer.gid) == (puppet.pid, UID, UID)
    puppet.do("send hello|")
    packet = next_packet(connection)
    assert packet is not None
    assert packet.is_from(peer)
    assert (packet.data, packet.descriptors) == (b"hello\n", [])
    packet.close()
    puppet.do("give hello|")
    packet = next_packet(connection)
    assert packet is not None
    assert len(packet.descriptors) == 1
    packet.close()
    packet.close()
    connection.close()


@pytest.mark.attack(number=67, attacker="a child of the process", asset="the credential")
def test_a_child_is_another(meeting: Meeting) -> None:
    puppet, connection, peer = meeting.connect()
    puppet.do("child-give hello|")
    assert not sender_is(connection, peer)
    puppet.do("send hello|")
    assert sender_is(connection, peer)
    connection.close()


@pytest.mark.attack(number=69, attacker="whoever was given the socket", asset="the credential")
def test_whoever_was_given_the_socket_is_another(meeting: Meeting) -> None:
    puppet, connection, peer = meeting.connect()
    other = meeting.start()
    handover = Path(f"/tmp/procseal-handover-{os.getpid()}")  # where its user may write
    other.do(f"take {handover}")
    puppet.do(f"pass {handover}")
    assert other.hear() == "done"
    other.do("give hello|")
    assert not sender_is(connection, peer)
    handover.unlink()
    connection.close()


def test_a_pid_that_one_may_not_claim(meeting: Meeting) -> None:
    puppet, connection, _ = meeting.connect()
    assert puppet.say(f"forged-give {os.getpid()} hello|") == "failed Operation not permitted"
    connection.close()


def test_an_ended_process_has_sent_nothing(meeting: Meeting) -> None:
    """Its pid may be another's by now."""
    puppet, connection, peer = meeting.connect()
    puppet.do("send hello|")
    puppet.end()
    assert not sender_is(connection, peer)
    connection.close()


def test_an_ended_process_is_no_peer(meeting: Meeting) -> None:
    puppet = meeting.start()
    puppet.do(f"connect {meeting.path}")
    puppet.end()
    connection, _ = meeting.listener.accept()
    with connection, pytest.raises(Refused) as refused:
        Peer.of(connection, meeting.kernel)
    assert [str(one.reason) for one in refused.value.findings] == ["local.peer-unknown"]


def test_the_end_of_a_connection_is_no_message(meeting: Meeting) -> None:
    puppet, connection, _ = meeting.connect()
    puppet.do("close")
    assert next_packet(connection) is None
    connection.close()


def test_a_message_that_is_too_long(meeting: Meeting) -> None:
    puppet, connection, _ = meeting.connect()
    puppet.do(f"send {'x' * 65537}")
    with connection, pytest.raises(Refused) as refused:
        next_packet(connection)
    assert [str(one.reason) for one in refused.value.findings] == ["local.too-many"]
