"""For programs: obtain a credential from the attestor, and a proof for each request.

    async with obtain() as identity:
        token, proof = await identity.prove(audience=..., method="POST", url=...)

The use key stays with the attestor or its TPM, and this process is looked at again before each
proof, unless its workload says that it makes and keeps a key of its own.
"""

import asyncio
import os
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from credential import base64url, crypto, local, presentation
from credential.presentation import Kind
from credential.reasons import Refused
from credential.wit import ProofKey
from credential.wpt import JTI_BYTES

_RETRY_SECONDS = 0.05
_INT = struct.Struct("i")

Answer = TypeVar("Answer", bound=local.Message)


class Proven(NamedTuple):
    """What a request carries in its headers: `credential.presentation.headers`."""

    token: str
    proof: str


class Job(NamedTuple):
    """A job of this process's, for as long as its block lasts."""

    name: str
    fd: int
    """The job itself: whoever holds it may have steps launched. Not inherited unless passed on."""

    @property
    def environment(self) -> dict[str, str]:
        """What `attestor run --job` has to find, where the descriptor keeps its number."""
        return {local.JOB_VARIABLE: str(self.fd)}


class Identity:
    """The credential of this process, for as long as its connection to the attestor lives."""

    def __init__(self, channel: socket.socket, *, use_key: crypto.PrivateKey | None = None) -> None:
        self._channel = channel
        self._use_key = use_key
        self._turn = asyncio.Lock()
        self._exchanges: set[asyncio.Task[_Answer]] = set()
        self._credential: local.Credential | None = None

    @property
    def id(self) -> str:
        """The SPIFFE ID."""
        return self._current().id

    @property
    def level(self) -> str:
        """`lab`, `L1` ... `L4`: what was proven."""
        return self._current().level

    @property
    def expires(self) -> datetime:
        """When the last token seen here ends; the attestor renews it before."""
        return datetime.fromtimestamp(self._current().expires, UTC)

    async def prove(
        self, *, audience: str, method: str, url: str, kind: Kind = "wpt", nonce: str = ""
    ) -> Proven:
        """Return the current token and a proof for one request, good for a minute.

        A proof of the kind `"dpop"` may need the relying party's `nonce`.

        Raise Refused with the attestor's findings: the process is no longer what it was, the
        audience is not allowed, the lease has ended. Raise ConnectionError if the attestor is
        gone: obtain again.
        """
        if self._use_key is not None:
            token = await self.token()
            unsigned = presentation.compose(
                kind,
                token=token,
                use_key=crypto.point_of(self._use_key),
                audience=audience,
                method=method,
                url=url,
                nonce=nonce,
                now=datetime.now(UTC),
                jti=secrets.token_bytes(JTI_BYTES),
            )
            return Proven(token, unsigned.sign(self._use_key))
        form = "" if kind == "wpt" else kind
        asked = local.Prove(audience=audience, method=method, url=url, kind=form, nonce=nonce)
        answer = await self._ask(asked, local.Proof)
        return Proven(answer.token, answer.proof)

    async def token(self) -> str:
        """Return the current token, which is no secret and by itself lets nobody in."""
        self._credential = await self._ask(local.Token(), local.Credential)
        return self._credential.token

    @asynccontextmanager
    async def job(self, name: str) -> "AsyncIterator[Job]":
        """Open a job, for programs that this process has launched, and end it with the block.

            async with identity.job("build-17") as job:
                run(["attestor", "run", "--job", job.name, "--", "/usr/bin/sign"],
                    pass_fds=[job.fd], env=os.environ | job.environment)

        Whoever is given the descriptor may have steps launched, with arguments and input of its
        own. Raise Refused with the attestor's findings.
        """
        answer = await self._converse(local.Job(name=name))
        with answer:
            opened = _expect(answer.message, local.Opened)
            if not answer.descriptors:
                raise ConnectionError("the attestor sent no descriptor for the job")
            with socket.socket(fileno=answer.descriptors.pop()) as end:
                try:
                    yield Job(name=opened.name, fd=end.fileno())
                finally:
                    with suppress(OSError):  # it may be over already
                        end.shutdown(socket.SHUT_RDWR)  # whoever else holds it

    async def shake_hands(self, wanted: local.Obtain) -> None:
        """Answer the attestor's nonce, with a descriptor of our own: once, at the beginning.

        What is sent is `wanted`, with that nonce.

        A descriptor can only be sent by a program that means to; a golden `cat` that a thief
        lets speak for him cannot.
        """
        nonce = (await self._hear(local.Nonce)).nonce
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._send(self._with_use_key(replace(wanted, nonce=nonce)), descriptor)
        finally:
            os.close(descriptor)
        self._credential = await self._hear(local.Credential)

    def _with_use_key(self, wanted: local.Obtain) -> local.Obtain:
        """Name a key of our own, and show that we hold it."""
        if self._use_key is None:
            return wanted
        signature = crypto.sign(self._use_key, local.use_key_statement(wanted.nonce))
        return replace(
            wanted,
            use_key=base64url.encode(crypto.point_of(self._use_key)),
            signature=base64url.encode(signature),
        )

    async def aclose(self) -> None:
        """End the connection; the attestor then forgets the use key and revokes the token."""
        for exchange in self._exchanges:
            exchange.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)
        self._channel.close()

    def _current(self) -> local.Credential:
        if self._credential is None:
            raise ConnectionError("no credential has been obtained")
        return self._credential

    async def _ask(self, message: local.Message, expected: type[Answer]) -> Answer:
        """Send `message` and return its answer, which comes with no descriptors."""
        with await self._converse(message) as answer:
            return _expect(answer.message, expected)

    async def _converse(self, message: local.Message) -> "_Answer":
        """Send `message` and return its answer, which the caller closes.

        A caller that is cancelled leaves its exchange running to its end, so that its answer
        is never taken for that of the next one.
        """
        exchange = asyncio.create_task(self._exchange(message))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        exchange.add_done_callback(_retrieve)
        try:
            return await asyncio.shield(exchange)
        except asyncio.CancelledError:
            exchange.add_done_callback(_close)
            raise

    async def _exchange(self, message: local.Message) -> "_Answer":
        async with self._turn:
            with suppress(BrokenPipeError):  # its last words, a refusal, may be there to be read
                await self._send(message)
            return await self._receive()

    async def _send(self, message: local.Message, descriptor: int | None = None) -> None:
        data = message.encode()
        rights = [] if descriptor is None else [_rights(descriptor)]
        while True:
            try:
                self._channel.sendmsg([data], rights)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._until(loop.add_writer, loop.remove_writer)
            else:
                return

    async def _until(
        self, add: Callable[..., object], remove: Callable[[socket.socket], object]
    ) -> None:
        ready = asyncio.Event()
        add(self._channel, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self._channel)

    async def _hear(self, expected: type[Answer]) -> Answer:
        with await self._receive() as answer:
            return _expect(answer.message, expected)

    async def _receive(self) -> "_Answer":
        space, flags = socket.CMSG_SPACE(_INT.size), socket.MSG_CMSG_CLOEXEC
        while True:
            try:
                data, ancillary, _, _ = self._channel.recvmsg(local.MOST_BYTES + 1, space, flags)
            except BlockingIOError:
                loop = asyncio.get_running_loop()
                await self._until(loop.add_reader, loop.remove_reader)
            else:
                break
        if not data:
            raise ConnectionResetError("the attestor has ended the connection")
        descriptors = [_INT.unpack(value)[0] for _, _, value in ancillary]
        try:
            return _Answer(local.decode(data), descriptors)
        except BaseException:
            for one in descriptors:
                os.close(one)
            raise


