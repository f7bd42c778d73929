"""Attacks on the claim which process asks: its record, a look at it, and the key made for it."""

from dataclasses import replace
from typing import Any

import pytest

from evidence import process_key, tpm
from evidence.messages import KnownProcess
from evidence.process import LAUNCHED, Mapping, Segment
from tests.simulated_node import (
    LIBC,
    PROGRAM,
    PROGRAM_FILES,
    SYSTEM_FILES,
    SimulatedNode,
    SimulatedProcess,
    SimulatedTpm,
    mapped_file,
    sha256,
    text_of,
)
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason, Refused
from verifier.policy import ReferenceSet
from verifier.workload import read_workload

PROCESS = "the process itself"
SIBLING = "a process of the same user"
USER = "an ordinary user of the node"
ROOT = "root on the node"
IDENTITY = "the identity"
TMPFS, RAMFS, HUGETLBFS = 0x01021994, 0x858458F6, 0x958458F6
NFS, FUSE, V9FS, CIFS, OVERLAY = 0x6969, 0x65735546, 0x01021997, 0xFF534D42, 0x794C7630


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node)


def why(verifier: SimulatedVerifier, process: SimulatedProcess) -> set[Reason]:
    """Return why the new process is refused, on a node that is not."""
    verdict = verifier.judge(verifier.peer.evidence(verifier.challenge(), new=[process]))
    return reasons(only(verdict.processes))


def why_known(verifier: SimulatedVerifier, process: SimulatedProcess) -> set[Reason]:
    """Return why the process, accepted as it was, is refused as it is now."""
    verdict = verifier.judge(verifier.peer.evidence(verifier.challenge(), known=[process]))
    return reasons(only(verdict.processes))


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


@pytest.mark.attack(number=51, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.parametrize("file", [0, 1])
def test_051_text_that_was_changed_and_put_back(
    node: SimulatedNode, verifier: SimulatedVerifier, file: int
) -> None:
    """Every page is the file's again; the cuts on both sides of the one that was not are there."""
    whole = text_of(file)
    at, end = whole.start, whole.offset + whole.length
    pieces = tuple(
        replace(whole, start=at + begin - whole.offset, offset=begin, length=length)
        for begin, length in ((whole.offset, 0x1000), (end - 0x1000, 0x1000))
    )
    process = node.new_process(look={"mappings": (text_of(1 - file), *pieces)})
    assert why(verifier, process) == {Reason.PROCESS_SPLIT}


def laid_out(
    node: SimulatedNode,
    *mappings: Mapping,
    **changes: Any,  # noqa: ANN401
) -> SimulatedProcess:
    """Start a process whose program has other headers, or is mapped in another way."""
    program, libc = node.new_process().look.files
    program = replace(program, **changes)
    look = {"executable": program, "files": (program, libc), "mappings": (*mappings, text_of(1))}
    return node.new_process(look=look)


TWO_SEGMENTS = {
    "segments": (
        Segment(offset=0x1040, address=0x2040, length=0x1F00),
        Segment(offset=0x8000, address=0x1_8000, length=0x1001),
    )
}
SECOND = text_of(0, start=0x41_6000, offset=0x8000, length=0x2000)
TOUCHING = {
    "segments": (
        Segment(offset=0x1000, address=0x1000, length=0x1000),
        Segment(offset=0x2000, address=0x2000, length=0x1000),
    )
}
FIXED = {"segments": (Segment(offset=0x1000, address=0x40_1000, length=0x2000),)}
TRAMPOLINE = text_of(0, start=0x7F_0000, offset=0x2000, length=0x1000)


@pytest.mark.parametrize(
    ("mappings", "changes"),
    [
        pytest.param([text_of(0), SECOND], TWO_SEGMENTS, id="two segments"),
        pytest.param([text_of(0)], TOUCHING, id="two segments that are one mapping"),
        pytest.param(
            [text_of(0, start=0x40_1000)], {**FIXED, "is_movable": False}, id="where it has to be"
        ),
        pytest.param([text_of(0), TRAMPOLINE], {}, id="a piece of its text again"),
    ],
)
def test_a_program_as_its_loader_maps_it(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    mappings: list[Mapping],
    changes: dict[str, Any],
) -> None:
    process = laid_out(node, *mappings, **changes)
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=49, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    ("mappings", "changes"),
    [
        pytest.param([text_of(0)], TWO_SEGMENTS, id="a segment is missing"),
        pytest.param([SECOND], TWO_SEGMENTS, id="the first segment is missing"),
        pytest.param(
            [text_of(0), replace(SECOND, start=0x42_0000)], TWO_SEGMENTS, id="a segment elsewhere"
        ),
        pytest.param([text_of(0, length=0x1000)], {}, id="half of it"),
        pytest.param([text_of(0, length=0x3000)], {}, id="more than it"),
        pytest.param([text_of(0, offset=0x2000)], {}, id="another part of the file"),
        pytest.param([text_of(0), text_of(0, start=0x7F_0000)], {}, id="twice"),
        pytest.param(
            [text_of(0), text_of(0, start=0x7F_0000, offset=0x3000, length=0x1000)],
            {},
            id="and some of its data",
        ),
        pytest.param(
            [
                text_of(0, length=0x2_0000),
                text_of(0, start=0x7F_0000, offset=0x2000, length=0x1_1000),
            ],
            {"segments": (Segment(offset=0x1000, address=0x2000, length=0x2_0000),)},
            id="and a large piece of it again",
        ),
        pytest.param([text_of(0)], {**FIXED, "is_movable": False}, id="where it may not be"),
        pytest.param([text_of(0)], {"segments": ()}, id="no program"),
        pytest.param(
            [text_of(0)],
            {"segments": (Segment(offset=0x1040, address=0x2050, length=0x1F00),)},
            id="a segment that no loader maps",
        ),
    ],
)
def test_049_a_decoy(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    mappings: list[Mapping],
    changes: dict[str, Any],
) -> None:
    """The golden file is mapped, but not as anybody maps what he means to run."""
    assert why(verifier, laid_out(node, *mappings, **changes)) == {Reason.PROCESS_LAYOUT}


