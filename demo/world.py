"""Everything that the scenes play in: a verifier, a relying party, a machine and its TPM."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from attestor.enrolment import identify
from attestor.tpm import Tpm
from demo.recorder import Recorder
from swtpm import Failed, Firmware, Manufacturer, SoftwareTpm, VirtualMachine, image, kernel_policy
from swtpm.kernels import Kernel
from swtpm.payload import Payload
from swtpm.programs import BUILD, alone, say
from verifier import client
from verifier.init import fill

HERE = Path(__file__).resolve().parent
PROGRAMS = Path(sys.executable).parent

NODE = "lab-1"
EK: Final = "ecc256"
"""Asked for an RSA secret of another TPM's, libtpms reports its own failure, not the secret's."""
TRUST_DOMAIN = "example.org"
PAYMENTS = f"spiffe://{TRUST_DOMAIN}/payments"
CONTROLLER = f"spiffe://{TRUST_DOMAIN}/controller"
SIGNER = f"spiffe://{TRUST_DOMAIN}/signer"
WORKLOADS = ("payments.toml", "controller.toml", "signer.toml")
ISSUER = "https://verifier.lab:8443"
LEDGER = "https://ledger.lab:8444"
"""The relying party, as its clients know it."""

BOOT_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"

INTERVAL_SECONDS = 2
LOOK_SECONDS = 30
"""The machine is emulated, and whoever runs it may have other work: a look is waited for."""
START_SECONDS = 90
CAPABILITIES = ("checkpoint_restore", "dac_read_search", "setgid", "setuid", "sys_ptrace")
"""What the attestor needs to look at processes and to start some."""

T = TypeVar("T")


@dataclass(slots=True, kw_only=True)
class World:
    """The programs that are running, and where they left what."""

    directory: Path
    config: Path
    """The verifier's configuration."""
    boot: Callable[[str], VirtualMachine]
    """Boot the machine with this at the end of the kernel's command line."""
    machine: VirtualMachine
    manufacturer: Manufacturer
    recorder: Recorder
    verifier_port: int
    """Where the verifier listens on the host."""
    ledger_port: int
    """Where the relying party listens on the host."""
    golden: int = 0
    """Pid of the golden process in the machine."""
    controller: int = 0
    """Pid of the build's controller in the machine."""
    token: str = ""
    """The golden process's, as somebody copied it."""

    @classmethod
    @contextmanager
    def build(  # noqa: PLR0913 - what worlds differ in
        cls,
        *,
        kernel: str,
        firmware: bool = False,
        append: str = "",
        minimum: str = "lab",
        options: Mapping[str, str | int] | None = None,
        prepare: Callable[["World"], object] | None = None,
        interval_seconds: int = INTERVAL_SECONDS,
        sealed: Mapping[str, bytes] | None = None,
    ) -> Iterator["World"]:
        """Set everything up, let scenes be played, and end what was started.

        With `firmware` the machine boots a signed image through UEFI firmware; `append` goes to
        the end of the kernel's command line. `minimum` is the level that the payment program must
        have, and that the relying party asks for; `options` are the verifier's. `prepare` is done
        when the machine has booted, before its attestor starts. `interval_seconds` lie between two
        rounds of evidence: an emulated machine is busy for more than one with each. With `sealed`
        the machine is a sealed one, these files on its disk.
        """
        BUILD.mkdir(exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="demo-", dir=BUILD))  # there may be others
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, directory, ignore_errors=True)
            say("a TPM, certified by its manufacturer")
            with alone(BUILD / "manufacturer"):
                manufacturer = Manufacturer.at(BUILD / "manufacturer")
            tpm = manufacturer.make_tpm(directory / "tpm")
            say("a verifier, its CA and its inventory")
            config = _make_verifier(directory, manufacturer, tpm)
            config.write_text(fill(config.read_text(), options or {}))
            port = stack.enter_context(_running("verifier", directory, _serve(config)))
            _load_policy(config, kernel, minimum)
            keys = directory / "verifier"
            recorder = stack.enter_context(
                Recorder(
                    target=f"https://127.0.0.1:{port}",
                    certificate=keys / "server.pem",
                    key=keys / "server.key",
                    ca=keys / "ca.pem",
                )
            )
            say("a relying party")
            ledger_port = stack.enter_context(
                _running("ledger", directory, _relying_party(keys, recorder.port, minimum))
            )
            say(f"a machine with kernel {kernel}, in software: this takes a few seconds")
            services = {
                ("10.0.2.100", 8443): recorder.port,
                ("10.0.2.101", 8444): ledger_port,
            }

            def boot(append: str) -> VirtualMachine:
                return VirtualMachine.boot(
                    tpm=tpm,
                    kernel=kernel,
                    services=services,
                    payload=_payload(keys, interval_seconds),
                    append=append,
                    firmware=Firmware.at() if firmware else None,
                    sealed=sealed,
                )

            world = cls(
                directory=directory,
                config=config,
                boot=boot,
                machine=boot(append),
                manufacturer=manufacturer,
                recorder=recorder,
                verifier_port=port,
                ledger_port=ledger_port,
            )
            stack.callback(world.switch_off)
            if prepare is not None:
                prepare(world)
            say("the attestor in it: it enrols its TPM and shows what has run")
            world.start_attestor()
            yield world

    def operator(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON
        """Run an operator's command of the verifier; return its answer."""
        return run_verifier(*arguments, "--config", str(self.config), "--json")

    def credentials(self) -> list[dict[str, Any]]:
        """Return the verifier's credentials, by the socket that `verifier credential list` asks."""
        found: list[dict[str, Any]] = self._ask("credential_list")
        return found

    def nodes(self) -> list[dict[str, Any]]:
        """Return the verifier's nodes, as `verifier node list` has them; quick to ask."""
        found: list[dict[str, Any]] = self._ask("node_list")
        return found

    def _ask(self, verb: str) -> Any:  # noqa: ANN401 - JSON
        return client.call(self.config.parent / "state" / "verifier.sock", verb)

    def trust_domain(self) -> Any:  # noqa: ANN401 - JSON
        """Return what the verifier publishes of itself."""
        return json.loads(self.recorder.ask("/v1/trust-domain")[1])

    def trust_boot(self) -> None:
        """Tell the verifier that the boot of now is a good one, and from now on the only one."""
        log, policy = self.directory / "event-log", self.directory / "boot-policy.toml"
        log.write_bytes(self.machine.get(BOOT_LOG))
        line = self.machine.get("/proc/cmdline").decode().rstrip("\n")
        self.operator(
            "boot-policy", "make", "--name", "lab", "--event-log", str(log),
            "--command-line", line, "-o", str(policy),
        )  # fmt: skip
        self.operator("boot-policy", "put", str(policy))

    def reboot(self, append: str = "") -> None:
        """Switch the machine off and on again; nothing has been started in it."""
        self.switch_off()
        self.machine = self.boot(append)

    def switch_off(self) -> None:
        """Switch the machine off, in order."""
        self.machine.stop()

    def start_attestor(self) -> None:
        """Start the attestor and wait until its node is accepted."""
        self.serve_attestor()
        self.wait_for(self._is_accepted, "the node to be accepted")

    def serve_attestor(self) -> None:
        """Start the attestor."""
        self.machine.start(
            "/usr/bin/attestor serve",
            output="/run/attestor.log",
            user="attestor",
            capabilities=CAPABILITIES,
        )

    def wait_for(self, question: Callable[[], T], what: str) -> T:
        """Wait for something that the attestor brings about; return it."""
        try:
            return self.wait(question, START_SECONDS, what)
        except Failed as failure:
            said = self.machine.run("tail -n 20 /run/attestor.log").output
            raise Failed(f"{failure}; the attestor said:\n{said}") from failure

    def _is_accepted(self) -> bool:
        return any(node["accepted"] for node in self.nodes())

    def start_as(self, user: str, unit: str, command: str, name: str) -> int:
        """Start a program for a user, in a unit; its input and output are files in /tmp."""
        cgroup = f"/sys/fs/cgroup/{unit}"
        self.machine.run(
            f"mkdir -p {cgroup}; rm -f /tmp/{name}.in; mkfifo -m 666 /tmp/{name}.in"
        ).check()
        started = self.machine.run(
            f"setsid sh -c 'echo $$ >{cgroup}/cgroup.procs; exec setpriv --reuid={user}"
            f" --regid={user} --init-groups --reset-env {command}'"
            f" 0<>/tmp/{name}.in >/tmp/{name}.out 2>&1 & echo $!"
        )
        return int(started.check().output)

    def output(self, name: str) -> str:
        """Return what a program has printed so far."""
        return self.machine.run(f"cat /tmp/{name}.out").check().output

    def wait_for_output(self, name: str, word: str, seconds: float = 40) -> str:
        """Wait until a program has printed a line that starts with `word`; return all of it."""

        def said() -> str:
            text = self.output(name)
            return text if any(line.startswith(word) for line in text.splitlines()) else ""

        try:
            return self.wait(said, seconds, f"{name} to say {word!r}")
        except Failed as failure:
            raise Failed(f"{failure}; it said:\n{self.output(name)}") from failure

    @staticmethod
    def wait(question: Callable[[], T], seconds: float, what: str) -> T:
        """Ask until the answer is a yes; return it."""
        deadline = time.monotonic() + seconds
        while not (answer := question()):
            if time.monotonic() > deadline:
                raise Failed(f"waited {seconds:g} s for {what}")
            time.sleep(0.1)
        return answer


def run_verifier(*arguments: str) -> Any:  # noqa: ANN401 - JSON
    """Run the program `verifier`; return its answer."""
    done = subprocess.run(
        [PROGRAMS / "verifier", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise Failed(f"verifier {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def _make_verifier(directory: Path, manufacturer: Manufacturer, tpm: SoftwareTpm) -> Path:
    """Make a verifier that trusts the manufacturer and has this one TPM in its inventory."""
    home = directory / "verifier"
    run_verifier(
        "init", str(home), "--trust-domain", TRUST_DOMAIN, "--issuer", ISSUER, "--port", "0",
        "--host", "verifier.lab", "--host", "127.0.0.1", "--json",
    )  # fmt: skip
    run_verifier(
        "ca", "issue", "ledger", "--dir", str(home), "--host", "ledger.lab", "--host", "127.0.0.1",
        "--json",
    )  # fmt: skip
    shutil.copy(manufacturer.root_file, home / "ek-roots")
    shutil.copy(manufacturer.intermediate_file, home / "ek-roots")
    (home / "allow-list").write_text(f"{_ek_hash(tpm)} {NODE}\n")
    return home / "verifier.toml"


def _ek_hash(tpm: SoftwareTpm) -> str:
    """Return what stands on the delivery note of a machine with this TPM."""
    with tpm as tcti, Tpm(tcti, ek=EK) as opened:
        return identify(opened).ek_hash


def _references(kernel: str) -> list[Path]:
    """Make the reference sets of the machine's files, unless they are there."""
    made = BUILD / "reference"
    release = Kernel.at(kernel).image.name.removeprefix("vmlinuz-")
    image.make()
    stamp = (BUILD / "vm/disk.stamp").read_text()
    sets = {"machine": BUILD / "vm/tree", "payments": BUILD / "vm/extra"}
    for name, tree in sets.items():
        held = made / f"{name}.stamp"
        if held.exists() and held.read_text() == stamp:
            continue
        say(f"reference set {name}: the digests of {tree}")
        made.mkdir(exist_ok=True)
        target = str(made / f"{name}.toml")
        run_verifier("reference", "make", name, "--tree", str(tree), "-o", target, "--quiet")
        held.write_text(stamp)
    kernels = made / f"kernel-{kernel}.toml"
    run_verifier(
        "reference", "make", "kernel", "--tree", str(Kernel.at(kernel).image.parent),
        "--buffer", f"kernel_version={release}", "-o", str(kernels), "--quiet",
    )  # fmt: skip
    return [*(made / f"{name}.toml" for name in sets), kernels]


def _load_policy(config: Path, kernel: str, minimum: str) -> None:
    """Tell the verifier which files, which kernel policy and which workload are accepted."""
    rules = config.parent / "ima-policy"
    rules.write_bytes(kernel_policy.render())
    ending = ("--config", str(config), "--json")
    with alone(BUILD / "reference"):
        references = [str(path) for path in _references(kernel)]
        run_verifier("reference", "put", *references, *ending)
    run_verifier("kernel-policy", "put", str(rules), *ending)
    for name in WORKLOADS:
        workload = config.parent / name
        text = (HERE / "policy" / name).read_text()
        workload.write_text(text.replace('minimum = "lab"', f'minimum = "{minimum}"'))
        run_verifier("workload", "put", str(workload), *ending)


def _serve(config: Path) -> list[str | Path]:
    return [PROGRAMS / "verifier", "serve", "--config", config]


def _relying_party(keys: Path, verifier_port: int, minimum: str) -> list[str | Path]:
    allowed = ["--allow-lab"] if minimum == "lab" else []
    return [
        sys.executable, HERE / "relying_party.py", "--cert", keys / "ledger.pem",
        "--key", keys / "ledger.key", "--keys-url", f"https://127.0.0.1:{verifier_port}/v1/keys",
        "--ca", keys / "ca.pem", "--audience", LEDGER, "--minimum", minimum, *allowed,
        "--verifier", ISSUER, "--reached-at", f"https://127.0.0.1:{verifier_port}",
    ]  # fmt: skip


def _payload(keys: Path, interval_seconds: int) -> Payload:
    """Return the attestor's configuration and the CA that the machine's programs trust."""
    sample = (HERE.parent / "attestor" / "sample.toml").read_text()
    values = {
        "node": NODE,
        "verifier": ISSUER,
        "ek": EK,
        "interval": f"{interval_seconds}s",
        "look_seconds": LOOK_SECONDS,
    }
    for name, value in values.items():
        line = f"{name} = {json.dumps(value)}"
        sample, found = re.subn(rf"(?m)^(# )?{name} = .*$", line, sample)
        if found != 1:
            raise Failed(f"the attestor's sample has no line for {name}")
    payload = Payload()
    payload.add_directory("/etc/procseal", owner="attestor", mode=0o755)
    payload.add("/etc/procseal/attestor.toml", sample.encode(), owner="attestor")
    payload.add("/etc/procseal/ca.pem", (keys / "ca.pem").read_bytes(), owner="attestor")
    return payload


@contextmanager
def _running(name: str, directory: Path, command: list[str | Path]) -> Iterator[int]:
    """Run a server; give the port that its first line names; end it."""
    log = (directory / f"{name}.log").open("wb")
    process = subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        yield World.wait(
            lambda: _port(directory / f"{name}.log", process), 20, f"the {name} to listen"
        )
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()


def _port(log: Path, process: "subprocess.Popen[bytes]") -> int:
    text = log.read_text()
    if process.poll() is not None:
        raise Failed(f"ended at once:\n{text}")
    found = re.search(r"listen.*?(\d+)/?$", text, re.MULTILINE)
    return int(found[1]) if found else 0