@dataclass(slots=True)
class _Answer:
    """A message of the attestor's, and the descriptor that came with it, if one did."""

    message: local.Message
    descriptors: list[int]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        while self.descriptors:
            os.close(self.descriptors.pop())


@asynccontextmanager
async def obtain(  # noqa: PLR0913 - what a process may say of what it wants
    *, id: str = "",  # noqa: A002  (the protocol's word)
    audience: str = "", scopes: Iterable[str] = (), context: Mapping[str, str] | None = None,
    proof_key: ProofKey = "attestor",
    path: str | Path = local.DEFAULT_PATH,
) -> AsyncIterator[Identity]:  # fmt: skip
    """Obtain this process's credential, and give it back at the end.

    `id` is the SPIFFE ID wanted; without one, exactly one workload must match. `audience` and
    `scopes` are where and what for the token is wanted; without them it is for all that the
    workload allows now and nobody has to approve. `context` is what it is to say besides, as
    `{"session": "4711"}`: what the workload asks for, at most 1 kB. Another session obtains its
    own. What it was refused for may be granted later: obtain again.

    `proof_key` says who signs its proofs, as the workload does: its attestor, the TPM (slower, by
    some 0.2 s on a real one), or this process, with a key that is made here and ends with the
    block. A launched
    process talks through the descriptor that PROCSEAL_FD names, which is taken once; any other
    connects to `path`. Takes as long as a quote: bound it with `asyncio.timeout`.

    Raise Refused with the findings of attestor or verifier, OSError where no attestor answers.
    """
    channel = _inherited_channel() or await _connect(path)
    use_key = crypto.generate() if proof_key == "process" else None
    identity = Identity(channel, use_key=use_key)
    try:
        said = tuple(f"{name}={value}" for name, value in sorted((context or {}).items()))
        wanted = local.Obtain(
            nonce="",
            id=id,
            audience=audience,
            scope=tuple(scopes),
            context=said,
            proof_key="" if proof_key == "attestor" else proof_key,
        )
        await identity.shake_hands(wanted)
        yield identity
    finally:
        await identity.aclose()