def test_more_segments_than_any_program_has(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Each would be sought for at each place: their number is bounded, not the time."""
    many = tuple(Segment(offset=0, address=n << 20, length=1) for n in range(17))
    process = laid_out(node, text_of(0), segments=many)
    assert why(verifier, process) == {Reason.MALFORMED_PROCESS}


@pytest.mark.parametrize("size", [0, 1, 4095, 8192, 1 << 21])
def test_a_page_size_that_no_machine_has(
    node: SimulatedNode, verifier: SimulatedVerifier, size: int
) -> None:
    process = node.new_process(look={"page_bytes": size})
    assert why(verifier, process) == {Reason.MALFORMED_PROCESS}


@pytest.mark.attack(number=54, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.attack(number=62, attacker=PROCESS, asset=IDENTITY)
def test_054_a_file_that_became_executable_unmeasured(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    files = (*process.look.files, mapped_file("tmp/plugin.so", b"plugin"))
    process = process.looking(files=files, mappings=(*process.look.mappings, text_of(2)))
    assert why(verifier, process) == {Reason.PROCESS_NOT_MEASURED, Reason.PROCESS_MAPPED}


@pytest.mark.attack(number=61, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=62, attacker=USER, asset=IDENTITY)
def test_062_a_library_that_is_known_but_not_the_workloads(node: SimulatedNode) -> None:
    library = mapped_file("usr/lib/libinject.so", b"inject")
    other = ReferenceSet(name="tools", files={"usr/lib/libinject.so": (library.digest,)})
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, other))
    node.measure("usr/lib/libinject.so", b"inject")
    process = node.new_process()
    files = (*process.look.files, library)
    process = process.looking(files=files, mappings=(*process.look.mappings, text_of(2)))
    assert why(verifier, process) == {Reason.PROCESS_MAPPED}


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


@pytest.mark.attack(number=63, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=64, attacker=USER, asset=IDENTITY)
@pytest.mark.attack(number=65, attacker=USER, asset=IDENTITY)
@pytest.mark.parametrize(
    "name",
    ["python3.11", "perl", "perl5.36.0", "dash", "sh", "busybox", "java", "ld-linux-x86-64.so.2"],
)
def test_063_an_interpreter_whatever_it_is_given(node: SimulatedNode, name: str) -> None:
    """Neither its script (`s.py`, -c, stdin) nor its modules (.pyc, PYTHONPATH) are shown."""
    digests = image_of(node, PROGRAM).files[PROGRAM]
    tools = ReferenceSet(name="tools", files={f"usr/bin/{name}": digests, "usr/bin/x": digests})
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, tools))
    assert why(verifier, node.new_process()) == {Reason.PROCESS_INTERPRETER}


@pytest.mark.parametrize("name", ["payments", "libpython3.11.so.1.0", "pythonic", "shop", "lsof"])
def test_a_program_that_is_no_interpreter(node: SimulatedNode, name: str) -> None:
    files = {f"usr/bin/{name}": image_of(node, PROGRAM).files[PROGRAM]}
    tools = ReferenceSet(name="tools", files=files)
    verifier = SimulatedVerifier(node, sets=(*node.policy().sets, tools))
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[node.new_process()])))


IN_SHOP = 'container = { set = "SET", cgroup = "/shop/*" }'


def in_containers(node: SimulatedNode, image: str, *more: ReferenceSet) -> SimulatedVerifier:
    """A verifier whose workload runs in containers of this image only."""
    text = node.workload_toml().replace('unit = "payments.service"', IN_SHOP.replace("SET", image))
    sets = (*node.policy().sets, *more)
    return SimulatedVerifier(node, sets=sets, workloads=(read_workload(text),))


def image_of(node: SimulatedNode, *files: str) -> ReferenceSet:
    """The image of a container, with these files of the node's."""
    known = {path: digests for one in node.policy().sets for path, digests in one.files.items()}
    return ReferenceSet(name="shop-2.1", files={path: known[path] for path in files})


def in_cgroup(node: SimulatedNode, cgroup: str) -> SimulatedProcess:
    return node.new_process(look={"cgroup": cgroup})


def test_113_a_process_in_its_container(node: SimulatedNode) -> None:
    verifier = in_containers(node, "shop-2.1", image_of(node, PROGRAM, LIBC))
    process = in_cgroup(node, "/shop/one")
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=113, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize(
    "cgroup",
    [
        "/payments.service",
        "/shop",
        "/shop/",
        "/shop/one/below",
        "/user.slice/shop/one",
        "/shopping/one",
        "/shop/..",
        "shop/one",
        "/../shop/one",
        "",
    ],
)
def test_113_the_program_outside_of_its_container(node: SimulatedNode, cgroup: str) -> None:
    verifier = in_containers(node, "shop-2.1", image_of(node, PROGRAM, LIBC))
    assert why(verifier, in_cgroup(node, cgroup)) == {Reason.PROCESS_CGROUP}


@pytest.mark.attack(number=113, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize("files", [(PROGRAM,), (LIBC,)])
def test_113_a_known_file_that_is_not_of_the_image(
    node: SimulatedNode, files: tuple[str, ...]
) -> None:
    verifier = in_containers(node, "shop-2.1", image_of(node, *files))
    assert why(verifier, in_cgroup(node, "/shop/one")) == {Reason.PROCESS_IMAGE}


@pytest.mark.attack(number=72, attacker=ROOT, asset=IDENTITY)
def test_072_an_overlay_in_a_container(node: SimulatedNode) -> None:
    """What lies behind it can be memory, or another's server, and change there unseen."""
    verifier = in_containers(node, "shop-2.1", image_of(node, PROGRAM, LIBC))
    process = in_cgroup(node, "/shop/one")
    program, libc = (replace(one, filesystem=OVERLAY) for one in process.look.files)
    process = process.looking(executable=program, files=(program, libc))
    assert why(verifier, process) == {Reason.PROCESS_FILESYSTEM}


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


@pytest.mark.attack(number=60, attacker=ROOT, asset=IDENTITY)
def test_060_a_program_of_which_one_byte_was_changed(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The refusal names the file and both digests."""
    golden, patched = PROGRAM_FILES[PROGRAM], b"\x7fELF paymentz"
    process = node.new_process(program=patched)
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    outcome = only(verdict.processes)
    assert isinstance(outcome, Refused)
    (finding,) = outcome.findings
    assert finding.reason == Reason.PROCESS_EXECUTABLE
    assert PROGRAM in finding.what
    assert sha256(golden).hex() in finding.expected
    assert sha256(patched).hex() in finding.found


@pytest.mark.attack(number=54, attacker=USER, asset=IDENTITY)
def test_054_a_golden_program_that_no_record_mentions(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.relist([one for one in node.records if b"payments" not in one.data])
    assert why(verifier, node.new_process()) == {Reason.PROCESS_NOT_MEASURED}


@pytest.mark.attack(number=43, attacker=ROOT, asset=IDENTITY)
def test_043_a_golden_program_that_was_measured_as_data(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Critical data of the same digest does not say that a file was executed."""
    node.relist([one for one in node.records if b"payments" not in one.data])
    node.measure_buffer("payments", PROGRAM_FILES[PROGRAM])
    assert why(verifier, node.new_process()) == {Reason.PROCESS_NOT_MEASURED}


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


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_record_of_other_namespaces(
    node: SimulatedNode, verifier: SimulatedVerifier, count: int
) -> None:
    process = node.new_process(core={"namespaces": (1, 2, 3, 4)[:count]})
    assert Reason.MALFORMED_PROCESS in why(verifier, process)


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


@pytest.mark.attack(number=80, attacker=PROCESS, asset=IDENTITY)
def test_080_a_process_that_changed_after_the_quote(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process, other = node.new_process(), node.new_process()
    challenge = verifier.challenge()
    message = node.evidence(challenge, new=[process, other], withdrawn=[process])
    first, second = verifier.judge(message).processes
    assert reasons(first) == {Reason.PROCESS_WITHDRAWN}
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), known=[other])))
    assert not isinstance(second, Refused)


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


