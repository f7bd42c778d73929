"""What a red team found in the live process's evidence: each of these got through once."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import sleep

import pytest

from attestor.presences import UNSEEN, find_presences, is_alone, join
from evidence.canary import Place
from evidence.posture import Presence
from tests.open_doors import open_doors
from tests.running_verifier import RunningVerifier
from tests.simulated_node import SimulatedNode
from verifier import Reason, Rejected
from verifier.canary import MOST_IN_A_BOOT, MOST_OF_A_UID, choose_places
from verifier.command_line import always_say, never_say_other
from verifier.doors import listeners
from verifier.node import FAILED, Canary
from verifier.relying_parties import Asker, NotAllowed, report_misuse, revoke_token

STRANGER = "a stranger on the network"
SIBLING = "a process of the same user"
ROOT = "root on the node"
IDENTITY = "the identity"
SERVICE = "the verifier's service"

UID = 64322

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes its uid")


# Presences

HOPPER = """
import ctypes, os, signal, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: an init that is quick
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork():
    sys.stdin.read()
    sys.exit()
os.setgroups([]), os.setresgid(*[UID] * 3), os.setresuid(*[UID] * 3)
last = time.monotonic() + 60
while time.monotonic() < last:
    if os.fork():
        os._exit(0)
"""
"""A process that lives on in its child, again and again: alive at all times, never for long."""


@pytest.fixture
def hopper() -> Iterator[None]:
    program = [sys.executable, "-Ic", HOPPER.replace("UID", str(UID))]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, process_group=0)
    sleep(0.5)
    yield
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
    process.communicate()


@needs_root
@pytest.mark.usefixtures("hopper")
@pytest.mark.attack(number=128, attacker=SIBLING, asset=IDENTITY, level="L2")
def test_hopping_from_process_to_process_hides_from_nobody_who_counts_them() -> None:
    """The list of processes was read first, then each: whoever had moved on was passed over."""
    for _ in range(20):
        [found] = find_presences([UID])
        assert found.cgroups, "nobody has this uid"


def test_what_was_not_seen_is_not_within_a_unit() -> None:
    unseen = Presence(uid=UID, cgroups=(UNSEEN,))
    assert not is_alone([unseen], UID, "/payments.service")
    known = Presence(uid=UID, cgroups=("/payments.service",))
    assert is_alone([known], UID, "/payments.service")
    assert not is_alone(join([unseen], [known]), UID, "/payments.service")


# The command line


@pytest.mark.parametrize(
    "other",
    [
        "sysctl.kernel..yama.ptrace_scope=0",
        "sysctl.kernel/.yama//ptrace_scope=0",
        "sysctl..kernel.yama.ptrace_scope=0",
    ],
)
@pytest.mark.attack(number=86, attacker=ROOT, asset=IDENTITY, level="L2")
def test_two_separators_name_the_same_parameter_as_one(other: str) -> None:
    """The kernel makes a path of it (fs/proc/proc_sysctl.c), in which // is /."""
    name = "sysctl.kernel.yama.ptrace_scope"
    line = f"ro {name}=2 {other}"
    assert always_say([f"ro {name}=2"], name, "2".__eq__)
    assert not always_say([line], name, "2".__eq__)
    assert not never_say_other([line], name, "2".__eq__)


# Canaries


@pytest.mark.attack(number=46, attacker=SIBLING, asset=SERVICE, outcome="survived")
def test_one_uid_does_not_use_up_the_canaries_of_a_boot() -> None:
    """Each file system that a user mounts in a namespace of his own is another place."""
    held: tuple[Canary, ...] = ()
    for number in range(MOST_IN_A_BOOT):
        mine = Place(uid=UID, device=number)
        for place in choose_places([mine], held, now=number, every=86400):
            held += (Canary(nonce=b"", place=place, asked=number, state=FAILED),)
    assert len(held) == MOST_OF_A_UID
    others = Place(uid=UID + 1, device=1)
    assert choose_places([mine, others], held, now=1000, every=86400) == (others,)


# Relying parties and listeners


@pytest.mark.parametrize("verb", [revoke_token, report_misuse])
@pytest.mark.attack(number=106, attacker=STRANGER, asset=SERVICE, outcome="survived")
def test_who_is_not_known_waits_for_no_place_among_those_who_write(
    verifier: RunningVerifier, verb: Callable[..., object]
) -> None:
    arguments = ["token", "proof.missing"][: 1 if verb is revoke_token else 2]
    with verifier.service.transaction() as writing:
        writing.policy_version()
        with pytest.raises(NotAllowed) as refused:
            verb(verifier.service, Asker(name="nobody", secret="guess"), *arguments)
    assert refused.value.is_unknown


@pytest.mark.parametrize("verb", ["wanted", "challenge", "gone"])
@pytest.mark.attack(number=106, attacker=STRANGER, asset=SERVICE, outcome="survived")
def test_who_is_no_node_waits_for_no_place_among_those_who_write(
    verifier: RunningVerifier, verb: str
) -> None:
    node = SimulatedNode()
    process = node.new_process()
    message = {
        "wanted": node.wanted(process),
        "challenge": node.challenge_request(),
        "gone": node.gone(process),
    }[verb]
    with verifier.service.transaction() as writing:
        writing.policy_version()
        with pytest.raises(Rejected) as refused:
            getattr(verifier.door, verb)(message)
    assert refused.value.findings[0].reason == Reason.NODE_UNKNOWN


@pytest.mark.attack(number=106, attacker=STRANGER, asset=SERVICE, outcome="survived")
def test_listeners_that_come_at_once_are_counted_before_they_are_let_in(
    verifier: RunningVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "MOST_LISTENERS", 2)
    with open_doors(verifier.service) as door, ExitStack() as stack:
        connections = [
            http.client.HTTPConnection("localhost", door.port, timeout=10) for _ in range(12)
        ]
        for one in connections:
            stack.callback(one.close)
            one.request("GET", "/v1/status-changes")
        told = [one.getresponse().status for one in connections]
    assert sorted(told) == [200] * 2 + [503] * 10
