"""From a connection to a process that is known to be at its end: steps 1 to 5 of a conversation.

The nonce is made, sent and compared in this file. It comes back in the same message as a
descriptor of the process's own, and the kernel says who sent that: whoever answers is the process
that was looked at, before the nonce was sent and after it came back.
"""

import asyncio
import hmac
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from attestor.channel import Channel
from attestor.look import Glance, Pins
from attestor.looker import Looker, NoAccount
from attestor.peer import Packet, Peer
from attestor.proc import Executed, NoLook, TooSlow
from attestor.reasons import Local, refuse
from attestor.services import Services
from attestor.subject import Met, Started, Subject, is_same_process
from credential import base64url, crypto, local
from evidence.modules import digest_of
from evidence.process import Look, Purpose

NONCE_BYTES = 32
LAUNCH_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Seconds between first looks at a program that was just launched, until one succeeds."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What we know of a process when it is sent its nonce."""

    pins: Pins
    look: Look
    """The first one."""
    nonce: str
    started: Started | None
    """How, if we have started it."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a process answers."""

    greeting: Greeting
    packet: Packet
    """Its first."""
    message: local.Message


async def greet(
    channel: Channel,
    peer: Peer,
    services: Services,
    started: Started | None,
    pinned: ExitStack,
) -> Greeting:
    """Pin the process, look at it, and only then send it a nonce; `pinned` ends what pins it."""
    async with services.admission.turn(peer.uid):
        with _looking(peer):
            pins = await _pin(peer, services, started)
            pinned.callback(pins.close)
            look = await _first_look(peer, services, pins)
    nonce = secrets.token_hex(NONCE_BYTES)
    await channel.send(local.Nonce(nonce=nonce))
    return Greeting(pins, look, nonce, started)


async def _pin(peer: Peer, services: Services, started: Started | None) -> Pins:
    pins = await services.strangers.run(partial(Looker.pin, pidfd=peer.pidfd))
    if started is None:
        return pins
    files = tuple(one.path for one in started.configuration)
    return replace(pins, program=started.program, files=files)


async def _first_look(peer: Peer, services: Services, pins: Pins) -> Look:
    """Return the first look; a program just launched goes on mapping its libraries for a while."""
    look_at = partial(Looker.look, pins=pins)
    for pause in LAUNCH_PAUSES if peer.proof == "child" else ():
        try:
            look, _ = await services.strangers.run(look_at)
        except (Executed, TooSlow):
            raise
        except NoLook:
            await asyncio.sleep(pause)
        else:
            return look
    look, _ = await services.strangers.run(look_at)
    return look


async def hear(channel: Channel, greeting: Greeting, patience_seconds: float | None) -> Opening:
    """Return what the process answers, within that time if one is given."""
    packet = await channel.receive(patience_seconds)
    try:
        message = local.decode(packet.data)
    except BaseException:
        channel.throw_away(packet)
        raise
    return Opening(greeting, packet, message)


def check_sender(opening: Opening, peer: Peer) -> None:
    """Raise Refused unless the answer is from the process itself, as far as can be known."""
    # Whoever owns a pid namespace can put any pid of it into SCM_CREDENTIALS, and SCM_PIDFD
    # follows.
    if peer.proof != "child" and not opening.greeting.look.is_pid_namespace_initial_owned:
        expected = "a pid namespace owned by the initial user namespace"
        raise refuse(Local.NAMESPACE, peer.label, expected=expected)
    if not opening.packet.is_from(peer):
        raise refuse(Local.NOT_FROM_PROCESS, peer.label)


def check_answer(opening: Opening, peer: Peer) -> local.Obtain:
    """Return the request for an identity; raise Refused unless the answer is all it has to be."""
    message = opening.message
    if not isinstance(message, local.Obtain):
        raise refuse(Local.UNEXPECTED, peer.label, expected="obtain", found=message.VERB)
    if not hmac.compare_digest(message.nonce, opening.greeting.nonce):
        raise refuse(Local.NONCE, peer.label)
    if len(opening.packet.descriptors) != 1:
        found = f"{len(opening.packet.descriptors)} descriptors"
        raise refuse(Local.DESCRIPTOR_MISSING, peer.label, expected="one", found=found)
    _check_as_launched(opening.greeting, opening.greeting.look, peer)
    return message


def _check_as_launched(greeting: Greeting, look: Look, peer: Peer) -> None:
    """Refuse what is not what we launched, or could import what was not there then."""
    started = greeting.started
    if started is None:
        return
    for wanted, seen in (
        (started.executable, look.executable.digest),
        (digest_of(started.modules), look.modules),
    ):
        if seen != wanted:
            found = f"sha256:{seen.hex()}"
            expected = f"sha256:{wanted.hex()}, as launched"
            raise refuse(Local.PROCESS_CHANGED, peer.label, expected=expected, found=found)


async def meet(
    greeting: Greeting, request: local.Obtain, peer: Peer, services: Services
) -> Subject:
    """Return the process that has answered, if a second look finds it unchanged."""
    look, glance = await _second_look(greeting, peer, services)
    user = await _user(look, services)
    met = Met(
        peer=peer,
        pins=greeting.pins,
        look=look,
        glance=glance,
        identity=request.id,
        proof_key=request.proof_key or "attestor",
        use_key=_own_use_key(request, peer),
        purpose=Purpose(audience=request.audience, scopes=request.scope, context=request.context),
        started=greeting.started,
        user=user,
    )
    return Subject(met, node=services.machine.node, instance=services.machine.instance.digest)


async def _second_look(greeting: Greeting, peer: Peer, services: Services) -> tuple[Look, Glance]:
    with _looking(peer):
        look, glance = await services.strangers.run(partial(Looker.look, pins=greeting.pins))
    if not is_same_process(greeting.look, look):
        raise refuse(Local.PROCESS_CHANGED, peer.label)
    _check_as_launched(greeting, look, peer)
    return look, glance


@contextmanager
def _looking(peer: Peer) -> Iterator[None]:
    """Turn what a look can raise into refusals."""
    try:
        yield
    except Executed as error:
        raise refuse(Local.PROCESS_CHANGED, peer.label, found=str(error)) from error
    except NoLook as error:
        raise refuse(Local.LOOK_FAILED, peer.label, found=str(error)) from error


async def _user(look: Look, services: Services) -> str:
    """Return the name of the process's uid, nothing where it has none."""
    try:
        user, _ = await services.strangers.run(partial(Looker.account, who=look.uids[1]))
    except NoAccount:
        return ""
    return user


def _own_use_key(request: local.Obtain, peer: Peer) -> bytes:
    """Return the point of the key that the process holds itself, nothing where it does not."""
    if request.proof_key != "process":
        if request.use_key or request.signature:
            raise refuse(Local.USE_KEY, peer.label, expected="no use key but of proof_key process")
        return b""
    try:
        point, signature = (base64url.decode(one) for one in (request.use_key, request.signature))
    except ValueError as error:
        raise refuse(Local.USE_KEY, peer.label, found=str(error)) from error
    if not crypto.is_signed(point, local.use_key_statement(request.nonce), signature):
        raise refuse(Local.USE_KEY, peer.label, expected="its signature over the nonce")
    return point