def _inherited_channel() -> socket.socket | None:
    """Return the socket that PROCSEAL_FD names, if it names one.

    The variable goes away: the number may later stand for something else, and no child of
    this process may speak there (the attestor would not answer it).
    """
    number = os.environ.pop(local.CHANNEL_VARIABLE, "")
    if not number:
        return None
    if not number.isascii() or not number.isdecimal():
        raise ValueError(f"{local.CHANNEL_VARIABLE}: expected the number of a descriptor")
    channel = socket.socket(fileno=int(number))
    channel.set_inheritable(False)
    channel.settimeout(0)
    return channel


async def _connect(path: str | Path) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(0)
    try:
        while not _is_connected(channel, path):  # noqa: ASYNC110  (nothing tells of room)
            await asyncio.sleep(_RETRY_SECONDS)
    except BaseException:
        channel.close()
        raise
    return channel


def _is_connected(channel: socket.socket, path: str | Path) -> bool:
    """Connect, and say whether there was room in the attestor's queue.

    asyncio's own `sock_connect` takes EAGAIN, a UNIX socket's word for a full queue, for
    "in progress", and then for success.
    """
    try:
        channel.connect(str(path))
    except BlockingIOError:
        return False
    return True


def _rights(descriptor: int) -> tuple[int, int, bytes]:
    return (socket.SOL_SOCKET, socket.SCM_RIGHTS, _INT.pack(descriptor))


def _expect(message: local.Message, expected: type[Answer]) -> Answer:
    if isinstance(message, local.Refusal):
        raise Refused(message.findings)
    if not isinstance(message, expected):
        raise ConnectionError(f"expected {expected.VERB}, the attestor said {message.VERB}")
    return message


def _retrieve(exchange: asyncio.Task[_Answer]) -> None:
    """Look at the outcome of an exchange that nobody waits for, so that asyncio does not warn."""
    if not exchange.cancelled():
        exchange.exception()


def _close(exchange: asyncio.Task[_Answer]) -> None:
    """Close what came with an answer that nobody waits for any more."""
    if not exchange.cancelled() and exchange.exception() is None:
        exchange.result().close()
