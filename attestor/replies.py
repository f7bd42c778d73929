"""What a process with an identity asks for, and what it is answered: step 7 of a conversation.

Each message is answered only to the process itself, and a proof or a job only after a glance that
finds it unchanged since the verifier last judged it.
"""

import hashlib
import logging
import socket
from datetime import UTC, datetime
from functools import partial

from attestor.channel import Channel, Ended
from attestor.deadline import deadline
from attestor.look import Glance, is_alive
from attestor.looker import Looker
from attestor.proc import Executed, NoLook
from attestor.reasons import Local, refuse
from attestor.services import Services
from attestor.subject import CHANGED, EXECUTED, Subject
from attestor.tpm import TpmFailed
from credential import Malformed, Refused, jws, local

PROVE_SECONDS = 30.0
"""How long a proof may take: a glance, or a round where something new is mapped."""

log = logging.getLogger("attestor")


async def answer(channel: Channel, services: Services, subject: Subject) -> bool:
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
        reply, given = await _reply(message, services, subject)
        goes_on = True
    except (Refused, Malformed) as refused:
        log.info("%s: %s", subject.label, refused)
        reply = local.Refusal.of(refused.findings)
    finally:
        channel.throw_away(packet)
    if given is None:
        await channel.send(reply)
    else:
        with given:
            await channel.send(reply, [given.fileno()])
    return goes_on


async def _reply(
    message: local.Message, services: Services, subject: Subject
) -> tuple[local.Message, socket.socket | None]:
    """Return the answer, and what goes with it."""
    match message:
        case local.Prove():
            if subject.core.proof_key == "process":
                raise refuse(Local.USE_KEY_ELSEWHERE, subject.label)
            async with deadline(PROVE_SECONDS):
                await look_again(services, subject)
                unsigned = subject.compose(message)
                proof = await _sign(unsigned, services, subject)
            return local.Proof(token=subject.token, proof=proof), None
        case local.Job(name=name):
            async with deadline(PROVE_SECONDS):
                await look_again(services, subject)
            return local.Opened(name=name), services.jobs.open(subject, name)
        case local.Token():
            return credential_of(subject), None
        case _:
            raise refuse(Local.UNEXPECTED, subject.label, found=message.VERB)


def credential_of(subject: Subject) -> local.Credential:
    """Return what a process is told of the token that it has now; raise Refused if it has none."""
    claims = subject.current(datetime.now(UTC))
    return local.Credential(
        token=subject.token,
        expires=int(claims.expires.timestamp()),
        id=claims.id,
        level=claims.procseal.level,
    )


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
            signature = await services.tpm.run(lambda tpm: tpm.sign(key, digest))
    except TpmFailed as error:
        raise refuse(Local.TPM, subject.label, found=str(error)) from error
    subject.current(datetime.now(UTC))  # it may have ended while the TPM worked
    return unsigned.signed(signature)


async def look_again(services: Services, subject: Subject) -> None:
    """Return if the process is what the verifier last judged, perhaps after asking it again."""
    subject.current(datetime.now(UTC))
    if await _glance(services, subject) == subject.glance:
        return
    # Something new is executable, or it is traced: that is for the verifier to judge. A round
    # costs a quote, so it is counted like a request for a credential.
    async with services.admission.turn(subject.peer.uid):
        await services.rounds.refresh()
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
