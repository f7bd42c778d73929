"""A build in the machine: its controller, and the programs that this has started.

build = Build(world)
build.start()                                      -> the controller has its credential
build.open_job("build-17")
build.launch("signer", "signer", job="build-17")   -> what the step says, once it is served or not
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from demo.names import CONTROLLER, LEDGER, SIGNER
from demo.waiting import PATIENCE_SECONDS
from demo.world import World

UNIT = "build.service"
SIGNATURE = "/builds/build-17"
"""Where the relying party takes signatures of that build."""
CALL = f"-a {LEDGER} -c /etc/procseal/ca.pem"
_LAST_WORDS = ("refused ", "answer ", "attestor: ")


@dataclass(frozen=True, slots=True)
class Build:
    """The controller and its steps; their outputs are files of the machine's."""

    world: World

    def start(self) -> None:
        """Start the controller in its unit, and wait for its credential."""
        command = f"/usr/bin/controller {CALL} -i {CONTROLLER} -k"
        self.world.controller = self.world.start_as("payments", UNIT, command, "controller")
        self.world.wait_for_output("controller", "granted ")

    def kill(self) -> None:
        """Kill the controller."""
        self.world.machine.run(f"kill -KILL {self.world.controller}").check()

    def tell(self, line: str) -> None:
        """Tell the controller something."""
        self.world.machine.run(f"echo {shlex.quote(line)} >/tmp/controller.in").check()

    def open_job(self, name: str) -> None:
        """Have the controller open a job, whose steps it launches from now on."""
        self.tell(f"job {name}")
        self.world.wait_for_output("controller", f"job {name}")

    def launch(
        self, name: str, program: str, *, job: str, signs: str, is_given: bool = True
    ) -> str:
        """Have the controller start a program that signs a build; return what it says.

        `job` is the one that is named, if one is, and `is_given` whether whoever launches it has
        that of the controller. `name` is that of its files.
        """
        self.world.machine.run(
            f"cd /tmp; rm -f {name}.in {name}.out; mkfifo -m 666 {name}.in; touch {name}.out;"
            f" chmod 666 {name}.out"
        ).check()
        words = f"--job {job} " if job else ""
        command = f"attestor run {words}-- /usr/bin/{program} {CALL} -i {SIGNER} -t -k {signs}"
        verb = "step" if is_given else "run"
        self.tell(f"{verb} {command} 0<>/tmp/{name}.in >/tmp/{name}.out 2>&1")
        return self._wait(name, lambda: self._last_words(name))

    def ask(self, name: str, path: str) -> str:
        """Have a program that was launched make another request; return what it says then."""
        before = len(self.world.output(name).splitlines())
        self.world.machine.run(f"echo 'POST {path}' >/tmp/{name}.in").check()

        def said() -> str:
            text = "\n".join(self.world.output(name).splitlines()[before:])
            return text if _is_settled(text) else ""

        return self._wait(name, said)

    def _wait(self, name: str, question: Callable[[], str]) -> str:
        return self.world.wait_for_words(name, question, PATIENCE_SECONDS, f"{name}'s answer")

    def _last_words(self, name: str) -> str:
        text = self.world.output(name)
        return text if _is_settled(text) else ""


def _is_settled(text: str) -> bool:
    return any(line.startswith(_LAST_WORDS) for line in text.splitlines())
