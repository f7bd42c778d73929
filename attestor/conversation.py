"""One conversation with one process, from its first packet to its last.

attached                                          launched
(1) who connected                                 our own child
(2) a look, and whose its pid namespace is        a look: it runs what we opened
(3) a fresh nonce                                 a fresh nonce
(4) one message: nonce, and a descriptor of the process's own; its sender is that process
(5) a look: the same process, alive
(6) a key is made, evidence collected, the grant opened
(7) each later message: its sender is that process, and a glance finds it unchanged
"""

import asyncio
import hashlib
import hmac
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from attestor.admission import Admission
from attestor.channel import Channel, Ended
from attestor.client import Unreachable
from attestor.collector import Collector
from attestor.jobs import Jobs
from attestor.look import Glance, Pins, is_alive
from attestor.looker import Looker, NoAccount
from attestor.peer import Packet, Peer
from attestor.proc import Executed, NoLook, TooSlow
from attestor.reasons import Local, refuse
from attestor.subject import CHANGED, EXECUTED, Met, Started, Subject, is_same_process
from attestor.tpm import TpmFailed
from attestor.watch import OnEnd, Watch, cause_of_end
from attestor.worker import Worker
from credential import Malformed, Refused, base64url, crypto, jws, local
from evidence.modules import digest_of
from evidence.process import Look, Purpose

ANSWER_SECONDS = 10.0
"""How long a process may take for its answer to the nonce."""
OBTAIN_SECONDS = 90.0
"""How long a credential may take: two looks, a key, a round of evidence, the TPM."""
PROVE_SECONDS = 30.0
"""How long a proof may take: a glance, or a round where something new is mapped."""
NONCE_BYTES = 32
LAUNCH_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Seconds between first looks at a program that was just launched, until one succeeds."""

log = logging.getLogger("attestor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What every conversation needs."""

    collector: Collector
    admission: Admission
    watch: Watch
    strangers: Worker[Looker]
    """Looks at whoever asks for the first time; may be slow."""
    acquaintances: Worker[Looker]
    """Looks at processes that were accepted."""
    jobs: Jobs
    on_end: OnEnd
    """Forgets a process, and tells the verifier."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a conversation starts with."""

    pins: Pins
    look: Look
    nonce: str
    packet: Packet
    """The process's first, in answer to the nonce."""
    message: local.Message
    started: Started | None = None
    """How, if we have started it."""


Command = Callable[[Channel, Peer, Opening], Awaitable[None]]
"""What answers a message of people's, in the place of `obtain`."""


async def converse(
    channel: Channel,
    peer: Peer,
    services: Services,
    *,
    command: Command | None = None,
    started: Started | None = None,
) -> None:
    """Talk with one process until either side has had enough.

    `started` says how a launched process was.
    """
    try:
        with services.admission.connection(peer.uid):
            await _converse(channel, peer, services, command, started)
    except Ended:
        pass
    except (Refused, Malformed) as refused:
        log.info("%s: %s", peer.label, refused)
        await _say_last(channel, local.Refusal.of(refused.findings))
    finally:
        channel.close()


async def _converse(
    channel: Channel,
    peer: Peer,
    services: Services,
    command: Command | None,
    started: Started | None,
) -> None:
    with _pinned() as pins, _waiting(services, peer) as done_waiting:
        look, nonce = await _greet(channel, peer, services, pins, started)
        patience: float | None = ANSWER_SECONDS
        if started:
            # A program may ask for nothing before it has work, and its connection is its own.
            done_waiting()
            patience = None
        opening = await _hear(channel, pins[0], look, nonce, patience)
        opening = replace(opening, started=started)
        try:
            _check_namespace(opening, peer)
            if not opening.packet.is_from(peer):
                raise refuse(Local.NOT_FROM_PROCESS, peer.label)
            if command is not None and not isinstance(opening.message, local.Obtain):
                done_waiting()
                await command(channel, peer, opening)
                return
            _check_answer(opening, peer)
        finally:
            opening.packet.close()
        await _serve(channel, peer, services, opening, done_waiting)


