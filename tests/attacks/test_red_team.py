"""What a red team found in what was built: each of these got through once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import process_time
from types import SimpleNamespace
from typing import Any

import pytest

from attestor.admission import Admission, Limits
from attestor.client import Unreachable
from attestor.digests import Digests
from attestor.grants import Grants
from attestor.handshake import Greeting, Opening
from attestor.launcher import Launcher
from attestor.look import Codes, Glance, look, pin
from attestor.lookout import Lookout
from attestor.proc import TooSlow, cgroup_of
from attestor.reasons import Local
from attestor.replies import look_again
from attestor.roster import Roster
from attestor.rounds import Rounds
from attestor.sharers import Sharers
from credential import Refused, local
from credential.reasons import Finding
from evidence import Malformed, cbor
from evidence.messages import ChallengeRequest, Result, Wanted
from tests.running_verifier import Player, RunningVerifier, refusal
from tests.simulated_keys import private_key
from tests.simulated_node import SimulatedNode
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason
from verifier.ledger import Kind
from verifier.rows import ENROLLED, PENDING

STRANGER = "a stranger on the network"
SIBLING = "a process of the same user"
USER = "an ordinary user of the node"
ROOT = "root on the node"
IDENTITY = "the identity"
NODE = "the node's enrolment"
SERVICE = "the verifier's service"


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def running(tmp_path: Path, node: SimulatedNode) -> Iterator[RunningVerifier]:
    running = RunningVerifier(tmp_path)
    running.trust(node)
    yield running
    running.close()


@pytest.fixture
def player(running: RunningVerifier, node: SimulatedNode) -> Player:
    """An enrolled node, accepted once."""
    player = Player(node, running.service)
    player.enrol()
    player.attest()
    return player


# Enrolment


@pytest.mark.attack(number=92, attacker=ROOT, asset=NODE)
def test_092_a_removed_node_that_enrols_twice_still_waits(
    running: RunningVerifier, player: Player
) -> None:
    """The allow-list still names it; only the operator who removed it lets it in again."""
    running.operators.node_remove("build-7")
    assert [player.enrol().status for _ in range(3)] == [PENDING] * 3
    assert refusal(player.challenge) == {Reason.NODE_PENDING}
    running.operators.node_approve("build-7")
    assert player.enrol().status == ENROLLED


@pytest.mark.attack(number=92, attacker=STRANGER, asset=NODE)
def test_092_a_stranger_takes_no_name_that_the_inventory_gives_to_another(
    running: RunningVerifier, node: SimulatedNode
) -> None:
    """Otherwise the node that it belongs to would find its name taken."""
    squatter = SimulatedNode("another machine")
    squatter.name = node.name
    refused = Player(squatter, running.service)
    assert refusal(refused.enrol) == {Reason.ENROL_TAKEN}
    assert Player(node, running.service).enrol().status == ENROLLED


# Evidence


@pytest.mark.attack(number=1, attacker=STRANGER, asset=NODE)
def test_001_a_recorded_quote_says_nothing_of_now(
    running: RunningVerifier, player: Player, node: SimulatedNode
) -> None:
    """Recorded in a later boot than the counters now tell of: TPM2_Clear sets them back."""
    count = node.tpm.reset_count
    process = node.new_process()
    player.attest([process])
    node.tpm.reset_count = count + 5
    recorded = node.unsigned_evidence(player.challenge())
    node.tpm.reset_count = count
    stranger = private_key("a stranger")
    request = node.signed(ChallengeRequest(node=node.name, places=()).encode(), stranger)
    challenge = running.door.challenge(request)
    replayed = replace(recorded, challenge=challenge.digest())
    message = node.signed(replayed.encode(), stranger)
    assert Reason.QUOTE_BINDING in refusal(lambda: running.door.evidence(message))
    assert set(running.statuses().values()) == {"valid"}
    player.attest()


@pytest.mark.attack(number=122, attacker=ROOT, asset=NODE)
def test_122_an_approved_later_start_of_a_new_boot_stays_approved(
    running: RunningVerifier, player: Player, node: SimulatedNode
) -> None:
    """Approvals end with their boot, not with the first evidence of the next one."""
    node.reboot()
    node.start_again()
    assert refusal(player.attest) == {Reason.INSTANCE_SECOND}
    running.operators.node_approve_instance(node.name, node.instance.hex())
    player.attest()
    player.attest()
    node.start_again()
    assert refusal(player.attest) == {Reason.INSTANCE_SECOND}


@pytest.mark.attack(number=122, attacker=ROOT, asset=NODE)
def test_122_what_was_extended_before_an_accepted_start_stays_what_it_was(
    node: SimulatedNode,
) -> None:
    """Of the earlier starts none is exchanged: the register is over all of them, in order."""
    verifier = SimulatedVerifier(node)
    node.start_again()
    verifier.node = replace(verifier.node, approved_instances=(node.instance,))
    verifier.judge(node.evidence(verifier.challenge()))
    verifier.node = replace(verifier.node, approved_instances=())
    verifier.judge(node.evidence(verifier.challenge()))
    body = node.body(instances=(bytes(32), *node.instances[1:]))
    evidence = node.unsigned_evidence(verifier.challenge(), body=body)
    assert verifier.refusal(evidence) == {Reason.INSTANCE_REGISTER}


# The process


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize(
    "cgroup",
    [
        "/user.slice/user-1001.slice/user@1001.service/app.slice/payments.service",
        "/system.slice/other.service/payments.service",
        "/user.slice/user-1001.slice/session-3.scope/payments.service",
        "/../payments.service",
        "payments.service",
    ],
)
def test_125_a_unit_of_the_users_own_with_the_right_name(node: SimulatedNode, cgroup: str) -> None:
    """`systemd-run --user --unit payments`, or mkdir in a cgroup that was delegated to him."""
    verifier = SimulatedVerifier(node)
    process = node.new_process(look={"cgroup": cgroup})
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_UNIT}


@pytest.mark.parametrize("cgroup", ["/payments.service", "/system.slice/a.slice/payments.service"])
def test_125_a_unit_of_the_systems(node: SimulatedNode, cgroup: str) -> None:
    verifier = SimulatedVerifier(node)
    process = node.new_process(look={"cgroup": cgroup})
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert accepted(verdict)


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x1d", "\x85", "\u2028", "\r"])
def test_125_a_cgroup_whose_name_looks_like_a_line_of_its_own(end: str) -> None:
    """The kernel lets users name cgroups with anything but a newline."""
    path = f"/user.slice/user@1001.service/x{end}0::/system.slice/payments.service"
    assert cgroup_of(f"1:name=systemd:/\n0::{path}\n".encode()) == path


@pytest.mark.attack(number=50, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.skipif(os.geteuid() != 0, reason="looks at other processes' memory")
@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param("", False, id="as the kernel made it"),
        pytest.param(
            """
