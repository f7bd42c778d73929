"""What the scenes play in: programs that run on the host, a machine, and what is done in it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from demo.authority import run_verifier
from demo.recorder import Recorder
from demo.waiting import PATIENCE_SECONDS, wait
from swtpm import Failed, Manufacturer, VirtualMachine
from verifier import client

BOOT_LOG = "/sys/kernel/security/tpm0/binary_bios_measurements"

INTERVAL_SECONDS = 2
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
            return wait(question, PATIENCE_SECONDS, what)
        except Failed as failure:
            raise Failed(f"{failure}; the attestor said:\n{self.log()}") from failure

    def log(self) -> str:
        """Return what the attestor said last."""
        return self.machine.run("tail -n 20 /run/attestor.log").output

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

    def wait_for_output(self, name: str, word: str, seconds: float = PATIENCE_SECONDS) -> str:
        """Wait until a program has printed a line that starts with `word`; return all of it."""

        def said() -> str:
            text = self.output(name)
            return text if any(line.startswith(word) for line in text.splitlines()) else ""

        return self.wait_for_words(name, said, seconds, f"{name} to say {word!r}")

    def wait_for_words(
        self, name: str, question: Callable[[], str], seconds: float, what: str
    ) -> str:
        """Wait for something that a program says; return it."""
        try:
            return wait(question, seconds, what)
        except Failed as failure:
            said = f"it said:\n{self.output(name)}\nthe attestor said:\n{self.log()}"
            raise Failed(f"{failure}; {said}") from failure
