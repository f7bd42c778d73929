"""Attacks on a Python program by what it is told to run, on the kernels that nodes have.

The program is the attestor's to start: with its interpreter, its script and nothing else that is
looked for outside of their directories. What lies in those is root's, and known, or it is refused.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from attestor.modules import LASTS_SECONDS
from credential import local, wit
from demo.waiting import wait
from tests.attacks.machine import (
    AUDIENCE,
    BINDING_MODES,
    LAUNCHED_MODE,
    PATIENCE_SECONDS,
    SOCKET,
    USER,
    Machine,
    MachinePuppet,
    granted,
    sha256,
)
from tests.attestor.puppets import SOURCES, reasons
from verifier.policy import ReferenceSet
from verifier.reference import encode_reference

pytestmark = [pytest.mark.vm, pytest.mark.swtpm, pytest.mark.timeout(900)]

PYTHON = "/usr/bin/python3.11"
HOME = "/opt/agent"
SCRIPT = f"{HOME}/bin/agent.py"
CACHE = f"{HOME}/bin/__pycache__"
ID = "spiffe://example.org/agent"
WORKLOAD = f"""
version = 1
id = "{ID}"
executable = {{ set = "machine", file = "usr/bin/python3.11" }}
interpreter = {{ script = "bin/agent.py", modules = "agent-1.2" }}
mapped = ["machine"]
user = "{USER}"
any_starter = true
minimum = "lab"
[[use]]
audience = "{AUDIENCE}"
scopes = ["post"]
"""
RUN = f"/usr/bin/attestor run --interpreter {PYTHON} -- {SCRIPT}"
FIRST_LAUNCH_SECONDS = 400
DRIFT_SECONDS = 150
"""An interval is ten seconds; the machine is emulated."""

SIBLING = "another program of the same user"
ANYBODY = "an ordinary user"
ROOT = "root on the node"
IDENTITY = "the identity"
CREDENTIAL = "the credential"


class Agent(MachinePuppet):
    """The agent, however it was started: its channel is there, or the attestor's socket."""

    def __init__(self, machine: Machine, command: str = RUN) -> None:
        start = f"/srv/{next(self.names)}.sh"
        machine.put(start, f"{command}\n".encode())
        super().__init__(machine.world, path=f"/bin/sh {start}")
        self.is_launched = "attestor run" in command
        if self.is_launched:
            self.do("use 3")

    def meet(self, socket: Path) -> str:
        return str(self.expect(local.Nonce).nonce) if self.is_launched else super().meet(socket)

    def asks(self) -> local.Message | None:
        return self.obtain(SOCKET, ID)


@pytest.fixture(scope="module")
def lab(machine: Machine) -> Machine:
    """The machine, with the agent in it that the verifier knows."""
    files = {f"bin/{name}": (SOURCES / name).read_bytes() for name in ("agent.py", "plan.py")}
    known = {path: (sha256(data),) for path, data in files.items()}
    reference = encode_reference(ReferenceSet(name="agent-1.2", files=known))
    machine.put_documents("reference", reference)
    machine.put_documents("workload", WORKLOAD)
    machine.run(f"mkdir -p {CACHE} /home/payments/bin /srv")
    for path, data in files.items():
        machine.put(f"{HOME}/{path}", data)
    # What `attestor run` maps and what the agent could import is hashed once by each looker, and
    # takes long here: not within a test's own launch.
    wait(lambda: has_run(machine), FIRST_LAUNCH_SECONDS, "the first launch")
    with Agent(machine) as agent:
        agent.asks()
    return machine


def has_run(machine: Machine) -> bool:
    """Say whether the agent has started and, having no input, ended."""
    command = f"{RUN} </dev/null >/dev/null"
    return machine.world.machine.run(command, user=USER, timeout=FIRST_LAUNCH_SECONDS).code == 0


@contextmanager
def there(machine: Machine, path: str, data: bytes, *, owner: str = "root") -> Iterator[None]:
    """Have a file in the machine for the time of the block."""
    machine.put(path, data, owner=owner)
    try:
        yield
    finally:
        machine.run(f"rm {path}")


def wait_for_a_new_listing() -> None:
    """What a looker has found in a directory counts for a while."""
    time.sleep(LASTS_SECONDS)


PATHS = [f"/usr/lib/{one}" for one in ("python311.zip", "python3.11", "python3.11/lib-dynload")]


@pytest.mark.attack(
    number=63, attacker="the process itself", asset=IDENTITY, level="L3", outcome="residual",
    bindings=[LAUNCHED_MODE],
)  # fmt: skip
def test_063_what_a_script_evaluates_is_not_seen(lab: Machine) -> None:
    """What it does not prove, number 63: data that a known script takes for code."""
    with Agent(lab) as agent:
        procseal = wit.read_unverified(granted(agent.asks()).token).procseal
        assert (procseal.level, procseal.binding) == (lab.lowest_level, "launched")
        assert agent.say("path").split() == [f"{HOME}/bin", *PATHS]
        assert agent.is_proven()
        assert agent.say("eval 6 * 7") == "42"
        assert agent.is_proven()
    assert lab.is_accepted()


IMPORT = f'import sys; sys.path.insert(0, "{HOME}/bin"); import agent'