memory = open("/proc/self/mem", "r+b", buffering=0)
memory.seek(start)
page = memory.read(16)
memory.seek(start)
memory.write(page)
""",
            True,
            id="written to",
        ),
        pytest.param(
            "if ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), 4096, 7): print('sealed')",
            True,
            id="writable",
        ),
    ],
)
def test_050_code_in_the_page_of_the_kernels(change: str, found: bool) -> None:  # noqa: FBT001
    """The vdso is executable, no file holds it, and a process can write to its own copy."""
    source = f"""
import ctypes
for line in open("/proc/self/maps"):
    if line.rstrip().endswith("[vdso]"):
        start = int(line.partition("-")[0], 16)
{change}
print("ready", flush=True)
input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        if (said := program.stdout.readline()) == b"sealed\n":
            program.communicate(b"\n")
            pytest.skip("this kernel lets nobody change the protection of its pages")
        assert said == b"ready\n"
        pidfd = os.pidfd_open(program.pid)
        pins = pin(pidfd)
        try:
            seen, _ = look(pins, Codes(Digests(most_bytes=64 << 20)), Sharers())
        finally:
            pins.close()
            os.close(pidfd)
            program.communicate(b"\n")
    assert bool(seen.anonymous_executable) == found


@pytest.mark.attack(number=60, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize(
    "change", [{"owner": 1001}, {"owner": 1}, {"mode": 0o775}, {"mode": 0o666}, {"mode": 0o2757}]
)
@pytest.mark.parametrize("file", [0, 1])
def test_060_known_bytes_in_a_file_that_others_can_write(
    node: SimulatedNode, change: dict[str, Any], file: int
) -> None:
    """A copy of the system's library in his home: golden at each look, and his own in between."""
    verifier = SimulatedVerifier(node)
    process = node.new_process()
    files = list(process.look.files)
    files[file] = replace(files[file], **change)
    executable = files[0]
    process = process.looking(files=tuple(files), executable=executable)
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_OWNER}


