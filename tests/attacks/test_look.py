"""Attacks on what is seen of a process."""

from dataclasses import replace
from typing import Any

import pytest

from evidence.process import LAUNCHED
from tests.attacks.asking import IDENTITY, OVERLAY, PROCESS, SIBLING, USER, why, why_known
from tests.simulated_node import LIBC, SYSTEM_FILES, SimulatedNode
from tests.simulated_process import PROGRAM, mapped_file, text_of
from tests.simulated_verifier import SimulatedVerifier, accepted
from verifier import Reason


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node)


TMPFS, RAMFS, HUGETLBFS = 0x01021994, 0x858458F6, 0x958458F6
NFS, FUSE, V9FS, CIFS = 0x6969, 0x65735546, 0x01021997, 0xFF534D42


# What runs


@pytest.mark.attack(number=49, attacker=USER, asset=IDENTITY)
def test_049_an_executable_that_it_only_points_at(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """PR_SET_MM_MAP: /proc/PID/exe names the golden file, anonymous memory runs."""
    libc = node.new_process().look.files[1]
    spoofed = node.new_process(
        look={"files": (libc,), "mappings": (text_of(0),), "anonymous_executable": 4096}
    )
    assert why(verifier, spoofed) == {Reason.PROCESS_EXECUTABLE_UNMAPPED, Reason.PROCESS_ANONYMOUS}


@pytest.mark.attack(number=49, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    "look",
    [
        pytest.param({"files": (), "mappings": ()}, id="nothing is mapped"),
        pytest.param({"mappings": (text_of(1),)}, id="a file that is not mapped executable"),
    ],
)
def test_049_an_executable_that_is_not_mapped(
    node: SimulatedNode, verifier: SimulatedVerifier, look: dict[str, Any]
) -> None:
    assert why(verifier, node.new_process(look=look)) == {Reason.PROCESS_EXECUTABLE_UNMAPPED}


@pytest.mark.attack(number=49, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize("change", [{"inode": 1}, {"device": 1}])
def test_049_a_decoy_of_the_same_bytes(
    node: SimulatedNode, verifier: SimulatedVerifier, change: dict[str, Any]
) -> None:
    """The mapped copy is another file than the one that was executed."""
    process = node.new_process()
    decoy = replace(process.look.files[0], **change)
    process = process.looking(files=(decoy, process.look.files[1]))
    assert why(verifier, process) == {Reason.PROCESS_EXECUTABLE_UNMAPPED}


@pytest.mark.attack(number=49, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize("bit", [19, 21, 24, 40])
def test_049_a_capability_to_look_like_another(
    node: SimulatedNode, verifier: SimulatedVerifier, bit: int
) -> None:
    process = node.new_process(look={"capabilities": 1 << bit})
    assert why(verifier, process) == {Reason.PROCESS_CAPABILITIES}


@pytest.mark.attack(number=50, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.attack(number=52, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize("file", [0, 1])
def test_050_text_that_is_no_longer_the_files(
    node: SimulatedNode, verifier: SimulatedVerifier, file: int
) -> None:
    patched = (text_of(1 - file), text_of(file, anonymous=4096))
    process = node.new_process(look={"mappings": patched})
    assert why(verifier, process) == {Reason.PROCESS_PATCHED}


@pytest.mark.attack(number=50, attacker=SIBLING, asset=IDENTITY)
def test_050_a_tracer(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    assert why(verifier, node.new_process(look={"tracer": 77})) == {Reason.PROCESS_TRACED}


@pytest.mark.attack(number=55, attacker=PROCESS, asset=IDENTITY)
def test_055_memory_that_is_written_and_run(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    writable = (text_of(0), text_of(1, is_writable=True))
    process = node.new_process(look={"mappings": writable})
    assert why(verifier, process) == {Reason.PROCESS_WRITABLE}
    process = node.new_process(look={"anonymous_executable": 1})
    assert why(verifier, process) == {Reason.PROCESS_ANONYMOUS}


@pytest.mark.attack(number=56, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize("filesystem", [TMPFS, RAMFS, HUGETLBFS])
def test_056_a_program_in_memory(
    node: SimulatedNode, verifier: SimulatedVerifier, filesystem: int
) -> None:
    """memfd_create: a file without a name, on a file system that not every kernel measures."""
    process = node.new_process()
    hidden = replace(process.look.executable, filesystem=filesystem, links=0)
    process = process.looking(executable=hidden, files=(hidden, process.look.files[1]))
    assert why(verifier, process) == {Reason.PROCESS_DELETED, Reason.PROCESS_FILESYSTEM}


@pytest.mark.attack(number=57, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=75, attacker="a file server", asset=IDENTITY)
@pytest.mark.parametrize("filesystem", [TMPFS, NFS, FUSE, V9FS, CIFS, OVERLAY, 0])
def test_057_a_library_where_its_bytes_can_change(
    node: SimulatedNode, verifier: SimulatedVerifier, filesystem: int
) -> None:
    process = node.new_process()
    program, libc = process.look.files
    process = process.looking(files=(program, replace(libc, filesystem=filesystem)))
    assert why(verifier, process) == {Reason.PROCESS_FILESYSTEM}


@pytest.mark.attack(number=58, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=59, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize("file", [0, 1])
def test_058_a_file_that_has_been_deleted(
    node: SimulatedNode, verifier: SimulatedVerifier, file: int
) -> None:
    """The number of links says so, not a name that ends in `(deleted)`."""
    process = node.new_process()
    named = [replace(one, path=one.path + b" (deleted)") for one in process.look.files]
    process = process.looking(files=tuple(named), executable=named[0])
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))
    named[file] = replace(named[file], links=0)
    process = node.new_process(look={"files": tuple(named), "executable": named[0]})
    assert why(verifier, process) == {Reason.PROCESS_DELETED}


# Who asks


@pytest.mark.attack(number=67, attacker="a child of the process", asset=IDENTITY)
@pytest.mark.attack(number=69, attacker="a process that was handed the socket", asset=IDENTITY)
@pytest.mark.parametrize("field", ["pid", "pidfs_inode", "start_ticks"])
def test_067_another_process_than_the_keys(
    node: SimulatedNode, verifier: SimulatedVerifier, field: str
) -> None:
    process = node.new_process()
    other = process.looking(**{field: getattr(process.look, field) + 1})
    assert why(verifier, other) == {Reason.PROCESS_CHANGED}
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert why_known(verifier, other) == {Reason.PROCESS_CHANGED}


@pytest.mark.attack(number=81, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_081_another_namespace_than_the_records(
    node: SimulatedNode, verifier: SimulatedVerifier, which: int
) -> None:
    """User, pid, mount: what tells the containers of a node from one another."""
    process = node.new_process()
    spaces = list(process.look.namespaces)
    spaces[which] += 100
    other = process.looking(namespaces=tuple(spaces))
    assert why(verifier, other) == {Reason.PROCESS_CHANGED}
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert why_known(verifier, other) == {Reason.PROCESS_CHANGED}


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
def test_125_a_process_that_moved_to_another_cgroup(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Its last component is the same: a container's id, or a unit of the user's own manager."""
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    moved = process.looking(cgroup="/user.slice/payments.service")
    assert why_known(verifier, moved) == {Reason.PROCESS_CHANGED}


@pytest.mark.attack(number=66, attacker=PROCESS, asset=IDENTITY)
def test_066_another_program_than_before(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """The same process has executed something else that is known, after it was accepted."""
    process = node.new_process()
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))
    python = mapped_file("usr/bin/python3.11", SYSTEM_FILES["usr/bin/python3.11"])
    changed = process.looking(executable=python, files=(python,), mappings=(text_of(0),))
    assert why_known(verifier, changed) == {Reason.PROCESS_CHANGED}
    again = verifier.judge(node.evidence(verifier.challenge(), known=[process]))
    assert [one.is_new for one in accepted(again)] == [False]


@pytest.mark.attack(number=70, attacker="a process of another user", asset=IDENTITY)
@pytest.mark.parametrize("uids", [(1001, 0, 1001, 1001), (1001,) * 3, (0,) * 4, ()])
def test_070_ids_that_are_not_one_users(
    node: SimulatedNode, verifier: SimulatedVerifier, uids: tuple[int, ...]
) -> None:
    assert why(verifier, node.new_process(look={"uids": uids})) == {Reason.PROCESS_UIDS}


@pytest.mark.attack(number=70, attacker="a process of another user", asset=IDENTITY)
@pytest.mark.parametrize("strangers", [(0,), (1001,), (0, 1002)])
def test_070_others_that_share_its_memory(
    node: SimulatedNode, verifier: SimulatedVerifier, strangers: tuple[int, ...]
) -> None:
    """A thread that kept root's ids, a relative by CLONE_VM; (1001,): of its uid, with more."""
    process = node.new_process(look={"strangers": strangers})
    assert why(verifier, process) == {Reason.PROCESS_SHARED}


@pytest.mark.attack(number=81, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=123, attacker=USER, asset=IDENTITY)
def test_123_a_pid_namespace_that_the_user_owns(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """In it he forges the pids that say who speaks; a launched process does not speak by pid."""
    looks = {"is_pid_namespace_initial_owned": False}
    assert why(verifier, node.new_process(look=looks)) == {Reason.PROCESS_NAMESPACE}
    launched = {"binding": LAUNCHED, "peer_proof": "child"}
    process = node.new_process(core=launched, look=looks)
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=123, attacker=USER, asset=IDENTITY)
def test_123_a_user_namespace_of_his_own(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = node.new_process(look={"is_user_namespace_initial": False})
    assert why(verifier, process) == {Reason.PROCESS_NAMESPACE}


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
def test_125_a_unit_that_the_look_does_not_show(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process().looking(cgroup="/user.slice/payments.service/x.scope")
    assert why(verifier, process) == {Reason.PROCESS_CHANGED}


def test_a_look_at_the_program_and_its_library(node: SimulatedNode) -> None:
    """The simulated process is the one that everything above changes one thing of."""
    process = node.new_process()
    assert [one.path for one in process.look.files] == [f"/{PROGRAM}".encode(), f"/{LIBC}".encode()]
