"""Who is at the other end of a UNIX socket, and who sent each message.

SO_PEERCRED and SO_PEERPIDFD name whoever connected, and go on naming it when the socket is in
other hands; only what the kernel attaches to each message names its sender. So every message is
compared with the process of the connection, by the strongest means that the kernel has:

    pidfs   Linux 6.9   pidfds have an inode of their own, one per process and boot
    pidfd   Linux 6.5   SCM_PIDFD: two living pidfds with one pid number are one process
    pid     before      SCM_CREDENTIALS: a pid number that cannot be reused while our pidfd,
                        opened at accept, shows the process alive
"""

import os
import socket
import struct
from array import array
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Self

from attestor.look import is_alive, pid_of, pidfs_inode
from attestor.reasons import Local, refuse
from credential import local

SO_PASSPIDFD = 76
SO_PEERPIDFD = 77
SCM_PIDFD = 4
"""asm-generic/socket.h and linux/socket.h, since 6.5; Python has no names for them."""

PeerProof = Literal["child", "pidfs", "pidfd", "pid"]

MOST_DESCRIPTORS = 16
"""Of one message; a launch brings three, everything else one."""
_CREDENTIALS = struct.Struct("=iII")
"""struct ucred: pid, uid, gid."""
_ANCILLARY_BYTES = (
    socket.CMSG_SPACE(_CREDENTIALS.size)
    + socket.CMSG_SPACE(4)
    + socket.CMSG_SPACE(4 * MOST_DESCRIPTORS)
)


@dataclass(frozen=True, slots=True)
class Kernel:
    """What this kernel can say of peers."""

    has_peer_pidfd: bool
    has_pidfs: bool

    @classmethod
    def find_out(cls) -> Self:
        """Ask it; versions say little on kernels with backports."""
        pidfd = os.pidfd_open(os.getpid())
        try:
            has_pidfs = pidfs_inode(pidfd) > 0
        finally:
            os.close(pidfd)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)
            except OSError:
                return cls(has_peer_pidfd=False, has_pidfs=has_pidfs)
        return cls(has_peer_pidfd=True, has_pidfs=has_pidfs)

    @property
    def peer_proof(self) -> PeerProof:
        """What an attached process's record says."""
        if not self.has_peer_pidfd:
            return "pid"
        return "pidfs" if self.has_pidfs else "pidfd"

    def name_senders(self, channel: socket.socket) -> None:
        """Have the kernel name the sender of each message; on a listener, before it listens."""
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        if self.has_peer_pidfd:
            channel.setsockopt(socket.SOL_SOCKET, SO_PASSPIDFD, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The process that a conversation is with."""

    pidfd: int
    pid: int
    uid: int
    gid: int
    proof: PeerProof
    kernel: Kernel

    @classmethod
    def of(cls, channel: socket.socket, kernel: Kernel) -> Self:
        """Return who connected; raise Refused where the kernel cannot say, or it has ended."""
        data = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(data)
        try:
            if kernel.has_peer_pidfd:
                pidfd = channel.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
                os.set_inheritable(pidfd, False)  # noqa: FBT003
            else:
                pidfd = os.pidfd_open(pid)
        except (OSError, ValueError) as error:
            raise refuse(Local.PEER_UNKNOWN, f"pid {pid}", found=str(error)) from error
        if pid <= 0 or pid_of(pidfd) != pid:
            os.close(pidfd)
            raise refuse(Local.PEER_UNKNOWN, f"pid {pid}", found="gone, or not ours to see")
        return cls(pidfd=pidfd, pid=pid, uid=uid, gid=gid, proof=kernel.peer_proof, kernel=kernel)

    def close(self) -> None:
        """Let go of the process."""
        os.close(self.pidfd)

    @property
    def label(self) -> str:
        """What people read of it."""
        return f"pid {self.pid}, uid {self.uid}"


@dataclass(slots=True, kw_only=True)
class Packet:
    """One message, with what the kernel attached to it."""

    data: bytes
    pid: int
    uid: int
    pidfd: int
    """The sender's, or -1 before Linux 6.5."""
    descriptors: list[int]

    def close(self) -> None:
        """Close every descriptor that came along; once is enough, twice does no harm."""
        while self.descriptors:
            os.close(self.descriptors.pop())
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def is_from(self, peer: Peer) -> bool:
        """Say whether it was this process that sent the message."""
        if not is_alive(peer.pidfd):
            return False
        if not peer.kernel.has_peer_pidfd:
            # The kernel filled the pid in when the message was sent; that number has been the
            # peer's from our pidfd_open until now.
            return (self.pid, self.uid) == (peer.pid, peer.uid)
        if self.pidfd < 0:
            return False
        if peer.kernel.has_pidfs:
            return pidfs_inode(self.pidfd) == pidfs_inode(peer.pidfd) != 0
        return is_alive(self.pidfd) and pid_of(self.pidfd) == pid_of(peer.pidfd) != 0


def receive(channel: socket.socket) -> Packet | None:
    """Return the next message of a non-blocking channel, or None at its end.

    Raise BlockingIOError where there is none yet, Refused for one that does not fit.
    """
    data, ancillary, flags, _ = channel.recvmsg(
        local.MOST_BYTES + 1, _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC
    )
    packet = _packet(data, ancillary)
    if not data and not ancillary:
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(data) > local.MOST_BYTES:
        packet.close()
        limits = f"{local.MOST_BYTES} bytes, {MOST_DESCRIPTORS} descriptors"
        raise refuse(Local.TOO_MANY, "the message", expected=f"at most {limits}")
    return packet


def _packet(data: bytes, ancillary: Iterable[tuple[int, int, bytes]]) -> Packet:
    pid, uid, pidfd, descriptors = 0, -1, -1, array("i")
    for level, kind, value in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS:
            pid, uid, _ = _CREDENTIALS.unpack(value[: _CREDENTIALS.size])
        elif kind == SCM_PIDFD:
            pidfd = int.from_bytes(value[:4], "little", signed=True)
        elif kind == socket.SCM_RIGHTS:
            descriptors.frombytes(value[: len(value) - len(value) % descriptors.itemsize])
    return Packet(data=data, pid=pid, uid=uid, pidfd=pidfd, descriptors=list(descriptors))


def listen(path: str, kernel: Kernel) -> socket.socket:
    """Return the listener at `path`, which everyone may connect to."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    kernel.name_senders(listener)
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    listener.bind(path)
    os.chmod(path, 0o666)  # noqa: PTH101, S103 whoever connects is looked at
    listener.listen(128)
    return listener