@pytest.mark.attack(number=124, attacker="a grandchild on the child's channel", asset=IDENTITY)
@pytest.mark.parametrize(
    ("binding", "peer_proof", "inode"),
    [
        pytest.param("launched", "pidfs", 1, id="launched, and not by its parent"),
        pytest.param("launched", "pid", 1, id="launched, and only a number"),
        pytest.param("attached", "child", 1, id="attached, and yet a child"),
        pytest.param("attached", "guess", 1, id="no proof that we know"),
        pytest.param("attached", "pidfs", 0, id="pidfs without an inode"),
        pytest.param("attached", "", 1, id="no proof"),
    ],
)
def test_124_a_proof_that_does_not_go_with_the_binding(
    node: SimulatedNode, verifier: SimulatedVerifier, binding: str, peer_proof: str, inode: int
) -> None:
    core = {"binding": binding, "peer_proof": peer_proof, "pidfs_inode": inode}
    process = node.new_process(core=core, look={"pidfs_inode": inode})
    assert why(verifier, process) == {Reason.PROCESS_PEER_PROOF}


@pytest.mark.attack(number=124, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize("binding", ["delivered", "", "LAUNCHED", "launched\n"])
def test_124_a_binding_that_nobody_knows(
    node: SimulatedNode, verifier: SimulatedVerifier, binding: str
) -> None:
    assert why(verifier, node.new_process(core={"binding": binding})) == {Reason.PROCESS_BINDING}


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
@pytest.mark.parametrize(
    "core",
    [
        pytest.param({"cgroup": "/system.slice/user@1001.service"}, id="from his own session"),
        pytest.param({"cgroup": "/system.slice/session-3.scope"}, id="from a shell"),
        pytest.param({"cgroup": "/"}, id="from nowhere"),
        pytest.param(
            {
                "cgroup": "/system.slice/session-3.scope",
                "binding": "launched",
                "peer_proof": "child",
            },
            id="by the attestor, as he asked",
        ),
    ],
)
def test_125_the_golden_program_started_by_somebody_else(
    node: SimulatedNode, verifier: SimulatedVerifier, core: dict[str, Any]
) -> None:
    assert why(verifier, node.new_process(core=core)) == {Reason.PROCESS_UNIT}
    anyone = node.workload_toml().replace('unit = "payments.service"', "any_starter = true")
    verifier.policy = node.policy(version=2, workloads=(read_workload(anyone),))
    process = node.new_process(core=core)
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
def test_125_a_unit_that_the_look_does_not_show(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process().looking(cgroup="/user.slice/payments.service/x.scope")
    assert why(verifier, process) == {Reason.PROCESS_CHANGED}


@pytest.mark.attack(number=125, attacker=SIBLING, asset=IDENTITY)
def test_125_a_workload_that_does_not_say_who_may_start_it(node: SimulatedNode) -> None:
    """None is read from TOML; one that exists all the same lets nobody attach."""
    open_door = replace(node.policy().workloads[0], unit="")
    verifier = SimulatedVerifier(node, workloads=(open_door,))
    assert why(verifier, node.new_process()) == {Reason.PROCESS_STARTER}


@pytest.mark.attack(number=113, attacker="another program of the same user", asset=IDENTITY)
def test_113_a_sibling_that_is_itself_known(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    python = mapped_file("usr/bin/python3.11", SYSTEM_FILES["usr/bin/python3.11"])
    looks = {"executable": python, "files": (python,), "mappings": (text_of(0),)}
    process = node.new_process(core={"executable": python.digest}, look=looks)
    assert why(verifier, process) == {Reason.PROCESS_EXECUTABLE}
    unnamed = {"executable": python.digest, "identity": ""}
    process = node.new_process(core=unnamed, look=looks)
    assert why(verifier, process) == {Reason.PROCESS_NOT_WANTED, Reason.PROCESS_EXECUTABLE}


@pytest.mark.attack(number=113, attacker="another user", asset=IDENTITY)
@pytest.mark.parametrize("user", ["root", "", "payments2", "payments\n"])
def test_113_another_user(node: SimulatedNode, verifier: SimulatedVerifier, user: str) -> None:
    assert why(verifier, node.new_process(core={"user": user})) == {Reason.PROCESS_USER}


@pytest.mark.attack(number=113, attacker=PROCESS, asset=IDENTITY)
@pytest.mark.parametrize("identity", ["spiffe://example.org/other", "payments", "spiffe://x/y\n"])
def test_113_an_identity_that_no_workload_has(
    node: SimulatedNode, verifier: SimulatedVerifier, identity: str
) -> None:
    process = node.new_process(core={"identity": identity})
    assert why(verifier, process) == {Reason.PROCESS_NOT_WANTED}


# The record, and the key that was made for it


@pytest.mark.attack(number=83, attacker=ROOT, asset=IDENTITY)
def test_083_a_body_that_the_quote_does_not_bind(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A quote that somebody else let the TPM make, with a body of his own."""
    evidence = node.unsigned_evidence(verifier.challenge())
    body = node.body([node.new_process()]).encode()
    assert verifier.refusal(replace(evidence, body=body)) == {Reason.QUOTE_BINDING}


@pytest.mark.attack(number=84, attacker="the network", asset=IDENTITY)
def test_084_a_use_key_exchanged_on_the_way(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process, thief = node.new_process(), node.new_process()
    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body([process]))
    stolen = replace(process.core, use_key=thief.core.use_key).encode()
    bent = replace(process, new=replace(process.new, core=stolen))
    body = node.body([bent])
    assert verifier.refusal(replace(evidence, body=body.encode())) == {Reason.QUOTE_BINDING}


@pytest.mark.attack(number=84, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize(
    "change",
    [
        {"use_key": b"\x04" + bytes(64)},
        {"identity": "spiffe://example.org/other"},
        {"pid": 1},
        {"user": "root"},
        {"binding": "launched"},
    ],
)
def test_084_a_key_made_for_another_record(
    node: SimulatedNode, verifier: SimulatedVerifier, change: dict[str, Any]
) -> None:
    process = node.new_process()
    changed = replace(process.core, **change).encode()
    process = replace(process, new=replace(process.new, core=changed))
    assert why(verifier, process) == {Reason.PROCESS_KEY_RECORD}


@pytest.mark.attack(number=84, attacker=ROOT, asset=IDENTITY)
@pytest.mark.parametrize("use_key", [b"", b"\x04" + bytes(64), b"\x02" + bytes(32), bytes(65)])
def test_084_a_use_key_that_is_none(
    node: SimulatedNode, verifier: SimulatedVerifier, use_key: bytes
) -> None:
    process = node.new_process(core={"use_key": use_key})
    assert why(verifier, process) == {Reason.MALFORMED_PROCESS}


@pytest.mark.attack(number=84, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize(
    "public",
    [
        pytest.param({"attributes": process_key.ATTRIBUTES & ~tpm.FIXED_TPM}, id="movable"),
        pytest.param({"attributes": process_key.ATTRIBUTES & ~tpm.FIXED_PARENT}, id="adoptable"),
        pytest.param({"attributes": process_key.ATTRIBUTES | tpm.USER_WITH_AUTH}, id="auth alone"),
        pytest.param({"attributes": process_key.ATTRIBUTES | tpm.DECRYPT}, id="decrypts"),
        pytest.param({"attributes": process_key.ATTRIBUTES | tpm.RESTRICTED}, id="restricted"),
        pytest.param(
            {"attributes": process_key.ATTRIBUTES & ~tpm.ADMIN_WITH_POLICY}, id="without policy"
        ),
        pytest.param(
            {"attributes": process_key.ATTRIBUTES & ~tpm.SENSITIVE_DATA_ORIGIN}, id="made outside"
        ),
        pytest.param({"policy": b""}, id="empty policy"),
        pytest.param({"policy": bytes(32)}, id="another policy"),
        pytest.param({"name_hash": tpm.ALG_SHA1}, id="Name by SHA-1"),
        pytest.param({"scheme": tpm.NO_SCHEME}, id="any scheme"),
        pytest.param({"size": tpm.CURVE_P384}, id="another curve"),
        pytest.param({"symmetric": tpm.AES_128_CFB}, id="a storage key"),
    ],
)
def test_084_a_key_of_another_template(
    node: SimulatedNode, verifier: SimulatedVerifier, public: dict[str, Any]
) -> None:
    """Certified all the same: the TPM would, of any key that it can make."""
    assert why(verifier, node.new_process(public=public)) == {Reason.PROCESS_KEY_ATTRIBUTES}


@pytest.mark.attack(number=84, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize(
    "creation",
    [
        pytest.param(
            {
                "parent_qualified_name": tpm.qualify(
                    SimulatedNode().tpm.storage_primary().name(),
                    tpm.hierarchy_name(tpm.RH_OWNER),
                )
            },
            id="owner hierarchy",
        ),
        pytest.param({"parent_qualified_name": b""}, id="none"),
        pytest.param({"parent_name": b"\0\x0b" + bytes(32)}, id="another parent"),
        pytest.param(
            {
                "parent_name": tpm.hierarchy_name(tpm.RH_NULL),
                "parent_qualified_name": tpm.hierarchy_name(tpm.RH_NULL),
                "parent_name_hash": tpm.ALG_NULL,
            },
            id="a primary",
        ),
        pytest.param({"parent_name": b"", "parent_qualified_name": b""}, id="nothing"),
    ],
)
def test_084_a_key_that_outlives_the_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, creation: dict[str, Any]
) -> None:
    assert why(verifier, node.new_process(creation=creation)) == {Reason.PROCESS_KEY_PARENT}


@pytest.mark.attack(number=84, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize(
    "creation",
    [
        pytest.param({"selections": ()}, id="no registers"),
        pytest.param({"digest": bytes(32)}, id="other values"),
        pytest.param(
            {"selections": (tpm.PcrSelection(bank=tpm.ALG_SHA1, registers=tuple(range(8))),)},
            id="another bank",
        ),
    ],
)
def test_084_a_key_made_before_the_boot_was_what_it_is(
    node: SimulatedNode, verifier: SimulatedVerifier, creation: dict[str, Any]
) -> None:
    assert why(verifier, node.new_process(creation=creation)) == {Reason.PROCESS_KEY_RESET}


@pytest.mark.attack(number=14, attacker=ROOT, asset="the credential")
def test_014_a_key_of_another_boot(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = node.new_process()
    node.tpm.restart_count += 1
    assert why(verifier, process) == {Reason.PROCESS_KEY_RESET}


@pytest.mark.attack(number=14, attacker=ROOT, asset="the credential")
def test_014_a_record_of_another_boot_and_instance(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    node.reboot()
    refused = why(verifier, process)
    assert refused == {Reason.PROCESS_KEY_RESET}
    newer = node.new_process(core={"instance": process.core.instance})
    assert why(verifier, newer) == {Reason.PROCESS_INSTANCE}
    newer = node.new_process(core={"boot": process.core.boot}, look={"boot": process.core.boot})
    assert why(verifier, newer) == {Reason.PROCESS_BOOT}
    newer = node.new_process(look={"boot": process.core.boot})
    assert why(verifier, newer) == {Reason.PROCESS_BOOT}


@pytest.mark.attack(number=12, attacker="root on another node", asset=IDENTITY)
def test_012_a_record_of_another_node(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    process = node.new_process(core={"node": "build-8"})
    assert why(verifier, process) == {Reason.PROCESS_NODE}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_certification_by_another_key(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    forged = SimulatedTpm("software").signature(process.new.certification)
    process = replace(process, new=replace(process.new, signature=forged))
    assert why(verifier, process) == {Reason.PROCESS_KEY_CERTIFICATION}


@pytest.mark.attack(number=13, attacker=ROOT, asset="the credential")
@pytest.mark.parametrize("change", [{"hash": tpm.ALG_SHA1}, {"hash": 0}])
def test_013_a_certification_by_another_scheme(
    node: SimulatedNode, verifier: SimulatedVerifier, change: dict[str, Any]
) -> None:
    process = node.new_process()
    signature = replace(tpm.Signature.decode(process.new.signature), **change).encode()
    process = replace(process, new=replace(process.new, signature=signature))
    assert why(verifier, process) == {Reason.PROCESS_KEY_CERTIFICATION}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_certification_of_another_key(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process, other = node.new_process(), node.new_process()
    swapped = replace(process.new, public=other.new.public)
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}
    swapped = replace(
        process.new, certification=other.new.certification, signature=other.new.signature
    )
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}
    swapped = replace(process.new, creation_data=other.new.creation_data)
    refused = why(verifier, replace(process, new=swapped))
    assert refused == {Reason.PROCESS_KEY_CERTIFICATION, Reason.PROCESS_KEY_RECORD}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_quote_in_the_place_of_a_certification(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    quote, signature = node.tpm.quote(bytes(32))
    swapped = replace(process.new, certification=quote, signature=signature)
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}


@pytest.mark.attack(number=121, attacker=ROOT, asset="the credential")
def test_121_a_certification_by_the_key_of_another_hierarchy(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    certified = tpm.Attest.decode(process.new.certification).attested
    owner = node.tpm.ak.qualified_name(tpm.hierarchy_name(tpm.RH_OWNER))
    bent, signature = node.tpm.attest(attested=certified, qualified_signer=owner)
    swapped = replace(process.new, certification=bent, signature=signature)
    assert why(verifier, replace(process, new=swapped)) == {Reason.PROCESS_KEY_CERTIFICATION}


# Known processes


@pytest.mark.attack(number=85, attacker="a process of another boot", asset="the credential")
def test_085_a_key_that_was_never_accepted(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    assert why_known(verifier, node.new_process()) == {Reason.PROCESS_UNKNOWN_KEY}


@pytest.mark.attack(number=85, attacker="a process of another boot", asset="the credential")
def test_085_a_key_accepted_before_the_reboot(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    process = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    node.reboot()
    assert why_known(verifier, process) == {Reason.PROCESS_UNKNOWN_KEY}


@pytest.mark.attack(number=85, attacker="a process of another node", asset="the credential")
def test_085_a_key_accepted_on_another_node(node: SimulatedNode) -> None:
    elsewhere = SimulatedNode("build-8")
    process = elsewhere.new_process()
    verifier = SimulatedVerifier(elsewhere)
    verifier.judge(elsewhere.evidence(verifier.challenge(), new=[process]))
    here = SimulatedVerifier(node)
    assert why_known(here, process) == {Reason.PROCESS_UNKNOWN_KEY}
    assert why(here, process) >= {Reason.PROCESS_KEY_CERTIFICATION}


def test_a_workload_that_was_removed_or_changed(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Judged with the policy of now, whatever was accepted under another."""
    process = node.new_process(core={"identity": ""})
    verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    other = read_workload(node.workload_toml().replace("org/payments", "org/other"))
    verifier.policy = node.policy(version=2, workloads=(other,))
    assert why_known(verifier, process) == {Reason.PROCESS_NOT_WANTED}
    stricter = read_workload(node.workload_toml().replace("payments.service", "pay.service"))
    verifier.policy = node.policy(version=3, workloads=(stricter,))
    assert why_known(verifier, process) == {Reason.PROCESS_UNIT}
    higher = replace(node.policy().workloads[0], minimum="L1")
    verifier.policy = node.policy(version=4, workloads=(higher,))
    assert why_known(verifier, process) == {Reason.PROCESS_LEVEL}


@pytest.mark.attack(number=134, attacker="a node whose boot nobody judged", asset=IDENTITY)
@pytest.mark.parametrize("minimum", ["L1", "L2", "L3", "L4"])
def test_134_a_level_that_the_evidence_does_not_reach(node: SimulatedNode, minimum: str) -> None:
    workload = replace(node.policy().workloads[0], minimum=minimum)
    verifier = SimulatedVerifier(node, workloads=(workload,))
    assert why(verifier, node.new_process()) == {Reason.PROCESS_LEVEL}


def test_a_process_that_two_workloads_want(node: SimulatedNode) -> None:
    """It has to say which: an identity is never guessed."""
    second = read_workload(node.workload_toml().replace("org/payments", "org/other"))
    verifier = SimulatedVerifier(node, workloads=(*node.policy().workloads, second))
    process = node.new_process(core={"identity": ""})
    assert why(verifier, process) == {Reason.PROCESS_AMBIGUOUS}
    named = node.new_process(core={"identity": second.id})
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[named]))
    assert [one.workload.id for one in accepted(verdict)] == [second.id]


# Neighbours


@pytest.mark.attack(number=130, attacker=PROCESS, asset="the other processes")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"core": b"junk"}, Reason.MALFORMED_PROCESS),
        ({"core": b""}, Reason.MALFORMED_PROCESS),
        ({"public": b"junk"}, Reason.MALFORMED_PROCESS),
        ({"creation_data": b"junk"}, Reason.MALFORMED_PROCESS),
        ({"certification": b"junk"}, Reason.PROCESS_KEY_CERTIFICATION),
        ({"signature": b"junk"}, Reason.MALFORMED_PROCESS),
    ],
)
def test_130_one_malformed_record_among_good_ones(
    node: SimulatedNode, verifier: SimulatedVerifier, change: dict[str, Any], expected: Reason
) -> None:
    before, bad, after = (node.new_process() for _ in range(3))
    bad = replace(bad, new=replace(bad.new, **change))
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[before, bad, after]))
    assert [one.key_name for one in accepted(verdict)] == [before.key_name, after.key_name]
    assert reasons(verdict.processes[1]) == {expected}