async def _say_last(channel: Channel, message: local.Message) -> None:
    with suppress(Ended):
        await channel.send(message)


@contextmanager
def _pinned() -> Iterator[list[Pins]]:
    """Close what is put into the list."""
    pins: list[Pins] = []
    try:
        yield pins
    finally:
        for one in pins:
            one.close()


@contextmanager
def _waiting(services: Services, peer: Peer) -> Iterator[Callable[[], None]]:
    """Count a request of the peer's until the block ends, or the function yielded is called."""
    counted = services.admission.waiting(peer.uid)
    counted.__enter__()
    left = [counted]

    def done() -> None:
        while left:
            left.pop().__exit__(None, None, None)

    try:
        yield done
    finally:
        done()


async def _greet(
    channel: Channel, peer: Peer, services: Services, pins: list[Pins], started: Started | None
) -> tuple[Look, str]:
    """Pin the process, look at it, and only then send it a nonce; return both."""
    async with services.admission.turn(peer.uid):
        with _looking(peer):
            pinned = await services.strangers.run(partial(Looker.pin, pidfd=peer.pidfd))
            if started:
                files = tuple(one.path for one in started.configuration)
                pinned = replace(pinned, program=started.program, files=files)
            pins.append(pinned)
            look = await _first_look(peer, services, pins[0])
    nonce = secrets.token_hex(NONCE_BYTES)
    await channel.send(local.Nonce(nonce=nonce))
    return look, nonce


async def _hear(
    channel: Channel, pins: Pins, look: Look, nonce: str, patience: float | None
) -> Opening:
    """Return what the process answers within so many seconds."""
    packet = await channel.receive(patience)
    try:
        message = local.decode(packet.data)
    except BaseException:
        packet.close()
        raise
    return Opening(pins, look, nonce, packet, message)


async def _first_look(peer: Peer, services: Services, pins: Pins) -> Look:
    """Return the first look; a program just launched goes on mapping its libraries for a while."""
    for pause in LAUNCH_PAUSES if peer.proof == "child" else ():
        try:
            look, _ = await services.strangers.run(partial(Looker.look, pins=pins))
        except (Executed, TooSlow):
            raise
        except NoLook:
            await asyncio.sleep(pause)
        else:
            return look
    look, _ = await services.strangers.run(partial(Looker.look, pins=pins))
    return look


@contextmanager
def _looking(peer: Peer) -> Iterator[None]:
    """Turn what a look can raise into refusals."""
    try:
        yield
    except Executed as error:
        raise refuse(Local.PROCESS_CHANGED, peer.label, found=str(error)) from error
    except NoLook as error:
        raise refuse(Local.LOOK_FAILED, peer.label, found=str(error)) from error


def _check_namespace(opening: Opening, peer: Peer) -> None:
    """Refuse where a sender cannot be known.

    Whoever owns a pid namespace can put any pid of it into SCM_CREDENTIALS, and SCM_PIDFD follows.
    """
    if peer.proof != "child" and not opening.look.is_pid_namespace_initial_owned:
        expected = "a pid namespace owned by the initial user namespace"
        raise refuse(Local.NAMESPACE, peer.label, expected=expected)


def _check_answer(opening: Opening, peer: Peer) -> None:
    """Check everything about (4) but its sender, and what the first look said."""
    message = opening.message
    if not isinstance(message, local.Obtain):
        raise refuse(Local.UNEXPECTED, peer.label, expected="obtain", found=message.VERB)
    if not hmac.compare_digest(message.nonce, opening.nonce):
        raise refuse(Local.NONCE, peer.label)
    if len(opening.packet.descriptors) != 1:
        found = f"{len(opening.packet.descriptors)} descriptors"
        raise refuse(Local.DESCRIPTOR_MISSING, peer.label, expected="one", found=found)
    if opening.started is not None:
        _check_as_launched(opening.started, opening.look, peer)


