"""`attestor serve`: the order in which the daemon starts."""

import asyncio
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from attestor import instance, privileges
from attestor.aside import listen_to_nudges
from attestor.client import Verifier
from attestor.config import Config
from attestor.daemon import Daemon
from attestor.hand_over import Introduction, Predecessor
from attestor.look import boot_id
from attestor.machine import Machine
from attestor.nursery import Nursery
from attestor.peer import Kernel, listen
from attestor.tpm import Tpm
from attestor.workers import Workers
from credential import crypto, jws


def serve(
    config: Config,
    *,
    kernel: Kernel,
    is_second_start: bool = False,
    predecessor: Predecessor | None = None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Run the daemon until SIGTERM or SIGINT; `ready` is called when processes can connect.

    SIGHUP has it hand over to a successor, whose `predecessor` it is.

    `kernel` is what this kernel can say of peers, or less, as on an older one.
    """
    jws.load()
    config.state.mkdir(mode=0o700, exist_ok=True)
    # Forked before there are threads, keys or an open TPM.
    nursery = Nursery.start(looker_uid=config.looker_uid, looker_gid=config.looker_uid)
    privileges.hide_memory()
    _raise_descriptor_limit()
    listen_to_nudges()
    try:
        start = Start(is_second=is_second_start, predecessor=predecessor)
        asyncio.run(_serve(config, nursery, kernel, start, ready=ready))
    finally:
        nursery.close()


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: about five per process with an identity."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Whether an attestor has run in this boot before."""

    is_second: bool
    """It has, and an operator will approve this one."""
    predecessor: Predecessor | None
    """It does, and hands over."""


async def _serve(
    config: Config,
    nursery: Nursery,
    kernel: Kernel,
    start: Start,
    *,
    ready: Callable[[], None],
) -> None:
    boot = boot_id()
    verifier = Verifier(
        config.verifier, ca_file=str(config.ca_file), timeout_seconds=config.verifier_seconds
    )
    key, hand_over, given = crypto.generate(), None, None
    if start.predecessor is not None:
        who = Introduction(public=crypto.point_of(key), node=config.node)
        hand_over, given = start.predecessor.ask(who)
    with ExitStack() as stack:
        with _telling_failure(start.predecessor):
            tpm = stack.enter_context(Tpm(config.tcti, ek=config.ek_kind))
            own = instance.start(
                tpm,
                directory=config.state,
                boot=boot,
                key=key,
                is_second_start=start.is_second,
                hand_over=hand_over,
            )
        if start.predecessor is not None:
            start.predecessor.say_latched()
        privileges.keep_only({privileges.DAC_READ_SEARCH})  # the measurement list is root's
        machine = Machine(
            node=config.node,
            boot=boot,
            kernel=os.uname().release,
            boot_log=str(config.boot_log),
            instance=own,
        )
        with closing(Workers(config, tpm, nursery)) as workers:
            async with verifier:
                listener = _listener(given, config, kernel)
                await Daemon(config, kernel, machine, verifier, workers, listener).run(ready)


def _listener(given: socket.socket | None, config: Config, kernel: Kernel) -> socket.socket:
    """Return the listening socket: the predecessor's, with whoever waits there, if it will do."""
    if given is not None:
        if given.getsockname() == str(config.socket):
            return given
        given.close()
    return listen(str(config.socket), kernel)


@contextmanager
def _telling_failure(predecessor: Predecessor | None) -> Iterator[None]:
    """Have the attestor that runs go on if something goes wrong before it is too late."""
    try:
        yield
    except Exception as error:
        if predecessor is not None:
            predecessor.say_failed(f"{type(error).__name__}: {error}")
        raise