@pytest.mark.attack(number=130, attacker=PROCESS, asset="the other processes")
def test_130_one_look_that_points_nowhere(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    good, bad = node.new_process(), node.new_process(look={"mappings": (text_of(2),)})
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[bad, good]))
    assert reasons(verdict.processes[0]) == {Reason.MALFORMED_PROCESS}
    assert [one.key_name for one in accepted(verdict)] == [good.key_name]


@pytest.mark.attack(number=130, attacker=PROCESS, asset="the other processes")
def test_130_one_untrusted_process_among_good_ones(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    known = node.new_process()
    verifier.judge(node.evidence(verifier.challenge(), new=[known]))
    good, bad = node.new_process(), node.new_process(look={"tracer": 1})
    message = node.evidence(verifier.challenge(), new=[bad, good], known=[known])
    verdict = verifier.judge(message)
    assert reasons(verdict.processes[0]) == {Reason.PROCESS_TRACED}
    assert [one.key_name for one in accepted(verdict)] == [good.key_name, known.key_name]


@pytest.mark.attack(number=104, attacker=SIBLING, asset="the credential")
def test_104_one_key_for_two_processes(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """Named twice, as new or as known, in one body: neither counts."""
    process, neighbour = node.new_process(), node.new_process()
    message = node.evidence(verifier.challenge(), new=[process, neighbour, process])
    verdict = verifier.judge(message)
    assert reasons(verdict.processes[0]) == {Reason.PROCESS_TWICE}
    assert reasons(verdict.processes[2]) == {Reason.PROCESS_TWICE}
    assert [one.key_name for one in accepted(verdict)] == [neighbour.key_name]
    message = node.evidence(verifier.challenge(), new=[process], known=[process])
    assert accepted(verifier.judge(message)) == []


@pytest.mark.attack(number=95, attacker=ROOT, asset="the credential")
def test_095_no_process_record(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """A body without processes accepts the node, and nobody gets anything."""
    assert verifier.judge(node.evidence(verifier.challenge())).processes == ()
    empty = KnownProcess(key_name=b"", look=node.new_process().look)
    body = replace(node.body(), known=(empty, empty))
    verdict = verifier.judge(node.unsigned_evidence(verifier.challenge(), body=body))
    assert [reasons(one) for one in verdict.processes] == [{Reason.PROCESS_UNKNOWN_KEY}] * 2


def test_a_look_at_the_program_and_its_library(node: SimulatedNode) -> None:
    """The simulated process is the one that everything above changes one thing of."""
    process = node.new_process()
    assert [one.path for one in process.look.files] == [f"/{PROGRAM}".encode(), f"/{LIBC}".encode()]