@pytest.mark.attack(number=49, attacker=USER, asset=IDENTITY)
@pytest.mark.skipif(os.geteuid() != 0, reason="gives capabilities away")
def test_049_capabilities_that_rest_between_two_uses() -> None:
    """Not effective during the look, and effective again with one system call."""
    drop = ["setpriv", "--bounding-set", "-all,+sys_admin", "--inh-caps", "-all,+sys_admin"]
    source = """
import ctypes
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
words = (ctypes.c_uint32 * 6)()
assert ctypes.CDLL(None).capget(header, words) == 0
words[0] = words[3] = 0
assert ctypes.CDLL(None).capset(header, words) == 0
print("ready", flush=True)
input()
"""
    with subprocess.Popen(
        [*drop, sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        pidfd = os.pidfd_open(program.pid)
        pins = pin(pidfd)
        try:
            seen, summary = look(pins, Codes(Digests(most_bytes=64 << 20)), Sharers())
        finally:
            pins.close()
            os.close(pidfd)
            program.communicate(b"\n")
    assert seen.capabilities == summary.capabilities == 1 << 21


# The attestor


@pytest.mark.attack(number=125, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    ("initial", "space"), [(False, 0), (True, 1)], ids=["user namespace", "pid namespace"]
)
async def test_125_a_launch_from_within_a_container(initial: bool, space: int) -> None:  # noqa: FBT001
    """What is launched runs outside of it, as the same uid: a way out."""
    own = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116
    seen: Any = SimpleNamespace(
        is_user_namespace_initial=initial, namespaces=(0, own + space, 0, 0, 0, 0, 0)
    )
    message = local.Launch(argument=("/bin/true",), environment=(), user="")
    packet: Any = SimpleNamespace(descriptors=[0, 1, 2])
    pins: Any = None
    opening = Opening(Greeting(pins, seen, "", None), packet, message)
    nothing: Any = None
    launcher = Launcher(nursery=nothing, kernel=nothing, services=nothing)
    peer: Any = SimpleNamespace(label="pid 1, uid 0", uid=0)
    with pytest.raises(Refused) as refused:
        await launcher.launch(nothing, peer, opening)
    assert [one.reason for one in refused.value.findings] == [Local.CONTAINED]


@pytest.mark.attack(number=131, attacker=USER, asset="the TPM")
async def test_131_a_process_that_maps_something_before_each_proof() -> None:
    """Each makes a round of evidence: a quote, and a row that the verifier keeps for ever."""
    rounds = 0
    glances = iter(range(1_000_000))

    def glance(number: int) -> Glance:
        return Glance(
            executable=(1, 2, 3),
            auxv=b"",
            regions=(),
            files=b"",
            own_pages=b"",
            tracer=number,
            uids=(),
            capabilities=0,
            strangers=(),
        )

    async def run(_work: object) -> Glance:
        return glance(next(glances))

    async def refresh() -> None:
        nonlocal rounds
        rounds += 1

    services: Any = SimpleNamespace(
        admission=Admission(Limits(burst=3, per_minute=1), lambda: 0.0),
        acquaintances=SimpleNamespace(run=run),
        rounds=SimpleNamespace(refresh=refresh),
    )
    subject: Any = SimpleNamespace(
        current=lambda _now: None,
        glance=glance(-1),
        peer=SimpleNamespace(uid=1001),
        pins=None,
        label="pid 1, uid 1001",
    )
    found = []
    for _ in range(10):
        with pytest.raises(Refused) as refused:
            await look_again(services, subject)
        found.append(refused.value.findings[0].reason)
    assert rounds == 3
    assert found == [Local.PROCESS_CHANGED] * 3 + [Local.TOO_MANY] * 7


class Lookers:
    """Looks that take too long at one user's processes, and work for everybody else."""

    def __init__(self, slow_uid: int) -> None:
        self.slow_uid = slow_uid
        self.asked: list[int] = []

    async def run(self, work: Any) -> Any:  # noqa: ANN401
        pins = work.keywords["pins"]
        self.asked.append(pins.uid)
        if pins.uid == self.slow_uid:
            raise TooSlow("the look took longer than 10 s")
        return pins.look, None


def subject_of(uid: int, seen: object) -> Any:  # noqa: ANN401
    return SimpleNamespace(
        secrets=object(),
        pins=SimpleNamespace(uid=uid, look=seen),
        peer=SimpleNamespace(uid=uid),
        look=seen,
        label=f"uid {uid}",
        key_name=b"",
    )


@pytest.mark.attack(number=131, attacker=USER, asset="other users' credentials")
async def test_131_many_processes_that_cannot_be_looked_at(node: SimulatedNode) -> None:
    """A file that a user serves blocks whoever reads it: once in a round, not for each process."""
    seen = node.new_process().look
    asked = {bytes([n]): subject_of(1001, seen) for n in range(50)}
    asked |= {bytes([100 + n]): subject_of(1002, seen) for n in range(3)}
    lookers: Any = Lookers(slow_uid=1001)
    nothing: Any = None
    found = await Lookout(lookers, Roster(), nothing).look_at(asked)
    assert sorted(found) == [bytes([100 + n]) for n in range(3)]
    assert lookers.asked == [1001, 1002, 1002, 1002]


class Forgettable:
    """A subject that is told what becomes of it."""

    secrets = object()
    key_name = b"key"
    label = "pid 1"

    def __init__(self) -> None:
        self.told: list[str] = []

    def forget(self, findings: tuple[Finding, ...]) -> None:
        self.told += [f"forgotten: {one.reason}" for one in findings]

    def suspend(self, findings: tuple[Finding, ...]) -> None:
        self.told += [f"suspended: {one.reason}" for one in findings]


@pytest.mark.attack(number=129, attacker=USER, asset=IDENTITY)
async def test_129_a_process_that_the_verifier_was_not_told_of() -> None:
    """Its credential has ended there: no proof is signed for the rest of its lease."""
    subject: Any = Forgettable()
    roster = Roster(known={subject.key_name: subject})
    nothing: Any = None
    unseen: Any = SimpleNamespace(seen={})
    result = Result(challenge=bytes(32), outcomes=())
    asked = {subject.key_name: subject}
    await Grants("n", nothing, nothing, roster).hand_out(result, asked, unseen, nothing)
    assert subject.told == [f"forgotten: {Local.PROCESS_CHANGED}"]
    assert not roster.known


@pytest.mark.attack(number=129, attacker=ROOT, asset=IDENTITY)
async def test_129_a_node_that_was_removed_and_is_not_enrolled_again() -> None:
    """Nothing is signed any more, whatever becomes of the enrolment."""

    async def enrol() -> None:
        raise Unreachable("the verifier does not enrol this node")

    subject: Any = Forgettable()
    roster = Roster(known={subject.key_name: subject})
    nothing: Any = dict.fromkeys(
        ("machine", "verifier", "tpm", "collector", "grants", "canaries", "on_canaries")
    )
    rounds = Rounds(roster=roster, enrol=enrol, interval_seconds=1, **nothing)
    refused = Refused([Finding(reason="node.unknown")])
    with pytest.raises(Unreachable):
        await rounds._take_refusal(refused)  # noqa: SLF001
    assert subject.told == ["suspended: node.unknown"]


# What bad input costs


def nested(count: int) -> bytes:
    """Return deterministic CBOR: an array of this many empty ones, a byte each."""
    return b"\x9a" + count.to_bytes(4, "big") + b"\x80" * count


@pytest.mark.attack(number=100, attacker=ROOT, asset=SERVICE)
def test_100_a_body_of_millions_of_items(node: SimulatedNode) -> None:
    """The body is bytes within the message, whose own items were counted without it."""
    verifier = SimulatedVerifier(node)
    body = nested(4_000_000)
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge)
    attest, signature = node.tpm.quote(
        cbor_binding(challenge.trust_domain, challenge.digest(), sha256(body).digest())
    )
    evidence = replace(evidence, body=body, quote=attest, signature=signature)
    with pytest.raises(Malformed, match="items"):
        verifier.judge(evidence)


def cbor_binding(trust_domain: str, challenge: bytes, body: bytes) -> bytes:
    return sha256(cbor.encode(["procseal evidence 1", trust_domain, challenge, body])).digest()


@pytest.mark.attack(number=100, attacker=STRANGER, asset=SERVICE)
def test_100_a_strangers_core_record_is_not_even_read(
    running: RunningVerifier, player: Player, node: SimulatedNode
) -> None:
    assert player
    wanted = Wanted(node=node.name, core=nested(200_000))
    message = node.signed(wanted.encode(), private_key("a stranger"))
    assert refusal(lambda: running.door.wanted(message)) == {Reason.MESSAGE_INSTANCE}


@pytest.mark.attack(number=100, attacker=ROOT, asset=SERVICE)
def test_100_names_to_withdraw_without_end(node: SimulatedNode) -> None:
    """Each of thousands of processes was looked for in all of them."""
    verifier = SimulatedVerifier(node)
    one = node.new_process().known()
    known = tuple(replace(one, key_name=b"%034d" % number) for number in range(4_000))
    body = replace(node.body(), known=known)

    def seconds(names: int) -> float:
        withdrawn = tuple(b"%034d" % -number for number in range(1, names))
        evidence = node.unsigned_evidence(verifier.challenge(), body=body, withdrawn=withdrawn)
        started = process_time()
        verifier.judge(evidence)
        return process_time() - started

    assert seconds(60_000) < 2 * seconds(1) + 1


@pytest.mark.attack(number=100, attacker=ROOT, asset=SERVICE)
def test_100_as_many_findings_as_records(node: SimulatedNode) -> None:
    """Two findings each of half a kilobyte for each of a million records would be a gigabyte."""
    import tracemalloc  # noqa: PLC0415

    verifier = SimulatedVerifier(node)
    challenge = verifier.challenge()
    record = replace(node.records[-1], register=11, template_hash=b"\1" * 20).encode()
    evidence = node.unsigned_evidence(challenge, records=record * 20_000)
    tracemalloc.start()
    found = verifier.refusal(evidence)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == {Reason.LIST_REGISTER, Reason.LIST_TEMPLATE_HASH}
    assert peak < 5 * len(evidence.records)


@pytest.mark.attack(number=96, attacker=STRANGER, asset=NODE)
def test_096_a_stranger_displaces_no_newcomers_challenge(
    running: RunningVerifier, player: Player, node: SimulatedNode
) -> None:
    """A node that has rebooted is a newcomer like any stranger until its evidence is accepted."""
    node.reboot()
    challenge = player.challenge()
    for number in range(20):
        request = ChallengeRequest(node=node.name, places=()).encode()
        running.door.challenge(node.signed(request, private_key(f"stranger {number}")))
    running.door.evidence(node.evidence(challenge))
    assert running.kinds()[-1] == Kind.EVIDENCE_ACCEPTED
