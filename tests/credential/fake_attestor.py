"""The attestor's side of the local protocol, with real sockets and nothing behind it."""

import os
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from credential import Finding, Malformed, local, presentation
from credential.local import (
    Credential,
    Job,
    Message,
    Nonce,
    Obtain,
    Opened,
    Proof,
    Prove,
    Refusal,
    Token,
)
from tests.credential import world

NO_DESCRIPTOR = Finding(reason="local.malformed", what="expected one descriptor and the nonce")


def to_prove(asked: Prove) -> Message:
    """A proof for what was asked, at the time of day: its reader is another program."""
    proof = presentation.compose(
        "dpop" if asked.kind else "wpt",
        token=token(),
        use_key=world.CLAIMS.use_key,
        audience=asked.audience,
        method=asked.method,
        url=asked.url,
        nonce=asked.nonce,
        now=datetime.now(UTC),
        jti=secrets.token_bytes(16),
    ).sign(world.USE_KEY)
    return Proof(token=token(), proof=proof)


@cache
def token() -> str:
    """The token of this hour, of level lab as in the demo."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return world.make_token(level="lab", issued=hour, expires=hour + timedelta(hours=2))


def to_obtain(_asked: Obtain) -> Message | bytes:
    """The credential."""
    expires = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
    return Credential(token=token(), expires=expires, id=world.ID, level="lab")


@dataclass(slots=True, kw_only=True)
class FakeAttestor:
    """Answers everybody at `path`; its answers are functions, or bytes sent as they are."""

    path: Path
    nonce: Callable[[], Message | bytes] = lambda: Nonce(nonce=secrets.token_hex(32))
    to_obtain: Callable[[Obtain], Message | bytes] = to_obtain
    to_prove: Callable[[Prove], Message | bytes] = to_prove
    to_token: Callable[[], Message | bytes] = lambda: to_obtain(Obtain(nonce=""))
    opens_jobs: bool = True
    jobs: list[socket.socket] = field(default_factory=list)
    """Our ends, of those that were opened."""
    heard: list[Message] = field(default_factory=list)
    backlog: int = 16
    _listener: socket.socket = field(init=False)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self._listener.listen(self.backlog)
        if self.backlog:
            self.start()
        return self

    def start(self) -> None:
        """Begin to accept; done already where there is a backlog."""
        self._run(self._accept)

    def __exit__(
        self, _type: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        for job in self.jobs:
            job.close()

    def socket_pair(self) -> socket.socket:
        """The child's end of a channel whose other end is served."""
        own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._run(lambda: self._serve(own))
        return other

    def _run(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target)
        thread.start()
        self._threads.append(thread)

    def _accept(self) -> None:
        while True:
            try:
                channel, _ = self._listener.accept()
            except OSError:
                return
            self._run(lambda channel=channel: self._serve(channel))  # type: ignore[misc]

    def _serve(self, channel: socket.socket) -> None:
        with channel:
            try:
                self._converse(channel)
            except (ConnectionError, Malformed):
                return

    def _converse(self, channel: socket.socket) -> None:
        nonce = self.nonce()
        _send(channel, nonce)
        data, descriptors, _, _ = socket.recv_fds(channel, local.MOST_BYTES, 4)
        for descriptor in descriptors:
            os.close(descriptor)
        if not data:
            return
        asked = Obtain.decode(data)
        self.heard.append(asked)
        if len(descriptors) != 1 or not isinstance(nonce, Nonce) or asked.nonce != nonce.nonce:
            _send(channel, Refusal.of((NO_DESCRIPTOR,)))
            return
        _send(channel, self.to_obtain(asked))
        while data := channel.recv(local.MOST_BYTES):
            self._answer(channel, local.decode(data))

    def _answer(self, channel: socket.socket, asked: Message) -> None:
        self.heard.append(asked)
        if isinstance(asked, Prove):
            _send(channel, self.to_prove(asked))
        elif isinstance(asked, Job):
            self._open(channel, asked)
        elif isinstance(asked, Token):
            _send(channel, self.to_token())

    def _open(self, channel: socket.socket, asked: Job) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.jobs.append(ours)
        with theirs:
            data = Opened(name=asked.name).encode()
            socket.send_fds(channel, [data], [theirs.fileno()] if self.opens_jobs else [])


def _send(channel: socket.socket, message: Message | bytes) -> None:
    channel.send(message if isinstance(message, bytes) else message.encode())
