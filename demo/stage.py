"""Sets up all that scenes are played in: a verifier, a relying party, a machine and its TPM."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from demo.authority import load_policy, make_verifier
from demo.machine import make_payload
from demo.recorder import Recorder
from demo.servers import ledger_command, running, verifier_command
from demo.world import INTERVAL_SECONDS, World
from swtpm import Firmware, Manufacturer, SoftwareTpm, VirtualMachine
from swtpm.programs import BUILD, alone, say
from verifier.init import fill

VERIFIER_IN_MACHINE = ("10.0.2.100", 8443)
LEDGER_IN_MACHINE = ("10.0.2.101", 8444)
"""Where the machine reaches the host's programs; its /etc/hosts has their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What worlds differ in."""

    kernel: str
    firmware: bool = False
    """The machine boots a signed image through UEFI firmware."""
    append: str = ""
    """The end of the kernel's command line."""
    minimum: str = "lab"
    """The level that the payment program must have, and that the relying party asks for."""
    options: Mapping[str, str | int] = field(default_factory=dict)
    """The verifier's."""
    prepare: Callable[[World], object] = lambda _: None
    """Done when the machine has booted, before its attestor starts."""
    interval_seconds: int = INTERVAL_SECONDS
    """Between two rounds of evidence: an emulated machine is busy for more than one with each."""
    sealed: Mapping[str, bytes] | None = None
    """The machine is a sealed one, these files on its disk."""


@contextmanager
def set_up(setting: Setting) -> Iterator[World]:
    """Set everything up, let scenes be played, and end what was started."""
    with ExitStack() as stack:
        directory = stack.enter_context(_directory())
        say("a TPM, certified by its manufacturer")
        with alone(BUILD / "manufacturer"):
            manufacturer = Manufacturer.at(BUILD / "manufacturer")
        tpm = manufacturer.make_tpm(directory / "tpm")
        say("a verifier, its CA and its inventory")
        config = make_verifier(directory, manufacturer, tpm)
        config.write_text(fill(config.read_text(), setting.options))
        port = stack.enter_context(running("verifier", directory, verifier_command(config)))
        load_policy(config, setting.kernel, setting.minimum)
        keys = config.parent
        recorder = stack.enter_context(_recorder(keys, port))
        say("a relying party")
        command = ledger_command(keys, recorder.port, setting.minimum)
        ledger_port = stack.enter_context(running("ledger", directory, command))
        say(f"a machine with kernel {setting.kernel}, in software: this takes a few seconds")
        services = {VERIFIER_IN_MACHINE: recorder.port, LEDGER_IN_MACHINE: ledger_port}
        boot = partial(_boot, setting, tpm, keys, services)
        world = World(
            directory=directory,
            config=config,
            boot=boot,
            machine=boot(setting.append),
            manufacturer=manufacturer,
            recorder=recorder,
            verifier_port=port,
            ledger_port=ledger_port,
        )
        stack.callback(world.switch_off)
        setting.prepare(world)
        say("the attestor in it: it enrols its TPM and shows what has run")
        world.start_attestor()
        yield world


@contextmanager
def _directory() -> Iterator[Path]:
    """Make a directory for one world, beside those of others, and remove it."""
    BUILD.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="demo-", dir=BUILD))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _recorder(keys: Path, verifier_port: int) -> Recorder:
    return Recorder(
        target=f"https://127.0.0.1:{verifier_port}",
        certificate=keys / "server.pem",
        key=keys / "server.key",
        ca=keys / "ca.pem",
    )


def _boot(
    setting: Setting,
    tpm: SoftwareTpm,
    keys: Path,
    services: Mapping[tuple[str, int], int],
    append: str,
) -> VirtualMachine:
    """Boot the machine with this at the end of its command line."""
    return VirtualMachine.boot(
        tpm=tpm,
        kernel=setting.kernel,
        services=services,
        payload=make_payload(keys, setting.interval_seconds),
        append=append,
        firmware=Firmware.at() if setting.firmware else None,
        sealed=setting.sealed,
    )
