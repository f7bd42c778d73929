"""Attacks on the measurement list: whole, of this boot, under our policy, nothing unknown."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from evidence import Malformed
from evidence.ima import Record, encode_values
from tests.simulated_node import (
    KERNEL_POLICY,
    LIBC,
    SYSTEM_FILES,
    ZERO,
    SimulatedNode,
    make_record,
    mapped_file,
    record_of,
    sha256,
    text_of,
)
from tests.simulated_verifier import SimulatedVerifier, accepted, only, reasons
from verifier import Reason, Rejected
from verifier.policy import ReferenceSet
from verifier.policy.kernel import KernelPolicy
from verifier.reasons import MOST_FINDINGS
from verifier.records import MOST_EXAMPLES

ROOT = "root on the node"
USER = "an ordinary user of the node"
NODE = "the node's verdict"


@pytest.fixture
def node() -> SimulatedNode:
    return SimulatedNode()


@pytest.fixture
def verifier(node: SimulatedNode) -> SimulatedVerifier:
    return SimulatedVerifier(node)


def encoded(records: list[Record]) -> bytes:
    return b"".join(record.encode() for record in records)


# Mutations of the list that the kernel has extended


@pytest.mark.attack(number=15, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "mutate",
    [
        pytest.param(lambda records: records[:-1], id="last dropped"),
        pytest.param(lambda records: records[:5] + records[6:], id="one dropped"),
        pytest.param(lambda records: records[1:], id="first dropped"),
        pytest.param(lambda records: [*records[:4], records[5], records[4], *records[6:]],
                     id="two in another order"),
        pytest.param(lambda records: [*records[:5], records[4], *records[5:]], id="one twice"),
        pytest.param(lambda records: records[::-1], id="backwards"),
    ],
)  # fmt: skip
def test_015_a_list_with_records_missing_moved_or_repeated(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    mutate: Callable[[list[Record]], list[Record]],
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    mutated = replace(evidence, records=encoded(mutate(node.records)))
    assert verifier.refusal(mutated) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=16, attacker=ROOT, asset=NODE)
def test_016_a_list_cut_where_the_quote_is(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Accepted, since the quote proves no more; the next quote has to show the rest."""
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge)
    node.measure("usr/bin/evil", b"evil")
    verifier.judge(evidence)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=17, attacker=ROOT, asset="the identity")
def test_017_an_invented_record_after_the_quoted_ones(node: SimulatedNode) -> None:
    """It would make a known library count as measured; what no register covers does not count."""
    library = mapped_file("usr/lib/libextra.so.1", b"extra")
    extra = ReferenceSet(name="payments-1.4", files={"usr/lib/libextra.so.1": (library.digest,)})
    policy = node.policy()
    program = replace(policy.sets[1], files={**policy.sets[1].files, **extra.files})
    verifier = SimulatedVerifier(node, sets=(policy.sets[0], program))
    process = node.new_process()
    files = (*process.look.files, library)
    process = process.looking(files=files, mappings=(*process.look.mappings, text_of(2)))
    invented = make_record("/usr/lib/libextra.so.1", library.digest).encode()

    evidence = node.unsigned_evidence(verifier.challenge(), body=node.body([process]))
    verdict = verifier.judge(replace(evidence, records=evidence.records + invented))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_NOT_MEASURED}

    node.measure("usr/lib/libextra.so.1", b"extra")
    assert accepted(verifier.judge(node.evidence(verifier.challenge(), new=[process])))


@pytest.mark.attack(number=18, attacker=ROOT, asset=NODE)
def test_018_an_invented_record_that_an_unknown_tool_has_extended(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure("root/forge", b"#!/usr/bin/python3")
    node.measure("usr/lib/systemd/systemd-golden", SYSTEM_FILES["usr/lib/systemd/systemd"])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=18, attacker=ROOT, asset="the measurement list", level="L4")
