"""The README's first host, line by line: from nothing to an accepted node and a credential.

Lines of `node# ` run as they stand, in the virtual machine. Lines of `verifier# ` run on this
host, where /etc/procseal and /var/lib/procseal are temporary directories, the port is whichever
is free, and `ssh` leads into the virtual machine. Lines that install are left out.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from swtpm import Manufacturer, SoftwareTpm, VirtualMachine, image
from swtpm.kernels import DEFAULT, Kernel
from swtpm.programs import BUILD
from tests.test_readme import README, commands

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(300)]

INSTALLS = "# install"
ETC, STATE = "/etc/procseal", "/var/lib/procseal"
DOOR = "10.0.2.100", 8443
"""Where the machine's /etc/hosts has verifier.lab."""
CAPABILITIES = ("checkpoint_restore", "dac_read_search", "setgid", "setuid", "sys_ptrace")
LACKS = {"ptrace_scope", "lockdown", "signed modules"}
"""What this node cannot prove: it boots with the kernel's defaults of them."""
LISTENS = re.compile(r"listens on https://\S+:(\d+)")
SECONDS = 90
ATTESTOR_LOG = """\
for one in /proc/[0-9]*; do
    case $(tr '\\0' ' ' <$one/cmdline) in *"attestor serve "*) exec cat $one/fd/2 ;; esac
done
"""

SSH = """\
#!/bin/sh
cat >input && mkfifo answer && printf %s "$2" >command && mv command asked && cat answer
"""
VERIFIER = f"""\
#!/bin/sh
exec {Path(sys.executable).parent}/verifier "$@" --config etc/verifier.toml
"""


def wait(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not question():
        assert time.monotonic() < deadline, f"waited {SECONDS} s for {what}"
        time.sleep(0.1)


class FirstHost:
    """The two machines, and the directory in which the verifier's operator works."""

    def __init__(self, directory: Path, tpm: SoftwareTpm, stack: ExitStack) -> None:
        self.directory = directory
        self.tpm = tpm
        self.stack = stack
        self._port = 0
        self._machine: VirtualMachine | None = None
        programs = directory / "bin"
        programs.mkdir()
        for name, text in (("ssh", SSH), ("verifier", VERIFIER)):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    @property
    def machine(self) -> VirtualMachine:
        """The node, switched on when it is first needed: then the verifier's port is known."""
        if self._machine is None:
            booted = VirtualMachine.boot(tpm=self.tpm, services={DOOR: self._port})
            self._machine = self.stack.enter_context(booted)
        return self._machine

    def on_node(self, command: str) -> str:
        """Run a command in the machine, which has to succeed; return what it says."""
        done = self.machine.run(command, timeout=SECONDS)
        if done.code != 0:
            log = self.machine.run(ATTESTOR_LOG).output
            pytest.fail(f"{command}\n{done.output}\nthe attestor said:\n{log}")
        return done.output

    def on_verifier(self, command: str) -> str:
        """Run a command on this host, which has to succeed; return what it says.

        One in the background has said all that is wanted when the verifier listens.
        """
        text = command.replace(ETC, f"{self.directory}/etc").replace(STATE, f"{self.directory}/lib")
        with tempfile.NamedTemporaryFile(dir=self.directory, delete=False) as output:
            shell = subprocess.Popen(
                ["sh", "-c", text],
                cwd=self.directory,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        said = Path(output.name)
        self.stack.callback(end_session, shell.pid)
        wait(lambda: self._answer_ssh() or shell.poll() is not None, command)
        assert shell.returncode == 0, f"{command}\n{said.read_text()}"
        if command.endswith("&"):
            wait(lambda: LISTENS.search(said.read_text()) is not None, command)
            self._port = int(LISTENS.findall(said.read_text())[0])
        return said.read_text()

    def _answer_ssh(self) -> bool:
        """Run in the machine what `ssh` was asked to run there; never the end of a command."""
        asked = self.directory / "asked"
        if asked.exists():
            command = asked.read_text().replace(f"{self.directory}/etc", ETC)
            asked.unlink()
            self.machine.put("/run/ssh-input", (self.directory / "input").read_bytes())
            answer = self.on_node(f"{{ {command}; }} </run/ssh-input")
            (self.directory / "answer").write_text(f"{answer}\n")
        return False


def end_session(leader: int) -> None:
    """End what a command has left running in the background."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)


@pytest.fixture
def host(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[FirstHost]:
    """What the README wants beforehand: the image's files, and the TPM maker's certificates."""
    with ExitStack() as stack:
        image.make()
        directory = Path(tempfile.mkdtemp(prefix="first-host-", dir=BUILD))
        stack.callback(shutil.rmtree, directory)
        # By hard links. The kernel's modules are in the machine's initramfs, not in its image.
        subprocess.run(["cp", "-al", BUILD / "vm/tree", directory / "image"], check=True)
        release = Kernel.at(DEFAULT).release
        (directory / "image/usr/lib/modules" / release).mkdir(parents=True)
        roots = directory / "etc/ek-roots"
        roots.mkdir(parents=True)
        shutil.copy(manufacturer.root_file, roots)
        shutil.copy(manufacturer.intermediate_file, roots)
        yield FirstHost(directory, make_tpm(), stack)


def test_the_readme_leads_from_nothing_to_a_credential(host: FirstHost) -> None:
    said = ""
    for place, command in commands(README.read_text()):
        if command.endswith(INSTALLS):
            continue
        if command.startswith("attestor run "):
            wait(lambda: is_accepted(host), "the node to be accepted")
        said = host.on_node(command) if place == "node" else host.on_verifier(command)
        if command.startswith("verifier init "):
            take_any_port(host)
    assert re.search(r"(?m)^granted spiffe://example\.org/payments level=lab", said)
    [token] = json.loads(host.on_verifier("verifier credential list --all --json"))
    assert (token["workload"], token["node"]) == ("spiffe://example.org/payments", "node-1")
    check_node(host)


def take_any_port(host: FirstHost) -> None:
    """Let the kernel choose the port: somebody else may listen at the README's."""
    config = host.directory / "etc/verifier.toml"
    text = config.read_text()
    assert text.count("\nport = 8443\n") == 1
    config.write_text(text.replace("\nport = 8443\n", "\nport = 0\n"))


def is_accepted(host: FirstHost) -> bool:
    nodes = json.loads(host.on_verifier("verifier node list --json"))
    return any(node["accepted"] for node in nodes)


def check_node(host: FirstHost) -> None:
    """`attestor check-node` lacks nothing that an accepted node has."""
    told = host.machine.run(
        "attestor check-node --json", user="attestor", capabilities=CAPABILITIES
    )
    checks = json.loads(told.output)
    assert {one["name"] for one in checks if not one["is_good"]} == {*LACKS, "PCR 15"}
    assert told.code == 1