def _check_as_launched(started: Started, look: Look, peer: Peer) -> None:
    """Refuse what is not what was launched, or could import what was not there then."""
    for wanted, seen in (
        (started.executable, look.executable.digest),
        (digest_of(started.modules), look.modules),
    ):
        if seen != wanted:
            found = f"sha256:{seen.hex()}"
            expected = f"sha256:{wanted.hex()}, as launched"
            raise refuse(Local.PROCESS_CHANGED, peer.label, expected=expected, found=found)


async def _serve(
    channel: Channel,
    peer: Peer,
    services: Services,
    opening: Opening,
    done_waiting: Callable[[], None],
) -> None:
    async with _deadline(OBTAIN_SECONDS), services.admission.turn(peer.uid, cost=0):
        subject = await _meet(peer, services, opening)
    if subject.job is not None:
        subject.job.take(subject)
    services.watch.add(subject)
    try:
        async with _deadline(OBTAIN_SECONDS):
            async with services.admission.turn(peer.uid, cost=0):
                await _asking(services.collector.prepare(subject))
            await services.collector.judge(subject)
        done_waiting()
        await channel.send(_credential(subject))
        while await _answer(channel, services, subject):
            pass
    finally:
        services.on_end(subject, cause_of_end(subject.pins))


async def _meet(peer: Peer, services: Services, opening: Opening) -> Subject:
    with _looking(peer):
        look, glance = await services.strangers.run(partial(Looker.look, pins=opening.pins))
    if not is_same_process(opening.look, look):
        raise refuse(Local.PROCESS_CHANGED, peer.label)
    if opening.started is not None:
        _check_as_launched(opening.started, look, peer)
    try:
        user, _ = await services.strangers.run(partial(Looker.account, who=look.uids[1]))
    except NoAccount:
        user = ""
    message = opening.message
    assert isinstance(message, local.Obtain)
    met = Met(
        peer=peer,
        pins=opening.pins,
        look=look,
        glance=glance,
        identity=message.id,
        proof_key=message.proof_key or "attestor",
        use_key=_own_use_key(message, peer),
        purpose=Purpose(audience=message.audience, scopes=message.scope, context=message.context),
        started=opening.started,
        user=user,
    )
    machine = services.collector.machine
    return Subject(met, node=machine.node, instance=machine.instance.digest)


def _own_use_key(message: local.Obtain, peer: Peer) -> bytes:
    """Return the point of the key that the process holds itself, nothing where it does not."""
    if message.proof_key != "process":
        if message.use_key or message.signature:
            raise refuse(Local.USE_KEY, peer.label, expected="no use key but of proof_key process")
        return b""
    try:
        point, signature = (base64url.decode(one) for one in (message.use_key, message.signature))
    except ValueError as error:
        raise refuse(Local.USE_KEY, peer.label, found=str(error)) from error
    if not crypto.is_signed(point, local.use_key_statement(message.nonce), signature):
        raise refuse(Local.USE_KEY, peer.label, expected="its signature over the nonce")
    return point


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        expected = f"within {seconds:.0f} s"
        raise refuse(Local.TIMEOUT, "the answer", expected=expected) from error


async def _asking(work: Awaitable[None]) -> None:
    """Turn what the verifier and the TPM fail with into refusals."""
    try:
        await work
    except Unreachable as error:
        raise refuse(Local.VERIFIER, found=str(error)) from error
    except TpmFailed as error:
        raise refuse(Local.TPM, found=str(error)) from error


def _credential(subject: Subject) -> local.Credential:
    claims = subject.current(datetime.now(UTC))
    return local.Credential(
        token=subject.token,
        expires=int(claims.expires.timestamp()),
        id=claims.id,
        level=claims.procseal.level,
    )