def test_018_an_invented_record_that_a_known_interpreter_has_extended_passes(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The residual: `python3 -c` leaves no entry. Closed only where the kernel confines the TPM."""
    node.measure("usr/lib/systemd/systemd-golden", SYSTEM_FILES["usr/lib/systemd/systemd"])
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=19, attacker=ROOT, asset=NODE)
def test_019_an_unknown_record_made_to_look_like_a_violation(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure("usr/bin/evil", b"evil")
    evidence = node.unsigned_evidence(verifier.challenge())
    hidden = replace(node.records[-1], template_hash=bytes(20))
    forged = replace(evidence, records=encoded([*node.records[:-1], hidden]))
    assert verifier.refusal(forged) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=20, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("path", ["/home/user/notes", "/var/log/messages", ""])
def test_020_a_violation_under_another_name(
    node: SimulatedNode, verifier: SimulatedVerifier, path: str
) -> None:
    """No hash covers a violation's path: it is not read, whatever it says."""
    node.violate("/usr/lib/x86_64-linux-gnu/libc.so.6")
    evidence = node.unsigned_evidence(verifier.challenge())
    renamed = replace(node.records[-1], data=make_record(path, ZERO).data)
    forged = replace(evidence, records=encoded([*node.records[:-1], renamed]))
    assert verifier.refusal(forged) == {Reason.LIST_VIOLATION}
    junk = replace(node.records[-1], data=b"anything", template="nonsense")
    evidence = node.unsigned_evidence(verifier.challenge())
    forged = replace(evidence, records=encoded([*node.records[:-1], junk]))
    assert verifier.refusal(forged) == {Reason.LIST_VIOLATION}


@pytest.mark.attack(number=21, attacker=ROOT, asset=NODE)
@pytest.mark.attack(number=99, attacker=ROOT, asset=NODE)
def test_021_a_file_relabelled_as_critical_data(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """No hash covers the template's name; the buffer's own digest gives it away."""
    evidence = node.unsigned_evidence(verifier.challenge())
    relabelled = [
        replace(one, template="ima-buf") if b"libc.so.6" in one.data else one
        for one in node.records
    ]
    forged = replace(evidence, records=encoded(relabelled))
    assert verifier.refusal(forged) == {Reason.LIST_BUFFER}


@pytest.mark.attack(number=22, attacker=ROOT, asset=NODE)
def test_022_a_verity_digest_relabelled_as_a_file_digest(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    libc = sha256(SYSTEM_FILES[LIBC])
    record = make_record(f"/{LIBC}", libc, template="ima-ngv2")
    node.append(replace(record_of(record.data.replace(b"ima:", b"ver:")), template="ima-ng"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_TEMPLATE}


@pytest.mark.attack(number=22, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 13])
def test_022_a_verity_digest_is_no_file_digest(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    path, libc = f"/{LIBC}".encode(), sha256(SYSTEM_FILES[LIBC])
    fields = (b"verity:sha256:\0" + libc, path + b"\0", b"")
    data = b"".join(len(one).to_bytes(4, "little") + one for one in fields)
    node.append(record_of(data, register=register, template="ima-sigv2"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_VERITY}


@pytest.mark.attack(number=23, attacker=ROOT, asset=NODE)
@pytest.mark.attack(number=99, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("register", "expected"),
    [
        (12, {Reason.LIST_REPLAY}),
        (11, {Reason.LIST_REPLAY, Reason.LIST_REGISTER}),
        (0, {Reason.LIST_REPLAY, Reason.LIST_REGISTER}),
    ],
)
def test_023_an_unknown_record_moved_to_another_register(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int, expected: set[Reason]
) -> None:
    node.measure("usr/bin/evil", b"evil")
    evidence = node.unsigned_evidence(verifier.challenge())
    moved = replace(node.records[-1], register=register)
    forged = replace(evidence, records=encoded([*node.records[:-1], moved]))
    assert verifier.refusal(forged) == expected


@pytest.mark.attack(number=23, attacker=ROOT, asset=NODE)
def test_023_records_slipped_in_under_a_register_that_is_not_replayed(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    slipped = make_record("/usr/bin/x", sha256(b"x"), register=9)
    forged = replace(evidence, records=encoded([*node.records[:3], slipped, *node.records[3:]]))
    assert verifier.refusal(forged) == {Reason.LIST_REGISTER}


@pytest.mark.attack(number=24, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("algorithm", "size", "expected"),
    [
        ("md5", 16, Reason.LIST_DIGEST),
        ("sha1", 20, Reason.LIST_DIGEST),
        ("sha224", 28, Reason.LIST_DIGEST),
        ("sha384", 48, Reason.LIST_HASH),
        ("sha512", 64, Reason.LIST_HASH),
        ("sm3", 32, Reason.LIST_HASH),
    ],
)
def test_024_a_digest_by_an_algorithm_that_the_file_chose(
    node: SimulatedNode, verifier: SimulatedVerifier, algorithm: str, size: int, expected: Reason
) -> None:
    """Or that `ima_hash=` did. Those that are not weak are in no reference set: another reason."""
    for register in (10, 13):
        digest = bytes([register]) * size
        node.measure_record("/usr/bin/x", digest, algorithm=algorithm, register=register)
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.evidence(verifier.challenge()))
    assert [finding.reason for finding in rejection.value.findings] == [expected, expected]


@pytest.mark.attack(number=90, attacker=ROOT, asset=NODE)
def test_090_a_kernel_that_tells_files_apart_by_sha1(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """With ima_hash=sha1 a collision hides the second file: no such list passes its first file.

    The kernel keeps one record per SHA-1 then. Its boot_aggregate says so already; here that one
    is right, as where the TPM has no SHA-1 bank.
    """
    node.measure_record("/usr/bin/x", hashlib.sha1(b"x").digest(), algorithm="sha1")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_DIGEST}


@pytest.mark.attack(number=25, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 13])
def test_025_a_file_read_around_the_page_cache(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    node.measure_record("/usr/bin/direct", ZERO, register=register)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_DIGEST}


# The boot


def _aggregate(digest: bytes, *, algorithm: str = "sha256", path: str = "boot_aggregate") -> Record:
    return make_record(path, digest, algorithm=algorithm)


@pytest.mark.attack(number=26, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param([_aggregate(ZERO)], Reason.BOOT_AGGREGATE, id="zero"),
        pytest.param([_aggregate(bytes(20), algorithm="sha1")], Reason.BOOT_AGGREGATE, id="SHA-1"),
        pytest.param([], Reason.BOOT_AGGREGATE_MISSING, id="missing"),
        pytest.param(
            [_aggregate(ZERO, path="/boot_aggregate")],
            Reason.BOOT_AGGREGATE_MISSING,
            id="a file of that name",
        ),
    ],
)
def test_026_a_list_that_does_not_begin_with_this_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, first: list[Record], expected: Reason
) -> None:
    node.relist([*first, *node.records[1:]])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {expected}


@pytest.mark.attack(number=26, attacker=ROOT, asset=NODE)
def test_026_a_list_in_which_this_boot_is_not_first(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    first, second, *rest = node.records
    node.relist([second, first, *rest])
    expected = {Reason.BOOT_AGGREGATE_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=26, attacker=ROOT, asset=NODE)
def test_026_a_boot_aggregate_of_a_violation(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    violation = replace(node.records[0], template_hash=bytes(20))
    node.relist([violation, *node.records[1:]])
    expected = {Reason.BOOT_AGGREGATE_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=42, attacker="a node with an old kernel", asset=NODE)
@pytest.mark.attack(number=90, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("sha1", Reason.BOOT_AGGREGATE_OLD),
        ("sha384", Reason.BOOT_AGGREGATE_HASH),
        ("sha512", Reason.BOOT_AGGREGATE_HASH),
    ],
)
def test_042_a_boot_aggregate_of_another_bank(
    node: SimulatedNode, verifier: SimulatedVerifier, algorithm: str, expected: Reason
) -> None:
    """SHA-1 is what kernels before 5.8 write, and later ones with ima_hash=sha1."""
    aggregate = hashlib.new(algorithm, b"registers").digest()
    node.relist([_aggregate(aggregate, algorithm=algorithm), *node.records[1:]])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {expected}


@pytest.mark.attack(number=42, attacker="a node with an old kernel", asset=NODE)
def test_042_a_boot_aggregate_over_fewer_registers(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Registers 8 and 9, what boot loaders measure, would be in no comparison."""
    aggregate = sha256(b"".join(node.tpm.registers[:8]))
    node.relist([_aggregate(aggregate), *node.records[1:]])
    expected = {Reason.BOOT_AGGREGATE_OLD}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=42, attacker="a node with an old kernel", asset=NODE)
@pytest.mark.parametrize("has_violation", [False, True])
@pytest.mark.parametrize("is_ahead", [False, True])
def test_042_a_bank_of_padded_sha1(
    node: SimulatedNode,
    verifier: SimulatedVerifier,
    *,
    has_violation: bool,
    is_ahead: bool,
) -> None:
    """Kernels before 5.8 extend it; what SHA-1 vouches for is refused, and the reason says why."""
    if has_violation:
        node.violate("/usr/bin/x", register=12)
    for register in (10, 12, 13):
        node.tpm.registers[register] = ZERO
    for record in node.records:
        node.tpm.extend(record.register, record.padded_extension("sha256"))
    evidence = node.unsigned_evidence(verifier.challenge())
    late = make_record("/usr/bin/later", sha256(b"x")).encode() if is_ahead else b""
    ahead = replace(evidence, records=evidence.records + late)
    assert verifier.refusal(ahead) == {Reason.LIST_PADDED}


@pytest.mark.attack(number=27, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", range(10))
def test_027_a_list_of_another_boot(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    node.tpm.extend(register, sha256(b"another kernel"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.BOOT_AGGREGATE}


@pytest.mark.attack(number=27, attacker=ROOT, asset=NODE)
def test_027_boot_registers_that_move_later(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """The stored first record is compared again with every quote."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.tpm.extend(4, sha256(b"another kernel"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.BOOT_AGGREGATE}


@pytest.mark.attack(number=28, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("name", ["boot_aggregate", "boot_aggregate_late"])
@pytest.mark.parametrize("is_late", [False, True])
def test_028_a_second_boot_aggregate(
    node: SimulatedNode, verifier: SimulatedVerifier, name: str, *, is_late: bool
) -> None:
    """What a kexec leaves. No kernel to be had shows it: Debian builds CONFIG_IMA_KEXEC off."""
    if is_late:
        verifier.judge(node.evidence(verifier.challenge()))
    node.measure_record(name, node.boot_aggregate(), template="ima-ng")
    expected = {Reason.BOOT_AGGREGATE_AGAIN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=29, attacker="a node with a late TPM", asset=NODE)
def test_029_a_boot_aggregate_that_came_late(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Another name for the same, from Linux 7.3 on: no kernel to be had writes it yet."""
    late = _aggregate(node.boot_aggregate(), path="boot_aggregate_late")
    node.relist([late, *node.records[1:]])
    verifier.judge(node.evidence(verifier.challenge()))
    node.relist([_aggregate(ZERO, path="boot_aggregate_late"), *node.records[1:]])
    verifier.checkpoint = None
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.BOOT_AGGREGATE}


@pytest.mark.attack(number=28, attacker=USER, asset=NODE)
def test_028_a_users_file_of_that_name(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    """A path too long for the kernel shows as its last component: not a second boot."""
    node.measure_record("boot_aggregate", sha256(b"x"), register=12)
    verifier.judge(node.evidence(verifier.challenge()))


# Names, sizes and shapes


@pytest.mark.attack(number=30, attacker=USER, asset=NODE)
@pytest.mark.attack(number=31, attacker=USER, asset=NODE)
@pytest.mark.attack(number=32, attacker=USER, asset=NODE)
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(b"/tmp/a\n10 0000 ima-sig sha256:00 /usr/bin/golden", id="line break"),
        pytest.param(b"/tmp/\xff\xfe\x1b[31m", id="not UTF-8, control characters"),
        pytest.param(b"/tmp/" + b"x" * 4000, id="long"),
        pytest.param(b"memfd:x", id="no slash"),
        pytest.param(b"", id="empty"),
        pytest.param(b"/usr/bin/a_b", id="a space that became _"),
    ],
)
def test_030_names_decide_nothing(
    node: SimulatedNode, verifier: SimulatedVerifier, path: bytes
) -> None:
    golden = sha256(SYSTEM_FILES[LIBC])
    node.append(make_record(path, golden))
    verifier.judge(node.evidence(verifier.challenge()))
    node.append(make_record(path, sha256(b"evil")))
    challenge = verifier.challenge()
    assert verifier.refusal(node.evidence(challenge)) == {Reason.LIST_UNKNOWN}


HUGE = (1 << 31).to_bytes(4, "little")


@pytest.mark.attack(number=33, attacker=ROOT, asset=NODE)
@pytest.mark.attack(number=100, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(bytes(24) + HUGE, id="name of 2 GiB"),
        pytest.param(bytes(24) + b"\x07\0\0\0ima-sig" + HUGE, id="data of 2 GiB"),
        pytest.param(bytes(24) + b"\x07\0\0\0ima-sig\x10\0\0\0abc", id="data past the end"),
        pytest.param(b"\0", id="one byte"),
        pytest.param(bytes(1000), id="zeros"),
        pytest.param(b"\xff" * 1000, id="ones"),
    ],
)
def test_033_lengths_that_lie(
    node: SimulatedNode, verifier: SimulatedVerifier, tail: bytes
) -> None:
    """Even after the quoted prefix, where nothing is judged, the list has to be one."""
    evidence = node.unsigned_evidence(verifier.challenge())
    for records in (evidence.records + tail, tail + evidence.records):
        with pytest.raises(Malformed):
            verifier.judge(replace(evidence, records=records))


@pytest.mark.attack(number=33, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "bend",
    [
        pytest.param(lambda data: data + b"\0", id="a byte more"),
        pytest.param(lambda data: HUGE + data[4:], id="inner length of 2 GiB"),
        pytest.param(lambda data: data[:-1], id="a byte less"),
        pytest.param(lambda _: b"", id="nothing"),
    ],
)
def test_033_template_data_that_is_none(
    node: SimulatedNode, verifier: SimulatedVerifier, bend: Callable[[bytes], bytes]
) -> None:
    data = make_record(f"/{LIBC}", sha256(SYSTEM_FILES[LIBC])).data
    node.append(record_of(bend(data)))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_TEMPLATE}


@pytest.mark.attack(number=34, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("template", ["d-ng|n-ng|iuid", "ima-modsig", "evm-sig", "x"])
def test_034_a_template_that_is_not_known(
    node: SimulatedNode, verifier: SimulatedVerifier, template: str
) -> None:
    data = make_record(f"/{LIBC}", sha256(SYSTEM_FILES[LIBC])).data
    node.append(record_of(data, template=template))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_TEMPLATE}


@pytest.mark.attack(number=35, attacker=ROOT, asset=NODE)
def test_035_a_record_of_the_legacy_template(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Of a file that is known: the kernel has extended it, the verifier reads it, and refuses."""
    digest = hashlib.sha1(SYSTEM_FILES[LIBC]).digest()
    data = encode_values("ima", (digest, f"/{LIBC}".encode()))
    legacy = record_of(data, template="ima")
    node.append(replace(legacy, template_hash=hashlib.sha1(legacy.hashed).digest()))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_LEGACY}


@pytest.mark.attack(number=36, attacker=ROOT, asset=NODE)
def test_036_a_list_cut_in_the_middle_of_a_record(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    ends = {0}
    for record in node.records:
        ends.add(max(ends) + len(record.encode()))
    for size in range(len(evidence.records)):
        cut = replace(evidence, records=evidence.records[:size])
        verifier.node = replace(verifier.node, clock=None)
        if size in ends:
            assert verifier.refusal(cut) == {Reason.LIST_REPLAY}
        else:
            with pytest.raises(Malformed):
                verifier.judge(cut)


@pytest.mark.attack(number=37, attacker="a big-endian node", asset=NODE)
def test_037_a_list_of_the_other_byte_order(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    swapped = b"".join(one.register.to_bytes(4, "big") + one.encode()[4:] for one in node.records)
    with pytest.raises(Malformed, match=r"register.*big-endian machine"):
        verifier.judge(replace(evidence, records=swapped))


@pytest.mark.attack(number=38, attacker=USER, asset=NODE)
def test_038_a_list_of_a_hundred_thousand_records(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Time and memory grow with the list: ten times this is a million, and some 110 MB.

    That was tried by hand: 28 s of CPU time on a busy machine, and 0.4 GB more than the list took.
    """
    digest = sha256(SYSTEM_FILES[LIBC])
    more = [make_record(f"/usr/lib/libc-{number}.so", digest) for number in range(100_000)]
    node.relist([*node.records, *more])
    message = node.evidence(verifier.challenge())
    start = time.process_time()
    assert verifier.judge(message).checkpoint.records == len(node.records)
    assert time.process_time() - start < 10


@pytest.mark.attack(number=39, attacker=ROOT, asset=NODE)
def test_039_a_list_whose_beginning_was_given_away(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Linux 7.2 can be built to let root take records out of it (CONFIG_IMA_STAGING).

    Debian builds it off, so no kernel to be had shows it. A verifier that has judged the records
    needs them no more; one that has not refuses the rest.
    """
    evidence = node.unsigned_evidence(verifier.challenge())
    trimmed = replace(evidence, records=encoded(node.records[3:]))
    assert verifier.refusal(trimmed) == {Reason.LIST_REPLAY}
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure(LIBC, SYSTEM_FILES[LIBC], template="ima-ng")
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert (verdict.starts_over, verdict.checkpoint.records) == (False, len(node.records))
    verifier.checkpoint, verifier.measured = None, ()
    evidence = node.unsigned_evidence(verifier.challenge())
    trimmed = replace(evidence, records=encoded(node.records[3:]))
    assert verifier.refusal(trimmed) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=40, attacker=ROOT, asset=NODE)
def test_040_the_node_does_not_choose_where_the_list_begins(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    verifier.judge(node.evidence(verifier.challenge()))
    evidence = node.unsigned_evidence(verifier.challenge())
    whole = replace(evidence, records=encoded(node.records))
    assert accepted(verifier.judge(whole)) == []
    node.measure("usr/bin/evil", b"evil")
    evidence = node.unsigned_evidence(verifier.challenge())
    whole = replace(evidence, records=encoded(node.records))
    assert verifier.refusal(whole) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=41, attacker="time", asset=NODE)
def test_041_a_list_ahead_of_its_quote(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    challenge = verifier.challenge()
    quoted = node.unsigned_evidence(challenge)
    node.measure(LIBC, SYSTEM_FILES[LIBC], template="ima-ng")
    verdict = verifier.judge(replace(quoted, records=encoded(node.records)))
    assert verdict.checkpoint.records == len(node.records) - 1
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert verdict.checkpoint.records == len(node.records)
    verdict = verifier.judge(node.evidence(verifier.challenge()))
    assert verdict.measured == ()


@pytest.mark.attack(number=41, attacker="time", asset=NODE)
def test_041_a_quote_ahead_of_its_list(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    before = encoded(node.records)
    node.measure(LIBC, SYSTEM_FILES[LIBC], template="ima-ng")
    evidence = node.unsigned_evidence(verifier.challenge(), records=before)
    assert verifier.refusal(evidence) == {Reason.LIST_REPLAY}


# The kernel policy


@pytest.mark.attack(number=44, attacker=ROOT, asset=NODE)
def test_044_no_kernel_policy_at_all(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    node.relist(node.records[:2])
    expected = {Reason.KERNEL_POLICY_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
def test_045_a_kernel_policy_that_was_not_measured(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.relist([*node.records[:2], *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_MISSING}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 12, 13])
def test_045_a_kernel_policy_loaded_after_something_else(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    early = make_record(f"/{LIBC}", sha256(SYSTEM_FILES[LIBC]), register=register)
    node.relist([*node.records[:2], early, *node.records[2:]])
    expected = {Reason.KERNEL_POLICY_LATE}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
def test_045_a_kernel_policy_that_nobody_knows(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    lax = make_record("/etc/ima/ima-policy", sha256(b"dont_measure uid=0"))
    node.relist([*node.records[:2], lax, *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_UNKNOWN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=47, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("path", "contents"),
    [
        pytest.param("etc/ima/ima-policy", b"dont_measure uid=0", id="the same file, changed"),
        pytest.param("root/ima-policy", b"dont_measure uid=0", id="another of that name"),
        pytest.param("root/x", KERNEL_POLICY, id="the same rules again"),
    ],
)
def test_047_a_second_kernel_policy(
    node: SimulatedNode, verifier: SimulatedVerifier, path: str, contents: bytes
) -> None:
    """No kernel to be had loads a second one: Debian builds CONFIG_IMA_WRITE_POLICY off."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure(path, contents)
    expected = {Reason.KERNEL_POLICY_AGAIN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=47, attacker=USER, asset=NODE)
def test_047_a_user_who_runs_what_looks_like_a_kernel_policy(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """In the users' register neither the name nor the digest says that one was loaded."""
    node.measure("home/user/ima-policy", b"#!/bin/sh", register=12)
    node.measure("home/user/x", KERNEL_POLICY, register=12)
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
def test_045_a_kernel_policy_that_is_only_critical_data(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Bytes that somebody let the kernel measure are not a policy that it has loaded."""
    digest = sha256(KERNEL_POLICY)
    data = make_record("x", digest, template="ima-buf", last=KERNEL_POLICY)
    node.relist([*node.records[:2], data, *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_LATE}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


SHOWN = b"measure func=BPRM_CHECK \nmeasure func=MMAP_CHECK mask=MAY_EXEC \n"
"""What a kernel of 7.3 or newer measures once it has loaded KERNEL_POLICY."""
LOADED = "ima_policy_loaded"


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
def test_046_the_rules_that_the_kernel_shows_are_those_of_the_file(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    shown = make_record(LOADED, sha256(SHOWN), template="ima-buf", last=SHOWN)
    node.relist([*node.records[:3], shown, *node.records[3:]])
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
def test_046_a_file_that_is_written_as_the_kernel_shows_it(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    file = make_record("/etc/ima/ima-policy", sha256(SHOWN))
    shown = make_record(LOADED, sha256(SHOWN), template="ima-buf", last=SHOWN)
    node.relist([*node.records[:2], file, shown, *node.records[3:]])
    verifier.policy = node.policy(version=2, kernel_policies=(KernelPolicy.of(SHOWN),))
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(b"dont_measure uid=1000 \n" + SHOWN, id="one more"),
        pytest.param(SHOWN.splitlines(keepends=True)[0], id="one less"),
        pytest.param(KERNEL_POLICY, id="the text of the file"),
        pytest.param(b"", id="none"),
    ],
)
def test_046_other_rules_than_those_of_the_file(
    node: SimulatedNode, verifier: SimulatedVerifier, rules: bytes
) -> None:
    shown = make_record(LOADED, sha256(rules), template="ima-buf", last=rules)
    node.relist([*node.records[:3], shown, *node.records[3:]])
    expected = {Reason.KERNEL_POLICY_RULES}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("rules", [SHOWN, b"dont_measure uid=1000 \n"])
def test_046_rules_that_were_loaded_again(
    node: SimulatedNode, verifier: SimulatedVerifier, rules: bytes
) -> None:
    shown = make_record(LOADED, sha256(SHOWN), template="ima-buf", last=SHOWN)
    node.relist([*node.records[:3], shown, *node.records[3:]])
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure_buffer(LOADED, rules)
    expected = {Reason.KERNEL_POLICY_AGAIN}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=45, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("rules", [SHOWN, b"dont_measure uid=1000 \n"])
def test_045_rules_that_were_loaded_before_the_file(
    node: SimulatedNode, verifier: SimulatedVerifier, rules: bytes
) -> None:
    shown = make_record(LOADED, sha256(rules), template="ima-buf", last=rules)
    node.relist([*node.records[:2], shown, *node.records[2:]])
    expected = {Reason.KERNEL_POLICY_LATE}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=46, attacker=ROOT, asset=NODE)
def test_046_rules_of_a_file_that_nobody_can_tell(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """What the kernel makes of an option that is not known here is not known either."""
    strange = b"measure func=BPRM_CHECK subj_type=payments_t\n"
    shown = b"measure func=BPRM_CHECK subj_type=payments_t \n"
    node.relist(
        [
            *node.records[:2],
            make_record("/etc/ima/ima-policy", sha256(strange)),
            make_record(LOADED, sha256(shown), template="ima-buf", last=shown),
            *node.records[3:],
        ]
    )
    verifier.policy = node.policy(version=2, kernel_policies=(KernelPolicy.of(strange),))
    expected = {Reason.KERNEL_POLICY_RULES}
    assert verifier.refusal(node.evidence(verifier.challenge())) == expected


@pytest.mark.attack(number=47, attacker=ROOT, asset=NODE)
def test_047_a_kernel_policy_written_rule_by_rule(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Kernels that measure it show it as critical data, which no reference set knows."""
    node.measure_buffer("ima_policy_written", b"dont_measure uid=0")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


@pytest.mark.attack(number=48, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize(
    ("name", "data"),
    [
        pytest.param(".ima", b"0\x82 a certificate", id="a key to sign files with"),
        pytest.param(".builtin_trusted_keys", b"0\x82 a certificate", id="a key of the kernel's"),
        pytest.param("init_module", b"\x7fELF module", id="a module without a file"),
        pytest.param("selinux-state", b"initialized=1;enforcing=0;", id="SELinux not enforcing"),
        pytest.param("kexec-cmdline", b"root=/dev/sdb ima_policy=", id="another command line"),
        pytest.param("kexec_load", b"kexec_segment_size=1", id="a kexec that was prepared"),
    ],
)
@pytest.mark.parametrize("is_late", [False, True])
def test_048_critical_data_that_nobody_knows(
    node: SimulatedNode, verifier: SimulatedVerifier, name: str, data: bytes, *, is_late: bool
) -> None:
    """Such records may come before the kernel policy, and then too they have to be known."""
    if is_late:
        verifier.judge(node.evidence(verifier.challenge()))
        node.measure_buffer(name, data)
    else:
        record = make_record(name, sha256(data), template="ima-buf", last=data)
        node.relist([*node.records[:2], record, *node.records[2:]])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}


# The closed world


@pytest.mark.attack(number=82, attacker=ROOT, asset="the attestor")
@pytest.mark.parametrize(
    ("path", "register", "expected"),
    [
        ("usr/lib/procseal/attestor/__main__.py", 13, Reason.LIST_UNKNOWN_ATTESTOR),
        ("usr/lib/procseal/attestor/__main__.cpython-311.pyc", 13, Reason.LIST_UNKNOWN_ATTESTOR),
        ("usr/lib/procseal/_cffi_backend.so", 10, Reason.LIST_UNKNOWN),
        ("usr/bin/python3.11", 10, Reason.LIST_UNKNOWN),
    ],
)
def test_082_another_attestor(
    node: SimulatedNode, verifier: SimulatedVerifier, path: str, register: int, expected: Reason
) -> None:
    node.measure(path, b"patched", register=register)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {expected}


@pytest.mark.attack(number=87, attacker=USER, asset=NODE)
def test_087_ten_thousand_programs_of_a_user(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Reported, at a bounded length; the node stays accepted, and so does its process."""
    for number in range(10_000):
        node.measure(f"home/user/{number}", b"%d" % number, register=12)
    process = node.new_process()
    message = node.evidence(verifier.challenge(), new=[process])
    start = time.process_time()
    verdict = verifier.judge(message)
    assert time.process_time() - start < 5
    assert accepted(verdict)
    assert {finding.reason for finding in verdict.reported} == {Reason.LIST_USER}
    assert len(verdict.reported) == MOST_EXAMPLES + 1
    assert verdict.reported[-1].found == "10000 unknown entries"


@pytest.mark.attack(number=87, attacker=USER, asset="the identity")
def test_087_a_program_of_a_user_is_nobodys_workload(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A golden file in the users' register alone has not been executed as a system file."""
    node.relist([one for one in node.records if b"payments" not in one.data])
    node.measure("home/user/payments", b"\x7fELF payments", register=12)
    process = node.new_process()
    verdict = verifier.judge(node.evidence(verifier.challenge(), new=[process]))
    assert reasons(only(verdict.processes)) == {Reason.PROCESS_NOT_MEASURED}


def test_a_known_program_of_a_user_is_not_reported(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure("home/user/libc.so.6", SYSTEM_FILES[LIBC], register=12)
    assert verifier.judge(node.evidence(verifier.challenge())).reported == ()


@pytest.mark.attack(number=88, attacker=USER, asset=NODE)
def test_088_a_user_who_writes_what_he_runs(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.violate("/home/user/x", register=12)
    verifier.judge(node.evidence(verifier.challenge()))


@pytest.mark.attack(number=88, attacker=ROOT, asset=NODE)
@pytest.mark.parametrize("register", [10, 13])
def test_088_a_violation_where_nothing_may_be_uncertain(
    node: SimulatedNode, verifier: SimulatedVerifier, register: int
) -> None:
    node.violate("/usr/lib/libx.so", register=register)
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_VIOLATION}


@pytest.mark.attack(number=95, attacker=ROOT, asset=NODE)
def test_095_no_list(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    evidence = node.unsigned_evidence(verifier.challenge(), records=b"")
    assert verifier.refusal(evidence) == {Reason.LIST_REPLAY}


@pytest.mark.attack(number=95, attacker=ROOT, asset=NODE)
def test_095_a_kernel_that_has_measured_nothing(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Registers at zero and an empty list agree with each other, and prove nothing."""
    node.relist([])
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_MISSING}


@pytest.mark.attack(number=99, attacker=ROOT, asset=NODE)
def test_099_a_template_hash_that_is_not_its_datas(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    evidence = node.unsigned_evidence(verifier.challenge())
    bent = replace(node.records[4], template_hash=b"\1" * 20)
    forged = replace(evidence, records=encoded([*node.records[:4], bent, *node.records[5:]]))
    assert verifier.refusal(forged) == {Reason.LIST_TEMPLATE_HASH}


@pytest.mark.attack(number=126, attacker=ROOT, asset=NODE)
def test_126_an_unknown_program_is_not_forgotten(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """Refused until the node reboots: the checkpoint stays before the unknown record."""
    verifier.judge(node.evidence(verifier.challenge()))
    node.measure("usr/bin/evil", b"evil")
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_UNKNOWN}
    node.measure("usr/bin/good", SYSTEM_FILES[LIBC])
    process = node.new_process()
    message = node.evidence(verifier.challenge(), new=[process])
    assert verifier.refusal(message) == {Reason.LIST_UNKNOWN}
    message = node.evidence(verifier.challenge(first_record=0))
    assert verifier.refusal(message) == {Reason.LIST_UNKNOWN}
    node.reboot()
    verifier.judge(node.evidence(verifier.challenge()))


def test_findings_name_file_and_both_digests(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    node.measure(LIBC, b"patched libc")
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.evidence(verifier.challenge()))
    (finding,) = rejection.value.findings
    assert finding.what.startswith(f"/{LIBC}")
    assert finding.expected == f"sha256:{sha256(SYSTEM_FILES[LIBC]).hex()} (debian-12)"
    assert finding.found == f"sha256:{sha256(b'patched libc').hex()}"


def test_findings_are_not_all_looked_for(node: SimulatedNode, verifier: SimulatedVerifier) -> None:
    for number in range(1000):
        node.measure(f"usr/bin/{number}", b"%d" % number)
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.evidence(verifier.challenge()))
    assert len(rejection.value.findings) == MOST_FINDINGS + 1
    assert rejection.value.findings[-1].what == "and more"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        pytest.param(
            Record(register=10, template_hash=bytes(20), template="x", data=b""),
            Reason.LIST_VIOLATION,
            id="violations",
        ),
        pytest.param(record_of(b"", template="x"), Reason.LIST_TEMPLATE, id="templates"),
        pytest.param(record_of(b"", register=11), Reason.LIST_REGISTER, id="registers"),
        pytest.param(
            replace(make_record("/a", ZERO), template_hash=b"\1" * 20),
            Reason.LIST_TEMPLATE_HASH,
            id="template hashes",
        ),
    ],
)
def test_a_list_that_is_past_hope_is_not_read_on(
    node: SimulatedNode, verifier: SimulatedVerifier, record: Record, reason: Reason
) -> None:
    """What follows is no list at all, and nobody notices: it would cost, and change nothing."""
    node.relist([node.records[0], *[record] * (MOST_FINDINGS + 1), *node.records[1:]])
    challenge = verifier.challenge()
    evidence = node.unsigned_evidence(challenge)
    noise = replace(evidence, records=evidence.records + b"\xff" * 1000)
    with pytest.raises(Rejected) as rejection:
        verifier.judge(node.signed(noise.encode()))
    assert {one.reason for one in rejection.value.findings} == {reason}
    assert rejection.value.findings[-1].what == "and more"


def test_weak_digests_past_hope_are_refused_before_anything_else_is_asked(
    node: SimulatedNode, verifier: SimulatedVerifier
) -> None:
    """A second boot aggregate refuses by itself; it is not looked for any more."""
    for number in range(MOST_FINDINGS + 1):
        node.measure_record(f"/usr/bin/{number}", bytes([1]) * 16, algorithm="md5")
    node.measure_record("boot_aggregate", sha256(b"another"))
    assert verifier.refusal(node.evidence(verifier.challenge())) == {Reason.LIST_DIGEST}
