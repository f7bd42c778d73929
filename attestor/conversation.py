"""One conversation with one process, from its first packet to its last.

attached                                          launched
(1) who connected                                 our own child
(2) a look, and whose its pid namespace is        a look: it runs what we opened
(3) a fresh nonce                                 a fresh nonce
(4) one message: nonce, and a descriptor of the process's own; its sender is that process
(5) a look: the same process, alive
(6) a key is made, evidence collected, the grant opened
(7) each later message: its sender is that process, and a glance finds it unchanged

(1) to (5) are in `attestor.handshake`, (6) in `attestor.rounds`, (7) in `attestor.replies`.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress

from attestor.channel import Channel, Ended
from attestor.client import Unreachable
from attestor.deadline import deadline
from attestor.handshake import Opening, check_answer, check_sender, greet, hear, meet
from attestor.peer import Peer
from attestor.reasons import Local, refuse
from attestor.replies import answer, credential_of
from attestor.services import Services
from attestor.subject import Started, Subject
from attestor.tpm import TpmFailed
from attestor.watch import cause_of_end
from credential import Malformed, Refused, local

ANSWER_SECONDS = 10.0
"""How long a process may take for its answer to the nonce."""
OBTAIN_SECONDS = 90.0
"""How long a credential may take: two looks, a key, a round of evidence, the TPM."""

log = logging.getLogger("attestor")

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
        counted = ExitStack()
        counted.enter_context(services.admission.connection(peer.uid))
        channel.when_gone(counted.close)
        await _converse(channel, peer, services, command, started)
    except Ended:
        pass
    except (Refused, Malformed) as refused:
        log.info("%s: %s", peer.label, refused)
        with suppress(Ended):
            await channel.send(local.Refusal.of(refused.findings))
    finally:
        channel.hang_up()


async def _converse(
    channel: Channel,
    peer: Peer,
    services: Services,
    command: Command | None,
    started: Started | None,
) -> None:
    with ExitStack() as pinned, ExitStack() as waiting:
        # Until the process has what it wants, or `waiting` is closed before.
        waiting.enter_context(services.admission.waiting(peer.uid))
        greeting = await greet(channel, peer, services, started, pinned)  # (1) to (3)
        patience: float | None = ANSWER_SECONDS
        if started:
            # A program may ask for nothing before it has work, and its connection is its own.
            waiting.close()
            patience = None
        opening = await hear(channel, greeting, patience)  # (4)
        with ExitStack() as brought:
            brought.callback(channel.throw_away, opening.packet)
            check_sender(opening, peer)
            if command is not None and not isinstance(opening.message, local.Obtain):
                waiting.close()
                await command(channel, peer, opening)
                return
            request = check_answer(opening, peer)
        async with deadline(OBTAIN_SECONDS), services.admission.turn(peer.uid, cost=0):
            subject = await meet(greeting, request, peer, services)  # (5)
        await _serve(channel, services, subject, waiting)


async def _serve(
    channel: Channel, services: Services, subject: Subject, waiting: ExitStack
) -> None:
    if subject.job is not None:
        subject.job.take(subject)
    services.watch.add(subject)
    try:
        async with deadline(OBTAIN_SECONDS):  # (6)
            async with services.admission.turn(subject.peer.uid, cost=0):
                await _prepare(subject, services)
            await services.rounds.judge(subject)
        waiting.close()
        await channel.send(credential_of(subject))
        while await answer(channel, services, subject):  # (7)
            pass
    finally:
        services.on_end(subject, cause_of_end(subject.pins))


async def _prepare(subject: Subject, services: Services) -> None:
    """Have its key made; what the verifier and the TPM fail with are refusals."""
    try:
        await services.rounds.prepare(subject)
    except Unreachable as error:
        raise refuse(Local.VERIFIER, found=str(error)) from error
    except TpmFailed as error:
        raise refuse(Local.TPM, found=str(error)) from error