async def _answer(channel: Channel, services: Services, subject: Subject) -> bool:
    """Answer one message; say whether the conversation goes on."""
    packet = await channel.receive(None)
    goes_on, given = True, None
    try:
        if not is_alive(subject.pins.pidfd):
            raise Ended  # whoever else has the socket has nothing to expect of it
        if not packet.is_from(subject.peer):
            raise refuse(Local.NOT_FROM_PROCESS, subject.label)
        message = local.decode(packet.data)
        goes_on = isinstance(message, local.Prove | local.Job)
        answer, given = await _reply(message, services, subject)
        goes_on = True
    except (Refused, Malformed) as refused:
        log.info("%s: %s", subject.label, refused)
        answer = local.Refusal.of(refused.findings)
    finally:
        packet.close()
    if given is None:
        await channel.send(answer)
    else:
        with given:
            await channel.send(answer, [given.fileno()])
    return goes_on


async def _reply(
    message: local.Message, services: Services, subject: Subject
) -> tuple[local.Message, socket.socket | None]:
    """Return the answer, and what goes with it."""
    match message:
        case local.Prove():
            if subject.core.proof_key == "process":
                raise refuse(Local.USE_KEY_ELSEWHERE, subject.label)
            async with _deadline(PROVE_SECONDS):
                await _look_again(services, subject)
                unsigned = subject.compose(message)
                proof = await _sign(unsigned, services, subject)
            return local.Proof(token=subject.token, proof=proof), None
        case local.Job(name=name):
            async with _deadline(PROVE_SECONDS):
                await _look_again(services, subject)
            return local.Opened(name=name), services.jobs.open(subject, name)
        case local.Token():
            return _credential(subject), None
        case _:
            raise refuse(Local.UNEXPECTED, subject.label, found=message.VERB)


async def _sign(unsigned: jws.Unsigned, services: Services, subject: Subject) -> str:
    """Return the proof, signed in memory or, one operation each, by the TPM."""
    own = subject.own_secrets()
    if own.use_key is not None:
        return unsigned.sign(own.use_key)
    key = own.process_key
    assert key is not None
    digest = hashlib.sha256(unsigned.text.encode()).digest()
    try:
        async with services.admission.proof_turn(subject.peer.uid):
            signature = await services.collector.tpm.run(lambda tpm: tpm.sign(key, digest))
    except TpmFailed as error:
        raise refuse(Local.TPM, subject.label, found=str(error)) from error
    subject.current(datetime.now(UTC))  # it may have ended while the TPM worked
    return unsigned.signed(signature)


async def _look_again(services: Services, subject: Subject) -> None:
    """Return if the process is what the verifier last judged, perhaps after asking it again."""
    subject.current(datetime.now(UTC))
    if await _glance(services, subject) == subject.glance:
        return
    # Something new is executable, or it is traced: that is for the verifier to judge. A round
    # costs a quote, so it is counted like a request for a credential.
    async with services.admission.turn(subject.peer.uid):
        await services.collector.refresh()
    subject.current(datetime.now(UTC))
    if await _glance(services, subject) != subject.glance:
        raise refuse(Local.PROCESS_CHANGED, subject.label)


async def _glance(services: Services, subject: Subject) -> Glance:
    try:
        async with services.admission.proof_turn(subject.peer.uid):
            glance = await services.acquaintances.run(partial(Looker.glance, pins=subject.pins))
    except Executed as error:
        services.on_end(subject, EXECUTED)
        raise Refused(subject.findings) from error
    except NoLook as error:
        raise refuse(Local.LOOK_FAILED, subject.label, found=str(error)) from error
    if not _is_same_program(glance, subject.glance):
        services.on_end(subject, CHANGED)
        raise Refused(subject.findings)
    return glance


def _is_same_program(first: Glance, second: Glance) -> bool:
    """Say whether two glances differ in nothing that only an exec or a change of uid changes."""
    return (first.executable[:2], first.auxv, first.uids) == (
        second.executable[:2],
        second.auxv,
        second.uids,
    )