@pytest.mark.attack(number=63, attacker=ANYBODY, asset=IDENTITY, bindings=BINDING_MODES)
@pytest.mark.parametrize(
    "command",
    [
        pytest.param(f"{PYTHON} -E -s -S -B {SCRIPT}", id="attached"),
        pytest.param(f"/usr/bin/attestor run -- {PYTHON} -E -s -S -B {SCRIPT}", id="launched"),
        pytest.param(f"/usr/bin/attestor run -- {PYTHON} -c '{IMPORT}'", id="-c"),
        pytest.param(
            f"exec 9<&0; {PYTHON} - <<END\nimport os; os.dup2(9, 0); {IMPORT}\nEND", id="stdin"
        ),
    ],
)
def test_063_an_interpreter_that_is_given_something_otherwise(lab: Machine, command: str) -> None:
    with Agent(lab, command) as agent:
        assert reasons(agent.asks()) == ["process.script-not-proven"]


@pytest.mark.attack(number=63, attacker=ANYBODY, asset=IDENTITY, bindings=[LAUNCHED_MODE])
def test_063_a_script_of_his_own(lab: Machine) -> None:
    own = "/home/payments/bin/agent.py"
    lab.put("/home/payments/bin/plan.py", b"PLAN = 'evil'", owner=USER)
    source = (SOURCES / "agent.py").read_bytes()
    with there(lab, own, source, owner=USER), Agent(lab, RUN.replace(SCRIPT, own)) as agent:
        found = set(reasons(agent.asks()))
    assert {"process.script-unknown", "process.module-unknown"} <= found
    assert "process.file-writable-by-others-than-root" in found


@pytest.mark.attack(number=64, attacker=ROOT, asset=IDENTITY, bindings=[LAUNCHED_MODE])
def test_064_a_poisoned_compiled_module(lab: Machine) -> None:
    with there(lab, f"{CACHE}/plan.cpython-311.pyc", b"poison"):
        wait_for_a_new_listing()
        with Agent(lab) as agent:
            assert reasons(agent.asks()) == ["process.module-unknown"]
    wait_for_a_new_listing()


@pytest.mark.attack(number=64, attacker=ROOT, asset=CREDENTIAL, bindings=[LAUNCHED_MODE])
def test_064_a_poisoned_compiled_module_that_comes_later(lab: Machine) -> None:
    with Agent(lab) as agent:
        granted(agent.asks())
        assert agent.is_proven()
        with there(lab, "/usr/lib/python3.11/__pycache__/code.cpython-311.pyc.1", b"poison"):
            deadline = time.monotonic() + DRIFT_SECONDS
            while agent.is_proven():
                assert time.monotonic() < deadline
                time.sleep(1)
            assert agent.why_no_proof() == ["process.changed"]
    wait_for_a_new_listing()
    with Agent(lab) as agent:
        granted(agent.asks())


@pytest.mark.attack(number=65, attacker=ANYBODY, asset=IDENTITY, bindings=[LAUNCHED_MODE])
def test_065_modules_that_the_user_would_add(lab: Machine) -> None:
    """Variables, his own site directory with .pth and usercustomize, and the directory he is in."""
    evil = b"import sys; sys.modules['plan'] = sys; sys.PLAN = 'evil'"
    site = "/home/payments/.local/lib/python3.11/site-packages"
    lab.run(f"mkdir -p {site}; chown -R {USER} /home/payments/.local")
    for path in (f"{site}/usercustomize.py", f"{site}/sitecustomize.py", "/home/payments/plan.py"):
        lab.put(path, evil, owner=USER)
    lab.put(f"{site}/evil.pth", evil, owner=USER)
    environment = (
        f"PYTHONPATH=/home/payments:{site} PYTHONHOME=/home/payments PYTHONSTARTUP={site}/evil.pth"
        " HOME=/home/payments PYTHONUSERBASE=/home/payments/.local PYTHONINSPECT=1"
        " PYTHONPLATLIBDIR=../home PYTHONPYCACHEPREFIX=/home/payments"
    )
    with Agent(lab, f"env {environment} {RUN}") as agent:
        assert agent.say("plan") == "golden"
        assert agent.say("import usercustomize") == "failed ModuleNotFoundError"
        assert agent.say("path").split() == [f"{HOME}/bin", *PATHS]
        granted(agent.asks())


@pytest.mark.attack(number=65, attacker=ROOT, asset=IDENTITY, bindings=[LAUNCHED_MODE])
def test_065_files_beside_the_script(lab: Machine) -> None:
    names = ("sitecustomize.py", "usercustomize.py", "evil.pth")
    with ExitStack() as files:
        for name in names:
            files.enter_context(there(lab, f"{HOME}/bin/{name}", b"import os"))
        wait_for_a_new_listing()
        with Agent(lab) as agent:
            assert reasons(agent.asks()) == ["process.module-unknown"] * len(names)
    wait_for_a_new_listing()


@pytest.mark.attack(number=65, attacker=ROOT, asset=IDENTITY, bindings=[LAUNCHED_MODE])
def test_065_an_interpreter_that_is_sent_elsewhere(lab: Machine) -> None:
    """Nowhere in fact: `attestor run` is the same interpreter's, and has to start."""
    for path in ("/usr/bin/pyvenv.cfg", "/usr/pyvenv.cfg"):
        with there(lab, path, b""):
            told = lab.world.machine.run(RUN, user=USER, timeout=PATIENCE_SECONDS)
        assert "local.look-failed" in told.output
        assert told.code == 1


@pytest.mark.attack(number=65, attacker=ANYBODY, asset=IDENTITY, bindings=[LAUNCHED_MODE])
def test_065_a_directory_that_others_may_write(lab: Machine) -> None:
    lab.run(f"chmod 777 {HOME}")
    wait_for_a_new_listing()
    with Agent(lab) as agent:
        found = reasons(agent.asks())
    lab.run(f"chmod 755 {HOME}")
    wait_for_a_new_listing()
    assert found == ["process.file-writable-by-others-than-root"]
